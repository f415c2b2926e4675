// A model read from a GGUF file of a family of ours (or several, split): what our exporter writes, and what
// llama.cpp's converter and quantizer write in F32, F16, BF16 and the types of all our gguf/ grids, from Q2_K to MXFP4.
// Rows of q and k come back in the order of Hugging Face checkpoints, so the same forward pass serves both.
//
// Refuses other architectures, mixtures of experts, RoPE kinds other than none, linear, llama3 and yarn, linear
// together with divisors, and other tensor types, by name. The tokenizer of the file is not read (gguf_tokenizer.h does
// that).
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/gguf.h"
#include "model/weights.h"

namespace adze {

/// Keys of ours for what llama3 RoPE loses in rope_freqs.weight; files of others have the published defaults.
inline constexpr std::string_view kGgufRopeFactor = "adze.rope.factor";                            // FLOAT32
inline constexpr std::string_view kGgufRopeLowFactor = "adze.rope.low_freq_factor";                // FLOAT32
inline constexpr std::string_view kGgufRopeHighFactor = "adze.rope.high_freq_factor";              // FLOAT32
inline constexpr std::string_view kGgufRopeOriginalContext = "adze.rope.original_context_length";  // UINT32
inline constexpr std::string_view kGgufRopeDivisors = "rope_freqs.weight";
/// In their place, where FamilyInfo::long_rope_in_gguf: for windows up to the original context, and beyond.
inline constexpr std::string_view kGgufShortDivisors = "rope_factors_short.weight";
inline constexpr std::string_view kGgufLongDivisors = "rope_factors_long.weight";

/// A type of file that weights may have here: a dtype, or the grid of its blocks.
struct GgufReadableType {
  std::string_view name;  ///< "Q4_K"
  std::optional<DType> dtype;
  const char* grid;  ///< "" for a dtype
};
/// nullptr for a type whose values are not understood.
const GgufReadableType* find_readable_gguf_type(std::string_view name);

/// Rows of a file as a tensor of ours. scale: what NVFP4 is multiplied by; powers of two give a tensor on our grid,
/// others floats. Throws bad_data for scales of blocks that are NaN.
TensorPtr tensor_of_gguf(const GgufReadableType& type, Shape shape, std::vector<std::byte> payload, float scale);

/// order[g] is the row of the Hugging Face tensor that is row g of the GGUF tensor (`heads` heads of rows / heads rows
/// each, which must be even): h * hd + 2k + a <- h * hd + a * hd / 2 + k. For 8 rows and one head: 0 4 1 5 2 6 3 7.
/// heads = 0: every row stays.
std::vector<std::size_t> gguf_row_order(std::size_t rows, std::size_t heads);

class GgufWeights final : public ModelWeights {
 public:
  /// Checks architecture, names, types and shapes of all tensors; reads no weights. Throws missing_input, bad_data.
  explicit GgufWeights(const std::filesystem::path& path);
  /// The files of one model, opened.
  explicit GgufWeights(std::vector<GgufFile> files);

  const Architecture& architecture() const override { return architecture_; }
  /// How the file has the model: its own `general.architecture`, which need not be what gguf_row() would write.
  const FamilyInfo& layout() const { return *layout_; }
  /// All files of a split; the first one has the metadata.
  std::span<const GgufFile> files() const { return files_; }
  /// What the matrix `name` ("blk.0.attn_q.weight") is multiplied by: the number in "blk.0.attn_q.scale", of experts
  /// that of theirs, or 1. Throws bad_data for one that is not a positive number.
  float scale_of(const std::string& name, std::size_t expert = 0) const;
  /// Of a norm, under its name in the file: less what the family adds.
  std::vector<float> read_norm(const std::string& name) const;
  /// The table of learned positions, the rows that no file has before it as zeros.
  TensorPtr positions() const override;
  /// The loaders throw bad_data, naming the tensor, when a value is NaN or infinite.
  TensorPtr embedding() const override;
  BlockWeights block(std::size_t index) const override;
  std::vector<float> final_norm() const override;
  std::vector<float> final_norm_bias() const override;
  TensorPtr head() const override;

 private:
  TensorPtr matrix_in_block(const TensorSpec& spec) const override;
  std::vector<float> vector_in_block(const TensorSpec& spec) const override;
  struct Place {
    const GgufFile* file = nullptr;
    const GgufTensor* tensor = nullptr;
    explicit operator bool() const { return tensor != nullptr; }
  };

  Place find(std::string_view name) const;
  Architecture read_architecture() const;
  RopeSpec read_rope(std::size_t rotated) const;
  void read_family_settings(Architecture& result) const;
  RopeSpec read_yarn(RopeSpec rope, double factor) const;
  RopeSpec read_divided_rope(RopeSpec rope, std::size_t rotated) const;
  RopeSpec read_long_rope(RopeSpec rope) const;
  /// Of the divisors for windows up to the original context.
  std::string_view divisors_name() const;
  void check_tensors() const;
  std::string problem_of(const TensorSpec& spec) const;
  void read_biases(Architecture& result) const;
  /// Which rows are meant, and the heads whose rows are permuted.
  struct Rows {
    std::size_t permuted_heads = 0;
    std::size_t first = 0;
    std::size_t count = 0;  ///< 0: all
  };
  std::vector<float> read_vector(const std::string& name, Rows rows) const;
  TensorPtr read_matrix(const std::string& name, Rows rows) const;
  TensorPtr read_tensor(const std::string& name, Rows rows, std::size_t dimensions) const;
  TensorPtr read_expert(const std::string& name, std::size_t expert) const;
  TensorPtr read_weight(std::size_t block, const LinearInfo& info) const;
  std::vector<float> read_bias(std::size_t block, const LinearInfo& info) const;
  std::vector<float> read_norm(std::size_t block, const NormInfo& info, std::string_view suffix) const;
  const LinearInfo& linear(LinearSlot slot) const;
  Rows rows_of(const LinearInfo& info) const;

  std::vector<GgufFile> files_;
  std::string origin_;
  const FamilyInfo* layout_ = nullptr;
  Architecture architecture_;
  std::vector<LinearInfo> linears_;  ///< of a block, as the file has them
};

}  // namespace adze
