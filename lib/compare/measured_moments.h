// Second moments of every draw and judging text, in folders of statistics below a study's output: measured once, read
// one at a time.
//
//   OUT/statistics/SET/draw-0 ...      OUT/statistics/text/TEXT
//
// Of blocks that no stage looks at nothing is measured, which with many of them saves most of the sums and of the disk.
//
// A study counts moments: draws first (set by set), then each set without the draw in question ("held out", the judge
// of that draw, so that nothing is judged by what it was calibrated on), then texts, then draws of the mixture.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "calibrate/statistics_folder.h"
#include "compare/compared_set.h"
#include "pipeline/open_model.h"

namespace adze {

/// An input of the model: a stage of a block, or the head.
struct InputPlace {
  std::size_t part = 0;      ///< block, or the number of layers
  std::string input;         ///< "qkv", ..., "head"
  std::string name() const;  ///< "3.qkv", "head"
};

class MeasuredMoments {
 public:
  /// Of up to `blocks` blocks, evenly spaced with the first and the last, and of the head. sets and texts are
  /// referenced. Throws usage for windows that do not fit the model; bad_data for saved statistics of another model.
  MeasuredMoments(const OpenedModel& model, std::span<const ComparedSet> sets, std::span<const JudgingText> texts,
                  std::size_t blocks, std::filesystem::path folder);

  /// Measures what is not there yet.
  void measure(Progress& progress);

  std::size_t sets() const { return sets_.size(); }
  std::size_t texts() const { return texts_.size(); }
  std::size_t draws() const { return draws_; }
  /// Of the blocks in their order, then the head's.
  std::vector<InputPlace> inputs() const;
  std::size_t layers() const { return layers_; }

  InputStatistics draw(const InputPlace& place, std::size_t set, std::size_t draw) const;
  /// All draws of a set but that one; the only one where there is no other.
  InputStatistics held_out(const InputPlace& place, std::size_t set, std::size_t draw) const;
  InputStatistics text(const InputPlace& place, std::size_t text) const;
  /// sum_s weight_s H_s / tr(H_s), of those draws of all sets, times the first one's trace.
  InputStatistics mixture(const InputPlace& place, std::span<const double> weights, std::size_t draw) const;

 private:
  std::filesystem::path folder_of(std::size_t set, std::size_t draw) const;
  std::filesystem::path text_folder(std::size_t text) const;
  InputStatistics read(const std::filesystem::path& folder, const InputPlace& place) const;
  bool is_finished(const std::filesystem::path& folder, const StatisticsInfo& info) const;

  const OpenedModel& model_;
  std::span<const ComparedSet> sets_;
  std::span<const JudgingText> texts_;
  std::filesystem::path folder_;
  std::size_t draws_ = 1;
  std::size_t layers_ = 0;
  std::vector<std::size_t> blocks_;  ///< that are looked at, ascending
  std::size_t tokens_ = 0;           ///< of a window of the texts
};

}  // namespace adze
