// compressed-tensors, pack-quantized: weight_packed [out x in b / 32] with codes plus 2^(b-1), weight_scale
// [out x groups], weight_zero_point [out b / 32 x groups] packed along outputs, weight_shape [2].
#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/config_object.h"
#include "model/packed/packed_integers.h"

namespace adze {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kRegex = "re:";

struct Group {
  std::vector<std::string> targets;  ///< names, or a class of modules
  std::vector<NamePattern> patterns;
  PackedSizes sizes;
};

class CompressedTensorsLayout final : public PackedLayout {
 public:
  CompressedTensorsLayout(const Json& settings, const nlohmann::ordered_json& in_order, const std::string& origin)
      : origin_(origin) {
    const ConfigObject object(settings, origin_);
    const std::string format = object.text_or("format", "pack-quantized");
    const Json* const groups = object.find("config_groups");
    if (groups == nullptr || !groups->is_object() || groups->empty())
      fail(ErrorKind::bad_data, "{}: quantization_config has no config_groups", origin_);
    for (const auto& [name, group] : in_order.at("config_groups").items()) add_group(name, groups->at(name), format);
    const Json* const transforms = object.find("transform_config");
    if (transforms != nullptr && transforms->is_object() && !transforms->empty() &&
        !(transforms->contains("config_groups") && transforms->at("config_groups").empty()))
      fail(ErrorKind::bad_data, "{}: transform_config: transforms that a runtime applies are not supported", origin_);
  }

  std::vector<std::string> tensors_of(const RawTensors& raw, const std::string& base) const override {
    if (raw.find(base + ".weight_packed") == nullptr) return {};
    return {base + ".weight_packed", base + ".weight_scale", base + ".weight_shape", base + ".weight_zero_point"};
  }

  TensorPtr read(const RawTensors& raw, const std::string& base, Shape shape) const override {
    const PackedSizes sizes = sizes_of(base);
    sizes.check(shape);
    check_shape(raw, base, shape);
    const auto [rows, cols] = shape;
    const std::size_t groups = cols / sizes.group_cols(cols);
    const std::uint64_t words = word_count(cols, sizes.bits);
    std::vector<std::byte> codes =
        without_padding(raw.read(base + ".weight_packed", SafetensorsType::i32, {rows, words}), rows, cols, sizes.bits);
    RawTensors::Floats scales = raw.read_floats(base + ".weight_scale", {rows, groups});
    return integer_tensor(sizes, shape, std::move(codes), std::move(scales), zeros_of(raw, base, rows, groups, sizes));
  }

 private:
  void add_group(const std::string& name, const Json& group, const std::string& format) {
    const std::string place = fmt::format("{}: config_groups.{}", origin_, name);
    const ConfigObject object(group, place);
    if (const std::string own = object.text_or("format", format); own != "pack-quantized")
      fail(ErrorKind::bad_data, "{}: format '{}' is not supported; pack-quantized is", place, own);
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
    const ConfigObject arguments(*weights, place);
    if (arguments.text_or("type", "int") != "int")
      fail(ErrorKind::bad_data, "{}: weights of type '{}' are not supported; int is", place,
           arguments.text_or("type", ""));
    read.sizes.bits = static_cast<int>(std::min<std::size_t>(arguments.size_or("num_bits", 8), 64));
    read.sizes.symmetric = !arguments.has("symmetric") || arguments.flag("symmetric");
    read.sizes.group = group_of(*weights, "group_size", place);
    const std::string strategy = arguments.text_or("strategy", read.sizes.group > 0 ? "group" : "channel");
    if (strategy != "group" && strategy != "channel")
      fail(ErrorKind::bad_data, "{}: strategy '{}' is not supported; group and channel are", place, strategy);
    if (const std::string order = arguments.text_or("actorder", "weight"); order != "weight" && order != "static")
      fail(ErrorKind::bad_data, "{}: actorder '{}' is not supported", place, order);
    groups_.push_back(std::move(read));
  }

  /// An exact name comes before a pattern, a pattern before the class "Linear".
  PackedSizes sizes_of(const std::string& base) const {
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
    return found->sizes;
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
