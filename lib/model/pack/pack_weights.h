// A pack as a model, and as a checkpoint of floats.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/folder_files.h"
#include "checkpoint/tensor_source.h"
#include "grid/factors/shared_tensor.h"
#include "model/pack/pack_file.h"
#include "model/weights.h"

namespace adze {

/// Throws bad_data where there is a config.json that says another architecture: other readers go by it.
void check_pack_config(std::span<const StoreFile> files, const Architecture& architecture);

class PackWeights final : public ModelWeights {
 public:
  /// Checks names and shapes of all tensors against the architecture, and that against config.json where there is one;
  /// reads no weight. Throws missing_input, bad_data.
  explicit PackWeights(const std::filesystem::path& path);

  const Architecture& architecture() const override { return pack_.manifest().architecture; }
  /// The loaders throw bad_data, naming the tensor, for bytes that are damaged and values that are not finite.
  TensorPtr embedding() const override;
  BlockWeights block(std::size_t index) const override;
  std::vector<float> final_norm() const override;
  TensorPtr head() const override;

  const PackFile& pack() const { return pack_; }
  std::string origin() const { return pack_.file().path().string(); }
  /// config.json and the others, read and checked.
  std::vector<StoreFile> files() const;
  /// The payload of a tensor, decoded where it is coded. Throws bad_data.
  std::vector<std::byte> payload(const PackTensor& tensor) const;
  /// A matrix, or a vector as one row. Factors of other tensors are found.
  TensorPtr tensor(const PackTensor& tensor) const;

 private:
  const PackTensor& require(const std::string& name) const;
  TensorPtr matrix(const std::string& name) const;
  std::vector<float> vector(const std::string& name) const;
  TensorPtr shared_factor(const SharedFormat& shared, Shape shape) const;

  PackFile pack_;
};

/// A pack seen as a checkpoint of floats, under the same names: floats as they are, other formats decoded to f32.
class PackSource final : public TensorSource {
 public:
  explicit PackSource(std::shared_ptr<const PackWeights> weights);

  std::span<const TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return weights_->origin(); }
  /// Of a matrix in another format it decodes the rows that it touches.
  void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override;

 private:
  TensorPtr decoded(const PackTensor& tensor) const;

  std::shared_ptr<const PackWeights> weights_;
  mutable std::mutex mutex_;
  mutable const PackTensor* last_ = nullptr;  ///< a matrix is read in pieces: it stays
  mutable TensorPtr last_tensor_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace adze
