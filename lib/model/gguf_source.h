// A GGUF file (or several, split) seen as a checkpoint: its tensors under their Hugging Face names, in Hugging Face
// shapes and row order, so that everything that works on checkpoints works on it.
//
// F32, F16 and BF16 keep their dtype and their bits; blocks of a grid are decoded to f32, which holds every value
// exactly. Nothing is cached: each read decodes the rows that it touches. rope_freqs.weight is a setting, not a weight,
// and is not listed.
#pragma once

#include <memory>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "model/gguf_weights.h"

namespace adze {

class GgufSource final : public TensorSource {
 public:
  /// `weights` has checked names, types and shapes already.
  explicit GgufSource(std::shared_ptr<const GgufWeights> weights);

  std::span<const TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return weights_->files().front().path().string(); }
  void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override;
  /// Only of tensors whose bytes are in the file as they are seen here: a dtype, and rows in their order.
  std::optional<FilePlace> place(const TensorInfo& tensor) const override;

 private:
  struct Stored {
    const GgufFile* file = nullptr;
    const GgufTensor* tensor = nullptr;
    const GgufReadableType* type = nullptr;
    std::size_t rows = 0;  ///< of a vector: its elements
    std::size_t cols = 0;  ///< of a vector: 1
    std::size_t permuted_heads = 0;
    std::uint64_t offset = 0;  ///< bytes of the experts before
    std::uint64_t bytes = 0;   ///< of the tensor, or the expert
    float scale = 1;           ///< of NVFP4
    bool is_offset = false;    ///< a norm that the file has with what the family adds to it; seen in f32
    bool is_padded = false;    ///< a table that the file has without its first rows; seen in f32

    bool is_made() const { return is_offset || is_padded; }
    bool as_is() const { return type->dtype && permuted_heads == 0 && !is_made(); }
  };

  Stored stored_tensor(const TensorSpec& spec) const;
  void read_rows(const Stored& stored, std::size_t first_row, std::span<std::byte> out) const;

  std::shared_ptr<const GgufWeights> weights_;
  std::vector<TensorInfo> tensors_;
  std::vector<Stored> stored_;  ///< parallel to tensors_
};

}  // namespace adze
