// A matrix of integer codes whose leading bits are smaller matrices of their own (nested or Matryoshka quantization;
// specification: allocation, 8.2, construction B: truncated codes with a shared scale). The view in b of B bits takes
// the codes' b leading bits, u_b = u >> r with r = B - b, and the middle of what they leave open:
//
//   value = scale * (2^r u_b + (2^r - 1) / 2 - zero)
//
// With b = B that is the integer grid itself. Nothing but codes is stored for a view: scales and zero points are those
// of the largest.
//
// Payload: side data of all rows, as integer grids store them (scales, then zero points of B bits, each padded to a
// byte); then planes of bits, the leading one first, each rows x cols bits, rows padded to bytes, lowest bit first. So
// the first bytes of the payload with more planes are the payload with fewer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grid/compressed_tensor.h"
#include "grid/grid.h"
#include "grid/quantized_tensor.h"

namespace adze {

struct NestedFormat {
  std::shared_ptr<const Grid> grid;  ///< of integers, with scales of groups or rows
  int planes = 0;                    ///< leading bits that are stored: 1 to the grid's

  /// Of scales and zero points of a row.
  std::uint64_t side_bytes(std::size_t cols) const;
  /// Exact bytes. Throws bad_data for rows that the grid cannot hold.
  std::uint64_t bytes(Shape shape) const;
};

/// Nothing for grids that are not of integers, or have one scale for all of a matrix.
std::optional<NestedFormat> nested_format_of(std::shared_ptr<const Grid> grid, int planes);
/// "planes 4 of int8 g64 asym".
std::string nested_format(const NestedFormat& parts);
/// The inverse; nothing when the format is not that of nested codes. Throws bad_data for one that is malformed.
std::optional<NestedFormat> parse_nested_format(const std::string& format);

/// What the leading `bits` of a `grid_bits` code stand for, in steps of its scale from code 0 on.
constexpr float nested_level(unsigned code, int bits, int grid_bits) {
  const int rest = grid_bits - bits;
  return static_cast<float>(code >> rest << rest) + 0.5f * static_cast<float>((1u << rest) - 1);
}

class NestedTensor final : public CompressedTensor {
 public:
  /// Throws bad_data when the payload's size is not what format and shape say.
  NestedTensor(NestedFormat format, Shape shape, std::vector<std::byte> payload);
  /// The leading planes of a matrix of integers. Throws bad_data for another grid and more planes than it has.
  static NestedTensor from_integers(const QuantizedTensor& tensor, int planes);

  int planes() const { return format_.planes; }
  /// The view in fewer bits; its payload is the first bytes of this one's. Throws bad_data for more planes than there
  /// are.
  NestedTensor prefix(int planes) const;
  /// The matrix of integers again, where all planes are there; throws bad_data otherwise.
  QuantizedTensor integers() const;

  Shape shape() const override { return shape_; }
  std::uint64_t bytes() const override { return payload_.size(); }
  std::string format() const override { return nested_format(format_); }
  void decode_rows(std::size_t first, std::size_t count, std::span<float> out) const override;
  std::span<const std::byte> payload() const override { return payload_; }

 private:
  /// Codes of a row with zeros for the bits that are not stored.
  std::vector<std::uint8_t> leading_codes(std::size_t row) const;
  std::size_t plane_row_bytes() const { return (shape_.cols + 7) / 8; }

  NestedFormat format_;
  Shape shape_;
  std::vector<std::byte> payload_;
};

}  // namespace adze
