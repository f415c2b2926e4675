#include "transform/scaling.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/words.h"
#include "linalg/convert.h"

namespace adze {
namespace {

void store(const Architecture& architecture, MatrixF weight, std::size_t index, LinearSlot slot, BlockWeights& block) {
  if (!all_finite(weight.values()))
    fail(ErrorKind::bad_data, "{}: a scaled value does not fit f32", module_name(architecture, index, slot));
  block[slot].weight = std::make_shared<DenseTensor>(make_dense(weight, DType::f32));
}

void multiply_columns(const Architecture& architecture, std::span<const float> scales, std::size_t index,
                      LinearSlot slot, BlockWeights& block) {
  MatrixF weight = block[slot].weight->decode();
  block[slot].weight.reset();
  for (std::size_t r = 0; r < weight.rows(); ++r)
    for (std::size_t c = 0; c < weight.cols(); ++c) weight(r, c) *= scales[c];
  store(architecture, std::move(weight), index, slot, block);
}

void divide_rows(const Architecture& architecture, std::span<const float> scales, std::size_t index, LinearSlot slot,
                 BlockWeights& block) {
  MatrixF weight = block[slot].weight->decode();
  block[slot].weight.reset();
  for (std::size_t r = 0; r < weight.rows(); ++r)
    for (float& value : weight.row(r)) value /= scales[r];
  store(architecture, std::move(weight), index, slot, block);
  for (std::size_t r = 0; r < block[slot].bias.size(); ++r) block[slot].bias[r] /= scales[r];
}

void divide(const Architecture& architecture, std::span<const float> scales, NormSlot slot, BlockWeights& block) {
  std::vector<float> gains = gains_of_norm(architecture, block[slot]);
  for (std::size_t j = 0; j < gains.size(); ++j) gains[j] /= scales[j];
  block[slot] = norm_of_gains(architecture, gains);
  std::vector<float>& bias = block.bias_of(slot);
  for (std::size_t j = 0; j < bias.size(); ++j) bias[j] /= scales[j];
}

/// Of what an FFN's hidden channels are made by: a gate multiplies, and ReLU of a part is that part of ReLU.
bool scales_hidden(const Architecture& a) { return a.info().is_gated() || a.activation == Activation::relu; }

NormSlot norm_before(Stage stage) { return stage == Stage::qkv ? NormSlot::before_attention : NormSlot::before_ffn; }

}  // namespace

std::size_t scale_count(const Architecture& architecture, Stage stage) {
  if (stage == Stage::o) return architecture.kv_width();
  return stage == Stage::down ? architecture.ffn : architecture.hidden;
}

std::vector<LinearInfo> readers_of(const Architecture& architecture, Stage stage) {
  std::vector<LinearInfo> readers = block_linears(architecture);
  std::erase_if(readers, [&](const LinearInfo& info) { return info.stage.kind != stage.kind; });
  return readers;
}

std::vector<float> column_scales(const Architecture& a, Stage stage, std::span<const float> scales) {
  std::vector<float> columns(scales.begin(), scales.end());
  if (stage != Stage::o) return columns;
  columns.resize(a.q_width());
  const std::size_t group = a.heads / a.kv_heads;
  for (std::size_t c = 0; c < columns.size(); ++c)
    columns[c] = scales[c / a.head_dim / group * a.head_dim + c % a.head_dim];
  return columns;
}

void scale_inputs(const Architecture& architecture, Stage stage, std::span<const float> scales, std::size_t index,
                  BlockWeights& block) {
  const std::vector<float> columns = column_scales(architecture, stage, scales);
  for (const LinearInfo& info : readers_of(architecture, stage))
    multiply_columns(architecture, columns, index, info.slot, block);
  switch (stage.kind) {
    case Stage::qkv:
    case Stage::gate_up:
      return divide(architecture, scales, norm_before(stage), block);
    case Stage::o:
      return divide_rows(architecture, scales, index, LinearSlot::v, block);
    case Stage::down:
      return divide_rows(architecture, scales, index, LinearSlot::up, block);
  }
}

std::vector<Stage> scalable_stages(const Architecture& architecture, std::span<const Stage> stages) {
  std::vector<Stage> scalable;
  for (const Stage stage : stages) {
    if (stage == Stage::down && (architecture.is_mixture() || !scales_hidden(architecture))) continue;
    if (stage == Stage::o || stage == Stage::down || architecture.has_norm(norm_before(stage)))
      scalable.push_back(stage);
  }
  return scalable;
}

std::vector<Stage> read_stages(MapReader& options, std::span<const Stage> allowed, std::string_view why) {
  const Value inputs = options.optional("inputs");
  if (!inputs.present()) return {allowed.begin(), allowed.end()};
  std::vector<std::string> known;
  for (const Stage stage : kScaledStages) known.push_back(name_of(stage));
  std::vector<Stage> stages;
  for (const Value& item : inputs.items()) {
    const auto name = item.word();
    if (!name) continue;
    const auto at = std::ranges::find(kScaledStages, *name, [](Stage stage) { return name_of(stage); });
    if (at == kScaledStages.end())
      item.complain(fmt::format("is '{}', which has nothing before it that could take the scales{}", *name,
                                suggestion_or_list(*name, known, "inputs are")));
    else if (std::ranges::find(allowed, *at) == allowed.end())
      item.complain(fmt::format("is '{}': {}; it can be {}", *name, why, names_of(allowed)));
    else
      stages.push_back(*at);
  }
  return stages;
}

std::string names_of(std::span<const Stage> stages) {
  std::vector<std::string> names;
  for (const Stage stage : stages) names.push_back(name_of(stage));
  return fmt::format("{}", fmt::join(names, ","));
}

}  // namespace adze
