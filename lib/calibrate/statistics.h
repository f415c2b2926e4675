// What calibration measures of the inputs of linear layers: the second moment H and a few vectors, as raw sums over
// tokens, so that statistics of two runs add up to those of both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/matrix.h"

namespace adze {

/// Statistics of one input of n features over `tokens` tokens.
struct InputStatistics {
  MatrixD second_moment;        ///< H = sum x x^T: [n x n], symmetric, both triangles
  std::vector<double> sum;      ///< sum x
  std::vector<double> abs_sum;  ///< sum |x|
  std::vector<float> abs_max;   ///< max |x|
  std::uint64_t tokens = 0;
  std::uint64_t borrowed = 0;  ///< of the tokens, those that an expert has not been sent (calibrate/expert_tokens.h)

  InputStatistics() = default;
  explicit InputStatistics(std::size_t inputs);
  std::size_t inputs() const { return sum.size(); }

  /// Adds rows of x: [tokens x n]. Products are single precision over slices of `slice_tokens` rows, their sums double
  /// (linalg/second_moment.h). Throws bad_data when a value is not finite.
  void add(ConstViewF x, std::size_t slice_tokens);
  /// Throws bad_data when the numbers of inputs differ.
  void merge(const InputStatistics& other);
};

/// Rows of one of several inputs that are measured together.
struct InputRows {
  InputStatistics* statistics = nullptr;
  ConstViewF x;      ///< [tokens x n]
  std::string name;  ///< of the input, for errors; may be empty
};
/// Adds the rows of every input to its statistics: the bits of InputStatistics::add(), and threads that find nothing to
/// do at a narrow input take their share of the others. Throws bad_data for the first input that has a value that is
/// not finite; nothing is added then.
void add_together(std::span<const InputRows> inputs, std::size_t slice_tokens);

}  // namespace adze
