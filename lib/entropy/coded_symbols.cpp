#include "entropy/coded_symbols.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/checked.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "entropy/packed_symbols.h"
#include "entropy/rans.h"

namespace adze {
namespace {

constexpr std::uint32_t kMagic = 0x53455A41;  // "AZES"
constexpr std::uint32_t kPacked = 1u << 31;
constexpr std::size_t kHeaderBytes = 20;

std::uint32_t checksum(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return static_cast<std::uint32_t>(hash64(text) & 0xFFFFFFFF);
}

template <typename T>
void append(std::vector<std::byte>& bytes, T value) {
  const auto* const first = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), first, first + sizeof value);
}

/// Values one after the other out of foreign bytes.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes), rest_(bytes) {}

  std::span<const std::byte> take(std::uint64_t count) {
    if (count > rest_.size()) fail(ErrorKind::bad_data, "coded symbols end early, after {} bytes", bytes_.size());
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  template <typename T>
  T get() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::span<const std::byte>& rest() { return rest_; }
  std::span<const std::byte> before() const { return bytes_.first(bytes_.size() - rest_.size()); }

 private:
  std::span<const std::byte> bytes_;
  std::span<const std::byte> rest_;
};

std::size_t chunk_count(std::uint64_t symbols) { return divide_up(symbols, kChunkSymbols); }

std::size_t chunk_size(std::uint64_t symbols, std::size_t chunk) {
  return std::min<std::uint64_t>(kChunkSymbols, symbols - chunk * kChunkSymbols);
}

/// Every symbol has a context and every context a number that fits.
void check_contexts(const Contexts& contexts, std::uint64_t symbols) {
  const bool in_range = contexts.count >= 1 && contexts.count <= kMaxContexts;
  if (!in_range || (contexts.count > 1 && contexts.run == 0))
    fail(ErrorKind::internal, "{} contexts in runs of {}", contexts.count, contexts.run);
  if (contexts.count == 1) return;
  if (contexts.of_run.size() < divide_up(symbols, contexts.run) ||
      std::ranges::any_of(contexts.of_run, [&](std::uint8_t context) { return context >= contexts.count; }))
    fail(ErrorKind::internal, "contexts do not cover {} symbols, or are not below {}", symbols, contexts.count);
}

// --- counting

/// Counts of the symbols of each context, one context after the other.
struct Counts {
  Counts(int contexts, int alphabet_size)
      : alphabet(static_cast<std::size_t>(alphabet_size)), values(static_cast<std::size_t>(contexts) * alphabet) {}

  std::size_t alphabet;
  std::vector<std::uint64_t> values;

  std::span<std::uint64_t> of(std::size_t context) { return std::span(values).subspan(context * alphabet, alphabet); }
  std::span<const std::uint64_t> of(std::size_t context) const {
    return std::span(values).subspan(context * alphabet, alphabet);
  }
};

void count_part(std::span<const std::uint8_t> symbols, std::uint64_t first, const Contexts& contexts, Counts& counts) {
  const bool one = contexts.count == 1;
  for (std::size_t i = 0; i < symbols.size();) {
    const std::uint64_t run = one ? 0 : (first + i) / contexts.run;
    const std::size_t end =
        one ? symbols.size() : std::min<std::uint64_t>(symbols.size(), (run + 1) * contexts.run - first);
    const std::span<std::uint64_t> own = counts.of(one ? 0 : contexts.of_run[run]);
    for (; i < end; ++i) {
      if (symbols[i] >= counts.alphabet) fail(ErrorKind::internal, "a symbol is not below {}", counts.alphabet);
      ++own[symbols[i]];
    }
  }
}

