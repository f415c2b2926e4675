// Tensors by name, wherever they lie: a safetensors folder, a GGUF file, a model store.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace adze {

/// One stored tensor. shape is row-major, slowest dimension first ([out, in] for a linear weight); bytes is its exact
/// size in the file.
struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::uint64_t> shape;
  std::uint64_t bytes = 0;
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;

  /// Sorted by name, names unique.
  virtual std::span<const TensorInfo> tensors() const = 0;
  /// The file or folder, for messages.
  virtual std::string origin() const = 0;
  /// Reads `out.size()` bytes of the tensor's data from `offset`; little-endian, row-major. Thread-safe.
  /// Throws bad_data when the range leaves the tensor or the content does not match a recorded hash.
  virtual void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const = 0;

  /// Binary search by name; nullptr when there is none.
  const TensorInfo* find(std::string_view name) const;
};

}  // namespace adze
