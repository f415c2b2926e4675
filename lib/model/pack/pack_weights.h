// A pack as a model, and as a checkpoint of floats. A delta is one together with its base: what it stores is added to
// the base's tensor of the same name, as each is loaded.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/folder_files.h"
#include "grid/factors/shared_tensor.h"
#include "model/decoded_source.h"
#include "model/pack/base_model.h"
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
  /// The same of a delta, with its base; of it, what is cheap is compared (BaseModel::check).
  PackWeights(const std::filesystem::path& path, BaseModel base);

  const Architecture& architecture() const override { return pack_.manifest().architecture; }
  /// The loaders throw bad_data, naming the tensor, for bytes that are damaged, values that are not finite, and base
  /// tensors that are others; missing_input for a delta without a base.
  TensorPtr embedding() const override;
  TensorPtr positions() const override;
  BlockWeights block(std::size_t index) const override;
  std::vector<float> final_norm() const override;
  std::vector<float> final_norm_bias() const override;
  TensorPtr head() const override;
  /// Of a delta, of what the pack has whole.
  std::optional<std::string> format_of(const TensorSpec& spec) const override;

  const PackFile& pack() const { return pack_; }
  std::string origin() const { return pack_.file().path().string(); }
  /// config.json and the others, read and checked.
  std::vector<StoreFile> files() const;
  /// The payload of a tensor, decoded where it is coded. Throws bad_data.
  std::vector<std::byte> payload(const PackTensor& tensor) const;
  /// A matrix, or a vector as one row. Factors of other tensors are found; what a delta stores is added to its base's.
  TensorPtr tensor(const PackTensor& tensor) const;
  /// What the pack itself has: of a delta the difference. Not of a tensor that is the base's as it is.
  TensorPtr stored(const PackTensor& tensor) const;

 private:
  TensorPtr matrix_in_block(const TensorSpec& spec) const override { return matrix(spec.hf_name); }
  std::vector<float> vector_in_block(const TensorSpec& spec) const override { return vector(spec.hf_name); }
  std::string full_name(std::string_view module, std::string_view suffix) const;
  const PackTensor& require(const std::string& name) const;
  TensorPtr matrix(const std::string& name) const;
  std::vector<float> vector(const std::string& name) const;
  TensorPtr shared_factor(const SharedFormat& shared, Shape shape) const;
  TensorPtr base_tensor(const PackTensor& tensor) const;

  PackFile pack_;
  std::optional<BaseModel> base_;
};

/// What to say of a delta that is opened without its base.
std::string missing_base_message(const PackFile& pack);

/// A pack seen as a checkpoint of floats. Of a delta every tensor is made with the base's.
class PackSource final : public DecodedSource {
 public:
  explicit PackSource(std::shared_ptr<const PackWeights> weights);

  std::string origin() const override { return weights_->origin(); }

 private:
  bool read_stored(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override;
  TensorPtr load(const TensorInfo& tensor) const override;

  std::shared_ptr<const PackWeights> weights_;
};

}  // namespace adze
