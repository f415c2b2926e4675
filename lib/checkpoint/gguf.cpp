#include "checkpoint/gguf.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "base/checked.h"
#include "checkpoint/gguf_cursor.h"

namespace adze {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint64_t kMaxKeyBytes = 65535;
constexpr std::uint64_t kMaxTensorName = 63;  // ggml keeps names in 64 bytes with a NUL
constexpr std::uint32_t kMaxDims = 4;
constexpr std::uint64_t kLeastKeyValueBytes = 14;    // key length 8, key 1, type 4, value 1
constexpr std::uint64_t kLeastTensorInfoBytes = 24;  // name length 8, n_dims 4, type 4, offset 8
constexpr std::uint32_t kMinAlignment = 8;
constexpr std::uint32_t kMaxAlignment = 65536;

std::uint32_t read_version(GgufCursor& cursor) {
  std::string magic(kMagic.size(), '\0');
  cursor.read(std::as_writable_bytes(std::span(magic)));
  if (magic != kMagic) fail(ErrorKind::bad_data, "not a GGUF file: it does not begin with 'GGUF'");
  const auto version = cursor.number<std::uint32_t>();
  if ((version & 0xFFFF) == 0 && version != 0)
    fail(ErrorKind::bad_data, "a big-endian GGUF file; convert it to little-endian first");
  if (version != 2 && version != 3)
    fail(ErrorKind::bad_data, "GGUF version {} is not supported, only 2 and 3 are", version);
  return version;
}

/// A record count, bounded by what the rest of the file can hold.
std::uint64_t read_count(GgufCursor& cursor, std::string_view what) {
  const auto count = cursor.number<std::uint64_t>();
  if (count > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    fail(ErrorKind::bad_data, "negative number of {}: {}", what, static_cast<std::int64_t>(count));
  return count;
}

void check_count(std::uint64_t count, std::uint64_t least_bytes, std::uint64_t remaining, std::string_view what) {
  if (count > remaining / least_bytes)
    fail(ErrorKind::bad_data, "{} {} do not fit into the {} bytes that remain", count, what, remaining);
}

std::string read_key(GgufCursor& cursor) {
  std::string key = cursor.text(kMaxKeyBytes);
  const auto printable = [](char c) { return c > 0x20 && c < 0x7F; };
  if (key.empty()) fail(ErrorKind::bad_data, "a metadata key is empty");
  if (!std::ranges::all_of(key, printable)) fail(ErrorKind::bad_data, "a metadata key is not printable ASCII");
  return key;
}

GgufKeyValue read_key_value(GgufCursor& cursor) {
  std::string key = read_key(cursor);
  GgufValue value = with_context(fmt::format("key '{}'", key), [&] { return cursor.value(); });
  return {std::move(key), std::move(value)};
}

std::string read_tensor_name(GgufCursor& cursor) {
  std::string name = cursor.text(kMaxTensorName);
  if (name.empty() || name.find('\0') != std::string::npos)
    fail(ErrorKind::bad_data, "a tensor name is empty or contains NUL");
  return name;
}

/// The offset is still relative to the data section.
GgufTensor read_tensor_info(GgufCursor& cursor) {
  GgufTensor tensor;
  tensor.name = with_context("tensor name", [&] { return read_tensor_name(cursor); });
  with_context(fmt::format("tensor '{}'", tensor.name), [&] {
    const auto n_dims = cursor.number<std::uint32_t>();
    if (n_dims > kMaxDims) fail(ErrorKind::bad_data, "{} dimensions, at most {} are allowed", n_dims, kMaxDims);
    for (std::uint32_t d = 0; d < n_dims; ++d) tensor.dims.push_back(cursor.number<std::uint64_t>());
    tensor.type = &gguf_type(cursor.number<std::uint32_t>());
    tensor.offset = cursor.number<std::uint64_t>();
    tensor.bytes = gguf_tensor_bytes(*tensor.type, tensor.dims);
  });
  return tensor;
}

std::uint32_t checked_alignment(std::uint32_t alignment) {
  if (!std::has_single_bit(alignment) || alignment < kMinAlignment || alignment > kMaxAlignment)
    fail(ErrorKind::bad_data, "key 'general.alignment' is {}, not a power of two from {} to {}", alignment,
         kMinAlignment, kMaxAlignment);
  return alignment;
}

std::uint64_t padded(std::uint64_t size, std::uint64_t alignment) {
  return checked_add(size, (alignment - size % alignment) % alignment);
}

/// Checks that the tensors follow each other without gaps; returns the padded size of the data section.
std::uint64_t check_offsets(std::span<const GgufTensor> tensors, std::uint32_t alignment) {
  std::uint64_t expected = 0;
  for (const GgufTensor& tensor : tensors) {
    if (tensor.offset % alignment != 0)
      fail(ErrorKind::bad_data, "tensor '{}': offset {} is not a multiple of the alignment {}", tensor.name,
           tensor.offset, alignment);
    if (tensor.offset != expected)
      fail(ErrorKind::bad_data, "tensor '{}': offset {} where {} is expected: a gap, an overlap or another order",
           tensor.name, tensor.offset, expected);
    expected = padded(checked_add(tensor.offset, tensor.bytes), alignment);
  }
  return expected;
}

}  // namespace

GgufFile::GgufFile(std::filesystem::path path) : file_(std::move(path)) {
  with_context(file_.path().string(), [&] { parse(); });
}

void GgufFile::parse() {
  GgufCursor cursor(file_);
  version_ = read_version(cursor);
  const std::uint64_t tensor_count = read_count(cursor, "tensors");
  const std::uint64_t key_count = read_count(cursor, "metadata keys");
  check_count(tensor_count, kLeastTensorInfoBytes, cursor.remaining(), "tensor infos");
  check_count(key_count, kLeastKeyValueBytes, cursor.remaining(), "metadata keys");

  for (std::uint64_t i = 0; i < key_count; ++i) metadata_.push_back(read_key_value(cursor));
  for (std::size_t i = 0; i < metadata_.size(); ++i)
    if (!keys_.emplace(metadata_[i].key, i).second) fail(ErrorKind::bad_data, "duplicate key '{}'", metadata_[i].key);
  if (const auto* const alignment = find<std::uint32_t>("general.alignment"))
    alignment_ = checked_alignment(*alignment);
  check_split();

  for (std::uint64_t i = 0; i < tensor_count; ++i) tensors_.push_back(read_tensor_info(cursor));
  for (std::size_t i = 0; i < tensors_.size(); ++i)
    if (!names_.emplace(tensors_[i].name, i).second)
      fail(ErrorKind::bad_data, "duplicate tensor '{}'", tensors_[i].name);
  check_places(cursor.position());
}

/// Offsets follow each other, and the file ends where the last tensor's padding does.
void GgufFile::check_places(std::uint64_t header_bytes) {
  const std::uint64_t data_bytes = check_offsets(tensors_, alignment_);
  data_start_ = padded(header_bytes, alignment_);
  const std::uint64_t end = checked_add(data_start_, data_bytes);
  const bool bare = tensors_.empty() && file_.size() == header_bytes;  // vocabulary only, without padding
  if (file_.size() != end && !bare)
    fail(ErrorKind::bad_data, "the file has {} bytes, its header says {}: {}", file_.size(), end,
         file_.size() < end ? "it is cut short" : "trailing bytes");
  for (GgufTensor& tensor : tensors_) tensor.offset += data_start_;
}

const GgufValue* GgufFile::find_value(std::string_view key) const {
  const auto at = keys_.find(key);
  return at == keys_.end() ? nullptr : &metadata_[at->second].value;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto at = names_.find(name);
  return at == names_.end() ? nullptr : &tensors_[at->second];
}

void GgufFile::fail_type(std::string_view key, const GgufValue& value, std::string_view expected) const {
  fail(ErrorKind::bad_data, "key '{}' has type {}, expected {}", key, type_in_words(value), expected);
}

std::optional<GgufSplit> GgufFile::split() const {
  const auto* const count = find<std::uint16_t>("split.count");
  if (count == nullptr || *count <= 1) return std::nullopt;  // llama.cpp leaves 0 in files that it has merged
  return GgufSplit{get<std::uint16_t>("split.no"), *count, get<std::int32_t>("split.tensors.count")};
}

void GgufFile::check_split() const {
  const auto parts = split();
  if (parts && parts->number >= parts->count)
    fail(ErrorKind::bad_data, "split.no {} is not below split.count {}", parts->number, parts->count);
}

void GgufFile::read(const GgufTensor& tensor, std::uint64_t offset, std::span<std::byte> out) const {
  if (offset > tensor.bytes || out.size() > tensor.bytes - offset)
    fail(ErrorKind::bad_data, "{}: tensor '{}': bytes {} to {}+{} lie outside its {} bytes", path().string(),
         tensor.name, offset, offset, out.size(), tensor.bytes);
  file_.read(checked_add(tensor.offset, offset), out);
}

}  // namespace adze
