// Looks up a model's tensors by their row of the tensor table, keeping one block alive at a time.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "model/tensors.h"
#include "model/weights.h"

namespace adze {

/// One tensor of a model: a matrix, or a vector (norms and biases) when there is no matrix.
struct TensorValues {
  TensorPtr matrix;
  std::vector<float> vector;
};

class TensorWalk {
 public:
  explicit TensorWalk(const ModelWeights& model) : model_(model) {}

  /// Fast in the order of expected_tensors; each change of block loads one.
  TensorValues at(const TensorSpec& spec);

 private:
  TensorValues in_block(const TensorSpec& spec);

  const ModelWeights& model_;
  std::optional<std::size_t> index_;
  BlockWeights block_;
};

}  // namespace adze
