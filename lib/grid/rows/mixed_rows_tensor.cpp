#include "grid/rows/mixed_rows_tensor.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "grid/quantized_tensor.h"

namespace adze {
namespace {

constexpr std::string_view kPrefix = "rows of ";
constexpr std::string_view kBytes = " bytes";
constexpr std::string_view kZero = "zero";
constexpr std::size_t kMostGrids = 255;

std::vector<std::size_t> rows_of(std::span<const std::uint8_t> grid_of, std::size_t grids) {
  std::vector<std::size_t> rows(grids);
  for (std::size_t r = 0; r < grid_of.size(); ++r) {
    if (grid_of[r] >= grids)
      fail(ErrorKind::bad_data, "row {} has grid {}, there are {} of them", r, int{grid_of[r]}, grids);
    ++rows[grid_of[r]];
  }
  return rows;
}

}  // namespace

std::uint64_t MixedRowsFormat::row_bytes(std::size_t grid, std::size_t cols) const {
  return grids[grid] ? grids[grid]->row_bytes(cols) : 0;
}

int MixedRowsFormat::index_bits() const { return static_cast<int>(std::bit_width(grids.size() - 1)); }

std::uint64_t MixedRowsFormat::bytes(Shape shape) const {
  if (const auto reason = cannot_hold(shape)) fail(ErrorKind::bad_data, "{}", *reason);
  return checked_mul(row_capacity, shape.rows);
}

std::optional<std::string> MixedRowsFormat::cannot_hold(Shape shape) const {
  std::uint64_t least = UINT64_MAX;
  for (std::size_t g = 0; g < grids.size(); ++g) {
    if (grids[g])
      if (auto reason = grids[g]->cannot_hold(shape.cols)) return reason;
    least = std::min(least, row_bytes(g, shape.cols));
  }
  const std::uint64_t needed = checked_add(checked_mul(shape.rows, least), index_bytes(shape.rows));
  if (needed <= checked_mul(row_capacity, shape.rows)) return std::nullopt;
  return fmt::format("{} bytes a row of {} columns are too few: the smallest takes {}, and which it is {} bits more",
                     row_capacity, shape.cols, least, index_bits());
}

std::string mixed_rows_format(const MixedRowsFormat& parts) {
  std::string text = fmt::format("{}{}{}", kPrefix, parts.row_capacity, kBytes);
  for (const auto& grid : parts.grids) text += fmt::format(" [{}]", grid ? grid->name() : std::string(kZero));
  return text;
}

std::optional<MixedRowsFormat> parse_mixed_rows_format(const std::string& format) {
  if (!format.starts_with(kPrefix)) return std::nullopt;
  const auto malformed = [&] { fail(ErrorKind::bad_data, "unknown format '{}'", format); };
  std::string_view rest = std::string_view(format).substr(kPrefix.size());
  MixedRowsFormat parts;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), parts.row_capacity);
  if (error != std::errc()) malformed();
  rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  if (!rest.starts_with(kBytes)) malformed();
  rest.remove_prefix(kBytes.size());
  while (!rest.empty()) {
    const std::size_t close = rest.find(']');
    if (!rest.starts_with(" [") || close == std::string_view::npos || parts.grids.size() == kMostGrids) malformed();
    const std::string_view name = rest.substr(2, close - 2);
    parts.grids.push_back(name == kZero ? nullptr : grid_from_name(std::string(name)));
    if (parts.grids.back() && parts.grids.back()->one_side_per_tensor())
      fail(ErrorKind::bad_data, "format '{}': rows cannot share the scale of {}", format, name);
    rest.remove_prefix(close + 1);
  }
  if (parts.grids.empty()) malformed();
  return parts;
}

MixedRowsTensor::MixedRowsTensor(MixedRowsFormat format, std::size_t cols, std::vector<std::uint8_t> grid_of,
                                 std::vector<Part> parts)
    : format_(std::move(format)), cols_(cols), grid_of_(std::move(grid_of)), parts_(std::move(parts)) {
  const std::size_t grids = format_.grids.size();
  const std::vector<std::size_t> rows = rows_of(grid_of_, grids);
  if (parts_.size() != grids) fail(ErrorKind::bad_data, "{} parts of {} grids", parts_.size(), grids);
  const std::uint64_t capacity = format_.bytes(shape());
  payload_.resize(format_.index_bytes(grid_of_.size()));
  BitWriter indices(payload_, format_.index_bits());
  for (const std::uint8_t grid : grid_of_) indices.put(grid);
  for (std::size_t g = 0; g < grids; ++g) {
    if (!format_.grids[g] || rows[g] == 0) continue;
    if (!parts_[g] || parts_[g]->shape() != Shape{rows[g], cols} || parts_[g]->format() != format_.grids[g]->name())
      fail(ErrorKind::bad_data, "rows of {} are not those of its grid", format_.grids[g]->name());
    payload_.insert(payload_.end(), parts_[g]->payload().begin(), parts_[g]->payload().end());
  }
  if (payload_.size() > capacity)
    fail(ErrorKind::bad_data, "mixed rows take {} bytes of {}", payload_.size(), capacity);
  payload_.resize(capacity);
  std::vector<std::size_t> seen(grids);
  for (const std::uint8_t grid : grid_of_) place_.push_back(seen[grid]++);
}

std::shared_ptr<const MixedRowsTensor> MixedRowsTensor::from_payload(MixedRowsFormat format, Shape shape,
                                                                     std::vector<std::byte> payload) {
  if (payload.size() != format.bytes(shape))
    fail(ErrorKind::bad_data, "mixed rows of {} bytes in {}", format.bytes(shape), payload.size());
  std::vector<std::uint8_t> grid_of(shape.rows);
  BitReader indices(payload, format.index_bits());
  for (std::uint8_t& grid : grid_of) grid = static_cast<std::uint8_t>(indices.get());
  const std::vector<std::size_t> rows = rows_of(grid_of, format.grids.size());
  std::vector<Part> parts(format.grids.size());
  auto at = payload.begin() + static_cast<std::ptrdiff_t>(format.index_bytes(shape.rows));
  for (std::size_t g = 0; g < parts.size(); ++g) {
    if (!format.grids[g] || rows[g] == 0) continue;
    const std::uint64_t bytes = format.grids[g]->bytes({rows[g], shape.cols});
    if (bytes > static_cast<std::uint64_t>(payload.end() - at))
      fail(ErrorKind::bad_data, "rows of {} take {} bytes, there are {}", format.grids[g]->name(), bytes,
           payload.end() - at);
    const auto end = at + static_cast<std::ptrdiff_t>(bytes);
    parts[g] =
        std::make_shared<QuantizedTensor>(format.grids[g], Shape{rows[g], shape.cols}, std::vector<std::byte>(at, end));
    at = end;
  }
  if (std::any_of(at, payload.end(), [](std::byte b) { return b != std::byte{0}; }))
    fail(ErrorKind::bad_data, "bytes that are not zero after the last row");
  return std::make_shared<MixedRowsTensor>(std::move(format), shape.cols, std::move(grid_of), std::move(parts));
}

void MixedRowsTensor::decode_rows(std::size_t first, std::size_t count, std::span<float> out) const {
  for (std::size_t r = 0; r < count; ++r) {
    const std::size_t row = first + r;
    const std::span<float> values = out.subspan(r * cols_, cols_);
    if (const Part& part = parts_[grid_of_[row]])
      part->decode_rows(place_[row], 1, values);
    else
      std::ranges::fill(values, 0.0f);
  }
}

}  // namespace adze
