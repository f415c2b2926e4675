// Content hashes (XXH3, 128 bits): integrity and identity of our own files. Not a defence against forgery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace adze {

class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  Hasher& add(std::span<const std::byte> bytes);
  Hasher& add(std::string_view text);
  /// 32 lower-case hexadecimal digits of everything added so far.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string hash_hex(std::span<const std::byte> bytes);
std::string hash_hex(std::string_view text);
/// The same, with body(piece) for each piece of the bytes after it was hashed, while the cache has it still.
std::string hash_in_pieces(std::span<const std::byte> bytes,
                           const std::function<void(std::span<const std::byte> piece)>& body);
/// Hash of a whole file, read in pieces.
std::string hash_file(const std::filesystem::path& path);
/// 64-bit hash, for checksums of short records and for keys of random streams.
std::uint64_t hash64(std::string_view text);

}  // namespace adze
