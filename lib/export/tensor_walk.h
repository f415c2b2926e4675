// Looks up a model's tensors by their row of the tensor table, keeping one block alive at a time; or two, where it is
// told in which order blocks will be asked for and reads the next one meanwhile.
#pragma once

#include <cstddef>
#include <future>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/tensors.h"
#include "model/weights.h"

namespace adze {

/// One tensor of a model: a matrix, or a vector (norms and biases) when there is no matrix. What is kept as it is
/// (TensorRole::kept) stands in the place of a matrix.
struct TensorValues {
  TensorPtr matrix;
  std::vector<float> vector;

  std::string format() const { return matrix ? matrix->format() : "f32"; }
  std::span<const std::byte> payload() const { return matrix ? matrix->payload() : std::as_bytes(std::span(vector)); }
};

/// 0, 1 .. layers - 1: the blocks as tensor tables have them.
std::vector<std::size_t> in_order(std::size_t layers);

class TensorWalk {
 public:
  explicit TensorWalk(const ModelWeights& model) : model_(model) {}
  /// order: blocks as they will be asked for. Another order costs time, nothing else.
  TensorWalk(const ModelWeights& model, std::vector<std::size_t> order) : model_(model), order_(std::move(order)) {}

  /// Fast in the order of expected_tensors; a matrix of another block loads that, and so does a vector that cannot be
  /// had alone.
  TensorValues at(const TensorSpec& spec);

 private:
  TensorValues in_block(const TensorSpec& spec);
  BlockWeights load(std::size_t index);

  const ModelWeights& model_;
  std::vector<std::size_t> order_;
  std::optional<std::size_t> ahead_index_;
  std::future<BlockWeights> ahead_;
  std::optional<std::size_t> index_;
  BlockWeights block_;
};

}  // namespace adze
