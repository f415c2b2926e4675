// Reader of GGUF files, versions 2 and 3, little-endian: typed metadata and tensor places, all checked on opening, and
// positioned reads of tensor data. Blocks are not decoded here.
//
// As strict as the runtimes: offsets gapless in the order of the infos, unique keys and names, whole blocks per row.
// Stricter where a hostile file gains by it: counts bounded by the bytes that remain, no empty tensors, no nested
// arrays, no bytes after the padded end. Refuses big-endian files and version 1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/gguf_types.h"
#include "checkpoint/gguf_value.h"

namespace adze {

inline constexpr std::uint32_t kGgufAlignment = 32;  ///< when the file does not say otherwise

/// dims: fastest first, the reverse of a row-major shape; [in, out] for a linear weight. offset: in the file.
struct GgufTensor {
  std::string name;
  const GgufType* type = nullptr;  ///< a row of gguf_types()
  std::vector<std::uint64_t> dims;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// The split.* keys of a file that is one of several.
struct GgufSplit {
  std::uint16_t number = 0;  ///< from 0
  std::uint16_t count = 1;
  std::int32_t tensors = 0;  ///< over all files
};

class GgufFile {
 public:
  /// Throws missing_input when it cannot be opened, bad_data when it breaks any rule; the message names key or tensor.
  explicit GgufFile(std::filesystem::path path);

  const std::filesystem::path& path() const { return file_.path(); }
  std::uint64_t file_bytes() const { return file_.size(); }
  std::uint32_t version() const { return version_; }
  std::uint32_t alignment() const { return alignment_; }
  std::uint64_t data_start() const { return data_start_; }
  std::optional<GgufSplit> split() const;

  /// In file order.
  std::span<const GgufKeyValue> metadata() const { return metadata_; }
  /// In file order.
  std::span<const GgufTensor> tensors() const { return tensors_; }
  /// nullptr when there is none.
  const GgufValue* find_value(std::string_view key) const;
  const GgufTensor* find_tensor(std::string_view name) const;

  /// The value of `key` if it has exactly the type T; nullptr when absent. Throws bad_data for another type.
  template <typename T>
  const T* find(std::string_view key) const {
    const GgufValue* const value = find_value(key);
    if (value == nullptr) return nullptr;
    const T* const typed = std::get_if<T>(value);
    if (typed == nullptr) fail_type(key, *value, type_in_words<T>());
    return typed;
  }
  /// As find(), but a missing key is bad_data too.
  template <typename T>
  const T& get(std::string_view key) const {
    const T* const value = find<T>(key);
    if (value == nullptr) fail(ErrorKind::bad_data, "{}: key '{}' is missing", path().string(), key);
    return *value;
  }

  /// Reads out.size() bytes of the tensor's data from `offset`. Thread-safe. Throws bad_data outside the tensor.
  void read(const GgufTensor& tensor, std::uint64_t offset, std::span<std::byte> out) const;

 private:
  [[noreturn]] void fail_type(std::string_view key, const GgufValue& value, std::string_view expected) const;
  void parse();
  void check_places(std::uint64_t header_bytes);
  void check_split() const;

  InputFile file_;
  std::uint32_t version_ = 0;
  std::uint32_t alignment_ = kGgufAlignment;
  std::uint64_t data_start_ = 0;
  std::vector<GgufKeyValue> metadata_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> keys_;   ///< into metadata_
  std::unordered_map<std::string_view, std::size_t> names_;  ///< into tensors_
};

/// Opens a file and, when it is the first of a split (NAME-00001-of-00005.gguf), the others beside it; in order.
/// Throws bad_data when numbers, counts or names do not fit together, missing_input for a missing one.
std::vector<GgufFile> open_gguf(const std::filesystem::path& path);

/// As open_gguf() opens a split, but exactly these files whatever their names: for files that have no final names yet.
std::vector<GgufFile> open_gguf_parts(std::span<const std::filesystem::path> paths);

/// Name of part `number` (from 0) of `count`: NAME.gguf gives NAME-00001-of-00003.gguf; the one part of 1 keeps its
/// name. Throws usage when there are several and the name does not end with ".gguf".
std::filesystem::path gguf_part_path(const std::filesystem::path& whole, std::size_t number, std::size_t count);

}  // namespace adze
