// compressed-tensors for vLLM, SGLang and transformers. A matrix' grid decides its format there: integers are
// "pack-quantized" (or "int-quantized", where inputs are quantized too), fp8 "float-quantized", and the formats of
// small floats with shared scales "mxfp8-quantized", "mxfp4-pack-quantized" and "nvfp4-pack-quantized". Matrices of one
// grid are a config group; where all linears of blocks are of one, its target is "Linear".
#include <algorithm>
#include <array>
#include <map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "export/folder/bit_words.h"
#include "export/folder/folder_format.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

/// A format of small floats: what its tensors and its arguments are.
struct MinifloatRow {
  const char* name;
  int bits;
  MinifloatScale scale;
  SafetensorsType code_type;
  SafetensorsType scale_type;
  const char* strategy;
  const char* scale_dtype;  ///< nullptr: the reader's
  const char* zero_dtype;
};
constexpr std::array kMinifloats{
    MinifloatRow{"float-quantized", 8, MinifloatScale::f32, SafetensorsType::f8_e4m3, SafetensorsType::f32, "channel",
                 nullptr, nullptr},
    MinifloatRow{"mxfp8-quantized", 8, MinifloatScale::e8m0, SafetensorsType::f8_e4m3, SafetensorsType::u8, "group",
                 "torch.uint8", nullptr},
    MinifloatRow{"mxfp4-pack-quantized", 4, MinifloatScale::e8m0, SafetensorsType::u8, SafetensorsType::u8, "group",
                 "torch.uint8", nullptr},
    MinifloatRow{"nvfp4-pack-quantized", 4, MinifloatScale::e4m3, SafetensorsType::u8, SafetensorsType::f8_e4m3,
                 "tensor_group", "torch.float8_e4m3fn", "torch.float8_e4m3fn"}};

const MinifloatRow& row_of(const MinifloatSpec& spec) {
  const auto* const row = std::ranges::find_if(
      kMinifloats, [&](const MinifloatRow& one) { return one.bits == spec.bits && one.scale == spec.scale; });
  if (row == kMinifloats.end()) fail(ErrorKind::internal, "small floats of {} bits", spec.bits);
  return *row;
}

Json arguments(int bits, const char* type, bool symmetric, const char* strategy, std::size_t group) {
  return {{"num_bits", bits},
          {"type", type},
          {"symmetric", symmetric},
          {"strategy", strategy},
          {"group_size", group > 0 ? Json(group) : Json()},
          {"dynamic", false},
          {"actorder", nullptr},
          {"block_structure", nullptr},
          {"observer", "minmax"},
          {"observer_kwargs", Json::object()}};
}

Json arguments_of(const IntegerGridSpec& spec) {
  const bool grouped = spec.scope == ScaleScope::group;
  return arguments(spec.bits, "int", spec.symmetric, grouped ? "group" : "channel", grouped ? spec.group : 0);
}

Json arguments_of(const MinifloatSpec& spec) {
  const MinifloatRow& row = row_of(spec);
  Json all = arguments(spec.bits, "float", true, row.strategy, spec.group);
  if (row.scale_dtype != nullptr) all["scale_dtype"] = row.scale_dtype;
  if (row.zero_dtype != nullptr) all["zp_dtype"] = row.zero_dtype;
  return all;
}

/// Inputs: a scale for every token, found while the model runs.
Json dynamic_arguments(const char* type) {
  Json all = arguments(8, type, true, "token", 0);
  all["dynamic"] = true;
  all["observer"] = nullptr;
  return all;
}

/// A cache of keys and values: one scale a block for each, found before the model runs.
Json cache_arguments(CacheScales cache) {
  return cache == CacheScales::fp8 ? arguments(8, "float", true, "tensor", 0) : Json();
}

class CompressedTensorsFormat final : public QuantizedFormat {
 public:
  explicit CompressedTensorsFormat(Activations activations) : activations_(activations) {}