/// Sums of whole numbers: the parts may be as many as there are threads.
Counts count_symbols(std::span<const std::uint8_t> symbols, int alphabet, const Contexts& contexts) {
  if (alphabet < 2 || alphabet > kMaxAlphabet) fail(ErrorKind::internal, "an alphabet of {} symbols", alphabet);
  check_contexts(contexts, symbols.size());
  const std::size_t chunks = chunk_count(symbols.size());
  const std::size_t parts = std::min<std::size_t>(chunks, static_cast<std::size_t>(thread_count()));
  std::vector<Counts> counts(parts, Counts(contexts.count, alphabet));
  parallel_for(parts, [&](std::size_t p) {
    const std::size_t first = chunks * p / parts * kChunkSymbols;
    const std::size_t end = std::min(symbols.size(), chunks * (p + 1) / parts * kChunkSymbols);
    count_part(symbols.subspan(first, end - first), first, contexts, counts[p]);
  });
  Counts sum(contexts.count, alphabet);
  for (const Counts& part : counts)
    for (std::size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += part.values[i];
  return sum;
}

/// n H of the distribution that counts are.
double entropy_bits(std::span<const std::uint64_t> counts) {
  std::uint64_t total = 0;
  double bits = 0;
  for (const std::uint64_t count : counts) {
    total += count;
    if (count > 0) bits -= static_cast<double>(count) * std::log2(static_cast<double>(count));
  }
  return total == 0 ? 0 : bits + static_cast<double>(total) * std::log2(static_cast<double>(total));
}

void add_counts(std::span<const std::uint64_t> counts, std::span<std::uint64_t> sum) {
  for (std::size_t s = 0; s < sum.size(); ++s) sum[s] += counts[s];
}

CodingReport report_of(std::uint64_t symbols, const Counts& counts) {
  CodingReport report{symbols, 0, 0, 0, 0};
  report.raw = 8.0 * static_cast<double>(packed_symbol_bytes(symbols, symbol_bits(static_cast<int>(counts.alphabet))));
  std::vector<std::uint64_t> all(counts.alphabet);
  for (std::size_t c = 0; c * counts.alphabet < counts.values.size(); ++c) {
    report.conditional += entropy_bits(counts.of(c));
    add_counts(counts.of(c), all);
  }
  report.order0 = entropy_bits(all);
  return report;
}

// --- tables

struct Tables {
  std::vector<std::uint8_t> of_context;
  std::vector<FrequencyTable> tables;
};

/// Contexts that share a table: the pair that saves most is merged until none saves anything. A table's cost counts as
/// one of frequency_bits() a symbol that occurs, which is within a few bits of what is stored.
class ContextMerger {
 public:
  explicit ContextMerger(const Counts& counts) : alphabet_(static_cast<int>(counts.alphabet)) {
    for (std::size_t c = 0; c * counts.alphabet < counts.values.size(); ++c) {
      const auto own = counts.of(c);
      groups_.push_back({{own.begin(), own.end()}, cost_of(own), {c}, true});
    }
    for (Group& group : groups_) group.alive = std::ranges::any_of(group.counts, [](auto n) { return n > 0; });
  }

  Tables merged() {
    std::vector<std::vector<double>> saved(groups_.size(), std::vector<double>(groups_.size()));
    const auto refresh = [&](std::size_t a) {
      for (std::size_t b = 0; b < groups_.size(); ++b)
        if (b != a && groups_[b].alive) saved[std::min(a, b)][std::max(a, b)] = saving(a, b);
    };
    for (std::size_t a = 0; a < groups_.size(); ++a)
      for (std::size_t b = a + 1; b < groups_.size(); ++b)
        if (groups_[a].alive && groups_[b].alive) saved[a][b] = saving(a, b);
    while (const auto pair = best_pair(saved)) {
      merge(pair->first, pair->second);
      refresh(pair->first);
    }
    return tables();
  }

 private:
  struct Group {
    std::vector<std::uint64_t> counts;
    double cost;
    std::vector<std::size_t> contexts;
    bool alive;
  };

  double cost_of(std::span<const std::uint64_t> counts) const {
    const auto occur = std::ranges::count_if(counts, [](auto n) { return n > 0; });
    return entropy_bits(counts) + alphabet_ + static_cast<double>(occur * frequency_bits(alphabet_));
  }
  std::vector<std::uint64_t> together(std::size_t a, std::size_t b) const {
    std::vector<std::uint64_t> sum = groups_[a].counts;
    add_counts(groups_[b].counts, sum);
    return sum;
  }
  double saving(std::size_t a, std::size_t b) const {
    return groups_[a].cost + groups_[b].cost - cost_of(together(a, b));
  }
  std::optional<std::pair<std::size_t, std::size_t>> best_pair(const std::vector<std::vector<double>>& saved) const {
    std::optional<std::pair<std::size_t, std::size_t>> best;
    double most = 0;
    for (std::size_t a = 0; a < groups_.size(); ++a)
      for (std::size_t b = a + 1; groups_[a].alive && b < groups_.size(); ++b)
        if (groups_[b].alive && saved[a][b] > most) {
          most = saved[a][b];
          best = {a, b};
        }
    return best;
  }
  void merge(std::size_t a, std::size_t b) {
    groups_[a].counts = together(a, b);
    groups_[a].cost = cost_of(groups_[a].counts);
    groups_[a].contexts.insert(groups_[a].contexts.end(), groups_[b].contexts.begin(), groups_[b].contexts.end());
    groups_[b].alive = false;
  }
  /// Contexts that no symbol has get the first table.
  Tables tables() const {
    Tables result{std::vector<std::uint8_t>(groups_.size()), {}};
    for (const Group& group : groups_) {
      if (!group.alive) continue;
      for (const std::size_t c : group.contexts) result.of_context[c] = static_cast<std::uint8_t>(result.tables.size());
      result.tables.emplace_back(group.counts);
    }
    return result;
  }

  int alphabet_;
  std::vector<Group> groups_;
};

/// The contexts of runs as tables of runs. A single table needs no runs.
struct MappedRuns {
  MappedRuns(const Contexts& contexts, std::span<const std::uint8_t> of_context, std::size_t tables,
             std::uint64_t symbols) {
    if (tables <= 1 || contexts.count == 1) {
      runs = {0};
      run = std::max<std::uint64_t>(symbols, 2);  // not 1, which stands for a table of its own for every symbol
      return;
    }
    run = contexts.run;
    runs.reserve(contexts.of_run.size());
    for (const std::uint8_t context : contexts.of_run) runs.push_back(of_context[context]);
  }
  TableOfRuns at_chunk(std::size_t chunk) const { return {runs, run, chunk * kChunkSymbols}; }

  std::vector<std::uint8_t> runs;
  std::uint64_t run;
};

// --- chunks

struct Chunk {
  std::vector<std::byte> bytes;
  bool packed = false;
};

Chunk packed_chunk(std::span<const std::uint8_t> symbols, int bits) {
  Chunk chunk{std::vector<std::byte>(packed_symbol_bytes(symbols.size(), bits)), true};
  pack_symbols(symbols, bits, std::span(chunk.bytes));
  return chunk;
}

/// One after the other as chunks, coded where that is smaller; without tables packed.
std::vector<Chunk> make_chunks(std::span<const std::uint8_t> symbols, int alphabet,
                               std::span<const FrequencyTable> tables, const MappedRuns& runs) {
  std::vector<Chunk> chunks(chunk_count(symbols.size()));
  const int bits = symbol_bits(alphabet);
  parallel_for(chunks.size(), [&](std::size_t c) {
    const auto own = symbols.subspan(c * kChunkSymbols, chunk_size(symbols.size(), c));
    if (!tables.empty()) chunks[c].bytes = rans_encode(own, tables, runs.at_chunk(c));
    if (tables.empty() || chunks[c].bytes.size() >= packed_symbol_bytes(own.size(), bits))
      chunks[c] = packed_chunk(own, bits);
  });
  return chunks;
}

std::uint64_t total_bytes(std::span<const Chunk> chunks) {
  std::uint64_t bytes = 0;
  for (const Chunk& chunk : chunks) bytes += chunk.bytes.size();
  return bytes;
}

std::vector<std::byte> table_bytes(const Tables& tables) {
  std::vector<std::byte> bytes;
  for (const std::uint8_t table : tables.of_context) bytes.push_back(static_cast<std::byte>(table));
  for (const FrequencyTable& table : tables.tables) table.append_to(bytes);
  return bytes;
}

std::vector<std::byte> assembled(std::uint64_t symbols, int alphabet, int contexts, std::size_t tables,
                                 std::span<const std::byte> table_part, std::span<const Chunk> chunks) {
  std::vector<std::byte> bytes;
  bytes.reserve(kCodedFixedBytes + table_part.size() + kChunkOverheadBytes * chunks.size() + total_bytes(chunks));
  append(bytes, kMagic);
  for (const std::size_t field :
       {static_cast<std::size_t>(alphabet), static_cast<std::size_t>(contexts), tables, std::size_t{0}})
    append(bytes, static_cast<std::uint16_t>(field));
  append(bytes, symbols);
  bytes.insert(bytes.end(), table_part.begin(), table_part.end());
  for (const Chunk& chunk : chunks) {
    append(bytes, static_cast<std::uint32_t>(chunk.bytes.size()) | (chunk.packed ? kPacked : 0));
    append(bytes, checksum(chunk.bytes));
  }
  append(bytes, checksum(bytes));
  for (const Chunk& chunk : chunks) bytes.insert(bytes.end(), chunk.bytes.begin(), chunk.bytes.end());
  return bytes;
}

// --- decoding

struct Header {
  std::uint16_t alphabet, contexts, tables, reserved;
  std::uint64_t symbols;
};

Header read_header(Cursor& cursor, int alphabet, int contexts, std::uint64_t symbols) {
  if (cursor.get<std::uint32_t>() != kMagic) fail(ErrorKind::bad_data, "these bytes are no coded symbols");
  Header header{};
  header.alphabet = cursor.get<std::uint16_t>();
  header.contexts = cursor.get<std::uint16_t>();
  header.tables = cursor.get<std::uint16_t>();
  header.reserved = cursor.get<std::uint16_t>();
  header.symbols = cursor.get<std::uint64_t>();
  if (header.symbols != symbols)
    fail(ErrorKind::bad_data, "{} coded symbols where {} are expected", header.symbols, symbols);
  if (header.alphabet != alphabet || header.contexts != contexts || header.tables > contexts || header.reserved != 0)
    fail(ErrorKind::bad_data, "coded symbols of an alphabet of {} in {} contexts with {} tables; expected {} in {}",
         header.alphabet, header.contexts, header.tables, alphabet, contexts);
  return header;
}

struct StoredChunk {
  std::span<const std::byte> bytes;
  std::uint32_t checksum = 0;
  bool packed = false;
};

void decode_packed(std::span<const std::byte> bytes, int alphabet, std::span<std::uint8_t> out) {
  const int bits = symbol_bits(alphabet);
  if (bytes.size() != packed_symbol_bytes(out.size(), bits))
    fail(ErrorKind::bad_data, "{} bytes of {} packed symbols of {} bits", bytes.size(), out.size(), bits);
  unpack_symbols(bytes, bits, out);
  if (std::ranges::any_of(out, [&](std::uint8_t symbol) { return symbol >= alphabet; }))
    fail(ErrorKind::bad_data, "a packed symbol is not below {}", alphabet);
}

}  // namespace

