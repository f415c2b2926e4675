// compressed-tensors. pack-quantized: weight_packed [out x in b / 32] with codes plus 2^(b-1), weight_scale
// [out x groups], weight_zero_point [out b / 32 x groups] packed along outputs, weight_shape [2]. int-quantized: weight
// I8 [out x in]. float-quantized and mxfp8-quantized: weight F8_E4M3 [out x in]. mxfp4- and nvfp4-pack-quantized:
// weight_packed U8 [out x in / 2], the latter with weight_global_scale, which divides. What a runtime does to inputs is
// not the weights' and not looked at.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/error.h"
#include "grid/minifloat/minifloat_matrix.h"
#include "linalg/convert.h"
#include "model/config_object.h"
#include "model/packed/packed_integers.h"
#include "model/packed/sparse_24.h"

namespace adze {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kRegex = "re:";

/// How weights of a group are stored.
enum class Storage { packed_integers, integers, fp8, mxfp8, mxfp4, nvfp4 };

struct StorageRow {
  const char* format;
  const char* type;  ///< of the weights: "int" or "float"
  Storage storage;
};
constexpr std::array kStorages{StorageRow{"pack-quantized", "int", Storage::packed_integers},
                               StorageRow{"int-quantized", "int", Storage::integers},
                               StorageRow{"naive-quantized", "int", Storage::integers},
                               StorageRow{"float-quantized", "float", Storage::fp8},
                               StorageRow{"naive-quantized", "float", Storage::fp8},
                               StorageRow{"mxfp8-quantized", "float", Storage::mxfp8},
                               StorageRow{"mxfp4-pack-quantized", "float", Storage::mxfp4},
                               StorageRow{"nvfp4-pack-quantized", "float", Storage::nvfp4}};

/// Which weights share a scale.
enum class Strategy { tensor, channel, group, block, tensor_group };
struct StrategyName {
  const char* name;
  Strategy strategy;
};
constexpr std::array kStrategies{StrategyName{"tensor", Strategy::tensor}, StrategyName{"channel", Strategy::channel},
                                 StrategyName{"group", Strategy::group}, StrategyName{"block", Strategy::block},
                                 StrategyName{"tensor_group", Strategy::tensor_group}};

struct Group {
  std::vector<std::string> targets;  ///< names, or a class of modules
  std::vector<NamePattern> patterns;
  Storage storage = Storage::packed_integers;
  Strategy strategy = Strategy::channel;
  PackedSizes sizes;
  Shape block;  ///< of weights that share a scale, for Strategy::block
};

/// Tensors of one linear.
struct Linear {
  const RawTensors& raw;
  const std::string& base;
  Shape shape;
  const Group& group;

