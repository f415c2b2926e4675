// HDF5 for our own files, as little of it as they need: groups, attributes (text, u64, f64), and one-dimensional
// contiguous datasets of numbers or of texts of bounded length.
//
// Written files are the same bytes every time (no time stamps, fixed format version) and appear whole, by rename. A
// file is checked in full when it is opened: hard links only, each object once, no filters, no external or virtual
// storage, every dataset inside the file. After that the HDF5 library is not used again: reads are positioned reads of
// the file, from any thread. Open only files whose checksum is known (checkpoint/sidecar.h); the library itself is no
// sandbox.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "base/byte_array.h"
#include "base/file.h"
#include "base/read_bytes.h"

namespace adze {

enum class Hdf5Type : std::uint8_t { u8, i32, u64, f32, f64, text };

template <typename T>
concept Hdf5Number =
    std::is_same_v<T, std::byte> || std::is_same_v<T, std::uint8_t> || std::is_same_v<T, std::int32_t> ||
    std::is_same_v<T, std::uint64_t> || std::is_same_v<T, float> || std::is_same_v<T, double>;

template <Hdf5Number T>
consteval Hdf5Type hdf5_type() {
  if constexpr (std::is_same_v<T, std::int32_t>) return Hdf5Type::i32;
  if constexpr (std::is_same_v<T, std::uint64_t>) return Hdf5Type::u64;
  if constexpr (std::is_same_v<T, float>) return Hdf5Type::f32;
  if constexpr (std::is_same_v<T, double>) return Hdf5Type::f64;
  return Hdf5Type::u8;
}

using Hdf5Attribute = std::variant<std::string, std::uint64_t, double>;

/// Creates a file. Paths are "group/name"; groups must be made before what they hold. Not thread-safe per object.
/// Failures are io, wrong use is internal.
class Hdf5Writer {
 public:
  /// Throws cannot_create. The file is written beside `path` and takes its name at commit().
  explicit Hdf5Writer(std::filesystem::path path);
  ~Hdf5Writer();
  Hdf5Writer(const Hdf5Writer&) = delete;
  Hdf5Writer& operator=(const Hdf5Writer&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void make_group(const std::string& path);
  /// `path`: a group or dataset, "/" for the file. A text holds no NUL and at most 60,000 bytes.
  void set_attribute(const std::string& path, const std::string& name, const Hdf5Attribute& value);

  template <Hdf5Number T>
  void write(const std::string& path, std::span<const T> values) {
    create_raw(path, hdf5_type<T>(), values.size());
    write_raw(path, hdf5_type<T>(), 0, values.size(), values.data());
  }
  /// A dataset to be filled with write_part(); parts never written are zero.
  template <Hdf5Number T>
  void create(const std::string& path, std::uint64_t count) {
    create_raw(path, hdf5_type<T>(), count);
  }
  template <Hdf5Number T>
  void write_part(const std::string& path, std::uint64_t first, std::span<const T> values) {
    write_raw(path, hdf5_type<T>(), first, values.size(), values.data());
  }
  /// Texts without NUL; stored at the length of the longest.
  void write_texts(const std::string& path, std::span<const std::string> texts);
  void write_bytes(const std::string& path, std::string_view bytes) { write<std::byte>(path, as_bytes(bytes)); }

  /// Closes, syncs and renames. Nothing else may be called afterwards.
  void commit();

 private:
  void create_raw(const std::string& path, Hdf5Type type, std::uint64_t count);
  void write_raw(const std::string& path, Hdf5Type type, std::uint64_t first, std::uint64_t count, const void* values);

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  std::int64_t file_ = -1;
};

/// A file opened for reading, its structure checked and remembered.
class Hdf5Reader {
 public:
  /// Throws missing_input when it cannot be opened, bad_data when it is not HDF5 or holds anything of the refused
  /// kinds.
  explicit Hdf5Reader(std::filesystem::path path);

  const std::filesystem::path& path() const { return file_.path(); }
  bool has(std::string_view path) const;
  bool has_attribute(std::string_view path, std::string_view name) const;
  /// Names directly in a group, sorted. "" or "/" is the root.
  std::vector<std::string> names(std::string_view group) const;
  /// Throws bad_data when the attribute is missing or has another type.
  const std::string& text(std::string_view path, std::string_view name) const;
  std::uint64_t number(std::string_view path, std::string_view name) const;
  double real(std::string_view path, std::string_view name) const;

  /// Elements of a dataset.
  std::uint64_t count(std::string_view path) const;
  /// The whole dataset. Throws bad_data above `max_count` elements, for another type, or when missing.
  template <Hdf5Number T>
  std::vector<T> read(std::string_view path, std::uint64_t max_count) const {
    const std::uint64_t all = checked_count(path, hdf5_type<T>(), max_count);
    std::vector<T> values;
    values.reserve(all);
    while (values.size() < all) {  // piece by piece: a vector writes zeros first
      const std::size_t first = values.size();
      values.resize(first + std::min<std::uint64_t>(kReadPiece, all - first));
      read_part<T>(path, first, std::span(values).subspan(first));
    }
    return values;
  }
  /// The same of a dataset of bytes.
  ByteArray read_array(std::string_view path, std::uint64_t max_count) const;
  /// out.size() elements from `first`. Thread-safe.
  template <Hdf5Number T>
  void read_part(std::string_view path, std::uint64_t first, std::span<T> out) const {
    read_raw(path, hdf5_type<T>(), first, out.size(), std::as_writable_bytes(out));
  }
  std::vector<std::string> read_texts(std::string_view path, std::uint64_t max_count, std::uint64_t max_length) const;
  std::string read_bytes(std::string_view path, std::uint64_t max_count) const;

 private:
  struct Object {
    bool is_group = false;
    Hdf5Type type = Hdf5Type::u8;
    std::uint64_t element_bytes = 0;
    std::uint64_t count = 0;
    std::uint64_t offset = 0;  ///< of the data in the file
    std::map<std::string, Hdf5Attribute, std::less<>> attributes;
  };
  friend class Hdf5Walk;

  const Object& object(std::string_view path) const;
  const Object& dataset(std::string_view path, Hdf5Type type) const;
  template <typename T>
  const T& typed_attribute(std::string_view path, std::string_view name) const;
  std::uint64_t checked_count(std::string_view path, Hdf5Type type, std::uint64_t max_count) const;
  void read_raw(std::string_view path, Hdf5Type type, std::uint64_t first, std::uint64_t count,
                std::span<std::byte> out) const;

  InputFile file_;
  std::map<std::string, Object, std::less<>> objects_;  ///< by path without a leading '/'; the root is ""
};

}  // namespace adze
