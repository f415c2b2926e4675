// A model with some of its blocks dropped, or collapsed into one before them.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "model/weights.h"

namespace adze {

/// What becomes of a dropped block's weights. LaCo's published formula is `sum`; what its released code computes is
/// dropping (specification allocation.md, 6.1).
enum class MergeMode : std::uint8_t {
  none,  ///< they go
  sum,   ///< W_l + sum_k (W_(l+k) - W_l) for the blocks l+1 ... l+m dropped behind block l; norms stay those of l
  mean,  ///< the mean of all of them
};

/// The blocks that are left, each with those behind it that are dropped. dropped: ascending; not all of them. Blocks
/// dropped before the first one that is left go, whatever the mode.
std::vector<std::vector<std::size_t>> kept_blocks(std::size_t layers, const std::vector<std::size_t>& dropped);

class FewerBlocks final : public ModelWeights {
 public:
  /// References nothing but shares the original.
  FewerBlocks(std::shared_ptr<const ModelWeights> original, const std::vector<std::size_t>& dropped, MergeMode merge);

  const Architecture& architecture() const override { return architecture_; }
  TensorPtr embedding() const override { return original_->embedding(); }
  /// A merged block's linears are f32.
  BlockWeights block(std::size_t index) const override;
  std::vector<float> final_norm() const override { return original_->final_norm(); }
  std::vector<float> final_norm_bias() const override { return original_->final_norm_bias(); }
  TensorPtr positions() const override { return original_->positions(); }
  TensorPtr head() const override { return original_->head(); }

 private:
  std::shared_ptr<const ModelWeights> original_;
  std::vector<std::vector<std::size_t>> groups_;
  MergeMode merge_;
  Architecture architecture_;
};

}  // namespace adze
