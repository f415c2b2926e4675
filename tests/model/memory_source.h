// Test helpers: a TensorSource in memory, and a random small model over it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/matrix.h"
#include "base/random.h"
#include "checkpoint/tensor_source.h"
#include "linalg/convert.h"
#include "model/weights.h"

namespace adze::testing {

class MemorySource final : public TensorSource {
 public:
  std::span<const TensorInfo> tensors() const override { return infos_; }
  std::string origin() const override { return "memory"; }
  void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override {
    const auto& bytes = data_.at(static_cast<std::size_t>(&tensor - infos_.data()));
    std::memcpy(out.data(), bytes.data() + offset, out.size());
  }

  /// Adds or replaces a tensor.
  void put(const std::string& name, DType dtype, std::vector<std::uint64_t> shape, std::span<const float> values) {
    remove(name);
    std::vector<std::byte> bytes(values.size() * bytes_of(dtype));
    from_float(dtype, values, bytes);
    const auto at = std::ranges::lower_bound(infos_, name, {}, &TensorInfo::name);
    data_.insert(data_.begin() + (at - infos_.begin()), bytes);
    infos_.insert(at, TensorInfo{name, dtype, std::move(shape), bytes.size()});
  }
  void remove(const std::string& name) {
    const auto at = std::ranges::find(infos_, name, &TensorInfo::name);
    if (at == infos_.end()) return;
    data_.erase(data_.begin() + (at - infos_.begin()));
    infos_.erase(at);
  }
  std::vector<float> values(const std::string& name) const {
    const TensorInfo* info = find(name);
    std::vector<float> out(info->bytes / bytes_of(info->dtype));
    to_float(info->dtype, data_.at(static_cast<std::size_t>(info - infos_.data())), out);
    return out;
  }

 private:
  std::vector<TensorInfo> infos_;
  std::vector<std::vector<std::byte>> data_;
};

inline std::vector<float> random_values(std::size_t count, std::string_view key, double scale = 1.0,
                                        double mean = 0.0) {
  RandomStream random(7, key);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(mean + scale * random.normal());
  return values;
}

inline MatrixF random_matrix(Shape shape, std::string_view key, double scale = 1.0) {
  MatrixF matrix(shape);
  std::ranges::copy(random_values(shape.count(), key, scale), matrix.values().begin());
  return matrix;
}

/// 2 layers, grouped queries, sizes that are no multiples of any tile.
inline Architecture small_architecture() {
  Architecture a;
  a.hidden = 24;
  a.ffn = 40;
  a.layers = 2;
  a.heads = 4;
  a.kv_heads = 2;
  a.head_dim = 8;
  a.vocab = 50;
  a.max_positions = 64;
  a.norm_eps = 1e-5;
  return a;
}

/// The same with six experts, of which each token goes to two, and one that all tokens share.
inline Architecture mixture_architecture() {
  Architecture a = small_architecture();
  a.family = "Qwen2MoeForCausalLM";
  a.qkv_bias = true;
  a.experts = 6;
  a.experts_per_token = 2;
  a.expert_ffn = 20;
  a.shared_ffn = 28;
  return a;
}

/// Random weights for every tensor of the architecture: norms near 1, linears that keep the activations' scale.
inline MemorySource random_source(const Architecture& architecture, DType dtype = DType::f32,
                                  std::string_view seed = "model") {
  MemorySource source;
  for (const TensorSpec& spec : expected_tensors(architecture)) {
    std::size_t count = 1;
    for (const auto dim : spec.shape) count *= dim;
    const bool norm = spec.role == TensorRole::norm;
    const double scale = spec.shape.size() == 2 ? 1.0 / std::sqrt(static_cast<double>(spec.shape[1])) : 0.1;
    const auto values = random_values(count, std::string(seed) + spec.hf_name, scale, norm ? 1.0 : 0.0);
    source.put(spec.hf_name, dtype, spec.shape, values);
  }
  return source;
}

inline CheckpointWeights random_model(const Architecture& architecture, DType dtype = DType::f32,
                                      std::string_view seed = "model") {
  return {architecture, std::make_shared<MemorySource>(random_source(architecture, dtype, seed))};
}

/// Tokens below `vocab`, always the same ones.
inline std::vector<std::int32_t> random_ids(std::size_t count, std::uint64_t vocab) {
  RandomStream random(11, "ids");
  std::vector<std::int32_t> ids(count);
  for (auto& id : ids) id = static_cast<std::int32_t>(random.below(vocab));
  return ids;
}

}  // namespace adze::testing