CodingReport& CodingReport::operator+=(const CodingReport& other) {
  symbols += other.symbols;
  raw += other.raw;
  order0 += other.order0;
  conditional += other.conditional;
  coded += other.coded;
  return *this;
}

CodingReport symbol_entropy(std::span<const std::uint8_t> symbols, int alphabet, const Contexts& contexts) {
  return report_of(symbols.size(), count_symbols(symbols, alphabet, contexts));
}

std::uint64_t most_symbols(std::uint64_t coded_bytes) {
  // A coded chunk has its states, a packed one is of a bit a symbol at least.
  constexpr std::uint64_t kLeast = kChunkOverheadBytes + 4 * kRansStates;
  return divide_up(coded_bytes, kLeast) * kChunkSymbols;
}

CodedSymbols encode_symbols(std::span<const std::uint8_t> symbols, int alphabet, const Contexts& contexts) {
  const Counts counts = count_symbols(symbols, alphabet, contexts);
  CodedSymbols coded{{}, report_of(symbols.size(), counts)};
  Tables tables{std::vector<std::uint8_t>(static_cast<std::size_t>(contexts.count)), {}};
  if (!symbols.empty()) tables = ContextMerger(counts).merged();
  const MappedRuns runs(contexts, tables.of_context, tables.tables.size(), symbols.size());
  std::vector<Chunk> chunks = make_chunks(symbols, alphabet, tables.tables, runs);
  std::vector<std::byte> table_part = table_bytes(tables);
  const std::uint64_t packed = packed_symbol_bytes(symbols.size(), symbol_bits(alphabet));
  if (table_part.size() + total_bytes(chunks) >= packed) {
    chunks = make_chunks(symbols, alphabet, {}, runs);
    tables.tables.clear();
    table_part.clear();
  }
  coded.bytes = assembled(symbols.size(), alphabet, contexts.count, tables.tables.size(), table_part, chunks);
  coded.report.coded = 8.0 * static_cast<double>(coded.bytes.size());
  return coded;
}

