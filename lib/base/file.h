// Files: positioned reads with bounds, text with a size limit, and outputs that appear whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace adze {

/// A file opened for reading. Reads never touch a byte outside [0, size()) and may be called from several threads.
class InputFile {
 public:
  /// Throws missing_input when it cannot be opened or is not a regular file.
  explicit InputFile(std::filesystem::path path);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size() const { return size_; }  ///< at the time of opening
  std::int64_t modified_ns() const { return modified_ns_; }

  /// Fills `out` from `offset`. Throws bad_data when the range leaves the file, io when reading fails or the file
  /// shrank.
  void read(std::uint64_t offset, std::span<std::byte> out) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  std::int64_t modified_ns_ = 0;
};

inline constexpr std::uint64_t kDefaultTextLimit = std::uint64_t{1} << 30;

/// The whole file as bytes. Throws bad_data above `limit` bytes.
std::string read_file(const std::filesystem::path& path, std::uint64_t limit = kDefaultTextLimit);

/// When a finished file is on disk: before it has its name, or when whoever names what it is a part of says so
/// (sync_file).
enum class Durable : std::uint8_t { now, later };

/// An output that appears under its name only on commit(): written beside it as `name.tmp`, synced and renamed.
/// Destroying it uncommitted removes the temporary file. The disk begins to write before that, piece by piece.
class OutputFile {
 public:
  /// Throws cannot_create. An existing file is replaced at commit.
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Overwrites bytes that were written before; throws internal when the range was not.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Reads back bytes that were written and are not committed yet; throws internal when the range was not written.
  void read_back(std::uint64_t offset, std::span<std::byte> out) const;
  std::uint64_t bytes_written() const { return size_; }
  void commit(Durable when = Durable::now);

 private:
  void put(std::uint64_t offset, std::span<const std::byte> bytes);
  void begin_writeback();
  void check_written(std::string_view what, std::uint64_t offset, std::uint64_t count) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  std::uint64_t handed_on_ = 0;  ///< bytes that the disk was told to write
};

/// Writes `bytes` as a whole: temporary name, fsync, rename, fsync of the folder.
void write_file(const std::filesystem::path& path, std::string_view bytes, Durable when = Durable::now);

/// Flushes a file to disk. Throws io.
void sync_file(const std::filesystem::path& path);

/// Makes a file that another library has written under `temporary` durable and gives it its name.
void publish_file(const std::filesystem::path& temporary, const std::filesystem::path& path);

/// Flushes a folder's entries to disk.
void sync_folder(const std::filesystem::path& folder);

/// Creates the folder and its parents; throws cannot_create.
void make_folder(const std::filesystem::path& folder);

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace adze