  std::size_t scales_a_row() const { return shape.cols / group.sizes.group_cols(shape.cols); }
  std::vector<std::byte> read(const char* suffix, SafetensorsType type, std::uint64_t rows, std::uint64_t cols) const {
    return raw.read(base + suffix, type, {rows, cols});
  }
};

std::vector<float> as_floats(const RawTensors::Floats& floats) {
  std::vector<float> values(floats.bytes.size() / bytes_of(floats.dtype));
  to_float(floats.dtype, floats.bytes, values);
  return values;
}

/// A scale for every row and run of columns of a plain weight, whatever shares one. Sets `group`, the run; 0: the row.
RawTensors::Floats row_scales(const Linear& linear, std::size_t& group) {
  const auto [rows, cols] = linear.shape;
  const std::string name = linear.base + ".weight_scale";
  group = 0;
  if (linear.group.strategy == Strategy::channel) return linear.raw.read_floats(name, {rows, 1});
  if (linear.group.strategy == Strategy::group) {
    group = linear.group.sizes.group;
    return linear.raw.read_floats(name, {rows, linear.scales_a_row()});
  }
  Shape block = linear.shape;
  if (linear.group.strategy == Strategy::block) {
    block = linear.group.block;
    if (cols % block.cols != 0)
      fail(ErrorKind::bad_data, "rows of {} columns do not divide into blocks of {}", cols, block.cols);
    group = block.cols;
  }
  const std::size_t down = divide_up(rows, block.rows), across = cols / block.cols;
  const RawTensors::Floats stored = linear.group.strategy == Strategy::block
                                        ? linear.raw.read_floats(name, {down, across})
                                        : linear.raw.read_floats(name, {1});
  const std::size_t row_bytes = across * bytes_of(stored.dtype);
  RawTensors::Floats all{stored.dtype, {}};
  for (std::size_t r = 0; r < rows; ++r) {
    const auto from = stored.bytes.begin() + static_cast<std::ptrdiff_t>(r / block.rows * row_bytes);
    all.bytes.insert(all.bytes.end(), from, from + static_cast<std::ptrdiff_t>(row_bytes));
  }
  return all;
}

TensorPtr read_integers(const Linear& linear) {
  const auto [rows, cols] = linear.shape;
  PackedSizes sizes = linear.group.sizes;
  if (sizes.bits != 8) fail(ErrorKind::bad_data, "int-quantized weights of {} bits are not supported", sizes.bits);
  linear.raw.require(linear.base + ".weight", SafetensorsType::i8, {rows, cols});
  RawTensors::Floats scales = row_scales(linear, sizes.group);
  sizes.check(linear.shape);
  std::vector<std::uint8_t> zeros(rows * (cols / sizes.group_cols(cols)), 128);
  const bool has_zeros = linear.raw.find(linear.base + ".weight_zero_point") != nullptr;
  if (!sizes.symmetric && !has_zeros)
    fail(ErrorKind::bad_data, "weight_zero_point is missing, and the configuration says asymmetric");
  if (has_zeros) {
    if (sizes.symmetric || linear.group.strategy == Strategy::block || linear.group.strategy == Strategy::tensor)
      fail(ErrorKind::bad_data, "weight_zero_point is not expected with this configuration");
    const auto stored = linear.read(".weight_zero_point", SafetensorsType::i8, rows, zeros.size() / rows);
    for (std::size_t i = 0; i < zeros.size(); ++i)
      zeros[i] = static_cast<std::uint8_t>(std::to_integer<unsigned>(stored[i]) ^ 0x80U);
  }
  const FillCodes codes = [&](MatrixView<std::byte> out) {
    linear.raw.read_rows(linear.base + ".weight", SafetensorsType::i8, linear.shape, 1,
                         [&](std::size_t first, std::span<const std::byte> bytes) {
                           for (std::size_t r = 0; r < bytes.size() / out.cols(); ++r)
                             std::ranges::transform(bytes.subspan(r * out.cols(), out.cols()),
                                                    out.row(first + r).begin(),
                                                    [](std::byte code) { return code ^ std::byte{0x80}; });
                         });
  };
  return integer_tensor(sizes, linear.shape, codes, std::move(scales), std::move(zeros));
}

TensorPtr read_fp8(const Linear& linear) {
  MinifloatMatrix matrix{{8, MinifloatScale::f32, 0, 1}, linear.shape, {}, {}};
  matrix.codes = linear.read(".weight", SafetensorsType::f8_e4m3, linear.shape.rows, linear.shape.cols);
  const std::vector<float> scales = as_floats(row_scales(linear, matrix.spec.group));
  const auto bytes = std::as_bytes(std::span(scales));
  matrix.scales.assign(bytes.begin(), bytes.end());
  return pack_minifloats(matrix);
}

/// Formats whose scales are bytes, of groups that the format fixes.
TensorPtr read_shared_scales(const Linear& linear, MinifloatSpec spec) {
  const auto [rows, cols] = linear.shape;
  if (cols % spec.group != 0)
    fail(ErrorKind::bad_data, "rows of {} columns do not divide into groups of {}", cols, spec.group);
  const bool is_nvfp4 = spec.scale == MinifloatScale::e4m3;
  if (is_nvfp4) {
    spec.divisor = as_floats(linear.raw.read_floats(linear.base + ".weight_global_scale", {1})).front();
    if (!(spec.divisor > 0) || !std::isfinite(spec.divisor))
      fail(ErrorKind::bad_data, "weight_global_scale is {}", spec.divisor);
  }
  MinifloatMatrix matrix{spec, linear.shape, {}, {}};
  matrix.codes = spec.bits == 8 ? linear.read(".weight", SafetensorsType::f8_e4m3, rows, cols)
                                : linear.read(".weight_packed", SafetensorsType::u8, rows, cols / 2);
  matrix.scales =
      linear.read(".weight_scale", is_nvfp4 ? SafetensorsType::f8_e4m3 : SafetensorsType::u8, rows, cols / spec.group);
  return pack_minifloats(matrix);
}

class CompressedTensorsLayout final : public PackedLayout {
 public:
  CompressedTensorsLayout(const Json& settings, const nlohmann::ordered_json& in_order, const std::string& origin)
      : origin_(origin) {
    const ConfigObject object(settings, origin_);
    const std::string format = object.text_or("format", "pack-quantized");
    const bool is_sparse = says_sparse_24(object);
    const Json* const groups = object.find("config_groups");
    const bool has_groups = groups != nullptr && groups->is_object() && !groups->empty();
    if (!has_groups && !is_sparse) fail(ErrorKind::bad_data, "{}: quantization_config has no config_groups", origin_);
    if (has_groups)
      for (const auto& [name, group] : in_order.at("config_groups").items()) add_group(name, groups->at(name), format);
    const Json* const transforms = object.find("transform_config");
    if (transforms != nullptr && transforms->is_object() && !transforms->empty() &&
        !(transforms->contains("config_groups") && transforms->at("config_groups").empty()))
      fail(ErrorKind::bad_data, "{}: transform_config: transforms that a runtime applies are not supported", origin_);
  }

