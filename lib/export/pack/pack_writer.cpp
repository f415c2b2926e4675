#include "export/pack/pack_writer.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/hash.h"
#include "base/parallel.h"

namespace adze {

PackWriter::PackWriter(const std::filesystem::path& path, PackManifest& manifest) : manifest_(manifest), file_(path) {
  file_.write(pack_head(manifest_));
}

void PackWriter::write(PackRegion& region, std::span<const std::byte> bytes) { write(region, bytes, hash_hex(bytes)); }

void PackWriter::write(PackRegion& region, std::span<const std::byte> bytes, const std::string& hash) {
  if (bytes.size() != region.bytes)
    fail(ErrorKind::internal, "{} bytes in the model, {} planned", bytes.size(), region.bytes);
  static constexpr std::array<std::byte, kPackAlignment> kZeros{};
  file_.write(std::span(kZeros).first(manifest_.data_start + region.offset - file_.bytes_written()));
  file_.write(bytes);
  region.hash = hash;
  parallel_for(region.checks.size(), [&](std::size_t i) {
    const std::span rest = bytes.subspan(i * manifest_.piece_bytes);
    const std::span piece = rest.first(std::min<std::size_t>(rest.size(), manifest_.piece_bytes));
    region.checks[i] = hash64({reinterpret_cast<const char*>(piece.data()), piece.size()});
  });
}

void PackWriter::commit() {
  file_.write_at(0, as_bytes(pack_head(manifest_)));
  file_.commit(Durable::later);
}

}  // namespace adze
