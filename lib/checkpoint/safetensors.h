// One safetensors file: header, validated in full before any tensor is handed out, and positioned reads of the data.
//
// Layout: u64 little-endian N, N bytes of JSON, then the tensors back to back. Every byte of the data belongs to
// exactly one tensor: holes, overlap and trailing bytes are refused, as are duplicate keys, unknown dtypes, headers
// above 100,000,000 bytes and sizes that do not match shape x dtype. Values are not looked at.
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
#include "checkpoint/safetensors_types.h"

namespace adze {

inline constexpr std::uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;  // the reference reader's limit
inline constexpr std::size_t kMaxTensorNameBytes = 4096;

/// Data lies at [begin, end) after the header. shape: row-major, empty for a scalar; a dimension may be 0.
struct SafetensorsTensor {
  std::string name;
  SafetensorsType type = SafetensorsType::f32;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t bytes() const { return end - begin; }
};

struct SafetensorsHeader {
  std::vector<SafetensorsTensor> tensors;  ///< sorted by name
  std::map<std::string, std::string> metadata;
};

/// Parses and checks a header against the `data_bytes` that follow it. Throws bad_data; `origin` leads the message.
SafetensorsHeader parse_safetensors_header(std::string_view text, std::uint64_t data_bytes, std::string_view origin);

class SafetensorsFile {
 public:
  /// Throws missing_input when it cannot be opened, bad_data when it breaks any rule of the format.
  explicit SafetensorsFile(std::filesystem::path path);

  const InputFile& file() const { return file_; }
  std::span<const SafetensorsTensor> tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  /// Offset of the data in the file; a tensor begins at data_start() + begin.
  std::uint64_t data_start() const { return data_start_; }
  /// nullptr when there is none.
  const SafetensorsTensor* find(std::string_view name) const;

 private:
  InputFile file_;
  std::uint64_t data_start_ = 0;
  SafetensorsHeader header_;
};

}  // namespace adze
