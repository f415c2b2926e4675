// Which GGUF type holds a tensor exactly, and the bytes of its rows in that type.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "checkpoint/gguf_types.h"
#include "export/exporter.h"
#include "grid/grid.h"

namespace adze {

struct GgufStorage {
  const GgufType* type = nullptr;      ///< nullptr: there is none
  std::string reason;                  ///< why there is none, and what would do
  std::shared_ptr<const Grid> repack;  ///< grid of the blocks, when the tensor's own bytes are laid out otherwise
  /// NVFP4: what values are multiplied by, a tensor beside it (gguf.md 5.17); the bytes are laid out otherwise.
  std::optional<float> scale;
  bool widens = false;  ///< floats of 16 bits are stored as F32
};

/// Vectors: F32, and routers, whose products runtimes would otherwise round, and positions. Float matrices: their
/// dtype. gguf/...: their own type. Symmetric integer grids with f16 scales for whole blocks of 32 columns: Q4_0 up to
/// 4 bits, Q8_0 above. nvfp4 in linears: NVFP4.
GgufStorage gguf_storage(const PlannedTensor& tensor);

/// Writes rows rows[0], rows[1], ... of a matrix that gguf_storage() gave `storage` for. In parallel.
/// out: rows.size() * gguf_row_bytes.
void encode_gguf_rows(const GgufStorage& storage, const CompressedTensor& matrix, std::span<const std::size_t> rows,
                      std::span<std::byte> out);

/// Bytes of one row of `cols` values.
std::size_t gguf_row_bytes(const GgufType& type, std::size_t cols);

}  // namespace adze
