#include "text/json_fields.h"

#include <utility>

#include "base/error.h"

namespace adze {

using nlohmann::json;

JsonFields::JsonFields(const json& value, std::string where) : value_(value), where_(std::move(where)) {
  if (!value.is_object()) refuse(fmt::format("expected an object, found {}", value.type_name()));
}

void JsonFields::refuse(std::string_view what) const { fail(ErrorKind::bad_data, "{}: {}", where_, what); }

const json* JsonFields::find(std::string_view name) const {
  const auto found = value_.find(std::string(name));
  return found == value_.end() || found->is_null() ? nullptr : &*found;
}

const json& JsonFields::required(std::string_view name) const {
  const json* field = find(name);
  if (field == nullptr) refuse(fmt::format("'{}' is missing", name));
  return *field;
}

const json& JsonFields::array(std::string_view name) const {
  const json& field = required(name);
  if (!field.is_array()) refuse(fmt::format("'{}' must be an array, not {}", name, field.type_name()));
  return field;
}

const json& JsonFields::object(std::string_view name) const {
  const json& field = required(name);
  if (!field.is_object()) refuse(fmt::format("'{}' must be an object, not {}", name, field.type_name()));
  return field;
}

std::string JsonFields::text(std::string_view name) const {
  const json& field = required(name);
  if (!field.is_string()) refuse(fmt::format("'{}' must be a string, not {}", name, field.type_name()));
  return field.get<std::string>();
}

std::string JsonFields::text_or(std::string_view name, std::string_view otherwise) const {
  return find(name) == nullptr ? std::string(otherwise) : text(name);
}

bool JsonFields::flag(std::string_view name, bool otherwise) const {
  const json* field = find(name);
  if (field == nullptr) return otherwise;
  if (!field->is_boolean()) refuse(fmt::format("'{}' must be true or false, not {}", name, field->type_name()));
  return field->get<bool>();
}

std::int32_t JsonFields::token_id(std::string_view name) const {
  return token_id_from(required(name), fmt::format("{}: '{}'", where_, name));
}

std::uint64_t JsonFields::count(std::string_view name) const {
  const json& field = required(name);
  if (!field.is_number_integer() || (!field.is_number_unsigned() && field.get<std::int64_t>() < 0))
    refuse(fmt::format("'{}' must be an integer from 0 on, not {}", name, field.dump()));
  return field.get<std::uint64_t>();
}

std::string literal_pattern(const JsonFields& fields) {
  const JsonFields pattern(fields.required("pattern"), fields.where() + ": 'pattern'");
  if (pattern.find("Regex") != nullptr) pattern.refuse("a regular expression is not supported here");
  std::string text = pattern.text("String");
  if (text.empty()) pattern.refuse("'String' is empty");
  return text;
}

bool is_token_id(const json& value) {
  if (!value.is_number_integer()) return false;
  const bool too_large = value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{kMaxTokenId};
  return !too_large && value.get<std::int64_t>() >= 0;
}

std::int32_t token_id_from(const json& value, std::string_view where) {
  if (!value.is_number_integer())
    fail(ErrorKind::bad_data, "{}: a token id must be an integer, not {}", where, value.type_name());
  if (!is_token_id(value))
    fail(ErrorKind::bad_data, "{}: token id {} is outside 0 ... {}", where, value.dump(), kMaxTokenId);
  return value.get<std::int32_t>();
}

}  // namespace adze