void decode_symbols(std::span<const std::byte> coded, int alphabet, const Contexts& contexts,
                    std::span<std::uint8_t> out) {
  if (alphabet < 2 || alphabet > kMaxAlphabet) fail(ErrorKind::internal, "an alphabet of {} symbols", alphabet);
  check_contexts(contexts, out.size());
  Cursor cursor(coded);
  const Header header = read_header(cursor, alphabet, contexts.count, out.size());

  std::vector<std::uint8_t> of_context(header.contexts);
  std::vector<DecodingTable> tables;
  if (header.tables > 0) {
    const auto map = cursor.take(header.contexts);
    std::memcpy(of_context.data(), map.data(), map.size());
    if (std::ranges::any_of(of_context, [&](std::uint8_t table) { return table >= header.tables; }))
      fail(ErrorKind::bad_data, "a context of coded symbols has a table that is not there");
    for (std::size_t t = 0; t < header.tables; ++t) tables.emplace_back(FrequencyTable::read(alphabet, cursor.rest()));
  }

  std::vector<StoredChunk> chunks;
  const std::size_t count = chunk_count(out.size());
  Cursor directory(cursor.take(checked_mul(count, kChunkOverheadBytes)));
  const std::uint32_t expected = checksum(cursor.before());
  if (cursor.get<std::uint32_t>() != expected)
    fail(ErrorKind::bad_data, "the checksum of coded symbols' tables is wrong");
  chunks.reserve(count);
  for (std::size_t c = 0; c < count; ++c) {
    const auto bytes = directory.get<std::uint32_t>();
    const auto sum = directory.get<std::uint32_t>();
    chunks.push_back({cursor.take(bytes & ~kPacked), sum, (bytes & kPacked) != 0});
  }
  if (!cursor.rest().empty()) fail(ErrorKind::bad_data, "{} bytes after coded symbols", cursor.rest().size());

  const MappedRuns runs(contexts, of_context, tables.size(), out.size());
  parallel_for(count, [&](std::size_t c) {
    const std::span<std::uint8_t> own = out.subspan(c * kChunkSymbols, chunk_size(out.size(), c));
    if (checksum(chunks[c].bytes) != chunks[c].checksum)
      fail(ErrorKind::bad_data, "chunk {} of coded symbols: the checksum is wrong", c);
    if (chunks[c].packed) return decode_packed(chunks[c].bytes, alphabet, own);
    if (tables.empty()) fail(ErrorKind::bad_data, "chunk {} of coded symbols needs a table", c);
    rans_decode(chunks[c].bytes, tables, runs.at_chunk(c), own);
  });
}

}  // namespace adze
