#include <utility>

#include "transform/transform.h"

namespace adze {

Architecture transformed(Architecture architecture, const Transforms& transforms) {
  for (const auto& transform : transforms) architecture = transform->architecture(architecture);
  return architecture;
}

std::shared_ptr<const ModelWeights> reshaped(std::shared_ptr<const ModelWeights> original,
                                             const Transforms& transforms) {
  return transforms.empty() ? original : transforms.front()->reshaped(std::move(original));
}

TransformedWeights::TransformedWeights(std::shared_ptr<const ModelWeights> original, Transforms transforms)
    : original_(reshaped(original, transforms)),
      transforms_(std::move(transforms)),
      architecture_(transformed(original->architecture(), transforms_)) {}

TensorPtr TransformedWeights::embedding() const {
  TensorPtr table = original_->embedding();
  for (const auto& transform : transforms_) table = transform->embedding(std::move(table));
  return table;
}

BlockWeights TransformedWeights::block(std::size_t index) const {
  BlockWeights block = original_->block(index);
  for (const auto& transform : transforms_) block = transform->block(std::move(block), index, nullptr);
  return block;
}

std::vector<float> TransformedWeights::final_norm() const {
  std::vector<float> norm = original_->final_norm();
  for (const auto& transform : transforms_) norm = transform->final_norm(std::move(norm));
  return norm;
}

TensorPtr TransformedWeights::head() const {
  TensorPtr table = original_->head();
  std::vector<float> norm = original_->final_norm();
  for (const auto& transform : transforms_) {
    table = transform->head(std::move(table), norm);
    norm = transform->final_norm(std::move(norm));
  }
  return table;
}

}  // namespace adze
