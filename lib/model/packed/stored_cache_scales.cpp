#include "model/packed/stored_cache_scales.h"

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "linalg/convert.h"
#include "model/config_object.h"
#include "model/tensors.h"

namespace adze {
namespace {

void check_scheme(const nlohmann::json& config, const std::string& origin) {
  const nlohmann::json::json_pointer place("/quantization_config/kv_cache_scheme");
  if (!config.contains(place) || !config.at(place).is_object())
    fail(ErrorKind::bad_data, "{}: quantization_config has no kv_cache_scheme", origin);
  const std::string scheme_origin = origin + ": kv_cache_scheme";
  const ConfigObject scheme(config.at(place), scheme_origin);
  const bool is_known = scheme.size_or("num_bits", 8) == 8 && scheme.text_or("type", "int") == "float" &&
                        scheme.text_or("strategy", "tensor") == "tensor" &&
                        (!scheme.has("symmetric") || scheme.flag("symmetric")) &&
                        (!scheme.has("dynamic") || !scheme.flag("dynamic"));
  if (!is_known) fail(ErrorKind::bad_data, "{}: kv_cache_scheme: {} is not supported", origin, config.at(place).dump());
}

}  // namespace

StoredCacheScales::StoredCacheScales(const std::filesystem::path& folder, const Architecture& architecture)
    : raw_(folder), architecture_(architecture) {
  const std::string origin = (folder / "config.json").string();
  check_scheme(parse_json(read_file(origin), origin), origin);
}

std::string StoredCacheScales::name(const Architecture& architecture, std::size_t block, std::string_view scale) {
  return stored_name(architecture, fmt::format("layers.{}.self_attn.{}", block, scale));
}

float StoredCacheScales::scale(const std::string& name) const {
  const RawTensors::Floats floats = raw_.read_floats(name, {1});
  float value = 0;
  to_float(floats.dtype, floats.bytes, std::span(&value, 1));
  if (!(value > 0) || !std::isfinite(value))
    fail(ErrorKind::bad_data, "{}: tensor '{}' is {}, no scale", raw_.origin(), name, value);
  return value;
}

}  // namespace adze
