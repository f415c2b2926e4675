// Numbers as reports write them: in one place, so that tables, axes and pictures agree.
#pragma once

#include <optional>
#include <string>

namespace adze {

/// Six significant digits, for the data behind a picture: "0.00123457". "" for what is no number.
std::string data_number(double value);
/// Four significant digits, for people: "0.001235"; "–" for what is no number.
std::string short_number(double value);
/// For the marks of an axis: "0.001", "1500", "2×10⁻⁵".
std::string axis_number(double value);
/// As many decimals as show two digits of the error: "0.00456±0.00013", "12.50±0.25". Without an error four digits.
std::string number_with_error(double value, std::optional<double> error);

}  // namespace adze
