#include "model/stored_size.h"

namespace adze {
namespace {

StoredSize size_of(const CompressedTensor& tensor) { return {tensor.bytes(), tensor.shape().count()}; }
StoredSize size_of(std::span<const float> values) { return {values.size_bytes(), values.size()}; }

bool is_attention(Stage stage) { return stage == Stage::qkv || stage == Stage::o; }

}  // namespace

std::string_view name_of(TensorClass tensor_class) {
  constexpr std::array<std::string_view, kTensorClasses.size()> kNames = {"embedding", "attention", "ffn", "head",
                                                                          "norms"};
  return kNames[static_cast<std::size_t>(tensor_class)];
}

StoredSize SizeByClass::blocks() const {
  StoredSize size = (*this)[TensorClass::attention];
  return size += (*this)[TensorClass::ffn];
}

StoredSize SizeByClass::all() const {
  StoredSize size;
  for (const StoredSize& one : classes) size += one;
  return size;
}

SizeByClass size_by_class(const ModelWeights& model) {
  SizeByClass size;
  size[TensorClass::embedding] += size_of(*model.embedding());
  if (const TensorPtr positions = model.positions()) size[TensorClass::embedding] += size_of(*positions);
  if (!model.architecture().tied) size[TensorClass::head] += size_of(*model.head());
  const Norm norm = norm_of(model);
  size[TensorClass::norms] += size_of(norm.weight);
  size[TensorClass::norms] += size_of(norm.bias);
  for (std::size_t b = 0; b < model.architecture().layers; ++b) {
    const BlockWeights block = model.block(b);
    for (const auto* const vectors : {&block.norms, &block.norm_biases})
      for (const std::vector<float>& values : *vectors) size[TensorClass::norms] += size_of(values);
    for (const LinearInfo& info : block_linears(model.architecture())) {
      StoredSize& one = size[is_attention(info.stage) ? TensorClass::attention : TensorClass::ffn];
      one += size_of(*block[info.slot].weight);
      one += size_of(block[info.slot].bias);
    }
  }
  return size;
}

StoredSize stored_size(const ModelWeights& model) { return size_by_class(model).all(); }

std::size_t cache_values_per_token(const Architecture& architecture) {
  return 2 * architecture.layers * architecture.kv_width();
}

}  // namespace adze
