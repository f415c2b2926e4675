#include "grid/sparse/mask.h"

#include <fmt/format.h>

namespace adze {
namespace {

std::size_t kept_among(const Mask& mask, std::size_t row, std::size_t first, std::size_t cols) {
  std::size_t kept = 0;
  for (std::size_t c = first; c < first + cols; ++c) kept += mask.kept(row, c) ? 1 : 0;
  return kept;
}

/// Of every `cols` columns of a row from the first on, how many are kept must satisfy `fits`.
template <typename Fits>
std::optional<std::string> group_problem(const Mask& mask, std::size_t cols, Fits&& fits) {
  for (std::size_t r = 0; r < mask.shape().rows; ++r)
    for (std::size_t c = 0; c < mask.shape().cols; c += cols)
      if (const std::size_t kept = kept_among(mask, r, c, cols); !fits(kept))
        return fmt::format("row {}, columns {} to {}: {} of {} are kept", r, c, c + cols - 1, kept, cols);
  return std::nullopt;
}

}  // namespace

Mask mask_of(ConstViewF weights) {
  Mask mask(weights.shape());
  for (std::size_t r = 0; r < weights.rows(); ++r)
    for (std::size_t c = 0; c < weights.cols(); ++c)
      if (weights(r, c) == 0) mask.prune(r, c);
  return mask;
}

std::optional<std::string> pattern_problem(const Mask& mask, const SparsityPattern& pattern) {
  const Shape shape = mask.shape();
  if (auto reason = pattern.cannot_hold(shape.cols)) return reason;
  if (const std::uint64_t zeros = mask.zeros(); zeros != pattern.zeros(shape))
    return fmt::format("{} zeros, the pattern {} has {}", zeros, pattern.text(), pattern.zeros(shape));
  const auto whole = [](std::size_t cols) { return [cols](std::size_t kept) { return kept == 0 || kept == cols; }; };
  switch (pattern.kind()) {
    case PatternKind::n_of_m:
      return group_problem(mask, pattern.m(), [&](std::size_t kept) { return kept == pattern.n(); });
    case PatternKind::blocks:
      return group_problem(mask, pattern.block_cols(), whole(pattern.block_cols()));
    case PatternKind::rows:
      return shape.cols == 0 ? std::nullopt : group_problem(mask, shape.cols, whole(shape.cols));
    case PatternKind::unstructured:
      break;
  }
  return std::nullopt;
}

}  // namespace adze
