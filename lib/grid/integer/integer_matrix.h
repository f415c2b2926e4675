// A matrix on an integer grid taken apart: what formats of runtimes are made of, and what is read from them. Codes stay
// packed, since most formats have the same stream of bits for a row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/matrix.h"
#include "grid/bits.h"
#include "grid/integer/integer.h"
#include "grid/quantized_tensor.h"

namespace adze {

/// Rows of packed codes, wherever they lie: cols() are bytes.
using CodeRows = MatrixView<const std::byte>;

/// value = scale * (code - zero); codes and zeros from 0 to 2^bits - 1.
struct IntegerMatrix {
  IntegerGridSpec spec;  ///< scope group or channel
  Shape shape;
  std::vector<std::byte> codes;     ///< [rows x code_bytes()], code i of a row in bits [i b, i b + b) of its stream
  std::vector<std::byte> scales;    ///< [rows x groups] of spec.scale_dtype
  std::vector<std::uint8_t> zeros;  ///< [rows x groups]; 2^(bits - 1) where the grid is symmetric

  std::size_t group_cols() const { return spec.scope == ScaleScope::group ? spec.group : shape.cols; }
  std::size_t groups() const { return shape.cols / group_cols(); }
  /// Of one row, the last one padded with zero bits.
  std::size_t code_bytes() const { return static_cast<std::size_t>(packed_bytes(shape.cols, spec.bits)); }
  CodeRows code_rows() const { return {codes.data(), {shape.rows, code_bytes()}}; }
  std::span<const std::byte> code_row(std::size_t row) const { return code_rows().row(row); }
  std::vector<std::uint8_t> unpacked_row(std::size_t row) const;
  void pack_row(std::size_t row, std::span<const std::uint8_t> unpacked);
};

/// Throws bad_data for a tensor on another grid, or with one scale for all of it.
IntegerMatrix unpack_integers(const QuantizedTensor& tensor);
/// The same without codes, which are most of it, and which stored_codes() has without a copy.
IntegerMatrix unpack_sides(const QuantizedTensor& tensor);
/// Codes where they are stored. Throws as unpack_integers().
CodeRows stored_codes(const QuantizedTensor& tensor);

/// The inverse. Throws bad_data where sizes disagree, a zero point is too large, a row's padding is not zero, or a
/// symmetric matrix has another zero point.
std::shared_ptr<const QuantizedTensor> pack_integers(const IntegerMatrix& matrix);
/// The same where codes are yet to come, which are then stored without a copy: fill() writes every byte of these rows.
using FillCodes = std::function<void(MatrixView<std::byte> rows)>;
std::shared_ptr<const QuantizedTensor> pack_integers(const IntegerMatrix& sides, const FillCodes& fill);

/// Scales as numbers, [rows x groups].
std::vector<float> scales_of(const IntegerMatrix& matrix);

}  // namespace adze
