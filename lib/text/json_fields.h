// Typed access to the fields of a JSON object: a wrong type or a missing field is an error that names the place.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace adze {

class JsonFields {
 public:
  /// `where` leads every message ("added_tokens[3]"). Throws bad_data when `value` is not an object.
  JsonFields(const nlohmann::json& value, std::string where);

  const std::string& where() const { return where_; }
  /// The field, or null when it is absent. A field that is null counts as absent.
  const nlohmann::json* find(std::string_view name) const;
  const nlohmann::json& required(std::string_view name) const;
  const nlohmann::json& array(std::string_view name) const;   ///< required
  const nlohmann::json& object(std::string_view name) const;  ///< required
  std::string text(std::string_view name) const;              ///< required
  std::string text_or(std::string_view name, std::string_view otherwise) const;
  bool flag(std::string_view name, bool otherwise) const;
  /// Required token id: an integer in [0, kMaxTokenId].
  std::int32_t token_id(std::string_view name) const;

  /// Required: an integer from 0 on.
  std::uint64_t count(std::string_view name) const;

  [[noreturn]] void refuse(std::string_view what) const;

 private:
  const nlohmann::json& value_;
  std::string where_;
};

/// Calls visit(fields, type) for a component of a tokenizer.json, or for each part when it is a Sequence of parts
/// under `list`.
template <typename Visit>
void for_each_part(const nlohmann::json& value, const std::string& where, std::string_view list, const Visit& visit) {
  const JsonFields fields(value, where);
  const std::string type = fields.text("type");
  if (type != "Sequence") return visit(fields, type);
  const nlohmann::json& parts = fields.array(list);
  for (std::size_t i = 0; i < parts.size(); ++i)
    for_each_part(parts[i], fmt::format("{}: {}[{}]", where, list, i), list, visit);
}

/// "pattern": {"String": ...}, not empty. Throws bad_data, also for a regular expression.
std::string literal_pattern(const JsonFields& fields);

inline constexpr std::int32_t kMaxTokenId = 1 << 24;  // the largest vocabularies in use have 2^18 tokens

bool is_token_id(const nlohmann::json& value);

/// Token id from a JSON value; `where` names it in messages.
std::int32_t token_id_from(const nlohmann::json& value, std::string_view where);

}  // namespace adze
