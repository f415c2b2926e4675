#include "grid/sparse/pattern.h"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"

namespace adze {
namespace {

constexpr std::string_view kInBlocks = " in blocks of ";
constexpr std::string_view kInRows = " in rows";

std::uint64_t millionths_of(double sparsity) {
  if (!(sparsity >= 0 && sparsity <= 1))
    fail(ErrorKind::bad_recipe, "sparsity {} is not between 0% and 100%", sparsity);
  return static_cast<std::uint64_t>(std::llround(sparsity * static_cast<double>(SparsityPattern::kWhole)));
}

/// The whole of `text` as a number.
template <typename T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

/// "50%", "12.5 %" as a fraction.
std::optional<double> percent(std::string_view text) {
  if (!text.ends_with('%')) return std::nullopt;
  text.remove_suffix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  const auto value = number<double>(text);
  if (!value) return std::nullopt;
  return *value / 100;
}

}  // namespace

SparsityPattern SparsityPattern::unstructured(double sparsity) {
  return {PatternKind::unstructured, millionths_of(sparsity), 0, 1};
}

SparsityPattern SparsityPattern::n_of_m(std::size_t n, std::size_t m) {
  if (m < 2 || m > kLargestM) fail(ErrorKind::bad_recipe, "sparsity {}:{}: m is 2 to {}", n, m, kLargestM);
  if (n < 1 || n >= m)
    fail(ErrorKind::bad_recipe, "sparsity {}:{} keeps {} of every {} weights; n is 1 to {}", n, m, n, m, m - 1);
  return {PatternKind::n_of_m, 0, n, m};
}

SparsityPattern SparsityPattern::blocks(double sparsity, std::size_t cols) {
  constexpr std::size_t kWidest = 65536;
  if (cols < 2 || cols > kWidest)
    fail(ErrorKind::bad_recipe, "blocks of {} columns: a block has 2 to {}", cols, kWidest);
  return {PatternKind::blocks, millionths_of(sparsity), 0, cols};
}

SparsityPattern SparsityPattern::rows(double sparsity) { return {PatternKind::rows, millionths_of(sparsity), 0, 1}; }

SparsityPattern SparsityPattern::parse(std::string_view text) {
  if (const auto colon = text.find(':'); colon != std::string_view::npos) {
    const auto n = number<std::size_t>(text.substr(0, colon));
    const auto m = number<std::size_t>(text.substr(colon + 1));
    if (n && m) return n_of_m(*n, *m);
  } else if (const auto at = text.find(kInBlocks); at != std::string_view::npos) {
    const auto part = percent(text.substr(0, at));
    const auto cols = number<std::size_t>(text.substr(at + kInBlocks.size()));
    if (part && cols) return blocks(*part, *cols);
  } else if (text.ends_with(kInRows)) {
    if (const auto part = percent(text.substr(0, text.size() - kInRows.size()))) return rows(*part);
  } else if (const auto part = percent(text)) {
    return unstructured(*part);
  }
  fail(ErrorKind::bad_recipe, "sparsity '{}' is neither a percentage such as 50% nor n:m such as 2:4 (n kept of m)",
       text);
}

std::string SparsityPattern::text() const {
  if (kind_ == PatternKind::n_of_m) return fmt::format("{}:{}", n_, m_);
  const std::string part = fmt::format("{:.6g}%", static_cast<double>(millionths_) / 1e4);
  if (kind_ == PatternKind::blocks) return fmt::format("{}{}{}", part, kInBlocks, m_);
  return kind_ == PatternKind::rows ? fmt::format("{}{}", part, kInRows) : part;
}

std::optional<std::string> SparsityPattern::cannot_hold(std::size_t cols) const {
  if (m_ <= 1 || (cols > 0 && cols % m_ == 0)) return std::nullopt;
  std::size_t nearest = m_ - 1;
  while (nearest > 1 && cols % nearest != 0) --nearest;
  const bool in_blocks = kind_ == PatternKind::blocks;
  const std::string choice = nearest < 2 ? "only unstructured sparsity does"
                             : in_blocks ? fmt::format("block: {} does", nearest)
                                         : fmt::format("m = {} does", nearest);
  return fmt::format("sparsity {}: rows of {} columns do not divide into groups of {}; {}", text(), cols, m_, choice);
}

std::uint64_t SparsityPattern::pruned_of(std::uint64_t count) const {
  return count / kWhole * millionths_ + count % kWhole * millionths_ / kWhole;
}

std::uint64_t SparsityPattern::zeros(Shape shape) const {
  const std::uint64_t count = checked_mul(shape.rows, shape.cols);
  switch (kind_) {
    case PatternKind::n_of_m:
      return count / m_ * (m_ - n_);
    case PatternKind::blocks:
      return pruned_of(count / m_) * m_;
    case PatternKind::rows:
      return pruned_of(shape.rows) * shape.cols;
    case PatternKind::unstructured:
      break;
  }
  return pruned_of(count);
}

}  // namespace adze
