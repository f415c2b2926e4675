// GPTQ checkpoints (AutoGPTQ, GPTQModel): codes packed along inputs, scales and zero points by group. Symmetric ones
// are written as v1, whose zero points are stored less one; asymmetric ones as v2, which stores them as they are, since
// v1 has no word for a zero point of 0 that readers agree on.
#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "export/folder/bit_words.h"
#include "export/folder/folder_format.h"

namespace adze {
namespace {

/// A regular expression that matches this name alone.
std::string exactly(const std::string& name) {
  std::string pattern;
  for (const char c : name) pattern += c == '.' ? std::string("\\.") : std::string(1, c);
  return pattern + "$";
}

nlohmann::ordered_json sizes_of(const IntegerGridSpec& spec) {
  return {{"bits", spec.bits}, {"group_size", group_size(spec)}, {"sym", spec.symmetric}};
}

/// The grid that most linears have; nothing where none is quantized.
std::optional<IntegerGridSpec> commonest(const std::vector<PlannedLinear>& linears) {
  std::map<std::string, std::pair<std::size_t, IntegerGridSpec>> counts;
  for (const PlannedLinear& linear : linears)
    if (linear.integers) {
      auto& [count, spec] = counts[sizes_of(*linear.integers).dump()];
      spec = *linear.integers;
      ++count;
    }
  const auto most = std::ranges::max_element(counts, {}, [](const auto& entry) { return entry.second.first; });
  return most == counts.end() ? std::nullopt : std::optional(most->second.second);
}

class GptqFormat final : public QuantizedFormat {
  std::string_view name() const override { return "GPTQ"; }

  std::optional<std::string> refuses(const IntegerGridSpec& spec, Shape shape) const override {
    if (spec.bits != 2 && spec.bits != 3 && spec.bits != 4 && spec.bits != 8) return "its widths are 2, 3, 4 and 8";
    if (spec.scale_dtype == DType::f32) return "its scales are f16 or bf16";
    const std::size_t multiple = spec.bits == 3 ? 32 : 32 / static_cast<std::size_t>(spec.bits);
    if (shape.rows % multiple != 0 || shape.cols % multiple != 0)
      return fmt::format("rows and columns must be multiples of {}, not {} x {}", multiple, shape.rows, shape.cols);
    return std::nullopt;
  }

  std::vector<SafetensorsSpec> integer_parts(const std::string& base, const IntegerGridSpec& spec,
                                             Shape shape) const override {
    const std::size_t groups = shape.cols / (spec.scope == ScaleScope::group ? spec.group : shape.cols);
    return {{base + ".qweight", SafetensorsType::i32, {words_of(shape.cols, spec.bits), shape.rows}},
            {base + ".qzeros", SafetensorsType::i32, {groups, words_of(shape.rows, spec.bits)}},
            {base + ".scales", safetensors_type_of(spec.scale_dtype), {groups, shape.rows}},
            {base + ".g_idx", SafetensorsType::i32, {shape.cols}}};
  }

  std::optional<ByteArray> encode_sizes(const IntegerGridSpec& spec, Shape shape,
                                        std::string_view suffix) const override {
    if (suffix != "g_idx") return std::nullopt;
    const std::size_t group = spec.scope == ScaleScope::group ? spec.group : shape.cols;
    WordMatrix index(1, shape.cols);
    for (std::size_t c = 0; c < shape.cols; ++c) index.set(0, c, static_cast<std::uint32_t>(c / group));
    return index.take();
  }

  ByteArray encode_integers(IntegerMatrix sides, CodeRows codes, std::string_view suffix) const override {
    const std::size_t rows = sides.shape.rows, groups = sides.groups();
    const int bits = sides.spec.bits;
    if (suffix == "scales") return transposed_elements(sides.scales, rows, groups, bytes_of(sides.spec.scale_dtype));
    if (suffix == "qweight") return transposed_elements(codes, 4);  // rows are whole words here
    WordMatrix words(groups, words_of(rows, bits));
    const std::uint8_t less = sides.spec.symmetric ? 1 : 0;
    for (std::size_t g = 0; g < groups; ++g)
      stream_words(
          rows, bits, [&](std::size_t r) { return sides.zeros[r * groups + g] - less; },
          [&](std::size_t w, std::uint32_t word) { words.set(g, w, word); });
    return words.take();
  }

 public:
  void describe(const ExportPlan& plan, nlohmann::ordered_json& config) const override {
    const std::vector<PlannedLinear> linears = planned_linears(plan);
    const auto common = commonest(linears);
    if (!common) fail(ErrorKind::bad_data, "GPTQ: no matrix is on an integer grid; export safetensors");
    nlohmann::ordered_json quantization = sizes_of(*common);
    bool has_v1 = false, has_v2 = false;
    auto dynamic = nlohmann::ordered_json::object();
    for (const PlannedLinear& linear : linears) {
      if (linear.role != TensorRole::linear) continue;
      if (!linear.integers) {
        dynamic["-:" + exactly(linear.base)] = nlohmann::ordered_json::object();
        continue;
      }
      (linear.integers->symmetric ? has_v1 : has_v2) = true;
      if (sizes_of(*linear.integers) != sizes_of(*common))
        dynamic["+:" + exactly(linear.base)] = sizes_of(*linear.integers);
    }
    if (has_v1 && has_v2)
      fail(ErrorKind::bad_data,
           "GPTQ: symmetric and asymmetric matrices in one checkpoint store zero points in two ways; make all of one "
           "kind");
    quantization["desc_act"] = false;
    quantization["lm_head"] = false;
    quantization["quant_method"] = "gptq";
    quantization["checkpoint_format"] = has_v2 ? "gptq_v2" : "gptq";
    quantization["pack_dtype"] = "int32";
    if (!dynamic.empty()) quantization["dynamic"] = std::move(dynamic);
    quantization["meta"] = {{"quantizer", nlohmann::ordered_json::array({"adze:" ADZE_VERSION})}};
    config["quantization_config"] = std::move(quantization);
  }

  std::vector<StoreFile> more_files(const nlohmann::ordered_json& config) const override {
    return {{"quantize_config.json", config.at("quantization_config").dump(2) + "\n"}};
  }
};

}  // namespace

std::unique_ptr<FolderFormat> make_gptq_format() { return std::make_unique<GptqFormat>(); }

}  // namespace adze
