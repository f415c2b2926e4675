// Tensors by name, wherever they lie: a safetensors folder, a GGUF file, a model store.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
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

/// Where a tensor's data begins in a plain file.
struct FilePlace {
  std::filesystem::path file;
  std::uint64_t offset = 0;
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
  /// The bytes' place in a plain file, so that a store can refer to them; nothing when they lie in no such file.
  virtual std::optional<FilePlace> place(const TensorInfo& /*tensor*/) const { return std::nullopt; }

  /// Binary search by name; nullptr when there is none.
  const TensorInfo* find(std::string_view name) const;
  /// Position in tensors(). Throws internal for a tensor of another source.
  std::size_t index_of(const TensorInfo& tensor) const;

 protected:
  /// Throws bad_data when [offset, offset + count) leaves the tensor.
  void check_range(const TensorInfo& tensor, std::uint64_t offset, std::uint64_t count) const;
};

}  // namespace adze
