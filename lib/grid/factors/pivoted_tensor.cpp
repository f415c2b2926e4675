#include "grid/factors/pivoted_tensor.h"

#include <algorithm>
#include <bit>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"
#include "grid/bits.h"
#include "grid/format.h"

namespace adze {
namespace {

constexpr std::string_view kPrefix = "pivoted ";

/// Bits of a column's number.
int index_bits(std::size_t cols) { return std::max(1, static_cast<int>(std::bit_width(cols - 1))); }

/// The columns that are no pivots. Throws bad_data when a pivot is no column, or comes twice.
std::vector<std::size_t> other_columns(const std::vector<std::size_t>& pivots, std::size_t cols) {
  std::vector<bool> is_pivot(cols);
  for (const std::size_t pivot : pivots) {
    if (pivot >= cols || is_pivot[pivot])
      fail(ErrorKind::bad_data, "column {} of {} is a pivot twice, or no column", pivot, cols);
    is_pivot[pivot] = true;
  }
  std::vector<std::size_t> others;
  for (std::size_t c = 0; c < cols; ++c)
    if (!is_pivot[c]) others.push_back(c);
  return others;
}

}  // namespace

PivotedTensor::PivotedTensor(std::vector<std::size_t> pivots, Part rest)
    : pivots_(std::move(pivots)), rest_(std::move(rest)) {
  if (rest_->shape().rows != pivots_.size())
    fail(ErrorKind::bad_data, "{} pivots for {} rows", pivots_.size(), rest_->shape().rows);
  others_ = other_columns(pivots_, shape().cols);
  payload_.resize(pivot_list_bytes(shape()));
  BitWriter writer(payload_, index_bits(shape().cols));
  for (const std::size_t pivot : pivots_) writer.put(static_cast<unsigned>(pivot));
  payload_.insert(payload_.end(), rest_->payload().begin(), rest_->payload().end());
}

std::shared_ptr<const PivotedTensor> PivotedTensor::from_payload(const std::string& rest_format, Shape shape,
                                                                 std::vector<std::byte> payload) {
  const std::uint64_t head = pivot_list_bytes(shape);
  if (payload.size() < head)
    fail(ErrorKind::bad_data, "{} pivots take {} bytes, there are {}", shape.rows, head, payload.size());
  std::vector<std::size_t> pivots;
  const std::span<const std::byte> list = std::span<const std::byte>(payload).first(head);
  BitReader reader(list, index_bits(shape.cols));
  for (std::size_t i = 0; i < shape.rows; ++i) pivots.push_back(reader.get());
  payload.erase(payload.begin(), payload.begin() + static_cast<std::ptrdiff_t>(head));
  Part rest = tensor_from_payload(rest_format, {shape.rows, shape.cols - shape.rows}, std::move(payload));
  return std::make_shared<PivotedTensor>(std::move(pivots), std::move(rest));
}

std::string PivotedTensor::format() const { return pivoted_format(rest_->format()); }

void PivotedTensor::decode_rows(std::size_t first, std::size_t count, std::span<float> out) const {
  const std::size_t cols = shape().cols;
  assert(first + count <= pivots_.size() && out.size() == count * cols);
  std::vector<float> rest(count * others_.size());
  rest_->decode_rows(first, count, rest);
  std::ranges::fill(out, 0.0f);
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t i = 0; i < others_.size(); ++i) out[r * cols + others_[i]] = rest[r * others_.size() + i];
    out[r * cols + pivots_[first + r]] = 1.0f;
  }
}

std::string pivoted_format(const std::string& rest) { return fmt::format("{}{}", kPrefix, rest); }

std::optional<std::string> parse_pivoted_format(const std::string& format) {
  if (!format.starts_with(kPrefix)) return std::nullopt;
  return format.substr(kPrefix.size());
}

std::uint64_t pivot_list_bytes(Shape shape) {
  if (shape.rows > shape.cols) fail(ErrorKind::bad_data, "{} pivots among {} columns", shape.rows, shape.cols);
  return packed_bytes(shape.rows, index_bits(shape.cols));
}

}  // namespace adze
