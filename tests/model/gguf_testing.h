// Test helpers: GGUF files of a small model that others might have written, with parts that a test may spoil.
#pragma once

#include <algorithm>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/gguf_writer.h"
#include "model/gguf_weights.h"
#include "model/memory_source.h"

namespace adze::testing {

/// A GGUF file as parts that a test may spoil. Every tensor is F32 at first.
struct GgufParts {
  std::vector<GgufKeyValue> metadata;
  std::vector<GgufTensorSpec> tensors;
  std::vector<std::vector<std::byte>> data;

  GgufValue& value(std::string_view key) { return std::ranges::find(metadata, key, &GgufKeyValue::key)->value; }
  void drop_key(std::string_view key) {
    std::erase_if(metadata, [&](const GgufKeyValue& pair) { return pair.key == key; });
  }
  std::size_t index(std::string_view name) {
    return static_cast<std::size_t>(std::ranges::find(tensors, name, &GgufTensorSpec::name) - tensors.begin());
  }
  void drop_tensor(std::string_view name) {
    const auto at = static_cast<std::ptrdiff_t>(index(name));
    tensors.erase(tensors.begin() + at);
    data.erase(data.begin() + at);
  }
  void add(std::string name, std::vector<std::uint64_t> dims, std::span<const float> values) {
    tensors.push_back({std::move(name), 0, std::move(dims)});
    const auto bytes = std::as_bytes(values);
    data.emplace_back(bytes.begin(), bytes.end());
  }
  void store_as(std::string_view name, std::string_view type) {
    GgufTensorSpec& tensor = tensors[index(name)];
    tensor.type = find_gguf_type(type)->id;
    data[index(name)].assign(gguf_tensor_bytes(*find_gguf_type(type), tensor.dims), std::byte{0});
  }
  std::filesystem::path write(const TempFolder& folder) const {
    const std::filesystem::path path = folder / "model.gguf";
    GgufWriter writer(path, metadata, tensors);
    for (std::size_t i = 0; i < tensors.size(); ++i) writer.write(tensors[i].name, data[i]);
    writer.commit();
    return path;
  }
};

/// Small, with grouped queries and biases, as a converter of somebody else writes it: rows reordered, only the keys
/// that the format requires.
inline Architecture gguf_architecture() {
  Architecture a = small_architecture();
  a.qkv_bias = true;
  return a;
}

inline GgufParts gguf_parts_of(const Architecture& a) {
  GgufParts parts;
  parts.metadata = {{"general.architecture", std::string("llama")},
                    {"llama.context_length", static_cast<std::uint32_t>(a.max_positions)},
                    {"llama.embedding_length", static_cast<std::uint32_t>(a.hidden)},
                    {"llama.block_count", static_cast<std::uint32_t>(a.layers)},
                    {"llama.feed_forward_length", static_cast<std::uint32_t>(a.ffn)},
                    {"llama.attention.head_count", static_cast<std::uint32_t>(a.heads)},
                    {"llama.attention.head_count_kv", static_cast<std::uint32_t>(a.kv_heads)},
                    {"llama.attention.key_length", static_cast<std::uint32_t>(a.head_dim)},
                    {"llama.attention.layer_norm_rms_epsilon", static_cast<float>(a.norm_eps)},
                    {"llama.rope.freq_base", static_cast<float>(a.rope.theta)}};
  const MemorySource source = random_source(a);
  for (const TensorSpec& spec : expected_tensors(a)) {
    const std::vector<float> values = source.values(spec.hf_name);
    const std::size_t rows = spec.shape[0], cols = values.size() / rows;
    const std::vector<std::size_t> order = gguf_row_order(rows, spec.permuted_heads);
    std::vector<float> stored;
    for (const std::size_t from : order)
      stored.insert(stored.end(), values.begin() + static_cast<std::ptrdiff_t>(from * cols),
                    values.begin() + static_cast<std::ptrdiff_t>((from + 1) * cols));
    parts.add(spec.gguf_name, {spec.shape.rbegin(), spec.shape.rend()}, stored);
  }
  return parts;
}

}  // namespace adze::testing
