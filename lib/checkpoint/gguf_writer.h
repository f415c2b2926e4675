// Writes GGUF version 3 files: names, types and shapes are fixed first, so every offset and the exact file size are
// known before a byte is written; then the data streams in that order. The file appears whole, by rename.
//
// Stricter than the format where readers differ: alignment 32 only, no empty strings or arrays as values, keys in lower
// case, no scalars without dimensions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "checkpoint/gguf.h"

namespace adze {

/// A tensor to be written. dims: fastest first, [in, out] for a linear weight.
struct GgufTensorSpec {
  std::string name;
  std::uint32_t type = 0;  ///< id in gguf_types()
  std::vector<std::uint64_t> dims;
};

/// Everything of a file but the data.
struct GgufLayout {
  std::string header;               ///< up to the data section, padding included
  std::vector<GgufTensor> tensors;  ///< in order, with offsets in the file
  std::uint64_t file_bytes = 0;
};

/// Whether layout_gguf() takes a key of this name: 1 to 65535 of a-z, 0-9, '_', '-' and '.'.
bool is_gguf_key(std::string_view key);

/// Throws bad_data: duplicate or malformed keys and names, empty values, bad types or shapes.
GgufLayout layout_gguf(std::span<const GgufKeyValue> metadata, std::span<const GgufTensorSpec> tensors);

/// Magic, version and the two counts.
inline constexpr std::uint64_t kGgufFixedHeaderBytes = 24;
/// Bytes of these key/value records in a header, and of one tensor info.
std::uint64_t gguf_metadata_bytes(std::span<const GgufKeyValue> metadata);
std::uint64_t gguf_info_bytes(const GgufTensorSpec& tensor);

/// The exact size of the file, without writing it.
std::uint64_t predict_gguf_bytes(std::span<const GgufKeyValue> metadata, std::span<const GgufTensorSpec> tensors);

/// Construct, write() every tensor in order, commit(). Without commit nothing appears.
class GgufWriter {
 public:
  GgufWriter(std::filesystem::path path, std::span<const GgufKeyValue> metadata,
             std::span<const GgufTensorSpec> tensors);

  const GgufLayout& layout() const { return layout_; }
  /// The next bytes of tensor `name`: all of it, or pieces in order. Throws internal when it is not its turn or too
  /// much.
  void write(std::string_view name, std::span<const std::byte> bytes);
  /// Throws internal unless every tensor is complete.
  void commit(Durable when = Durable::now);

 private:
  void pad();

  GgufLayout layout_;
  std::size_t current_ = 0;
  OutputFile file_;
};

}  // namespace adze
