// Matrices on integer grids in the two layouts that ONNX runtimes know: blocks of MatMulNBits (com.microsoft), and
// tensors for DequantizeLinear with scales along an axis. Values are the grid's own; nothing is rounded.
//
// Codes of widths that a layout lacks go into the next one that it has. Scales become float32, which holds every one.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "base/byte_array.h"
#include "grid/integer/integer_matrix.h"

namespace adze {

/// MatMulNBits: B [out, blocks, block * bits / 8], codes from the least significant bit on; scales [out, blocks];
/// zero points packed like B, each row padded to a byte, left out where they are 2^(bits - 1).
struct BlockLayout {
  int bits = 4;            ///< 2, 4 or 8
  std::size_t block = 32;  ///< columns: a power of two from 16 to 256
  std::size_t blocks = 0;  ///< of a row, the last one perhaps not full

  std::size_t row_bytes() const { return blocks * block * static_cast<std::size_t>(bits) / 8; }
  std::size_t zero_bytes() const { return (blocks * static_cast<std::size_t>(bits) + 7) / 8; }
};
/// The largest block that divides the columns of a scale, which is repeated for each. Nothing where none does.
std::optional<BlockLayout> block_layout(const IntegerGridSpec& spec, std::size_t cols);

struct IntegerParts {
  ByteArray codes;
  std::vector<float> scales;
  ByteArray zeros;  ///< empty where the grid is symmetric
};
/// sides: a matrix; its codes are not looked at. codes: where they are stored.
IntegerParts block_parts(const IntegerMatrix& sides, CodeRows codes, const BlockLayout& layout);

/// DequantizeLinear: codes [in, out], int4 or int8 where the grid is symmetric, else uint4 or uint8; scales and zero
/// points [groups, out]. Four bits are packed over the whole tensor, the first code in the low half.
int dequantize_bits(const IntegerGridSpec& spec);
IntegerParts dequantize_parts(const IntegerMatrix& matrix);

}  // namespace adze