  std::vector<std::string> tensors_of(const RawTensors& raw, const std::string& base) const override {
    if (is_sparse_24(raw, base)) return sparse_24_tensors(base);
    const bool is_packed = raw.find(base + ".weight_packed") != nullptr;
    if (!is_packed && raw.find(base + ".weight_scale") == nullptr) return {};
    std::vector<std::string> names{base + (is_packed ? ".weight_packed" : ".weight")};
    for (const char* const suffix : {".weight_scale", ".weight_shape", ".weight_zero_point", ".weight_global_scale",
                                     ".input_scale", ".input_zero_point", ".input_global_scale"})
      names.push_back(base + suffix);
    return names;
  }

  bool is_for_runtime(std::string_view name) const override {
    return std::ranges::any_of(std::array{".k_scale", ".v_scale", ".q_scale"},
                               [&](const char* suffix) { return name.ends_with(suffix); });
  }

  TensorPtr read(const RawTensors& raw, const std::string& base, Shape shape) const override {
    if (is_sparse_24(raw, base)) return read_sparse_24(raw, base, shape);
    const Linear linear{raw, base, shape, group_of_module(base)};
    switch (linear.group.storage) {
      case Storage::packed_integers:
        return read_packed(linear);
      case Storage::integers:
        return read_integers(linear);
      case Storage::fp8:
        return read_fp8(linear);
      case Storage::mxfp8:
        return read_shared_scales(linear, *minifloat_spec_from_name("mxfp8"));
      case Storage::mxfp4:
        return read_shared_scales(linear, *minifloat_spec_from_name("gguf/mxfp4"));
      case Storage::nvfp4:
        return read_shared_scales(linear, *minifloat_spec_from_name("nvfp4"));
    }
    fail(ErrorKind::internal, "no such storage");
  }

 private:
  void add_group(const std::string& name, const Json& group, const std::string& format) {
    const std::string place = fmt::format("{}: config_groups.{}", origin_, name);
    const ConfigObject object(group, place);
    const std::string own = object.text_or("format", format);
    const Json* const targets = object.find("targets");
    const Json* const weights = object.find("weights");
    if (targets == nullptr || !targets->is_array() || weights == nullptr || !weights->is_object())
      fail(ErrorKind::bad_data, "{}: needs a list 'targets' and an object 'weights'", place);
    Group read;
    for (const Json& target : *targets) {
      if (!target.is_string()) object.wrong("targets", "a list of texts", *targets);
      const auto text = target.get<std::string>();
      if (text.starts_with(kRegex))
        read.patterns.emplace_back(text.substr(kRegex.size()), fmt::format("{}: target '{}'", place, text));
      else
        read.targets.push_back(text);
    }
    read_arguments(*weights, own, place, read);
    groups_.push_back(std::move(read));
  }

