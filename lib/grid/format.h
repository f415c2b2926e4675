// Names of stored tensors and the way back from them. A format says all that is needed to read a payload of a known
// shape, and how many bytes that takes:
//
//   f16                               a dtype
//   gguf/q4_k, int4 g128 sym          codes and scales of a grid
//   int4 g128 sym, 2:4                the same with a mask;  planes 4 of int8 g64 asym   the leading bits of codes
//   rank 96 [f16] [f16]               a product of two matrices, rows x 96 and 96 x columns, each in a format
//   rank 96 [f16] [pivoted f16]       the second one with 96 columns that are those of the identity
//   rank 96 [f16] [shared MODULE [f16]]   the second one is that of a module of another block, and takes no bytes here
//   train 16x16 by 16x48 bonds 64 [f16]   a tensor train of cores in a format
//   int4 g128 sym + rank 32 [f16] [f16]   a sum
//   rows of 96 bytes [zero] [int2 g128 sym] [int4 g128 sym]   rows with one of these grids each
//   signs per row                         signs times a scale of each row, or per matrix
//   dropped 90% seed 7 keeps 1234 of NAME   what a random mask keeps
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/byte_array.h"
#include "grid/compressed_tensor.h"
#include "grid/factors/shared_tensor.h"

namespace adze {

/// find: asked for what another module stores. Throws bad_data for an unknown format, a payload of the wrong size, and
/// where something is shared and nobody can be asked.
std::shared_ptr<const CompressedTensor> tensor_from_payload(const std::string& format, Shape shape, ByteArray payload,
                                                            const FindShared& find = nullptr);

/// Exact bytes of a matrix in the named format. Throws bad_data.
std::uint64_t format_bytes(const std::string& format, Shape shape);

/// Multiplications of a product with one vector, as CompressedTensor::multiplications(). Throws bad_data.
std::uint64_t format_multiplications(const std::string& format, Shape shape);

/// True for products, trains, sums, mixed rows, nested codes, signs and dropped values, which only densify by being
/// decoded and rounded.
bool is_composed(const std::string& format);

/// The format of densified(): "int4 g128 sym, 2:4" becomes "int4 g128 sym", what is_composed() becomes f16, or bf16
/// where a part is bf16; other formats stay.
std::string dense_format(const std::string& format);

/// The tensor itself; the same values without a mask of one that is sparse; of products and sums, their values rounded
/// to f16 or bf16. Throws bad_data when a value does not fit f16.
std::shared_ptr<const CompressedTensor> densified(const std::shared_ptr<const CompressedTensor>& tensor);

}  // namespace adze
