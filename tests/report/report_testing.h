// What tests of pictures and pages look for.
#pragma once

#include <cstddef>
#include <regex>
#include <string>
#include <vector>

namespace adze::testing {

inline std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

/// What the pattern's first group holds, at each place where it matches.
inline std::vector<std::string> all_of(const std::string& text, const std::string& pattern) {
  const std::regex searched(pattern);
  std::vector<std::string> found;
  for (std::sregex_iterator at(text.begin(), text.end(), searched), end; at != end; ++at)
    found.push_back((*at)[1].str());
  return found;
}

/// The same as numbers.
inline std::vector<double> numbers_of(const std::string& text, const std::string& pattern) {
  std::vector<double> numbers;
  for (const std::string& found : all_of(text, pattern)) numbers.push_back(std::stod(found));
  return numbers;
}

}  // namespace adze::testing
