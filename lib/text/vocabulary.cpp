#include "text/vocabulary.h"

#include <algorithm>

namespace adze {

std::optional<std::size_t> first_difference(const Vocabulary& a, const Vocabulary& b) {
  const auto same_text = [](const TokenEntry& x, const TokenEntry& y) { return x.text == y.text; };
  const auto [in_a, in_b] = std::ranges::mismatch(a.tokens, b.tokens, same_text);
  if (in_a == a.tokens.end() && in_b == b.tokens.end()) return std::nullopt;
  return in_a - a.tokens.begin();
}

}  // namespace adze
