// MLX's affine quantization: codes packed along inputs, value = scale * code + bias. Of symmetric grids the bias,
// -2^(b-1) times the scale, has the scale's dtype; of asymmetric ones, -zero times the scale, it needs more digits, and
// both are F32 so that nothing is rounded. Its modes "mxfp4" and "mxfp8" are the grids of the same names: codes packed
// along inputs, a byte of exponent for every 32.
#include <map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "export/folder/bit_words.h"
#include "export/folder/folder_format.h"
#include "linalg/convert.h"

namespace adze {
namespace {

DType side_dtype(const IntegerGridSpec& spec) { return spec.symmetric ? spec.scale_dtype : DType::f32; }

nlohmann::ordered_json sizes_of(const IntegerGridSpec& spec) {
  return {{"group_size", spec.group}, {"bits", spec.bits}, {"mode", "affine"}};
}

nlohmann::ordered_json sizes_of(const MinifloatSpec& spec) {
  return {{"group_size", spec.group}, {"bits", spec.bits}, {"mode", spec.bits == 4 ? "mxfp4" : "mxfp8"}};
}

nlohmann::ordered_json sizes_of(const PlannedLinear& linear) {
  return linear.integers ? sizes_of(*linear.integers) : sizes_of(*linear.minifloats);
}

class MlxFormat final : public QuantizedFormat {
  std::string_view name() const override { return "MLX"; }
  bool quantizes_tables() const override { return true; }

  std::optional<std::string> refuses_model(const Architecture& a) const override {
    if (a.rotary_dim == 0) return std::nullopt;
    return fmt::format("MLX rotates whole heads of {}, and this model's in part", a.family);
  }

  std::optional<std::string> refuses(const IntegerGridSpec& spec, Shape) const override {
    if (spec.scope != ScaleScope::group || (spec.group != 32 && spec.group != 64 && spec.group != 128))
      return "its groups have 32, 64 or 128 columns";
    return std::nullopt;
  }

  std::optional<std::string> refuses_minifloats(const MinifloatSpec& spec, Shape) const override {
    if (spec.scale == MinifloatScale::e8m0) return std::nullopt;
    return "of small floats it has mxfp8 and gguf/mxfp4, scales of other kinds it keeps otherwise";
  }

  std::optional<std::string> remark_on(const IntegerGridSpec& spec) const override {
    if (spec.symmetric) return std::nullopt;
    return "scales and biases are F32, which holds them exactly; symmetric grids keep 16 bits";
  }

  std::vector<SafetensorsSpec> integer_parts(const std::string& base, const IntegerGridSpec& spec,
                                             Shape shape) const override {
    const SafetensorsType side = safetensors_type_of(side_dtype(spec));
    const std::size_t groups = shape.cols / spec.group;
    return {{base + ".weight", SafetensorsType::u32, {shape.rows, words_of(shape.cols, spec.bits)}},
            {base + ".scales", side, {shape.rows, groups}},
            {base + ".biases", side, {shape.rows, groups}}};
  }

  std::vector<SafetensorsSpec> minifloat_parts(const std::string& base, const MinifloatSpec& spec,
                                               Shape shape) const override {
    return {{base + ".weight", SafetensorsType::u32, {shape.rows, words_of(shape.cols, spec.bits)}},
            {base + ".scales", SafetensorsType::u8, {shape.rows, shape.cols / spec.group}}};
  }

  ByteArray encode_minifloats(MinifloatMatrix matrix, std::string_view suffix) const override {
    return suffix == "scales" ? std::move(matrix.scales) : std::move(matrix.codes);
  }

  ByteArray encode_integers(IntegerMatrix sides, CodeRows codes, std::string_view suffix) const override {
    const DType dtype = side_dtype(sides.spec);
    if (suffix == "weight") return padded_rows(codes, words_of(sides.shape.cols, sides.spec.bits));
    if (suffix == "scales" && dtype == sides.spec.scale_dtype) return std::move(sides.scales);
    std::vector<float> values = scales_of(sides);
    if (suffix == "biases")
      for (std::size_t i = 0; i < values.size(); ++i) values[i] *= -static_cast<float>(sides.zeros[i]);
    std::vector<std::byte> bytes(values.size() * bytes_of(dtype));
    from_float(dtype, values, bytes);
    std::vector<float> again(values.size());
    to_float(dtype, bytes, again);
    if (again != values) fail(ErrorKind::bad_data, "a bias does not fit {}; take scales: bf16 or f32", name_of(dtype));
    return bytes;
  }

 public:
  void describe(const ExportPlan& plan, nlohmann::ordered_json& config) const override {
    std::map<std::string, std::size_t> counts;
    const std::vector<PlannedLinear> linears = planned_linears(plan);
    for (const PlannedLinear& linear : linears)
      if (linear.is_quantized()) ++counts[sizes_of(linear).dump()];
    if (counts.empty()) fail(ErrorKind::bad_data, "MLX: no matrix is on a grid that it has; export safetensors");
    const auto most = std::ranges::max_element(counts, {}, [](const auto& entry) { return entry.second; });
    auto quantization = nlohmann::ordered_json::parse(most->first);
    for (const PlannedLinear& linear : linears)
      if (linear.is_quantized() && sizes_of(linear).dump() != most->first) quantization[linear.base] = sizes_of(linear);
    config["quantization"] = quantization;
    config["quantization_config"] = std::move(quantization);
  }

  SafetensorsMetadata metadata() const override { return {{"format", "mlx"}}; }
};

}  // namespace

std::unique_ptr<FolderFormat> make_mlx_format() { return std::make_unique<MlxFormat>(); }

}  // namespace adze
