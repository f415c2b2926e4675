// What a YAML scalar is: the core schema of YAML 1.2 for null, true/false, whole numbers and reals, plus the quantities
// that recipes need (percentages, byte counts), which carry their unit or are refused.
//
// Not the looser YAML 1.1: `yes`, `on`, `1_000` and `1:30` are texts here, and 010 is ten.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "recipe/document.h"

namespace adze {

enum class ScalarType : std::uint8_t { text, boolean, integer, real };

/// What a scalar node says it is; quoted means text.
ScalarType scalar_type(const Node& scalar);

/// true, True, TRUE, false, False, FALSE.
std::optional<bool> parse_core_boolean(std::string_view text);

struct WholeNumber {
  std::uint64_t magnitude = 0;
  bool negative = false;
  bool overflow = false;  ///< the magnitude does not fit 64 bits
};
/// [-+]?[0-9]+, 0x[0-9a-fA-F]+ or 0o[0-7]+.
std::optional<WholeNumber> parse_core_integer(std::string_view text);

/// [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?; .inf and .nan are texts: no recipe needs them.
std::optional<double> parse_core_real(std::string_view text);

/// "50%", "12.5 %" as a fraction. Nothing without the sign.
std::optional<double> parse_percent(std::string_view text);

/// "4 GiB"; nothing without a unit or without a number in front of it.
std::optional<std::uint64_t> parse_sized_bytes(std::string_view text);

/// For messages: "the text 'abc'", "the number 12", "true", "nothing", "a list", "a map".
std::string describe(const Node& node);

}  // namespace adze
