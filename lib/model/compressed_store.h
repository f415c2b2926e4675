// The compressed store: a folder of HDF5 files, `model.h5` for what lies outside blocks and `block-0000.h5` ... for
// each block, every one with its checksum beside it (checkpoint/sidecar.h). Self-contained: it needs nothing of the
// checkpoint.
//
//   model.h5       files/NAME (config.json, tokenizer.json ... verbatim), embed_tokens, embed_positions where they are
//                  learned, lm_head unless tied, norm; norm.bias where norms have biases
//   block-0000.h5  input_layernorm, post_attention_layernorm, self_attn.q_proj ...; biases beside their weights,
//                  those of norms as "NAME.bias";
//                  self_attn.cache_maxima (the largest |key| and |value|) where a run measured them
// Of a model whose architecture is not known model.h5 has files alone, the list of tensors among them
// (model/listing.h), and a block a group "listed/I" for each of its tensors, with the attribute name; those that are
// kept as they are have a dtype for their format, one row, and their bytes for payload. A matrix is a group with the
// attributes format, rows, cols and the dataset payload; a vector is a dataset of f32. A factor may lie in the file of
// another block (grid/factors/shared_tensor.h): such files belong together.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/folder_files.h"
#include "grid/factors/shared_tensor.h"
#include "model/weights.h"

namespace adze {

class Hdf5Reader;

/// "block-0007.h5".
std::string block_file_name(std::size_t block);
inline constexpr const char* kOuterFileName = "model.h5";

/// Both write the file and its sidecar, whole or not at all.
void write_block_file(const std::filesystem::path& path, const BlockWeights& block, const Architecture& architecture);
/// What lies outside of blocks. positions: null where they are not learned; head: null when it is tied.
struct OuterTensors {
  TensorPtr embedding;
  TensorPtr positions;
  Norm norm;
  TensorPtr head;
};
OuterTensors outer_tensors(const ModelWeights& model);
void write_outer_file(const std::filesystem::path& path, std::span<const StoreFile> files, const OuterTensors& tensors);

/// Factors that lie in files of other blocks are read there, in the same folder. Throws bad_data when the checksum or
/// anything inside does not fit `architecture`.
BlockWeights read_block_file(const std::filesystem::path& path, const Architecture& architecture, std::size_t index);

class CompressedStore final : public ModelWeights {
 public:
  /// Opens the folder; blocks are opened when they are first asked for, checked then, and stay open: what takes their
  /// place later is not seen. Matrices are read when they are asked for; those outside of blocks once, as long as
  /// somebody holds them. Throws missing_input, bad_data.
  explicit CompressedStore(std::filesystem::path folder);

  const std::vector<StoreFile>& files() const { return files_; }
  const Architecture& architecture() const override { return architecture_; }
  TensorPtr embedding() const override;
  TensorPtr positions() const override;
  BlockWeights block(std::size_t index) const override;
  std::vector<float> final_norm() const override { return norm_.weight; }
  std::vector<float> final_norm_bias() const override { return norm_.bias; }
  TensorPtr head() const override;
  std::optional<std::string> format_of(const TensorSpec& spec) const override;
  std::optional<CacheMaxima> cache_of(std::size_t block) const override;

 private:
  TensorPtr matrix_in_block(const TensorSpec& spec) const override;
  std::vector<float> vector_in_block(const TensorSpec& spec) const override;
  TensorPtr outer(std::string_view name, std::size_t rows) const;
  std::shared_ptr<const Hdf5Reader> block_file(std::size_t index) const;

  std::filesystem::path folder_;
  std::vector<StoreFile> files_;
  Architecture architecture_;
  std::shared_ptr<const Hdf5Reader> outer_file_;  ///< checked
  Norm norm_;
  FindShared shared_;  ///< factors of other blocks
  mutable std::mutex mutex_, outer_mutex_;
  mutable std::map<std::size_t, std::shared_ptr<const Hdf5Reader>> block_files_;                      ///< checked
  mutable std::map<std::string, std::weak_ptr<const CompressedTensor>, std::less<>> outer_matrices_;  ///< by name
};

}  // namespace adze
