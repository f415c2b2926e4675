#include "calibrate/expert_tokens.h"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace adze {
namespace {

std::vector<std::uint32_t> all_rows(std::size_t count) {
  std::vector<std::uint32_t> rows(count);
  std::iota(rows.begin(), rows.end(), std::uint32_t{0});
  return rows;
}

/// `count` of them at even distances, or all.
std::vector<std::uint32_t> spread(const std::vector<std::uint32_t>& rows, std::size_t count) {
  if (count >= rows.size()) return rows;
  std::vector<std::uint32_t> chosen(count);
  for (std::size_t i = 0; i < count; ++i) chosen[i] = rows[i * rows.size() / count];
  return chosen;
}

}  // namespace

ExpertTokens tokens_of_expert(std::vector<std::uint32_t> routed, std::size_t rows, std::size_t inputs,
                              ExpertInputs mode) {
  if (mode == ExpertInputs::all) return {all_rows(rows), 0};
  const std::size_t least = kExpertTokensPerInput * inputs;
  if (routed.size() >= least) return {std::move(routed), 0};
  std::vector<std::uint32_t> others;
  std::ranges::set_difference(all_rows(rows), routed, std::back_inserter(others));
  const std::vector<std::uint32_t> borrowed = spread(others, least);
  ExpertTokens tokens{{}, borrowed.size()};
  std::ranges::merge(routed, borrowed, std::back_inserter(tokens.rows));
  return tokens;
}

}  // namespace adze