  /// Sparsity of the released forms; dense weights have none. Throws bad_data for the other two.
  bool says_sparse_24(const ConfigObject& object) const {
    const Json* const sparsity = object.find("sparsity_config");
    if (sparsity == nullptr || !sparsity->is_object()) return false;
    const std::string format = ConfigObject(*sparsity, origin_).text_or("format", "dense");
    if (format != "dense" && format != "sparse-24-bitmask")
      fail(ErrorKind::bad_data, "{}: sparsity_config: format '{}' is not supported; sparse-24-bitmask is", origin_,
           format);
    return format == "sparse-24-bitmask";
  }

  static void read_arguments(const Json& weights, const std::string& format, const std::string& place, Group& group) {
    const ConfigObject arguments(weights, place);
    const std::string type = arguments.text_or("type", "int");
    const auto* const row = std::ranges::find_if(
        kStorages, [&](const StorageRow& one) { return format == one.format && type == one.type; });
    if (row == kStorages.end())
      fail(ErrorKind::bad_data, "{}: format '{}' with weights of type '{}' is not supported", place, format, type);
    group.storage = row->storage;
    group.sizes.bits = static_cast<int>(std::min<std::size_t>(arguments.size_or("num_bits", 8), 64));
    group.sizes.symmetric = !arguments.has("symmetric") || arguments.flag("symmetric");
    group.sizes.group = group_of(weights, "group_size", place);
    const bool is_fp8 = group.storage == Storage::fp8;
    const char* const otherwise = group.sizes.group > 0 ? "group" : is_fp8 ? "tensor" : "channel";
    const std::string strategy = arguments.text_or("strategy", otherwise);
    const auto* const known = std::ranges::find(kStrategies, strategy, &StrategyName::name);
    const bool is_packed = group.storage == Storage::packed_integers;
    const bool is_nvfp4 = group.storage == Storage::nvfp4;
    if (known == kStrategies.end() || (known->strategy == Strategy::tensor_group) != is_nvfp4 ||
        (is_packed && known->strategy != Strategy::group && known->strategy != Strategy::channel))
      fail(ErrorKind::bad_data, "{}: strategy '{}' is not supported", place, strategy);
    group.strategy = known->strategy;
    if (group.strategy == Strategy::group && group.sizes.group == 0)
      fail(ErrorKind::bad_data, "{}: strategy 'group' without a group_size", place);
    if (group.strategy == Strategy::block) group.block = block_of(arguments, place);
    if (const std::string order = arguments.text_or("actorder", "weight"); order != "weight" && order != "static")
      fail(ErrorKind::bad_data, "{}: actorder '{}' is not supported", place, order);
  }

  /// [rows, columns], or the text "rowsxcolumns".
  static Shape block_of(const ConfigObject& arguments, const std::string& place) {
    const Json* const structure = arguments.find("block_structure");
    const std::vector<double> sizes = structure != nullptr && structure->is_string()
                                          ? sizes_in(structure->get<std::string>())
                                          : arguments.numbers("block_structure");
    const auto is_size = [](double size) { return size >= 1 && size <= 1 << 20 && size == std::floor(size); };
    if (sizes.size() != 2 || !is_size(sizes[0]) || !is_size(sizes[1]))
      fail(ErrorKind::bad_data, "{}: block_structure is not [rows, columns]", place);
    return {static_cast<std::size_t>(sizes[0]), static_cast<std::size_t>(sizes[1])};
  }

