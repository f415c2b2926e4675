// Which blocks of a model can go (specification allocation.md, section 6).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/weights.h"
#include "transform/fewer_blocks.h"

namespace adze {

enum class DepthMeasure : std::uint8_t {
  kl,         ///< one after the other, each time the one whose absence costs the least KL; then exchanges
  influence,  ///< those that turn the states least: 1 - mean cosine of input and output (ShortGPT)
  angular,    ///< the run of blocks over which the last token's states turn least (Unreasonable Ineffectiveness)
  last,       ///< the deepest, but for the last one
};

/// 1 - mean cosine of each block's input and output over all tokens.
std::vector<double> block_influence(const ModelWeights& model, std::span<const std::int32_t> ids, std::size_t tokens);

/// [layers + 1 - count]: mean over windows of arccos(cosine) / pi between the last token's state before block l and
/// before block l + count.
std::vector<double> angular_distance(const ModelWeights& model, std::span<const std::int32_t> ids, std::size_t tokens,
                                     std::size_t count);

/// The last `count` blocks but for the very last, which is left; 0 < count < layers.
std::vector<std::size_t> deepest_blocks(std::size_t layers, std::size_t count);

/// `count` blocks, ascending; 0 < count < layers. ids: windows of `tokens`, one after the other. With kl about
/// layers + 3 count runs of the model: marginal costs are kept and measured again only when they come first.
std::vector<std::size_t> blocks_to_drop(const std::shared_ptr<const ModelWeights>& model,
                                        std::span<const std::int32_t> ids, std::size_t tokens, std::size_t count,
                                        DepthMeasure measure, MergeMode merge);

}  // namespace adze
