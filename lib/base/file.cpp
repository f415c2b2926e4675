#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/temporaries.h"

namespace adze {
namespace {

std::string reason(int error) { return std::system_category().message(error); }

void sync_descriptor(int descriptor, const std::filesystem::path& path) {
  if (::fsync(descriptor) != 0) fail(ErrorKind::io, "{}: cannot sync: {}", path.string(), reason(errno));
}

void read_fully(int descriptor, const std::filesystem::path& path, std::uint64_t offset, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t got = ::pread(descriptor, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(ErrorKind::io, "{}: cannot read at byte {}: {}", path.string(), offset, reason(errno));
    if (got == 0) fail(ErrorKind::io, "{}: ends at byte {}: it shrank while in use", path.string(), offset);
    out = out.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

void rename_file(const std::filesystem::path& from, const std::filesystem::path& to, Durable when) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    fail(ErrorKind::cannot_create, "{}: cannot rename {} to it: {}", to.string(), from.filename().string(),
         reason(errno));
  if (when == Durable::now) sync_folder(to.parent_path());
}

}  // namespace

InputFile::InputFile(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) fail(ErrorKind::missing_input, "{}: cannot open: {}", path_.string(), reason(errno));
  struct stat status {};
  const bool regular = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
  if (!regular) {
    ::close(std::exchange(descriptor_, -1));
    fail(ErrorKind::missing_input, "{}: not a regular file", path_.string());
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
  modified_ns_ = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      modified_ns_(other.modified_ns_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  std::swap(modified_ns_, other.modified_ns_);
  return *this;
}

void InputFile::read(std::uint64_t offset, std::span<std::byte> out) const {
  if (offset > size_ || out.size() > size_ - offset)
    fail(ErrorKind::bad_data, "{}: bytes {} to {}+{} lie outside the file of {} bytes", path_.string(), offset, offset,
         out.size(), size_);
  read_fully(descriptor_, path_, offset, out);
}

std::string read_file(const std::filesystem::path& path, std::uint64_t limit) {
  const InputFile file(path);
  if (file.size() > limit)
    fail(ErrorKind::bad_data, "{}: {} bytes, more than the limit of {}", path.string(), file.size(), limit);
  std::string bytes(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

OutputFile::OutputFile(std::filesystem::path path) : path_(std::move(path)), temporary_(path_.string() + ".tmp") {
  register_temporary(temporary_);
  descriptor_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ >= 0) return;
  const int error = errno;
  forget_temporary(temporary_);
  fail(ErrorKind::cannot_create, "{}: cannot create: {}", path_.string(), reason(error));
}

OutputFile::~OutputFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
  forget_temporary(temporary_);
}

void OutputFile::put(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail(ErrorKind::io, "{}: cannot write: {}", temporary_.string(), reason(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(done));
    offset += static_cast<std::uint64_t>(done);
  }
}

void OutputFile::write(std::span<const std::byte> bytes) {
  put(size_, bytes);
  size_ += bytes.size();
  begin_writeback();
}

/// Else the disk would have nothing to do until all is written, and the sync at the end everything. Advice: what it
/// answers does not matter.
void OutputFile::begin_writeback() {
  constexpr std::uint64_t kPiece = std::uint64_t{8} << 20;
  if (size_ - handed_on_ < kPiece) return;
  (void)::sync_file_range(descriptor_, static_cast<off_t>(handed_on_), static_cast<off_t>(size_ - handed_on_),
                          SYNC_FILE_RANGE_WRITE);
  handed_on_ = size_;
}

void OutputFile::write(std::string_view text) { write(as_bytes(text)); }

void OutputFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  check_written("write_at", offset, bytes.size());
  put(offset, bytes);
}

void OutputFile::read_back(std::uint64_t offset, std::span<std::byte> out) const {
  check_written("read_back", offset, out.size());
  read_fully(descriptor_, temporary_, offset, out);
}

void OutputFile::check_written(std::string_view what, std::uint64_t offset, std::uint64_t count) const {
  if (offset > size_ || count > size_ - offset)
    fail(ErrorKind::internal, "{}: {}({}, {}) outside the {} bytes written", path_.string(), what, offset, count,
         size_);
}

void OutputFile::commit(Durable when) {
  if (when == Durable::now) sync_descriptor(descriptor_, temporary_);
  rename_file(temporary_, path_, when);
  forget_temporary(temporary_);
  ::close(std::exchange(descriptor_, -1));
}

void write_file(const std::filesystem::path& path, std::string_view bytes, Durable when) {
  OutputFile file(path);
  file.write(bytes);
  file.commit(when);
}

void sync_file(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(ErrorKind::io, "{}: cannot open: {}", path.string(), reason(errno));
  const bool synced = ::fsync(descriptor) == 0;
  const int error = errno;
  ::close(descriptor);
  if (!synced) fail(ErrorKind::io, "{}: cannot sync: {}", path.string(), reason(error));
}

void publish_file(const std::filesystem::path& temporary, const std::filesystem::path& path) {
  sync_file(temporary);
  rename_file(temporary, path, Durable::now);
}

void sync_folder(const std::filesystem::path& folder) {
  const std::filesystem::path name = folder.empty() ? "." : folder;
  const int descriptor = ::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail(ErrorKind::io, "{}: cannot open folder: {}", name.string(), reason(errno));
  ::fsync(descriptor);  // some file systems refuse to sync folders; the rename itself has happened
  ::close(descriptor);
}

void make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail(ErrorKind::cannot_create, "{}: cannot create folder: {}", folder.string(), error.message());
}

}  // namespace adze
