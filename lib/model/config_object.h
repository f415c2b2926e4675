// A JSON object of foreign origin read by typed keys: a value of the wrong kind is an Error that names the file, the
// key and what was found. null counts as absent, as Transformers writes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace adze {

/// Throws bad_data unless above < value <= most; for NaN, too.
void check_range(std::string_view origin, std::string_view what, double value, double above, double most);

/// A view: the object and the origin must outlive it. Every function throws bad_data for a value of the wrong kind.
/// A key of "" is one that the caller does not have: always absent.
class ConfigObject {
 public:
  /// `origin` (the file, and the place in it) leads every message.
  ConfigObject(const nlohmann::json& object, std::string_view origin);

  std::string_view origin() const { return origin_; }
  /// The value, or nullptr when the key is absent or null.
  const nlohmann::json* find(std::string_view key) const;
  /// True when the key is there, be it null.
  bool has(std::string_view key) const;

  std::size_t size(std::string_view key) const;  ///< required
  std::size_t size_or(std::string_view key, std::size_t otherwise) const;
  double number(std::string_view key) const;  ///< required
  double number_or(std::string_view key, double otherwise) const;
  std::vector<double> numbers(std::string_view key) const;  ///< a list; required
  bool flag(std::string_view key) const;                    ///< absent: false
  std::string text_or(std::string_view key, std::string_view otherwise) const;
  /// One token id or a list of them; absent: none.
  std::vector<std::int32_t> ids(std::string_view key) const;

  [[noreturn]] void wrong(std::string_view key, std::string_view expected, const nlohmann::json& found) const;

 private:
  const nlohmann::json& require(std::string_view key) const;

  const nlohmann::json& object_;
  std::string_view origin_;
};

}  // namespace adze
