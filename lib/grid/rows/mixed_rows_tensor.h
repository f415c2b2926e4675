// A matrix whose rows (output channels) each have one of several grids, or none: then the row is zero. What a matrix
// takes is a capacity that its format says, so that bytes are known before anybody has chosen (QVLA's channel-wise
// bits; specification: allocation, 4.4).
//
// Payload: for each row the index of its grid in the format's list, in as many bits as the largest index has, least
// significant first, padded to bytes; then for each grid its rows in order, as a QuantizedTensor of them alone; then
// zeros up to the capacity.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grid/bits.h"
#include "grid/compressed_tensor.h"
#include "grid/grid.h"

namespace adze {

struct MixedRowsFormat {
  std::uint64_t row_capacity = 0;                  ///< bytes; the matrix takes this times its rows
  std::vector<std::shared_ptr<const Grid>> grids;  ///< at most 255; null: rows of zeros

  /// Bytes of a row of that grid, without its index.
  std::uint64_t row_bytes(std::size_t grid, std::size_t cols) const;
  int index_bits() const;
  std::uint64_t index_bytes(std::size_t rows) const { return packed_bytes(rows, index_bits()); }
  /// Exact bytes. Throws bad_data when rows of the smallest grid take more than the capacity.
  std::uint64_t bytes(Shape shape) const;
  /// Nothing when a matrix can be stored, else the reason and the nearest choice that fits.
  std::optional<std::string> cannot_hold(Shape shape) const;
};

/// "rows of 96 bytes [zero] [int2 g128 asym] [int3 g128 asym]".
std::string mixed_rows_format(const MixedRowsFormat& parts);
/// The inverse; nothing when the format is not that of mixed rows. Throws bad_data for one that is malformed.
std::optional<MixedRowsFormat> parse_mixed_rows_format(const std::string& format);

class MixedRowsTensor final : public CompressedTensor {
 public:
  using Part = std::shared_ptr<const CompressedTensor>;

  /// grid_of: of each row, an index into the format's grids; parts: of each grid its rows in order, null where it has
  /// none or is zero. Throws bad_data when shapes disagree or the rows take more than the capacity.
  MixedRowsTensor(MixedRowsFormat format, std::size_t cols, std::vector<std::uint8_t> grid_of, std::vector<Part> parts);
  /// From stored bytes; throws bad_data for bytes of the wrong size, unknown grids and what lies beyond the rows.
  static std::shared_ptr<const MixedRowsTensor> from_payload(MixedRowsFormat format, Shape shape,
                                                             std::vector<std::byte> payload);

  std::span<const std::uint8_t> grid_of() const { return grid_of_; }

  Shape shape() const override { return {grid_of_.size(), cols_}; }
  std::uint64_t bytes() const override { return payload_.size(); }
  std::string format() const override { return mixed_rows_format(format_); }
  void decode_rows(std::size_t first, std::size_t count, std::span<float> out) const override;
  std::span<const std::byte> payload() const override { return payload_; }

 private:
  MixedRowsFormat format_;
  std::size_t cols_;
  std::vector<std::uint8_t> grid_of_;
  std::vector<std::size_t> place_;  ///< of each row among those of its grid
  std::vector<Part> parts_;
  std::vector<std::byte> payload_;
};

}  // namespace adze
