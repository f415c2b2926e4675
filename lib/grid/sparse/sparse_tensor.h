// A pruned matrix as stored: the mask, and the codes of the weights that were kept, in the grid's own values (floats
// are a grid too, grid/float_grid.h).
//
// Payload: mask, then scales, then codes, with nothing between them.
//   mask, by pattern   unstructured: a bit a weight, rows padded to bytes; or, where that is smaller, kept weights of
//                      each row (u32), then their columns (u16). n:m: the rank of each group's subset, in
//                      ceil(log2(m choose n)) bits, rows padded to bytes. blocks: a bit a block, rows padded. rows: a
//                      bit a row
//   scales             side data of the tensor, or of each unit, row by row; units that no kept weight can lie in are
//                      left out (of pruned rows, and of pruned blocks where these hold whole units)
//   codes              of kept weights, row by row, code_bits each without padding: code less the least code
// Bits and integers are least significant first. Every size follows from format and shape.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grid/compressed_tensor.h"
#include "grid/grid.h"
#include "grid/sparse/mask.h"
#include "grid/sparse/pattern.h"

namespace adze {

class SparseTensor final : public CompressedTensor {
 public:
  /// Throws bad_data unless the payload has the size that grid, pattern and shape say and a mask of that pattern.
  SparseTensor(std::shared_ptr<const Grid> grid, const SparsityPattern& pattern, Shape shape,
               std::vector<std::byte> payload);

  Shape shape() const override { return mask_.shape(); }
  std::uint64_t bytes() const override { return payload_.size(); }
  std::string format() const override;
  void decode_rows(std::size_t first, std::size_t count, std::span<float> out) const override;
  std::uint64_t multiplications() const override { return mask_.shape().count() - mask_.zeros(); }
  std::span<const std::byte> payload() const override { return payload_; }

  const Grid& grid() const { return *grid_; }
  const Mask& mask() const { return mask_; }
  /// The same values stored without a mask: codes of zero where weights were pruned. What runtimes load that know no
  /// sparsity.
  std::shared_ptr<const CompressedTensor> dense() const;

 private:
  /// Codes of a row's kept weights (the others are left as they are), its step groups and its units' side data.
  void unpack(std::size_t row, std::span<std::int16_t> codes, std::span<StepGroup> groups,
              std::span<std::byte> side) const;

  std::shared_ptr<const Grid> grid_;
  SparsityPattern pattern_;
  Mask mask_;
  std::vector<std::byte> payload_;
  std::vector<std::size_t> kept_before_;   ///< per row, kept weights of the rows before
  std::vector<std::size_t> units_before_;  ///< likewise stored units
};

/// "int4 g128 sym, 2:4".
std::string sparse_format(const Grid& grid, const SparsityPattern& pattern);
/// Exact bytes. Throws bad_data when the matrix cannot have the grid or the pattern.
std::uint64_t sparse_bytes(const Grid& grid, const SparsityPattern& pattern, Shape shape);
/// The inverse of sparse_format, nothing when `format` names no pattern. Throws bad_data for a name that does not fit.
struct SparseFormat {
  std::shared_ptr<const Grid> grid;
  SparsityPattern pattern;
};
std::optional<SparseFormat> parse_sparse_format(const std::string& format);
/// Codes [out x in] and side data as an Encoding has them, with the mask, into a stored tensor. The mask must have the
/// pattern (internal otherwise).
std::shared_ptr<const CompressedTensor> pack_sparse(std::shared_ptr<const Grid> grid, const SparsityPattern& pattern,
                                                    const Mask& mask, std::span<const std::int16_t> codes,
                                                    std::span<const std::byte> side);

}  // namespace adze
