// Copies a checkpoint and gives it outlying channels as large models have them, without changing what it computes: one
// in a hundred gains of each norm before a block's linears is multiplied with 30, and the columns that meet it are
// divided by 30. Small models have none, and transforms are made for them. Written in f32.
//
//   adze-outliers MODEL OUT
#include <cstdio>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "checkpoint/safetensors_writer.h"
#include "linalg/convert.h"
#include "pipeline/open_model.h"

namespace {

using namespace adze;

constexpr float kFactor = 30.0f;
constexpr std::size_t kOneIn = 100;

/// Channels that become outliers, [hidden]: the same for the norm and for the linears that read it.
std::vector<float> factors(const Architecture& a, std::size_t block, std::string_view norm) {
  RandomStream random(1, fmt::format("outliers.{}.{}", block, norm));
  std::vector<float> result(a.hidden, 1.0f);
  for (std::size_t i = 0; i < (a.hidden + kOneIn - 1) / kOneIn; ++i) result[random.below(a.hidden)] = kFactor;
  return result;
}

/// What the values of a tensor are multiplied with, by column, or by entry of a norm; ones where nothing changes.
std::vector<float> column_factors(const TensorSpec& spec, const Architecture& a) {
  const bool attention = spec.hf_name.find("input_layernorm") != std::string::npos || spec.stage() == Stage::qkv;
  const bool ffn = spec.hf_name.find("post_attention_layernorm") != std::string::npos || spec.stage() == Stage::gate_up;
  if (!spec.block || spec.role == TensorRole::bias || (!attention && !ffn))
    return std::vector<float>(spec.shape.back(), 1.0f);
  std::vector<float> result = factors(a, *spec.block, attention ? "attention" : "ffn");
  if (spec.role != TensorRole::norm)
    for (float& factor : result) factor = 1 / factor;
  return result;
}

int copy(const std::filesystem::path& from, const std::filesystem::path& to) {
  const OpenedModel model = open_model(from);
  make_folder(to);
  for (const StoreFile& file : model.files) write_file(to / file.name, file.text);
  std::vector<std::vector<float>> values;
  std::vector<SafetensorsItem> items;
  for (const TensorSpec& spec : expected_tensors(model.architecture())) {
    const TensorInfo* info = model.require_source().find(spec.hf_name);
    std::vector<std::byte> bytes(info->bytes);
    model.require_source().read(*info, 0, bytes);
    values.emplace_back(info->bytes / bytes_of(info->dtype));
    to_float(info->dtype, bytes, values.back());
    const std::vector<float> factor = column_factors(spec, model.architecture());
    for (std::size_t i = 0; i < values.back().size(); ++i) values.back()[i] *= factor[i % factor.size()];
    items.push_back(
        {{spec.hf_name, safetensors_type_of(DType::f32), spec.shape}, std::as_bytes(std::span(values.back()))});
  }
  write_safetensors(to / "model.safetensors", items);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "adze-outliers MODEL OUT\n");
    return 64;
  }
  try {
    return copy(argv[1], argv[2]);
  } catch (const Error& error) {
    std::fprintf(stderr, "adze-outliers: %s\n", error.what());
    return static_cast<int>(error.kind());
  }
}
