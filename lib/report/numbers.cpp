#include "report/numbers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

namespace adze {
namespace {

constexpr int kMostDecimals = 8;

std::string superscript(int number) {
  constexpr std::array<std::string_view, 10> kDigits{"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string out = number < 0 ? "⁻" : "";
  for (const char digit : std::to_string(std::abs(number))) out += kDigits[static_cast<std::size_t>(digit - '0')];
  return out;
}

}  // namespace

std::string data_number(double value) { return std::isfinite(value) ? fmt::format("{:.6g}", value) : ""; }

std::string short_number(double value) { return std::isfinite(value) ? fmt::format("{:.4g}", value) : "–"; }

std::string axis_number(double value) {
  constexpr double kLeastPlain = 1e-3, kMostPlain = 1e6;
  const double size = std::abs(value);
  if (size == 0) return "0";
  if (size >= kLeastPlain * 0.999 && size < kMostPlain * 0.999) return fmt::format("{:.6g}", value);
  const std::string text = fmt::format("{:.3e}", value);  // "-2.500e-05"
  const std::size_t e = text.find('e');
  const std::string factor = fmt::format("{:g}", std::stod(text.substr(0, e)));
  const std::string power = "10" + superscript(std::stoi(text.substr(e + 1)));
  if (factor == "1") return power;
  return factor == "-1" ? "-" + power : factor + "×" + power;
}

std::string number_with_error(double value, std::optional<double> error) {
  if (!error) return fmt::format("{:.4g}", value);
  if (!(*error > 0)) return fmt::format("{:.4g}±0", value);
  const int decimals = std::clamp(1 - static_cast<int>(std::floor(std::log10(*error))), 0, kMostDecimals);
  return fmt::format("{:.{}f}±{:.{}f}", value, decimals, *error, decimals);
}

}  // namespace adze
