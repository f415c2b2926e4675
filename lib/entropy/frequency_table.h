// Probabilities of the symbols of one context, as rANS needs them: integers that add up to a power of two, at least 1
// for every symbol that occurs. Static: counted once, stored beside what they code.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace adze {

constexpr int kMaxAlphabet = 256;

/// Frequencies of alphabets up to 32 add up to 2^11, of larger ones to 2^12: what rounding them costs is below 0.1 %
/// (0.5 % where a third of 256 symbols are rarer than one in 4096), and a table of the decoder is 8 or 16 KB, so that
/// two to four of them stay in the first-level cache.
constexpr int frequency_bits(int alphabet) { return alphabet <= 32 ? 11 : 12; }

class FrequencyTable {
 public:
  /// counts: one a symbol, 2 to 256 of them, not all zero. Rounds to nearest, then gives or takes where that costs
  /// least.
  explicit FrequencyTable(std::span<const std::uint64_t> counts);

  /// The inverse of append_to; `bytes` moves behind the table. Throws bad_data when they end early, or frequencies do
  /// not add up.
  static FrequencyTable read(int alphabet, std::span<const std::byte>& bytes);
  /// A bitmap of the symbols that occur, then the frequency minus 1 of each, frequency_bits() bits, lowest first.
  void append_to(std::vector<std::byte>& bytes) const;
  std::size_t stored_bytes() const;

  int alphabet() const { return alphabet_; }
  int bits() const { return frequency_bits(alphabet_); }
  std::uint32_t frequency(std::size_t symbol) const { return frequencies_[symbol]; }
  /// Of all smaller symbols together.
  std::uint32_t start(std::size_t symbol) const { return starts_[symbol]; }

 private:
  explicit FrequencyTable(int alphabet) : alphabet_(alphabet) {}
  void fill_starts();

  int alphabet_;
  std::array<std::uint32_t, kMaxAlphabet> frequencies_{};
  std::array<std::uint32_t, kMaxAlphabet> starts_{};
};

}  // namespace adze