 private:
  bool quantizes_inputs() const { return activations_ == Activations::eight_bits; }
  std::string_view name() const override {
    return quantizes_inputs() ? "compressed-tensors-w8a8" : "compressed-tensors";
  }
  const char* format_of(const IntegerGridSpec&) const {
    return quantizes_inputs() ? "int-quantized" : "pack-quantized";
  }

  std::optional<std::string> refuses(const IntegerGridSpec& spec, Shape) const override {
    if (quantizes_inputs() && (spec.bits != 8 || !spec.symmetric || spec.scope != ScaleScope::channel))
      return "kernels multiply int8, symmetric, scope: channel, or fp8";
    if (spec.bits != 4 && spec.bits != 8) return "runtimes load 4 and 8 bits, other widths differ between versions";
    if (spec.scale_dtype == DType::f32) return "runtimes keep scales in 16 bits; take scales: f16 or bf16";
    return std::nullopt;
  }

  std::optional<std::string> refuses_minifloats(const MinifloatSpec& spec, Shape) const override {
    if (spec.scale == MinifloatScale::f32 && spec.group > 0) return "its fp8 has a scale a row; drop group:";
    if (quantizes_inputs() && spec.scale != MinifloatScale::f32)
      return "kernels multiply fp8, or int8, symmetric, scope: channel";
    return std::nullopt;
  }

  std::optional<std::string> remark_on(const IntegerGridSpec& spec) const override {
    if (quantizes_inputs()) return rounded_inputs();
    return fmt::format("scales are {}: exact where the runtime computes in that dtype",
                       spec.scale_dtype == DType::f16 ? "F16" : "BF16");
  }
  std::optional<std::string> remark_on_minifloats(const MinifloatSpec&) const override {
    return quantizes_inputs() ? std::optional(rounded_inputs()) : std::nullopt;
  }
  static std::string rounded_inputs() {
    return "the runtime rounds this matrix' inputs to 8 bits as well, which adds an error that is not in adze's "
           "figures";
  }

  std::vector<SafetensorsSpec> integer_parts(const std::string& base, const IntegerGridSpec& spec,
                                             Shape shape) const override {
    const std::size_t groups = shape.cols / (spec.scope == ScaleScope::group ? spec.group : shape.cols);
    const SafetensorsSpec scales{base + ".weight_scale", safetensors_type_of(spec.scale_dtype), {shape.rows, groups}};
    if (quantizes_inputs()) return {{base + ".weight", SafetensorsType::i8, {shape.rows, shape.cols}}, scales};
    std::vector<SafetensorsSpec> parts{
        {base + ".weight_packed", SafetensorsType::i32, {shape.rows, words_of(shape.cols, spec.bits)}},
        scales,
        {base + ".weight_shape", SafetensorsType::i64, {2}}};
    if (!spec.symmetric)
      parts.push_back({base + ".weight_zero_point", SafetensorsType::i32, {words_of(shape.rows, spec.bits), groups}});
    return parts;
  }

  std::vector<SafetensorsSpec> minifloat_parts(const std::string& base, const MinifloatSpec& spec,
                                               Shape shape) const override {
    const MinifloatRow& row = row_of(spec);
    const bool packed = spec.bits == 4;
    std::vector<SafetensorsSpec> parts{
        {base + (packed ? ".weight_packed" : ".weight"),
         row.code_type,
         {shape.rows, packed ? shape.cols / 2 : shape.cols}},
        {base + ".weight_scale", row.scale_type, {shape.rows, shape.cols / spec.group_cols(shape.cols)}}};
    if (spec.scale == MinifloatScale::e4m3) parts.push_back({base + ".weight_global_scale", SafetensorsType::f32, {1}});
    return parts;
  }

  std::optional<ByteArray> encode_sizes(const IntegerGridSpec&, Shape shape, std::string_view suffix) const override {
    if (suffix != "weight_shape") return std::nullopt;
    WordMatrix words(2, 2);  // of 64 bits each
    words.set(0, 0, static_cast<std::uint32_t>(shape.rows));
    words.set(1, 0, static_cast<std::uint32_t>(shape.cols));
    return words.take();
  }

