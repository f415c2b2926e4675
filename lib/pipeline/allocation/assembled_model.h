// Models that are the original but for matrices put in their places. Internal to pipeline/allocation.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/allocation/allocation.h"

namespace adze {

/// Embedding ("embed_tokens") or head ("lm_head") exchanged; a tied table is both. References the original.
class WithOuterMatrix final : public ModelWeights {
 public:
  WithOuterMatrix(const ModelWeights& original, const std::string& module, TensorPtr matrix)
      : original_(original), is_head_(module == "lm_head"), matrix_(std::move(matrix)) {}

  const Architecture& architecture() const override { return original_.architecture(); }
  TensorPtr embedding() const override { return is_head_ ? original_.embedding() : matrix_; }
  TensorPtr positions() const override { return original_.positions(); }
  BlockWeights block(std::size_t index) const override { return original_.block(index); }
  std::vector<float> final_norm() const override { return original_.final_norm(); }
  std::vector<float> final_norm_bias() const override { return original_.final_norm_bias(); }
  TensorPtr head() const override { return is_head_ || architecture().tied ? matrix_ : original_.head(); }

 private:
  const ModelWeights& original_;
  bool is_head_;
  TensorPtr matrix_;
};

/// Every module in its chosen option, from the store; what no scheme solves as the plan stores it. Loaders throw
/// bad_data when the store does not hold a solution. References all.
class AssembledModel final : public ModelWeights {
 public:
  AssembledModel(const PreparedAllocation& prepared, const std::vector<ModuleChoice>& modules,
                 const SolutionStore& store)
      : prepared_(prepared), store_(store), original_(*prepared.weights) {
    for (const ModuleChoice& module : modules) modules_.emplace(module.module, &module);
  }

  const Architecture& architecture() const override { return original_.architecture(); }
  TensorPtr embedding() const override { return placed("embed_tokens", original_.embedding()); }
  TensorPtr positions() const override {
    return architecture().learns_positions() ? placed(std::string(kPositionsModule), original_.positions()) : nullptr;
  }
  BlockWeights block(std::size_t index) const override;
  std::vector<float> final_norm() const override { return original_.final_norm(); }
  std::vector<float> final_norm_bias() const override { return original_.final_norm_bias(); }
  TensorPtr head() const override { return architecture().tied ? embedding() : placed("lm_head", original_.head()); }

 private:
  TensorPtr placed(const std::string& module, TensorPtr original) const;

  const PreparedAllocation& prepared_;
  std::map<std::string_view, const ModuleChoice*> modules_;
  const SolutionStore& store_;
  const ModelWeights& original_;
};

}  // namespace adze
