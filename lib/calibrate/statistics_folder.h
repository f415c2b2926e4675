// Folders of statistics: reading a finished one, writing one part after the other, and adding several up.
//
// A folder is written in any order of its parts and is finished when all are there. What is there and intact is kept,
// if it belongs to the same run; nothing that is no file of statistics is ever removed.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "calibrate/statistics_store.h"
#include "model/tensors.h"

namespace adze {

/// A finished folder. Files are opened (and their checksums compared) when they are asked for; the head's at once.
class StatisticsFolder {
 public:
  /// blocks: those that will be read, besides the head; empty: all. Throws missing_input when there is no such folder,
  /// bad_data when one of them is missing or it is no folder of statistics.
  explicit StatisticsFolder(std::filesystem::path folder, std::span<const std::size_t> blocks = {});

  const std::filesystem::path& path() const { return folder_; }
  const StatisticsInfo& info() const { return info_; }
  std::size_t part_count() const { return info_.layers + 1; }
  /// Throws bad_data when the file is damaged or of another run.
  StatisticsReader part(std::size_t part) const;
  InputStatistics block_input(std::size_t block, Stage stage) const;
  InputStatistics head_input() const;
  /// Of every input, blocks first.
  std::vector<InputSummary> summarize() const;

 private:
  std::filesystem::path folder_;
  StatisticsInfo info_;
};

/// Throws bad_data, naming what differs, unless the statistics are of a model of this family and these sizes.
void check_same_model(const StatisticsFolder& folder, const Architecture& architecture);

/// True for a folder that holds a file of the name of a part, and no model.
bool is_statistics_folder(const std::filesystem::path& folder);

/// The folder that a run writes to. The constructor judges and writes nothing; begin() comes before the first file.
class StatisticsOutput {
 public:
  /// Throws cannot_create: the folder holds other things or statistics of another run (the message says what differs),
  /// or it is finished and `overwrite` is not set.
  StatisticsOutput(std::filesystem::path folder, const StatisticsInfo& info, bool overwrite);
  ~StatisticsOutput();
  StatisticsOutput(const StatisticsOutput&) = delete;
  StatisticsOutput& operator=(const StatisticsOutput&) = delete;

  /// Makes the folder and, with `overwrite`, empties it. Throws cannot_create when another process is writing there.
  void begin();
  const std::filesystem::path& folder() const { return folder_; }
  /// The part is there and intact.
  bool is_done(std::size_t part) const { return !weights_[part].empty(); }
  /// Parts that have to be measured.
  std::size_t missing() const;
  /// Throws cannot_create when a part that is done was measured with other weights.
  void check_weights(std::size_t part, const std::string& weights) const;

 private:
  void look_at_parts();

  std::filesystem::path folder_;
  StatisticsInfo info_;
  bool overwrite_;
  std::vector<std::string> weights_;  ///< of each part, as its file says; empty: not there
  int lock_ = -1;
};

/// Adds folders of the same model up, one input at a time; the result is that of one run over all their windows, to
/// rounding. Throws bad_data when models differ or the same windows come twice, cannot_create as StatisticsOutput.
void merge_statistics(std::span<const std::filesystem::path> folders, const std::filesystem::path& out, bool overwrite,
                      Progress& progress);

}  // namespace adze
