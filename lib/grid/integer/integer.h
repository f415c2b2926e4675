// Integer grids of 2, 3, 4, 5, 6 or 8 bits with one scale per group of columns, per row (channel) or per tensor.
//
// Symmetric: value = s * q, q in -2^(b-1) .. 2^(b-1) - 1, s > 0; min-max sets s = max|w| / (2^(b-1) - 1) (SYM-2C of the
// specification, section 1.1). Asymmetric: value = s * (q - z), q and z in 0 .. 2^b - 1, the range always holds zero
// (ASYM). Stored row: scales (f16, bf16 or f32) of all units, then zero points (b bits each), then codes (b bits each),
// every part padded to a byte; codes and zero points are packed least significant bit first.
#pragma once

#include "base/dtype.h"
#include "grid/grid.h"

namespace adze {

enum class ScaleScope { group, channel, tensor };

struct IntegerGridSpec {
  int bits = 4;
  bool symmetric = true;
  ScaleScope scope = ScaleScope::group;
  std::size_t group = 128;  ///< columns per scale, for ScaleScope::group
  DType scale_dtype = DType::f16;
};

/// What an integer grid is made of; nullptr for other grids.
const IntegerGridSpec* integer_spec_of(const Grid& grid);

/// Throws bad_recipe for bits, groups or scale types that do not exist.
std::shared_ptr<const Grid> make_integer_grid(const IntegerGridSpec& spec);

}  // namespace adze
