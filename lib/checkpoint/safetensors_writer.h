// Writes safetensors files as the reference writer lays them out: widest dtypes first, then by name, header keys in
// that order with __metadata__ in front, padded with spaces to a multiple of 8. The file appears whole, by rename.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "checkpoint/safetensors.h"

namespace adze {

using SafetensorsMetadata = std::map<std::string, std::string>;

/// What some loaders insist on.
inline SafetensorsMetadata default_safetensors_metadata() { return {{"format", "pt"}}; }

/// A tensor to be written. shape: row-major.
struct SafetensorsSpec {
  std::string name;
  SafetensorsType type = SafetensorsType::f32;
  std::vector<std::uint64_t> shape;
};

/// Where everything of a file will lie.
struct SafetensorsLayout {
  std::vector<SafetensorsTensor> tensors;  ///< in the order of the file
  std::uint64_t data_start = 0;
};
/// Throws as SafetensorsWriter.
SafetensorsLayout safetensors_layout(std::vector<SafetensorsSpec> tensors,
                                     const SafetensorsMetadata& metadata = default_safetensors_metadata());

/// Exact size of the file that these tensors make. Throws as SafetensorsWriter.
std::uint64_t safetensors_file_bytes(std::vector<SafetensorsSpec> tensors,
                                     const SafetensorsMetadata& metadata = default_safetensors_metadata());

/// What a tensor adds to a file: its values, and its entry in the header. end: of the data before it, whose digits take
/// room.
std::uint64_t bytes_in_safetensors(const SafetensorsSpec& tensor, std::uint64_t end);

/// Streams tensors into a file: construct, write() every tensor in order(), commit(). Without commit nothing appears.
class SafetensorsWriter {
 public:
  /// Throws bad_data for a duplicate, empty, too long or reserved name, a bad shape or a header above the limit.
  SafetensorsWriter(std::filesystem::path path, std::vector<SafetensorsSpec> tensors,
                    const SafetensorsMetadata& metadata = default_safetensors_metadata());

  /// The tensors with their places, in the order in which write() expects them.
  std::span<const SafetensorsTensor> order() const { return tensors_; }
  std::uint64_t file_bytes() const;
  /// The next bytes of tensor `name`: all of it, or pieces in order. Throws internal when it is not its turn or too
  /// much.
  void write(std::string_view name, std::span<const std::byte> bytes);
  /// Throws internal unless every tensor is complete.
  void commit(Durable when = Durable::now);

 private:
  void skip_finished();

  std::vector<SafetensorsTensor> tensors_;
  std::uint64_t data_start_ = 0;
  std::size_t current_ = 0;
  OutputFile file_;
};

/// A tensor with its data, for small files.
struct SafetensorsItem {
  SafetensorsSpec spec;
  std::span<const std::byte> data;
};

/// Writes all in one go. Throws bad_data when a tensor's data does not have the size of its shape.
void write_safetensors(const std::filesystem::path& path, std::span<const SafetensorsItem> items,
                       const SafetensorsMetadata& metadata = default_safetensors_metadata());

}  // namespace adze
