// A model's weights: one block at a time, as the forward pass and calibration read them, or one tensor at a time, as
// exports do. Where the weights lie (a checkpoint, a GGUF file, our compressed store) is one implementation of
// ModelWeights each.
//
// Everything a ModelWeights hands out is immutable and lives as long as somebody holds it: dropping a BlockWeights
// frees the block. All functions may be called from several threads.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "grid/compressed_tensor.h"
#include "model/architecture.h"
#include "model/listing.h"
#include "model/tensors.h"

namespace adze {

class TensorSource;
struct TensorInfo;

using TensorPtr = std::shared_ptr<const CompressedTensor>;

/// y = x W^T + b.  weight: [out x in]; bias: [out], or empty.
struct Linear {
  TensorPtr weight;
  std::vector<float> bias;
};

/// What a norm multiplies by and adds. bias: empty where norms have none (NormKind::rms).
struct Norm {
  std::vector<float> weight;
  std::vector<float> bias;
};

/// The largest |key|, rotated, and |value| that a block gave on the calibration windows: what scales of a runtime's
/// cache come from.
struct CacheMaxima {
  float keys = 0;
  float values = 0;

  bool operator==(const CacheMaxima&) const = default;
  void add(const CacheMaxima& other) {
    keys = std::max(keys, other.keys);
    values = std::max(values, other.values);
  }
};

/// A tensor of a model whose architecture is not known: a matrix, or a KeptTensor (grid/kept_tensor.h).
struct NamedTensor {
  std::string name;  ///< TensorSpec::hf_name
  TensorPtr tensor;
};

/// gate, up and down of one expert.
using ExpertLinears = std::array<Linear, 3>;

/// One transformer layer. The width of the FFN is that of its own tensors, which a narrowed model may have per block.
struct BlockWeights {
  std::array<std::vector<float>, kNormCount> norms;  ///< as stored (FamilyInfo::norm_offset); empty: there is none
  std::array<std::vector<float>, kNormCount> norm_biases;  ///< of NormKind::layer; empty: there is none
  std::array<Linear, LinearSlot::kKinds> linears;          ///< but those of experts; without weight: there is none
  std::vector<ExpertLinears> experts;                      ///< of mixtures
  std::optional<CacheMaxima> cache;                        ///< where they were measured
  bool sees_all = false;                                   ///< Architecture::sees_all of its layer
  std::vector<NamedTensor> listed;  ///< all there is where the architecture is not known (TensorSpec::listed)

  const Linear& operator[](LinearSlot slot) const {
    return slot.is_expert() ? experts[static_cast<std::size_t>(slot.expert)][slot.kind - LinearSlot::gate]
                            : linears[slot.kind];
  }
  Linear& operator[](LinearSlot slot) { return const_cast<Linear&>(std::as_const(*this)[slot]); }
  const std::vector<float>& operator[](NormSlot slot) const { return norms[static_cast<std::size_t>(slot)]; }
  std::vector<float>& operator[](NormSlot slot) { return norms[static_cast<std::size_t>(slot)]; }
  const std::vector<float>& bias_of(NormSlot slot) const { return norm_biases[static_cast<std::size_t>(slot)]; }
  std::vector<float>& bias_of(NormSlot slot) { return norm_biases[static_cast<std::size_t>(slot)]; }

  /// Calls visit(linear) for each that there is, in the order of tables.
  template <typename Visit>
  void for_each_linear(Visit&& visit) const {
    for (const Linear& linear : linears)
      if (linear.weight) visit(linear);
    for (const ExpertLinears& expert : experts) std::ranges::for_each(expert, visit);
  }
};

/// A block put together of all that its architecture says it has: norm(info, suffix) gives the values of a norm, of its
/// "weight" or its "bias", linear(info) a linear. Throws internal for a block that there is none of.
template <typename LoadNorm, typename LoadLinear>
BlockWeights assemble_block(const Architecture& architecture, std::size_t index, LoadNorm&& norm, LoadLinear&& linear) {
  if (index >= architecture.layers)
    fail(ErrorKind::internal, "block {} of a model with {}", index, architecture.layers);
  BlockWeights block;
  block.experts.resize(architecture.experts);
  const bool has_biases = architecture.info().norm_kind == NormKind::layer;
  for (const NormInfo& info : architecture.info().norms) {
    block[info.slot] = norm(info, "weight");
    if (has_biases) block.bias_of(info.slot) = norm(info, "bias");
  }
  for (const LinearInfo& info : block_linears(architecture)) block[info.slot] = linear(info);
  block.sees_all = architecture.sees_all(index);
  return block;
}

/// The same where the architecture is not known: tensor(spec) gives each that it lists.
template <typename LoadTensor>
BlockWeights assemble_listed(const Architecture& architecture, std::size_t index, LoadTensor&& tensor) {
  BlockWeights block;
  for (const TensorSpec& spec : tensors_of_block(architecture, index))
    block.listed.push_back({spec.hf_name, tensor(spec)});
  return block;
}

/// What a norm multiplies by, of the weights that are stored for it; and back.
std::vector<float> gains_of_norm(const Architecture& architecture, std::span<const float> weights);
std::vector<float> norm_of_gains(const Architecture& architecture, std::span<const float> gains);

class ModelWeights {
 public:
  virtual ~ModelWeights() = default;

