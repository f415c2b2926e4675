#include "transform/fewer_blocks.h"

#include <algorithm>

#include "base/error.h"

namespace adze {
namespace {

/// base + sum over others of (other - base), or the mean.
std::vector<float> merged(std::vector<float> base, const std::vector<std::vector<float>>& others, MergeMode mode) {
  const auto count = static_cast<float>(others.size());
  for (std::size_t i = 0; i < base.size(); ++i) {
    float sum = 0;
    for (const auto& other : others) sum += other[i];
    base[i] = mode == MergeMode::sum ? base[i] + (sum - count * base[i]) : (base[i] + sum) / (1 + count);
  }
  return base;
}

std::vector<float> values_of(const CompressedTensor& tensor) {
  const MatrixF decoded = tensor.decode();
  return {decoded.values().begin(), decoded.values().end()};
}

}  // namespace

std::vector<std::vector<std::size_t>> kept_blocks(std::size_t layers, const std::vector<std::size_t>& dropped) {
  std::vector<std::vector<std::size_t>> groups;
  for (std::size_t block = 0; block < layers; ++block) {
    if (!std::ranges::binary_search(dropped, block))
      groups.push_back({block});
    else if (!groups.empty())
      groups.back().push_back(block);
  }
  if (groups.empty()) fail(ErrorKind::internal, "all {} blocks are dropped", layers);
  return groups;
}

FewerBlocks::FewerBlocks(std::shared_ptr<const ModelWeights> original, const std::vector<std::size_t>& dropped,
                         MergeMode merge)
    : original_(std::move(original)),
      groups_(kept_blocks(original_->architecture().layers, dropped)),
      merge_(merge),
      architecture_(original_->architecture()) {
  architecture_.layers = groups_.size();
}

BlockWeights FewerBlocks::block(std::size_t index) const {
  const std::vector<std::size_t>& group = groups_[index];
  BlockWeights block = original_->block(group.front());
  if (merge_ == MergeMode::none || group.size() == 1) return block;
  std::vector<BlockWeights> others;
  for (std::size_t i = 1; i < group.size(); ++i) others.push_back(original_->block(group[i]));
  for (const LinearInfo& info : block_linears(architecture_)) {
    Linear& linear = block[info.slot];
    std::vector<std::vector<float>> weights, biases;
    for (const BlockWeights& other : others) {
      weights.push_back(values_of(*other[info.slot].weight));
      biases.push_back(other[info.slot].bias);
    }
    MatrixF matrix(linear.weight->shape());
    std::ranges::copy(merged(values_of(*linear.weight), weights, merge_), matrix.values().begin());
    linear.weight = std::make_shared<DenseTensor>(make_dense(matrix, DType::f32));
    if (!linear.bias.empty()) linear.bias = merged(std::move(linear.bias), biases, merge_);
  }
  return block;
}

}  // namespace adze
