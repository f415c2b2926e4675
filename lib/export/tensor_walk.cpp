#include "export/tensor_walk.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace adze {

std::vector<std::size_t> in_order(std::size_t layers) {
  std::vector<std::size_t> order(layers);
  std::iota(order.begin(), order.end(), std::size_t{0});
  return order;
}

BlockWeights TensorWalk::load(std::size_t index) {
  BlockWeights block = ahead_index_ == index && ahead_.valid() ? ahead_.get() : model_.block(index);
  const auto at = std::ranges::find(order_, index);
  ahead_index_.reset();
  if (at != order_.end() && at + 1 != order_.end()) {
    ahead_index_ = *(at + 1);
    ahead_ = std::async(std::launch::async, [this, next = *ahead_index_] { return model_.block(next); });
  }
  return block;
}

TensorValues TensorWalk::in_block(const TensorSpec& spec) {
  if (!spec.is_matrix() && !spec.listed && index_ != spec.block)
    if (std::optional<std::vector<float>> alone = model_.vector_of(spec)) return {nullptr, std::move(*alone)};
  if (index_ != spec.block) {
    block_ = {};  // freed before the next one is loaded
    block_ = load(*spec.block);
    index_ = spec.block;
  }
  if (spec.listed) return {block_.listed.at(*spec.listed).tensor, {}};
  if (spec.is_matrix()) return {block_[*spec.slot].weight, {}};
  if (spec.slot) return {nullptr, block_[*spec.slot].bias};
  return {nullptr, spec.role == TensorRole::bias ? block_.bias_of(*spec.norm) : block_[*spec.norm]};
}

TensorValues TensorWalk::at(const TensorSpec& spec) {
  if (spec.block) return in_block(spec);
  switch (spec.role) {
    case TensorRole::embedding:
      return {model_.embedding(), {}};
    case TensorRole::positions:
      return {model_.positions(), {}};
    case TensorRole::head:
      return {model_.head(), {}};
    case TensorRole::norm:
      return {nullptr, model_.final_norm()};
    case TensorRole::bias:
      return {nullptr, model_.final_norm_bias()};
    case TensorRole::linear:
    case TensorRole::router:
    case TensorRole::kept:
      break;
  }
  fail(ErrorKind::internal, "tensor '{}' belongs to no block", spec.hf_name);
}

}  // namespace adze
