#include "base/hash.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>
#include <xxhash.h>

#include "base/error.h"
#include "base/file.h"

namespace adze {

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

std::string hash_file(const std::filesystem::path& path) {
  constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;
  const InputFile file(path);
  std::vector<std::byte> piece(std::min(kPiece, std::max<std::uint64_t>(file.size(), 1)));
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
