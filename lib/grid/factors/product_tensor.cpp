#include "grid/factors/product_tensor.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"
#include "grid/factors/payload.h"
#include "linalg/gemm.h"

namespace adze {
namespace {

constexpr std::size_t kTileRows = 64;  // of decoded rows: products have a shape of the problem
constexpr std::string_view kPrefix = "rank ";

/// Takes "[...]" off the front of `text`, brackets inside counted; nothing when there is none.
std::optional<std::string> take_bracketed(std::string_view& text) {
  if (!text.starts_with(" [")) return std::nullopt;
  std::size_t depth = 0;
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '[') ++depth;
    if (text[i] != ']' || --depth > 0) continue;
    std::string inside(text.substr(2, i - 2));
    text.remove_prefix(i + 1);
    return inside;
  }
  return std::nullopt;
}

}  // namespace

ProductTensor::ProductTensor(Part left, Part right) : left_(std::move(left)), right_(std::move(right)) {
  if (left_->shape().cols != right_->shape().rows)
    fail(ErrorKind::bad_data, "a product of {} x {} and {} x {} weights", left_->shape().rows, left_->shape().cols,
         right_->shape().rows, right_->shape().cols);
  payload_ = joined_payload(*left_, *right_);
}

std::string ProductTensor::format() const { return product_format({rank(), left_->format(), right_->format()}); }

void ProductTensor::decode_rows(std::size_t first, std::size_t count, std::span<float> out) const {
  const Shape whole = shape();
  assert(first + count <= whole.rows && out.size() == count * whole.cols);
  if (count == 0) return;
  const MatrixF right = right_->decode();
  MatrixF left(kTileRows, rank());
  MatrixF tile(kTileRows, whole.cols);
  for (std::size_t at = first / kTileRows * kTileRows; at < first + count; at += kTileRows) {
    const std::size_t rows = std::min(kTileRows, whole.rows - at);
    left_->decode_rows(at, rows, left.values().first(rows * rank()));  // the last tile keeps rows of the one before it
    multiply_nn(left, right, tile);
    const std::size_t begin = std::max(at, first);
    const std::size_t end = std::min(at + rows, first + count);
    for (std::size_t r = begin; r < end; ++r)
      std::ranges::copy(tile.row(r - at), out.subspan((r - first) * whole.cols, whole.cols).begin());
  }
}

Shape ProductFormat::left_shape(Shape whole) const {
  if (rank > std::max(whole.rows, whole.cols))
    fail(ErrorKind::bad_data, "rank {} of {} x {} weights", rank, whole.rows, whole.cols);
  return {whole.rows, rank};
}

Shape ProductFormat::right_shape(Shape whole) const { return {left_shape(whole).cols, whole.cols}; }

std::string product_format(const ProductFormat& parts) {
  return fmt::format("{}{} [{}] [{}]", kPrefix, parts.rank, parts.left, parts.right);
}

std::optional<ProductFormat> parse_product_format(const std::string& format) {
  if (!format.starts_with(kPrefix)) return std::nullopt;
  std::string_view rest = std::string_view(format).substr(kPrefix.size());
  ProductFormat parsed;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), parsed.rank);
  if (error == std::errc{} && parsed.rank > 0) {
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    auto left = take_bracketed(rest);
    auto right = take_bracketed(rest);
    if (left && right && rest.empty()) {
      parsed.left = std::move(*left);
      parsed.right = std::move(*right);
      if (product_format(parsed) == format) return parsed;
    }
  }
  fail(ErrorKind::bad_data, "unknown format '{}'", format);
}

}  // namespace adze
