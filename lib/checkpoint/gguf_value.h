// Metadata values of GGUF files. The C++ type is the stored type: runtimes refuse a count stored as UINT64 where they
// expect UINT32, so nothing is converted on the way in or out. Nested arrays do not exist here.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace adze {

/// Type ids of the format.
enum class GgufValueType : std::uint32_t {
  uint8,
  int8,
  uint16,
  int16,
  uint32,
  int32,
  float32,
  boolean,
  string,
  array,
  uint64,
  int64,
  float64
};
inline constexpr std::size_t kGgufValueTypes = 13;

/// "UINT32"; `type` must be a valid id.
std::string_view name_of(GgufValueType type);

template <typename... Scalars>
using ScalarOrArray = std::variant<Scalars..., std::vector<Scalars>...>;

using GgufValue = ScalarOrArray<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t,
                                float, bool, std::string, std::uint64_t, std::int64_t, double>;

struct GgufKeyValue {
  std::string key;
  GgufValue value;
  bool operator==(const GgufKeyValue&) const = default;
};

/// The format's type of a scalar C++ type.
template <typename T>
consteval GgufValueType gguf_value_type() {
  using enum GgufValueType;
  if constexpr (std::is_same_v<T, std::uint8_t>) return uint8;
  if constexpr (std::is_same_v<T, std::int8_t>) return int8;
  if constexpr (std::is_same_v<T, std::uint16_t>) return uint16;
  if constexpr (std::is_same_v<T, std::int16_t>) return int16;
  if constexpr (std::is_same_v<T, std::uint32_t>) return uint32;
  if constexpr (std::is_same_v<T, std::int32_t>) return int32;
  if constexpr (std::is_same_v<T, float>) return float32;
  if constexpr (std::is_same_v<T, bool>) return boolean;
  if constexpr (std::is_same_v<T, std::string>) return string;
  if constexpr (std::is_same_v<T, std::uint64_t>) return uint64;
  if constexpr (std::is_same_v<T, std::int64_t>) return int64;
  if constexpr (std::is_same_v<T, double>) return float64;
}

template <typename T>
struct GgufArrayTraits : std::false_type {
  using Element = T;
};
template <typename T>
struct GgufArrayTraits<std::vector<T>> : std::true_type {
  using Element = T;
};

/// "UINT32" or "ARRAY of STRING", for messages.
std::string type_in_words(const GgufValue& value);
template <typename T>
std::string type_in_words() {
  const std::string element(name_of(gguf_value_type<typename GgufArrayTraits<T>::Element>()));
  return GgufArrayTraits<T>::value ? "ARRAY of " + element : element;
}

}  // namespace adze