  /// Whole numbers with an "x" between each; none where that is not all of the text.
  static std::vector<double> sizes_in(std::string_view text) {
    std::vector<double> sizes;
    const char* const end = text.data() + text.size();
    for (const char* at = text.data();; ++at) {
      unsigned size = 0;
      const auto [stop, error] = std::from_chars(at, end, size);
      if (error != std::errc()) return {};
      sizes.push_back(size);
      if (stop == end) return sizes;
      if (*stop != 'x') return {};
      at = stop;
    }
  }

  static TensorPtr read_packed(const Linear& linear) {
    const auto& [raw, base, shape, group] = linear;
    PackedSizes sizes = group.sizes;
    if (group.strategy == Strategy::channel) sizes.group = 0;
    sizes.check(shape);
    check_shape(raw, base, shape);
    const auto [rows, cols] = shape;
    const std::size_t groups = cols / sizes.group_cols(cols);
    const FillCodes codes = codes_of_rows(raw, base + ".weight_packed", SafetensorsType::i32, shape, sizes.bits);
    RawTensors::Floats scales = raw.read_floats(base + ".weight_scale", {rows, groups});
    return integer_tensor(sizes, shape, codes, std::move(scales), zeros_of(raw, base, rows, groups, sizes));
  }

  /// An exact name comes before a pattern, a pattern before the class "Linear".
  const Group& group_of_module(const std::string& base) const {
    const auto first = [&](auto&& has) -> const Group* {
      const auto at = std::ranges::find_if(groups_, has);
      return at == groups_.end() ? nullptr : &*at;
    };
    const auto named = [](std::string_view target) {
      return [=](const Group& group) { return std::ranges::find(group.targets, target) != group.targets.end(); };
    };
    const Group* found = first(named(base));
    if (found == nullptr)
      found = first([&](const Group& group) {
        return std::ranges::any_of(group.patterns, [&](const NamePattern& one) { return one.matches(base); });
      });
    if (found == nullptr) found = first(named("Linear"));
    if (found == nullptr) fail(ErrorKind::bad_data, "no group of {} has it as a target", origin_);
    return *found;
  }

  static void check_shape(const RawTensors& raw, const std::string& base, Shape shape) {
    const auto bytes = raw.read(base + ".weight_shape", SafetensorsType::i64, {2});
    for (const auto& [at, wanted] : {std::pair{std::size_t{0}, shape.rows}, std::pair{std::size_t{8}, shape.cols}}) {
      std::uint64_t said = 0;
      for (std::size_t b = 0; b < 8; ++b) said |= std::to_integer<std::uint64_t>(bytes[at + b]) << (8 * b);
      if (said != wanted) fail(ErrorKind::bad_data, "weight_shape says {} where the architecture has {}", said, wanted);
    }
  }

  static std::vector<std::uint8_t> zeros_of(const RawTensors& raw, const std::string& base, std::size_t rows,
                                            std::size_t groups, const PackedSizes& sizes) {
    std::vector<std::uint8_t> zeros(rows * groups, static_cast<std::uint8_t>(1 << (sizes.bits - 1)));
    if (sizes.symmetric) {
      if (raw.find(base + ".weight_zero_point") != nullptr)
        fail(ErrorKind::bad_data, "weight_zero_point is there although the configuration says symmetric");
      return zeros;
    }
    const auto packed =
        raw.read(base + ".weight_zero_point", SafetensorsType::i32, {word_count(rows, sizes.bits), groups});
    for (std::size_t g = 0; g < groups; ++g) {
      const auto fields = fields_of(word_column(packed, groups, g), sizes.bits, rows);
      for (std::size_t r = 0; r < rows; ++r) zeros[r * groups + g] = fields[r];
    }
    return zeros;
  }

  std::string origin_;
  std::vector<Group> groups_;
};

}  // namespace

std::unique_ptr<PackedLayout> make_compressed_tensors_layout(const Json& config, const nlohmann::ordered_json& in_order,
                                                             const std::string& origin) {
  return std::make_unique<CompressedTensorsLayout>(config["quantization_config"], in_order.at("quantization_config"),
                                                   origin);
}

}  // namespace adze
