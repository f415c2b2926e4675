// compressed-tensors, "pack-quantized": weight-only integers for vLLM, SGLang and transformers. Matrices of one width,
// group and symmetry are a config group; where all linears of blocks are of one, its target is "Linear".
#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "export/folder/bit_words.h"
#include "export/folder/folder_format.h"

namespace adze {
namespace {

constexpr const char* kFormat = "pack-quantized";

nlohmann::ordered_json arguments_of(const IntegerGridSpec& spec) {
  const bool grouped = spec.scope == ScaleScope::group;
  return {{"num_bits", spec.bits},
          {"type", "int"},
          {"symmetric", spec.symmetric},
          {"strategy", grouped ? "group" : "channel"},
          {"group_size", grouped ? nlohmann::ordered_json(spec.group) : nlohmann::ordered_json()},
          {"dynamic", false},
          {"actorder", nullptr},
          {"block_structure", nullptr},
          {"observer", "minmax"},
          {"observer_kwargs", nlohmann::ordered_json::object()}};
}

class CompressedTensorsFormat final : public IntegerFormat {
  std::string_view name() const override { return "compressed-tensors"; }

  std::optional<std::string> refuses(const IntegerGridSpec& spec, Shape) const override {
    if (spec.bits != 4 && spec.bits != 8) return "runtimes load 4 and 8 bits, other widths differ between versions";
    if (spec.scale_dtype == DType::f32) return "runtimes keep scales in 16 bits; take scales: f16 or bf16";
    return std::nullopt;
  }

  std::optional<std::string> remark_on(const IntegerGridSpec& spec) const override {
    return fmt::format("scales are {}: exact where the runtime computes in that dtype",
                       spec.scale_dtype == DType::f16 ? "F16" : "BF16");
  }

  std::vector<SafetensorsSpec> integer_parts(const std::string& base, const IntegerGridSpec& spec,
                                             Shape shape) const override {
    const std::size_t groups = shape.cols / (spec.scope == ScaleScope::group ? spec.group : shape.cols);
    std::vector<SafetensorsSpec> parts{
        {base + ".weight_packed", SafetensorsType::i32, {shape.rows, words_of(shape.cols, spec.bits)}},
        {base + ".weight_scale", safetensors_type_of(spec.scale_dtype), {shape.rows, groups}},
        {base + ".weight_shape", SafetensorsType::i64, {2}}};
    if (!spec.symmetric)
      parts.push_back({base + ".weight_zero_point", SafetensorsType::i32, {words_of(shape.rows, spec.bits), groups}});
    return parts;
  }

  std::optional<std::vector<std::byte>> encode_sizes(const IntegerGridSpec&, Shape shape,
                                                     std::string_view suffix) const override {
    if (suffix != "weight_shape") return std::nullopt;
    WordMatrix words(2, 2);  // of 64 bits each
    words.set(0, 0, static_cast<std::uint32_t>(shape.rows));
    words.set(1, 0, static_cast<std::uint32_t>(shape.cols));
    return words.take();
  }

  std::vector<std::byte> encode_integers(IntegerMatrix matrix, std::string_view suffix) const override {
    const auto [rows, cols] = matrix.shape;
    const std::size_t groups = matrix.groups();
    const int bits = matrix.spec.bits;
    if (suffix == "weight_scale") return matrix.scales;
    if (suffix == "weight_zero_point") {
      WordMatrix words(words_of(rows, bits), groups);
      for (std::size_t g = 0; g < groups; ++g)
        stream_words(
            rows, bits, [&](std::size_t r) { return matrix.zeros[r * groups + g]; },
            [&](std::size_t w, std::uint32_t word) { words.set(w, g, word); });
      return words.take();
    }
    return padded_rows(std::move(matrix.codes), rows, words_of(cols, bits));
  }

 public:
  void describe(const ExportPlan& plan, nlohmann::ordered_json& config) const override {
    std::map<std::string, std::vector<std::string>> targets;  // arguments -> names
    auto ignore = nlohmann::ordered_json::array();
    std::size_t floats = 0;
    for (const PlannedLinear& linear : planned_linears(plan)) {
      if (linear.role == TensorRole::embedding) continue;
      if (linear.integers)
        targets[arguments_of(*linear.integers).dump()].push_back(linear.base);
      else
        ignore.push_back(linear.base);
      floats += !linear.integers && linear.role == TensorRole::linear;
    }
    if (targets.empty())
      fail(ErrorKind::bad_data, "compressed-tensors: no matrix is on an integer grid; export safetensors");
    if (plan.architecture.tied) ignore.push_back("lm_head");
    auto groups = nlohmann::ordered_json::object();
    for (const auto& [arguments, names] : targets) {
      const bool is_all = targets.size() == 1 && floats == 0;
      groups[fmt::format("group_{}", groups.size())] = {
          {"targets", is_all ? nlohmann::ordered_json::array({"Linear"}) : nlohmann::ordered_json(names)},
          {"format", kFormat},
          {"weights", nlohmann::ordered_json::parse(arguments)},
          {"input_activations", nullptr},
          {"output_activations", nullptr}};
    }
    config["quantization_config"] = {{"quant_method", "compressed-tensors"},
                                     {"version", "0.18.0"},
                                     {"format", kFormat},
                                     {"quantization_status", "compressed"},
                                     {"global_compression_ratio", nullptr},
                                     {"ignore", std::move(ignore)},
                                     {"kv_cache_scheme", nullptr},
                                     {"sparsity_config", nlohmann::ordered_json::object()},
                                     {"transform_config", nlohmann::ordered_json::object()},
                                     {"config_groups", std::move(groups)}};
  }
};

}  // namespace

std::unique_ptr<FolderFormat> make_compressed_tensors_format() { return std::make_unique<CompressedTensorsFormat>(); }

}  // namespace adze
