// A Hugging Face checkpoint folder: model.safetensors, or the shards that model.safetensors.index.json lists.
// Index and shards must agree exactly: every mapped name is in its shard, every shard tensor is mapped, no name twice.
// Refuses names that are paths, links that leave the folder, and dtypes that cannot be read as weights.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "checkpoint/tensor_source.h"

namespace adze {

/// model.safetensors, or the shards of the index, which must agree with it; in name order. Throws as SafetensorsFolder,
/// but for dtypes, which are not looked at.
std::vector<SafetensorsFile> open_safetensors_files(const std::filesystem::path& folder);

class SafetensorsFolder final : public TensorSource {
 public:
  /// Throws missing_input when the folder or a file of it is missing, bad_data when something is inconsistent.
  explicit SafetensorsFolder(std::filesystem::path folder);

  std::span<const TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return folder_.string(); }
  void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override;
  std::optional<FilePlace> place(const TensorInfo& tensor) const override;

  /// The files, in name order.
  std::span<const SafetensorsFile> files() const { return files_; }

 private:
  struct Where {
    std::size_t file = 0;
    std::uint64_t offset = 0;  ///< in that file
  };
  void collect();

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  std::vector<TensorInfo> tensors_;
  std::vector<Where> where_;  ///< parallel to tensors_
};

/// Opens whatever checkpoint the folder holds; when it holds none that can be read, the message names what was found.
std::unique_ptr<TensorSource> open_checkpoint_folder(const std::filesystem::path& folder);

}  // namespace adze
