// A small checkpoint of an architecture that adze does not know, an encoder with BERT's names: two layers, tables, a
// convolution, an integer buffer, tensors of one dimension and a scalar, F32 and F16, in two shards.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/file.h"
#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/safetensors_folder.h"
#include "checkpoint/safetensors_writer.h"
#include "linalg/convert.h"
#include "model/memory_source.h"

namespace adze::testing {

struct UnknownTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::uint64_t> shape;
};

inline constexpr std::size_t kUnknownHidden = 64;

inline std::vector<UnknownTensor> unknown_tensors() {
  constexpr std::uint64_t h = kUnknownHidden, f = 128;
  std::vector<UnknownTensor> all{{"bert.embeddings.LayerNorm.bias", DType::f32, {h}},
                                 {"bert.embeddings.LayerNorm.weight", DType::f32, {h}},
                                 {"bert.embeddings.position_ids", DType::i64, {1, 16}},
                                 {"bert.embeddings.word_embeddings.weight", DType::f32, {100, h}},
                                 {"bert.patches.projection.weight", DType::f32, {h, 3, 4, 4}},
                                 {"bert.pooler.dense.weight", DType::f16, {h, h}},
                                 {"bert.pooler.odd", DType::f32, {h, h}},
                                 {"logit_scale", DType::f32, {}}};
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = fmt::format("bert.encoder.layer.{}.", layer);
    const auto linear = [&](const std::string& name, std::uint64_t rows, std::uint64_t cols) {
      all.push_back({prefix + name + ".weight", DType::f32, {rows, cols}});
      all.push_back({prefix + name + ".bias", DType::f32, {rows}});
    };
    for (const char* const name : {"query", "key", "value"}) linear(fmt::format("attention.self.{}", name), h, h);
    linear("attention.output.dense", h, h);
    linear("intermediate.dense", f, h);
    linear("output.dense", h, f);
  }
  return all;
}

/// The bytes that the checkpoint has; floats are small and random, integers count.
inline std::vector<std::byte> unknown_bytes(const UnknownTensor& tensor) {
  const auto count = checked_cast<std::size_t>(checked_product(tensor.shape));
  std::vector<std::byte> bytes(count * checked_cast<std::size_t>(bytes_of(tensor.dtype)));
  if (is_weight_dtype(tensor.dtype)) {
    from_float(tensor.dtype, random_values(count, tensor.name, 0.1), bytes);
    return bytes;
  }
  std::vector<std::int64_t> numbers(count);
  for (std::size_t i = 0; i < count; ++i) numbers[i] = static_cast<std::int64_t>(i);
  std::memcpy(bytes.data(), numbers.data(), bytes.size());
  return bytes;
}

/// Makes the folder; config: the text of config.json, "" for a folder without one.
inline std::filesystem::path write_unknown(const std::filesystem::path& folder, const std::string& config) {
  std::filesystem::create_directories(folder);
  if (!config.empty()) write_file(folder / "config.json", config);
  const std::vector<UnknownTensor> all = unknown_tensors();
  std::string map;
  for (std::size_t shard = 0; shard < 2; ++shard) {
    const std::string file = fmt::format("model-0000{}-of-00002.safetensors", shard + 1);
    std::vector<std::vector<std::byte>> data;
    std::vector<SafetensorsItem> items;
    data.reserve(all.size());
    for (std::size_t i = shard; i < all.size(); i += 2) {  // blocks lie in both
      items.push_back(
          {{all[i].name, safetensors_type_of(all[i].dtype), all[i].shape}, data.emplace_back(unknown_bytes(all[i]))});
      map += fmt::format("{}\"{}\":\"{}\"", map.empty() ? "" : ",", all[i].name, file);
    }
    write_safetensors(folder / file, items);
  }
  write_file(folder / "model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
  return folder;
}

inline std::string bert_config() {
  return R"({"architectures":["BertModel"],"model_type":"bert","torch_dtype":"float32","hidden_size":64})";
}

/// What rounding to the nearest of 16 values in groups of 32 columns gives, by a loop of its own. weights: whole rows.
inline std::vector<float> plainly_rounded(const std::vector<float>& weights) {
  constexpr std::size_t kGroup = 32;
  std::vector<float> rounded(weights.size());
  for (std::size_t first = 0; first < weights.size(); first += kGroup) {
    float top = 0;
    for (std::size_t i = first; i < first + kGroup; ++i) top = std::max(top, std::fabs(weights[i]));
    const float scale = f16_to_float(float_to_f16(top / 7));
    for (std::size_t i = first; i < first + kGroup; ++i)
      rounded[i] = scale == 0 ? 0 : scale * std::clamp(std::nearbyint(weights[i] / scale), -8.0f, 7.0f);
  }
  return rounded;
}

inline std::vector<std::byte> stored_bytes(const TensorSource& source, const TensorInfo& tensor) {
  std::vector<std::byte> bytes(checked_cast<std::size_t>(tensor.bytes));
  source.read(tensor, 0, bytes);
  return bytes;
}

inline std::vector<float> floats_of(DType dtype, const std::vector<std::byte>& bytes) {
  std::vector<float> values(bytes.size() / checked_cast<std::size_t>(bytes_of(dtype)));
  to_float(dtype, bytes, values);
  return values;
}

}  // namespace adze::testing
