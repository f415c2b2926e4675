// The tensor types of GGUF files, in one table: id, name, elements and bytes per block. How blocks are encoded is
// grid's business. Unknown ids are refused, never guessed: forks use the same numbers for other layouts.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/dtype.h"

namespace adze {

struct GgufType {
  std::uint32_t id = 0;
  std::string_view name;  ///< "Q4_K"
  std::uint32_t block_elements = 1;
  std::uint32_t block_bytes = 0;
  std::optional<DType> dtype = {};  ///< for plain element types
  bool in_files = true;             ///< false for types that exist in memory only

  double bits_per_weight() const { return 8.0 * block_bytes / block_elements; }
};

/// All known types, by id.
std::span<const GgufType> gguf_types();
/// The type that a file may store under this id. Throws bad_data: unknown, removed, or never stored in files.
const GgufType& gguf_type(std::uint32_t id);
/// By name, upper or lower case; nullptr when there is none.
const GgufType* find_gguf_type(std::string_view name);

/// Stored size of a tensor. dims: fastest first, 1 to 4 of them (none is a scalar), each 1 to 2^40, their product below
/// 2^62; dims[0] a multiple of the block. Throws bad_data.
std::uint64_t gguf_tensor_bytes(const GgufType& type, std::span<const std::uint64_t> dims);

}  // namespace adze
