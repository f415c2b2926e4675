// A model of nested codes seen in fewer bits: its nested matrices by their leading planes
// (grid/nested/nested_tensor.h), everything else as it is.
#pragma once

#include "model/weights.h"

namespace adze {

class NestedView final : public ModelWeights {
 public:
  /// `model` must outlive it. planes: 1 to 8.
  NestedView(const ModelWeights& model, int planes) : model_(model), planes_(planes) {}

  const Architecture& architecture() const override { return model_.architecture(); }
  /// The loaders throw bad_data for a nested matrix that has fewer planes.
  TensorPtr embedding() const override { return seen(model_.embedding()); }
  TensorPtr positions() const override { return model_.positions(); }
  BlockWeights block(std::size_t index) const override;
  std::vector<float> final_norm() const override { return model_.final_norm(); }
  std::vector<float> final_norm_bias() const override { return model_.final_norm_bias(); }
  TensorPtr head() const override { return seen(model_.head()); }
  std::optional<CacheMaxima> cache_of(std::size_t block) const override { return model_.cache_of(block); }

 private:
  TensorPtr matrix_in_block(const TensorSpec& spec) const override;
  std::vector<float> vector_in_block(const TensorSpec& spec) const override { return model_.vector_of(spec); }
  TensorPtr seen(const TensorPtr& matrix) const;

  const ModelWeights& model_;
  int planes_;
};

}  // namespace adze
