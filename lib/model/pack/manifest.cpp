#include "model/pack/manifest.h"
#include "grid/format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <system_error>

#include "base/checked.h"
#include "base/error.h"
#include "base/hash.h"
#include "model/pack/records.h"

namespace adze {
namespace {

constexpr std::uint32_t kVersion = 1;
constexpr std::uint64_t kMostManifestBytes = std::uint64_t{64} << 20;  // a million tensors
constexpr std::size_t kHashDigits = 32;

/// The first 64 bytes; little-endian, as every number here.
struct Header {
  std::array<char, 8> magic{};
  std::uint32_t version = 0;
  std::uint32_t records = 0;
  std::uint64_t manifest_bytes = 0;
  std::uint64_t data_start = 0;
  std::uint64_t file_bytes = 0;
  std::array<std::uint64_t, 2> reserved{};
  std::uint64_t checksum = 0;  ///< hash64 of the bytes before it
};
static_assert(sizeof(Header) == 64 && std::endian::native == std::endian::little);

/// In front of every record, as in the ledger of a run.
struct Frame {
  std::uint32_t bytes = 0;
  std::uint32_t bytes_check = 0;  // of `bytes` alone
  std::uint64_t checksum = 0;     // hash64 of the message
};

template <typename T>
std::string_view bytes_of_value(const T& value, std::size_t count = sizeof(T)) {
  return {reinterpret_cast<const char*>(&value), count};
}

std::uint32_t check_of(std::uint32_t bytes) { return static_cast<std::uint32_t>(hash64(bytes_of_value(bytes))); }
std::uint64_t checksum_of(const Header& header) { return hash64(bytes_of_value(header, offsetof(Header, checksum))); }

void append_framed(std::string& bytes, const std::string& message) {
  const auto length = checked_cast<std::uint32_t>(message.size());
  bytes += bytes_of_value(Frame{length, check_of(length), hash64(message)});
  bytes += message;
}

std::string records_of(const PackManifest& manifest) {
  std::string bytes;
  append_framed(bytes, model_record(manifest));
  for (const PackedFile& file : manifest.files) append_framed(bytes, file_record(file));
  for (const PackTensor& tensor : manifest.tensors) append_framed(bytes, tensor_record(tensor));
  return bytes;
}

/// Where nothing is known yet: hashes and checks are zero.
void place_region(PackRegion& region, std::uint64_t offset, std::uint64_t piece_bytes) {
  region.offset = offset;
  region.hash.assign(kHashDigits, '0');
  region.checks.assign(divide_up(region.bytes, piece_bytes), 0);
}

Header read_header(const InputFile& file) {
  Header header;
  if (file.size() < sizeof header) fail(ErrorKind::bad_data, "{} bytes are too few for a pack", file.size());
  file.read(0, std::as_writable_bytes(std::span(&header, 1)));
  if (std::string_view(header.magic.data(), header.magic.size()) != kPackMagic)
    fail(ErrorKind::bad_data, "does not begin as a pack");
  if (header.version != kVersion)
    fail(ErrorKind::bad_data, "version {}, this program reads {}", header.version, kVersion);
  if (header.checksum != checksum_of(header)) fail(ErrorKind::bad_data, "the header (bytes 0 to 63) is damaged");
  if (header.reserved != std::array<std::uint64_t, 2>{})
    fail(ErrorKind::bad_data, "reserved numbers of the header are not zero");
  if (header.file_bytes != file.size())
    fail(ErrorKind::bad_data, "{} bytes, the header says {}: {}", file.size(), header.file_bytes,
         file.size() < header.file_bytes ? "its end is missing" : "something follows its end");
  const std::uint64_t room = file.size() - sizeof header;
  if (header.manifest_bytes > room || header.manifest_bytes > kMostManifestBytes)
    fail(ErrorKind::bad_data, "a manifest of {} bytes in {}; {} are allowed", header.manifest_bytes, room,
         kMostManifestBytes);
  if (header.data_start != round_up(sizeof header + header.manifest_bytes, kPackAlignment) ||
      header.data_start > file.size())
    fail(ErrorKind::bad_data, "data from byte {} on, after a manifest that ends at {}", header.data_start,
         sizeof header + header.manifest_bytes);
  return header;
}

/// The message at `position`, which moves behind it.
std::string_view next_message(std::string_view manifest, std::size_t& position) {
  Frame frame;
  if (manifest.size() - position < sizeof frame) fail(ErrorKind::bad_data, "the manifest ends inside it");
  std::memcpy(&frame, manifest.data() + position, sizeof frame);
  const std::size_t rest = manifest.size() - position - sizeof frame;
  if (frame.bytes_check != check_of(frame.bytes) || frame.bytes > rest) fail(ErrorKind::bad_data, "is damaged");
  const std::string_view message = manifest.substr(position + sizeof frame, frame.bytes);
  if (hash64(message) != frame.checksum) fail(ErrorKind::bad_data, "is damaged");
  position += sizeof frame + frame.bytes;
  return message;
}

bool is_zero(std::string_view bytes) { return bytes.find_first_not_of('\0') == std::string_view::npos; }

PackManifest parse(const InputFile& file) {
  const Header header = read_header(file);
  std::string text(header.data_start - sizeof header, '\0');
  file.read(sizeof header, std::as_writable_bytes(std::span(text)));
  const std::string_view manifest = std::string_view(text).substr(0, header.manifest_bytes);
  if (!is_zero(std::string_view(text).substr(header.manifest_bytes)))
    fail(ErrorKind::bad_data, "bytes that are not zero between manifest and data");
  PackRecords records;
  std::size_t position = 0;
  for (std::uint32_t r = 0; r < header.records; ++r) {
    with_context(fmt::format("record {} at byte {}", r, sizeof header + position),
                 [&] { records.add(next_message(manifest, position)); });
  }
  if (position != manifest.size())
    fail(ErrorKind::bad_data, "{} bytes of the manifest belong to no record", manifest.size() - position);
  if (checked_add(header.data_start, records.data_bytes()) != file.size())
    fail(ErrorKind::bad_data, "{} bytes, its last region ends at {}", file.size(),
         header.data_start + records.data_bytes());
  PackManifest parsed = records.take();
  parsed.data_start = header.data_start;
  parsed.file_bytes = header.file_bytes;
  return parsed;
}

}  // namespace

Shape PackTensor::matrix_shape() const {
  return shape.size() == 1 ? Shape{1, checked_cast<std::size_t>(shape[0])}
                           : Shape{checked_cast<std::size_t>(shape[0]), checked_cast<std::size_t>(shape[1])};
}

std::uint64_t PackTensor::payload_bytes() const {
  return encoding == PackEncoding::same ? 0 : format_bytes(format, matrix_shape());
}

std::string PackTensor::in_words() const {
  if (encoding != PackEncoding::delta) return format;
  return "base + " + format.substr(0, format.find(" keeps "));  // how many entries are kept differs between tensors
}

double PackManifest::bits_per_weight() const {
  double bits = 0, weights = 0;
  for (const PackTensor& tensor : tensors) {
    if (tensor.shape.size() != 2) continue;
    bits += 8.0 * static_cast<double>(tensor.region.bytes);
    weights += static_cast<double>(tensor.matrix_shape().count());
  }
  return weights > 0 ? bits / weights : 0;
}

std::string hash_of_base(const std::vector<PackTensor>& tensors) {
  Hasher hasher;
  for (const PackTensor& tensor : tensors) hasher.add(tensor.base_hash);
  return hasher.hex();
}

void place_regions(PackManifest& manifest) {
  std::uint64_t end = 0;
  const auto place = [&](PackRegion& region) {
    place_region(region, round_up(end, kPackAlignment), manifest.piece_bytes);
    end = checked_add(region.offset, region.bytes);
  };
  for (PackedFile& file : manifest.files) place(file.region);
  for (PackTensor& tensor : manifest.tensors) place(tensor.region);
  const std::uint64_t manifest_bytes = records_of(manifest).size();
  if (manifest_bytes > kMostManifestBytes)
    fail(ErrorKind::bad_data, "a manifest of {} bytes; a pack's has at most {}", manifest_bytes, kMostManifestBytes);
  manifest.data_start = round_up(sizeof(Header) + manifest_bytes, kPackAlignment);
  manifest.file_bytes = checked_add(manifest.data_start, end);
}

std::uint64_t bytes_in_pack(PackTensor tensor, std::uint64_t offset, std::uint64_t piece_bytes) {
  place_region(tensor.region, offset, piece_bytes);
  std::string record;
  append_framed(record, tensor_record(tensor));
  return checked_add(record.size(), round_up(tensor.region.bytes, kPackAlignment));
}

std::string pack_head(const PackManifest& manifest) {
  const std::string records = records_of(manifest);
  Header header;
  std::ranges::copy(kPackMagic, header.magic.begin());
  header.version = kVersion;
  header.records = checked_cast<std::uint32_t>(1 + manifest.files.size() + manifest.tensors.size());
  header.manifest_bytes = records.size();
  header.data_start = manifest.data_start;
  header.file_bytes = manifest.file_bytes;
  header.checksum = checksum_of(header);
  std::string head(bytes_of_value(header));
  head += records;
  head.resize(manifest.data_start);
  return head;
}

PackManifest parse_pack_head(const InputFile& file) {
  return with_context(file.path().string(), [&] { return parse(file); });
}

bool is_pack(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  const InputFile file(path);
  if (file.size() < kPackMagic.size()) return false;
  std::string start(kPackMagic.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(start)));
  return start == kPackMagic;
}

}  // namespace adze