  std::optional<ByteArray> encode_minifloat_sizes(const MinifloatSpec& spec, Shape,
                                                  std::string_view suffix) const override {
    if (suffix != "weight_global_scale") return std::nullopt;
    const auto bytes = std::as_bytes(std::span(&spec.divisor, 1));
    return copied(bytes);
  }

  ByteArray encode_integers(IntegerMatrix sides, CodeRows codes, std::string_view suffix) const override {
    const auto [rows, cols] = sides.shape;
    const std::size_t groups = sides.groups();
    const int bits = sides.spec.bits;
    if (suffix == "weight_scale") return std::move(sides.scales);
    if (suffix == "weight") {  // two's complement
      ByteArray all(rows * cols);
      for (std::size_t r = 0; r < rows; ++r)
        std::ranges::transform(codes.row(r), all.data() + r * cols,
                               [](std::byte code) { return code ^ std::byte{0x80}; });
      return all;
    }
    if (suffix == "weight_zero_point") {
      WordMatrix words(words_of(rows, bits), groups);
      for (std::size_t g = 0; g < groups; ++g)
        stream_words(
            rows, bits, [&](std::size_t r) { return sides.zeros[r * groups + g]; },
            [&](std::size_t w, std::uint32_t word) { words.set(w, g, word); });
      return words.take();
    }
    return padded_rows(codes, words_of(cols, bits));
  }

  ByteArray encode_minifloats(MinifloatMatrix matrix, std::string_view suffix) const override {
    return suffix == "weight_scale" ? std::move(matrix.scales) : std::move(matrix.codes);
  }

  /// A config group without its targets.
  Json group_of(const PlannedLinear& linear) const {
    const char* const type = linear.integers ? "int" : "float";
    return {{"format", linear.integers ? format_of(*linear.integers) : row_of(*linear.minifloats).name},
            {"weights", linear.integers ? arguments_of(*linear.integers) : arguments_of(*linear.minifloats)},
            {"input_activations", quantizes_inputs() ? dynamic_arguments(type) : Json()},
            {"output_activations", nullptr}};
  }

 public:
  bool holds_cache_scales() const override { return true; }

  void describe(const ExportPlan& plan, Json& config) const override {
    std::map<std::string, std::vector<std::string>> targets;  // group -> names
    auto ignore = Json::array();
    std::size_t floats = 0;
    for (const PlannedLinear& linear : planned_linears(plan)) {
      if (linear.role == TensorRole::embedding || linear.role == TensorRole::positions) continue;
      if (linear.is_quantized())
        targets[group_of(linear).dump()].push_back(linear.base);
      else
        ignore.push_back(linear.base);
      floats += !linear.is_quantized() && linear.role == TensorRole::linear;
    }
    if (targets.empty())
      fail(ErrorKind::bad_data, "{}: no matrix is on a grid that it has; export safetensors", name());
    if (plan.architecture.tied) ignore.push_back("lm_head");
    auto groups = Json::object();
    std::string format;
    for (const auto& [text, names] : targets) {
      const bool is_all = targets.size() == 1 && floats == 0;
      Json group{{"targets", is_all ? Json::array({"Linear"}) : Json(names)}};
      group.update(Json::parse(text));
      const std::string own = group["format"].get<std::string>();
      format = format.empty() || format == own ? own : "mixed-precision";
      groups[fmt::format("group_{}", groups.size())] = std::move(group);
    }
    config["quantization_config"] = {{"quant_method", "compressed-tensors"},
                                     {"version", "0.18.0"},
                                     {"format", format},
                                     {"quantization_status", "compressed"},
                                     {"global_compression_ratio", nullptr},
                                     {"ignore", std::move(ignore)},
                                     {"kv_cache_scheme", cache_arguments(plan.cache)},
                                     {"sparsity_config", Json::object()},
                                     {"transform_config", Json::object()},
                                     {"config_groups", std::move(groups)}};
  }

 private:
  Activations activations_;
};

}  // namespace

std::unique_ptr<FolderFormat> make_compressed_tensors_format(Activations activations) {
  return std::make_unique<CompressedTensorsFormat>(activations);
}

}  // namespace adze