  virtual const Architecture& architecture() const = 0;
  virtual TensorPtr embedding() const = 0;                           ///< [vocab x hidden]
  virtual TensorPtr positions() const { return nullptr; }            ///< [position_rows() x hidden], where learned
  virtual BlockWeights block(std::size_t index) const = 0;           ///< loads just that block
  virtual std::vector<float> final_norm() const = 0;                 ///< [hidden]
  virtual std::vector<float> final_norm_bias() const { return {}; }  ///< [hidden], of NormKind::layer
  virtual TensorPtr head() const = 0;                                ///< [vocab x hidden]; the embedding when tied

  /// CompressedTensor::format() of a matrix of the table, where it can be had without the weights.
  virtual std::optional<std::string> format_of(const TensorSpec&) const { return std::nullopt; }
  /// BlockWeights::cache.
  virtual std::optional<CacheMaxima> cache_of(std::size_t index) const { return block(index).cache; }

  /// One matrix of the table, or what is kept as it is (TensorRole::kept); alone, so that memory need not hold a block.
  TensorPtr matrix_of(const TensorSpec& spec) const;
  /// One norm or bias.
  std::vector<float> vector_of(const TensorSpec& spec) const;

 protected:
  /// The same of a block's; by default, of a block that is loaded for it.
  virtual TensorPtr matrix_in_block(const TensorSpec& spec) const;
  virtual std::vector<float> vector_in_block(const TensorSpec& spec) const;
};

/// Both parts of a model's final norm.
inline Norm norm_of(const ModelWeights& model) { return {model.final_norm(), model.final_norm_bias()}; }

/// What the first states are made of. positions: null where they are not learned.
struct InputTables {
  TensorPtr tokens;
  TensorPtr positions;
};
inline InputTables input_tables(const ModelWeights& model) { return {model.embedding(), model.positions()}; }

/// Weights of a checkpoint under their Hugging Face names, in the dtype they are stored in.
class CheckpointWeights final : public ModelWeights {
 public:
  /// Resolves tying and checks every tensor's name, shape and dtype; throws bad_data. Reads no weights but, at most, a
  /// head that config.json calls tied.
  CheckpointWeights(Architecture architecture, std::shared_ptr<const TensorSource> source);

  const Architecture& architecture() const override { return architecture_; }
  /// The loaders throw bad_data, naming the tensor, when a value is NaN or infinite.
  TensorPtr embedding() const override;
  TensorPtr positions() const override;
  BlockWeights block(std::size_t index) const override;
  std::vector<float> final_norm() const override;
  std::vector<float> final_norm_bias() const override;
  TensorPtr head() const override;
  std::optional<std::string> format_of(const TensorSpec& spec) const override;

 private:
  TensorPtr matrix_in_block(const TensorSpec& spec) const override;
  std::vector<float> vector_in_block(const TensorSpec& spec) const override;
  TensorPtr matrix(std::string_view module) const;
  std::vector<float> vector(std::string_view module, std::string_view suffix) const;
  TensorPtr listed(const TensorSpec& spec) const;

  Architecture architecture_;
  std::shared_ptr<const TensorSource> source_;
};

/// One stored matrix as it is, checked for NaN and Inf. Throws bad_data, naming the tensor.
std::shared_ptr<const DenseTensor> load_matrix(const TensorSource& source, const TensorInfo& tensor);
/// One stored vector (norm, bias) as float, checked likewise.
std::vector<float> load_vector(const TensorSource& source, const TensorInfo& tensor);

/// The architecture that a Hugging Face folder's config.json describes; tying not yet resolved.
Architecture read_architecture(const std::filesystem::path& folder);
/// Opens a Hugging Face folder: config.json and its safetensors.
std::unique_ptr<ModelWeights> open_checkpoint_model(const std::filesystem::path& folder);

}  // namespace adze
