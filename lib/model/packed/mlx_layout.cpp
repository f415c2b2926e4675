// MLX, affine mode: weight U32 [out x in b / 32], scales and biases [out x groups]; value = scale * code + bias. Biases
// that are a whole negative multiple of the scale are zero points; others have no grid here and make floats. Modes
// mxfp4 and mxfp8: weight U32 [out x in b / 32], scales U8 [out x in / 32], exponents.
#include <cmath>
#include <map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "grid/minifloat/minifloat_matrix.h"
#include "linalg/convert.h"
#include "model/config_object.h"
#include "model/packed/packed_integers.h"

namespace adze {
namespace {

using Json = nlohmann::json;

/// Sizes, and the grid of modes that have one.
struct MlxSettings {
  PackedSizes sizes;
  std::optional<MinifloatSpec> minifloats;
};

class MlxLayout final : public PackedLayout {
 public:
  MlxLayout(const Json& settings, const std::string& origin) {
    common_ = settings_from(settings, {{4, 64, true}, std::nullopt}, origin);
    for (const auto& [key, value] : settings.items())
      if (value.is_object()) others_[key] = settings_from(value, {common_.sizes, std::nullopt}, origin);
  }

  std::vector<std::string> tensors_of(const RawTensors& raw, const std::string& base) const override {
    if (raw.find(base + ".scales") == nullptr) return {};
    return {base + ".weight", base + ".scales", base + ".biases"};
  }

  TensorPtr read(const RawTensors& raw, const std::string& base, Shape shape) const override {
    const auto own = others_.find(base);
    const MlxSettings& settings = own == others_.end() ? common_ : own->second;
    if (settings.minifloats) return read_minifloats(raw, base, shape, *settings.minifloats);
    const PackedSizes& sizes = settings.sizes;
    sizes.check(shape);
    const auto [rows, cols] = shape;
    const std::size_t groups = cols / sizes.group_cols(cols);
    const FillCodes codes = codes_of_rows(raw, base + ".weight", SafetensorsType::u32, shape, sizes.bits);
    RawTensors::Floats scales = raw.read_floats(base + ".scales", {rows, groups});
    const RawTensors::Floats biases = raw.read_floats(base + ".biases", {rows, groups});
    std::vector<float> scale(rows * groups), bias(rows * groups);
    to_float(scales.dtype, scales.bytes, scale);
    to_float(biases.dtype, biases.bytes, bias);
    const auto middle = static_cast<std::uint8_t>(1 << (sizes.bits - 1));  // of symmetric grids, a power of two: exact
    std::vector<std::uint8_t> zeros(rows * groups, middle);
    for (std::size_t i = 0; i < zeros.size(); ++i) {
      if (scale[i] != 0 && std::isfinite(bias[i]) && -(scale[i] * static_cast<float>(middle)) == bias[i]) continue;
      const float zero = scale[i] == 0 ? -1.0f : std::nearbyint(-bias[i] / scale[i]);
      if (!(zero >= 0 && zero < static_cast<float>(1 << sizes.bits)) || -(scale[i] * zero) != bias[i])
        return float_tensor(shape, sizes.bits, codes, [&](std::size_t r, std::size_t c, int code) {
          const std::size_t side = r * groups + c / (cols / groups);
          return scale[side] * static_cast<float>(code) + bias[side];
        });
      zeros[i] = static_cast<std::uint8_t>(zero);
    }
    // F32 holds what were scales of 16 bits; the grid is the one that they came from.
    if (scales.dtype == DType::f32) narrow(scales, scale);
    return integer_tensor(sizes, shape, codes, std::move(scales), std::move(zeros));
  }

 private:
  static MlxSettings settings_from(const Json& settings, MlxSettings otherwise, const std::string& origin) {
    const ConfigObject object(settings, origin);
    PackedSizes& sizes = otherwise.sizes;
    sizes.bits =
        static_cast<int>(std::min<std::size_t>(object.size_or("bits", static_cast<std::size_t>(sizes.bits)), 64));
    if (object.has("group_size")) sizes.group = group_of(settings, "group_size", origin);
    if (!object.has("mode")) return otherwise;
    const std::string mode = object.text_or("mode", "affine");
    otherwise.minifloats = std::nullopt;
    if (mode == "mxfp4") otherwise.minifloats = minifloat_spec_from_name("gguf/mxfp4");
    if (mode == "mxfp8") otherwise.minifloats = minifloat_spec_from_name("mxfp8");
    if (!otherwise.minifloats && mode != "affine")
      fail(ErrorKind::bad_data, "{}: MLX mode '{}' is not supported; affine, mxfp4 and mxfp8 are", origin, mode);
    const auto& minifloats = otherwise.minifloats;
    if (minifloats && (sizes.bits != minifloats->bits || sizes.group != minifloats->group))
      fail(ErrorKind::bad_data, "{}: MLX mode '{}' has {} bits in groups of {}", origin, mode, minifloats->bits,
           minifloats->group);
    return otherwise;
  }

  static TensorPtr read_minifloats(const RawTensors& raw, const std::string& base, Shape shape,
                                   const MinifloatSpec& spec) {
    const auto [rows, cols] = shape;
    if (cols % spec.group != 0)
      fail(ErrorKind::bad_data, "rows of {} columns do not divide into groups of {}", cols, spec.group);
    MinifloatMatrix matrix{spec, shape, {}, {}};
    matrix.codes = raw.read(base + ".weight", SafetensorsType::u32, {rows, word_count(cols, spec.bits)});
    matrix.scales = raw.read(base + ".scales", SafetensorsType::u8, {rows, cols / spec.group});
    return pack_minifloats(matrix);
  }

  static void narrow(RawTensors::Floats& scales, const std::vector<float>& values) {
    for (const DType dtype : {DType::bf16, DType::f16}) {  // the coarser first: it holds few scales of the other
      std::vector<std::byte> bytes(values.size() * bytes_of(dtype));
      from_float(dtype, values, bytes);
      std::vector<float> again(values.size());
      to_float(dtype, bytes, again);
      if (again != values) continue;
      scales = {dtype, std::move(bytes)};
      return;
    }
  }

  MlxSettings common_;
  std::map<std::string, MlxSettings> others_;
};

}  // namespace

std::unique_ptr<PackedLayout> make_mlx_layout(const Json& config, const nlohmann::ordered_json& /*in_order*/,
                                              const std::string& origin) {
  return std::make_unique<MlxLayout>(config["quantization"], origin);
}

}  // namespace adze
