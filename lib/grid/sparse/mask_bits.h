// How masks are stored (grid/sparse/sparse_tensor.h says where). Internal to the sparse tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "grid/sparse/mask.h"

namespace adze {

/// Exact bytes of the mask of a matrix of that shape.
std::uint64_t mask_bytes(const SparsityPattern& pattern, Shape shape);
/// out: mask_bytes(). The mask must have the pattern.
void write_mask(const Mask& mask, const SparsityPattern& pattern, std::span<std::byte> out);
/// The inverse; throws bad_data when the bytes are no mask of that pattern.
Mask read_mask(std::span<const std::byte> in, const SparsityPattern& pattern, Shape shape);

}  // namespace adze
