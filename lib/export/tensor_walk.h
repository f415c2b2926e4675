// Looks up a model's tensors by their row of the tensor table, one at a time; where it is told in which order they will
// be asked for, the next matrix is read while the caller uses the one before.
#pragma once

#include <cstddef>
#include <future>
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

class TensorWalk {
 public:
  explicit TensorWalk(const ModelWeights& model) : model_(model) {}
  TensorWalk(const ModelWeights& model, std::vector<TensorSpec> order) : model_(model) { expect(std::move(order)); }

  /// The tensors that will be asked for from now on. Another order costs time, nothing else.
  void expect(std::vector<TensorSpec> order);

  /// A matrix stays until another one is asked for: its parts may be made one after the other.
  TensorValues at(const TensorSpec& spec);

 private:
  /// Begins to read the first matrix that is expected.
  void read_ahead();

  const ModelWeights& model_;
  std::vector<TensorSpec> order_;  ///< matrices
  std::size_t next_ = 0;           ///< in order_: the one that is read ahead
  std::future<TensorPtr> ahead_;
  std::string name_;  ///< of matrix_
  TensorPtr matrix_;
};

}  // namespace adze
