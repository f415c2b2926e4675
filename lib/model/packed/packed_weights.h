// A packed checkpoint (GPTQ, AWQ, compressed-tensors, MLX) as a model: linears on integer grids, everything else
// floats.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "model/decoded_source.h"
#include "model/packed/packed_layout.h"
#include "model/weights.h"

namespace adze {

/// True when the text of a config.json says how its weights are packed. Throws bad_data for a method that is not known,
/// with those that are.
bool is_packed_config(const nlohmann::json& config, const std::string& origin);

class PackedWeights final : public ModelWeights {
 public:
  /// Checks the names of all tensors and reads no weight. listed: the architecture, where it is not known but to us;
  /// else config.json says it. Throws missing_input, bad_data.
  explicit PackedWeights(const std::filesystem::path& folder, const Architecture* listed = nullptr);

  const Architecture& architecture() const override { return architecture_; }
  /// The loaders throw bad_data, naming the tensor.
  TensorPtr embedding() const override;
  TensorPtr positions() const override;
  BlockWeights block(std::size_t index) const override;
  std::vector<float> final_norm() const override;
  std::vector<float> final_norm_bias() const override;
  TensorPtr head() const override;

  const std::string& origin() const { return raw_.origin(); }
  std::vector<std::filesystem::path> files() const { return raw_.files(); }
  /// "gptq".
  std::string_view layout() const { return layout_name_; }
  /// A matrix of the table.
  TensorPtr matrix(const TensorSpec& spec) const;
  std::vector<float> vector(const TensorSpec& spec) const;
  /// Of a tensor that is stored as floats; nothing where it is packed.
  std::optional<DType> stored_dtype(const TensorSpec& spec) const;
  /// Bytes of such a tensor, from `offset` on.
  void read_floats(const TensorSpec& spec, std::uint64_t offset, std::span<std::byte> out) const;

 private:
  TensorPtr matrix_in_block(const TensorSpec& spec) const override;
  std::vector<float> vector_in_block(const TensorSpec& spec) const override { return vector(spec); }
  void check_names() const;
  TensorPtr matrix(const std::string& base, Shape shape) const;
  TensorPtr kept(const TensorSpec& spec) const;
  std::vector<float> vector(const std::string& name, std::size_t size) const;

  RawTensors raw_;
  Architecture architecture_;
  std::unique_ptr<PackedLayout> layout_;
  std::string_view layout_name_;
};

/// A packed checkpoint seen as one of floats.
class PackedSource final : public DecodedSource {
 public:
  explicit PackedSource(std::shared_ptr<const PackedWeights> weights);

  std::string origin() const override { return weights_->origin(); }

 private:
  bool read_stored(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override;
  TensorPtr load(const TensorInfo& tensor) const override;

  std::shared_ptr<const PackedWeights> weights_;
  std::vector<TensorSpec> specs_;  ///< parallel to tensors()
};

/// A Hugging Face folder, packed or not.
std::unique_ptr<ModelWeights> open_folder_model(const std::filesystem::path& folder);
/// The same of a model whose architecture is not known: the tensors of the list, matrices packed or not.
std::unique_ptr<ModelWeights> open_listed_folder(const std::filesystem::path& folder, const Architecture& listed);

}  // namespace adze
