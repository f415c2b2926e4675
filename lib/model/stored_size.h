// How many bytes a model's tensors take as they are stored, by what they are for, and what its key/value cache takes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "model/weights.h"

namespace adze {

/// Bytes of stored tensors (matrices as stored, norms and biases in f32) and how many weights they hold.
struct StoredSize {
  std::uint64_t bytes = 0;
  std::uint64_t weights = 0;

  double bits_per_weight() const {
    return weights == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
  }
  StoredSize& operator+=(const StoredSize& other) {
    bytes += other.bytes;
    weights += other.weights;
    return *this;
  }
};

/// What tensors are for. Biases count with their matrices and norms, a tied table as an embedding, and
/// learned positions too.
enum class TensorClass : std::uint8_t { embedding, attention, ffn, head, norms };
inline constexpr std::array kTensorClasses = {TensorClass::embedding, TensorClass::attention, TensorClass::ffn,
                                              TensorClass::head, TensorClass::norms};
std::string_view name_of(TensorClass tensor_class);  ///< "embedding", "attention", ...

struct SizeByClass {
  std::array<StoredSize, kTensorClasses.size()> classes;

  const StoredSize& operator[](TensorClass c) const { return classes[static_cast<std::size_t>(c)]; }
  StoredSize& operator[](TensorClass c) { return classes[static_cast<std::size_t>(c)]; }
  /// Matrices of all blocks, which is what most schemes compress.
  StoredSize blocks() const;
  StoredSize all() const;
};

/// Both load block by block.
SizeByClass size_by_class(const ModelWeights& model);
StoredSize stored_size(const ModelWeights& model);

/// Numbers that a key/value cache holds of each token, in all blocks.
std::size_t cache_values_per_token(const Architecture& architecture);

}  // namespace adze
