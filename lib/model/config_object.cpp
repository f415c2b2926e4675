#include "model/config_object.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace adze {
namespace {

using Json = nlohmann::json;

/// The value as JSON, cut for a message.
std::string shown(const Json& value) {
  constexpr std::size_t kMost = 60;
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

std::size_t as_size(const ConfigObject& config, std::string_view key, const Json& value) {
  const bool fits = value.is_number_unsigned() || (value.is_number_integer() && value.get<std::int64_t>() >= 0);
  if (!fits) config.wrong(key, "a non-negative integer", value);
  return value.get<std::uint64_t>();
}

double as_number(const ConfigObject& config, std::string_view key, const Json& value) {
  if (!value.is_number()) config.wrong(key, "a number", value);
  return value.get<double>();
}

std::int32_t as_id(const ConfigObject& config, std::string_view key, const Json& value) {
  const std::size_t id = as_size(config, key, value);
  if (id > INT32_MAX) config.wrong(key, "a token id", value);
  return static_cast<std::int32_t>(id);
}

}  // namespace

void check_range(std::string_view origin, std::string_view what, double value, double above, double most) {
  if (!(value > above && value <= most))  // false for NaN
    fail(ErrorKind::bad_data, "{}: {} must be above {} and at most {}, not {}", origin, what, above, most, value);
}

ConfigObject::ConfigObject(const Json& object, std::string_view origin) : object_(object), origin_(origin) {
  if (!object.is_object()) fail(ErrorKind::bad_data, "{}: expected a JSON object, found {}", origin, shown(object));
}

const Json* ConfigObject::find(std::string_view key) const {
  if (key.empty()) return nullptr;
  const auto at = object_.find(key);
  return at == object_.end() || at->is_null() ? nullptr : &*at;
}

bool ConfigObject::has(std::string_view key) const { return !key.empty() && object_.contains(key); }

std::size_t ConfigObject::size(std::string_view key) const { return as_size(*this, key, require(key)); }

std::size_t ConfigObject::size_or(std::string_view key, std::size_t otherwise) const {
  const Json* value = find(key);
  return value ? as_size(*this, key, *value) : otherwise;
}

double ConfigObject::number(std::string_view key) const { return as_number(*this, key, require(key)); }

double ConfigObject::number_or(std::string_view key, double otherwise) const {
  const Json* value = find(key);
  return value ? as_number(*this, key, *value) : otherwise;
}

std::vector<double> ConfigObject::numbers(std::string_view key) const {
  const Json& value = require(key);
  if (!value.is_array()) wrong(key, "a list of numbers", value);
  std::vector<double> all;
  for (const Json& entry : value) all.push_back(as_number(*this, key, entry));
  return all;
}

bool ConfigObject::flag(std::string_view key) const {
  const Json* value = find(key);
  if (value && !value->is_boolean()) wrong(key, "true or false", *value);
  return value && value->get<bool>();
}

std::string ConfigObject::text_or(std::string_view key, std::string_view otherwise) const {
  const Json* value = find(key);
  if (value && !value->is_string()) wrong(key, "a string", *value);
  return value ? value->get<std::string>() : std::string(otherwise);
}

std::vector<std::int32_t> ConfigObject::ids(std::string_view key) const {
  const Json* value = find(key);
  if (!value) return {};
  if (!value->is_array()) return {as_id(*this, key, *value)};
  std::vector<std::int32_t> all;
  for (const Json& entry : *value) all.push_back(as_id(*this, key, entry));
  return all;
}

void ConfigObject::wrong(std::string_view key, std::string_view expected, const Json& found) const {
  fail(ErrorKind::bad_data, "{}: '{}' must be {}, not {}", origin_, key, expected, shown(found));
}

const Json& ConfigObject::require(std::string_view key) const {
  const Json* value = find(key);
  if (!value) fail(ErrorKind::bad_data, "{}: '{}' is missing", origin_, key);
  return *value;
}

}  // namespace adze
