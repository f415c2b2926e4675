#include "base/hash.h"

#include <algorithm>

#include <fmt/format.h>
#include <xxhash.h>
// Elsewhere the one kind of instructions that the library is built for is all that there is.
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif

#include "base/byte_array.h"
#include "base/error.h"
#include "base/file.h"

namespace adze {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 18;  // fits into the cache of a core

}  // namespace

struct Hasher::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Hasher::Hasher() : state_(std::make_unique<State>()) { XXH3_128bits_reset(state_->xxh); }
Hasher::~Hasher() = default;

Hasher& Hasher::add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size());
  return *this;
}

Hasher& Hasher::add(std::string_view text) { return add(as_bytes(text)); }

std::string Hasher::hex() const {
  const XXH128_hash_t digest = XXH3_128bits_digest(state_->xxh);
  return fmt::format("{:016x}{:016x}", digest.high64, digest.low64);
}

std::string hash_hex(std::span<const std::byte> bytes) { return Hasher().add(bytes).hex(); }
std::string hash_hex(std::string_view text) { return hash_hex(as_bytes(text)); }

std::string hash_in_pieces(std::span<const std::byte> bytes,
                           const std::function<void(std::span<const std::byte> piece)>& body) {
  Hasher hasher;
  for (std::size_t first = 0; first < bytes.size(); first += kPiece) {
    const std::span<const std::byte> piece = bytes.subspan(first, std::min(kPiece, bytes.size() - first));
    hasher.add(piece);
    body(piece);
  }
  return hasher.hex();
}

std::string hash_file(const std::filesystem::path& path) {
  const InputFile file(path);
  ByteArray piece(static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, std::max<std::uint64_t>(file.size(), 1))));
  Hasher hasher;
  for (std::uint64_t offset = 0; offset < file.size(); offset += piece.size()) {
    const std::span part = std::span(piece).first(std::min<std::uint64_t>(piece.size(), file.size() - offset));
    file.read(offset, part);
    hasher.add(part);
  }
  return hasher.hex();
}

std::uint64_t hash64(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

}  // namespace adze
