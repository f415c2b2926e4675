// Statistics in HDF5: a folder with one file per block and one for the head, each with its checksum beside it
// (checkpoint/sidecar.h). Linears that share an input share its statistics, which are stored once.
//
//   block-0000.h5 ...   groups qkv, o, gate_up, down          head.h5   group head
//                       in mixtures also experts.0.gate_up, experts.0.down ...
//   each group          attributes inputs, tokens and, of experts, borrowed; second_moment: upper triangle by rows,
//                       f64 [n (n + 1) / 2]; sum, abs_sum: f64 [n]; abs_max: f32 [n]
//   each file           attributes kind, version, part, weights and those of StatisticsInfo
//
// One input is in memory at a time, on the way in and on the way out. Refuses files without a matching checksum, of
// another version, and groups whose sizes do not fit `inputs`. Raw sums, not means: statistics add up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "calibrate/calibration_set.h"
#include "calibrate/expert_tokens.h"
#include "calibrate/statistics.h"
#include "checkpoint/hdf5.h"
#include "model/architecture.h"

namespace adze {

/// What the statistics of one run are of; the same in all files of a folder.
struct StatisticsInfo {
  std::string model;  ///< name, for people
  std::string family;
  std::uint64_t layers = 0;
  std::uint64_t hidden = 0;
  std::uint64_t ffn = 0;
  std::uint64_t heads = 0;
  std::uint64_t kv_heads = 0;
  std::uint64_t head_dim = 0;
  std::uint64_t vocab = 0;
  std::uint64_t experts = 0;  ///< Architecture::experts
  std::uint64_t expert_ffn = 0;
  std::uint64_t shared_ffn = 0;
  std::string expert_inputs;  ///< name_of(ExpertInputs); empty: no experts
  std::string calibration;    ///< TokenWindows::hash(); of merged statistics a hash of their hashes
  std::uint64_t windows = 0;
  std::uint64_t tokens = 0;  ///< in all windows together
  std::string kernels;       ///< kernel_name(): bits are promised per kind of CPU; "several" after merging such
  bool operator==(const StatisticsInfo&) const = default;
};

StatisticsInfo describe_statistics(const Architecture& architecture, const std::string& model,
                                   const TokenWindows& windows, ExpertInputs experts);
/// Names of the attributes that differ.
std::vector<std::string> differences(const StatisticsInfo& a, const StatisticsInfo& b);

// A folder has layers + 1 parts: part p < layers is block p, part `layers` the head.
std::string statistics_file_name(std::size_t part, std::size_t layers);
/// Hidden states of a run that keeps them on disk; never there under this very name, only as an unfinished file.
inline constexpr const char* kStatesFileName = "states.f32";
/// An architecture of these sizes: what is left open is what no table of linears and stages asks for.
Architecture sizes_of(const StatisticsInfo& info);
/// Names of the stages ("qkv", "o", "gate_up", "down", "experts.0.gate_up" ...), or "head".
std::vector<std::string> inputs_of_part(const StatisticsInfo& info, std::size_t part);

/// Writes one file. Every input is added once, in any order.
class StatisticsWriter {
 public:
  /// weights: hash of all weights that decide these statistics (calibrate.h). Throws cannot_create.
  StatisticsWriter(const std::filesystem::path& folder, const StatisticsInfo& info, std::size_t part,
                   const std::string& weights);

  void add(const std::string& input, const InputStatistics& statistics);
  /// The file and its sidecar appear. Throws internal when inputs are missing.
  void commit();

 private:
  std::vector<std::string> missing_;
  Hdf5Writer file_;
};

/// What a table shows of one input.
struct InputSummary {
  std::size_t part = 0;
  std::string where;  ///< "block 3" or "head"
  std::string input;
  std::uint64_t inputs = 0;
  std::uint64_t tokens = 0;
  double trace = 0;               ///< of H
  std::uint64_t dead_inputs = 0;  ///< H_jj <= 1e-12 max H_jj
  std::uint64_t borrowed = 0;     ///< InputStatistics::borrowed
  float abs_max = 0;

  double mean_diagonal() const { return inputs == 0 ? 0 : trace / static_cast<double>(inputs); }
};

/// The diagonal of H and the sums: what an importance matrix needs.
struct InputDiagonal {
  std::vector<double> squares;  ///< sum x_j^2
  std::vector<double> sum;      ///< sum x_j
  std::uint64_t tokens = 0;
};

class StatisticsReader {
 public:
  /// Throws missing_input; bad_data when the checksum does not match or anything is not as described above.
  explicit StatisticsReader(const std::filesystem::path& file);

  const StatisticsInfo& info() const { return info_; }
  std::size_t part() const { return part_; }
  const std::string& weights() const { return weights_; }
  /// Throws bad_data when a value is not finite.
  InputStatistics read(const std::string& input) const;
  /// Reads the diagonal of H only. Throws bad_data when a value is not finite.
  InputDiagonal diagonal(const std::string& input) const;
  /// Reads the diagonal and the vectors only.
  InputSummary summarize(const std::string& input) const;

 private:
  void check_input(const std::string& input) const;

  Hdf5Reader file_;
  StatisticsInfo info_;
  std::size_t part_ = 0;
  std::string weights_;
};

}  // namespace adze
