// Range asymmetric numeral systems (rANS; Duda, arXiv:1311.2540): the state x codes a symbol of frequency f of 2^b that
// begins at c as x' = (x / f) 2^b + x mod f + c. Eight states take turns, symbol i the state i mod 8, and share one
// stream of 16-bit words, so that eight chains of multiplications overlap (Giesen, arXiv:1402.3392).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "entropy/frequency_table.h"

namespace adze {

constexpr std::size_t kRansStates = 8;

/// What the decoder looks up: for each of the 2^bits slots its symbol, and what takes the state on.
class DecodingTable {
 public:
  explicit DecodingTable(const FrequencyTable& table);

  int bits() const { return bits_; }
  /// (frequency - 1) << 20 | (slot - start) << 8 | symbol.
  const std::uint32_t* slots() const { return slots_.data(); }

 private:
  int bits_;
  std::vector<std::uint32_t> slots_;
};

/// Which table codes which symbol: symbol i the one of runs[(first + i) / run].
struct TableOfRuns {
  std::span<const std::uint8_t> runs;
  std::uint64_t run = 1;
  std::uint64_t first = 0;  ///< number of the chunk's first symbol
};

/// The final states (8 x 4 bytes), then the words that decoding takes, 2 bytes each. Every symbol has a frequency in
/// its table.
std::vector<std::byte> rans_encode(std::span<const std::uint8_t> symbols, std::span<const FrequencyTable> tables,
                                   const TableOfRuns& which);

/// Fills `out`. Tables all have the same bits. Throws bad_data unless the bytes end exactly where the symbols do, with
/// the states that an encoder begins with.
void rans_decode(std::span<const std::byte> bytes, std::span<const DecodingTable> tables, const TableOfRuns& which,
                 std::span<std::uint8_t> out);

}  // namespace adze
