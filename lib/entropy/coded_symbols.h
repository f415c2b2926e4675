// Lossless coding of symbols below 256 (quantized codes, bytes of scales) by what is known before them: rANS with a
// static table per context, in chunks of 65536 symbols that decode in parallel. Bit-exact; the bytes and what comes out
// are the same for any number of threads. Contexts are the caller's: whatever both sides know of a symbol before it is
// decoded, such as its row, the scale of its group or the code of another checkpoint at the same place. A symbol's
// neighbours are not among them, because states that take turns could not wait for each other; between weights they
// tell almost nothing.
//
// Never larger than the packed symbols + 8 bytes a chunk + kCodedFixedBytes: a chunk that coding does not make smaller
// is packed, and tables are left out where they do not pay for themselves.
//
//   u32 magic "AZES", u16 alphabet, u16 contexts, u16 tables, u16 0, u64 symbols
//   the table of each context, one byte each; then the tables (frequency_table.h)      not where tables = 0
//   per chunk: u32 bytes, the highest bit set where it is packed; u32 checksum of its bytes
//   u32 checksum of all the above
//   the chunks (rans.h, packed_symbols.h)
//
// Checksums are the low half of XXH3's 64 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace adze {

constexpr std::size_t kChunkSymbols = 65536;
constexpr std::size_t kCodedFixedBytes = 24;
constexpr std::size_t kChunkOverheadBytes = 8;
constexpr int kMaxContexts = 256;

/// Symbol i has the context of_run[i / run], below `count`. By default all have the same.
struct Contexts {
  std::span<const std::uint8_t> of_run = {};
  std::uint64_t run = 0;  ///< symbols that share an entry of of_run; multiples of 8, and 1, decode fastest
  int count = 1;
};

/// In bits, for all symbols together.
struct CodingReport {
  std::uint64_t symbols = 0;
  double raw = 0;          ///< packed
  double order0 = 0;       ///< n H(symbol)
  double conditional = 0;  ///< n H(symbol | context), both by the counts of these symbols
  double coded = 0;        ///< everything that was written

  CodingReport& operator+=(const CodingReport& other);
};

struct CodedSymbols {
  std::vector<std::byte> bytes;
  CodingReport report;
};

/// alphabet: 2 to 256, symbols below it. Contexts that resemble each other share a table where that takes fewer bytes.
/// Throws internal for anything outside these ranges.
CodedSymbols encode_symbols(std::span<const std::uint8_t> symbols, int alphabet, const Contexts& contexts = {});

/// The report without the coding; `coded` stays 0.
CodingReport symbol_entropy(std::span<const std::uint8_t> symbols, int alphabet, const Contexts& contexts = {});

/// No more symbols than this come out of so many bytes: readers ask before they allocate.
std::uint64_t most_symbols(std::uint64_t coded_bytes);

/// The inverse, with the same contexts; out.size() is how many symbols there must be. Allocates nothing that depends on
/// the bytes but the tables they hold. Throws bad_data for bytes that encode_symbols did not write.
void decode_symbols(std::span<const std::byte> coded, int alphabet, const Contexts& contexts,
                    std::span<std::uint8_t> out);

}  // namespace adze
