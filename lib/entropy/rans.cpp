#include "entropy/rans.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"

namespace adze {
namespace {

constexpr std::uint32_t kLowest = 1u << 16;  ///< states are 2^16 .. 2^32 - 1; a word brings one back above
constexpr std::size_t kStateBytes = 4 * kRansStates;

using States = std::array<std::uint32_t, kRansStates>;

/// Walks over a chunk's tables in either direction without dividing for every symbol.
class RunCursor {
 public:
  RunCursor(const TableOfRuns& which, std::uint64_t symbol) : which_(which), at_(which.first + symbol) { look_up(); }

  std::uint8_t table() const { return which_.runs[run_]; }
  /// Symbols from the current one to the end of its run.
  std::uint64_t rest() const { return (run_ + 1) * which_.run - at_; }
  void advance(std::uint64_t symbols) {
    at_ += symbols;
    if (at_ >= (run_ + 1) * which_.run) look_up();
  }
  void go_back() {
    --at_;
    if (at_ < run_ * which_.run) --run_;
  }

 private:
  void look_up() { run_ = at_ / which_.run; }

  const TableOfRuns& which_;
  std::uint64_t at_;
  std::uint64_t run_ = 0;
};

struct Step {
  const std::uint32_t* slots;
  std::uint32_t mask;
  int bits;

  /// The state behind the symbol, before refilling; the symbol in the lowest byte of `entry`.
  std::uint32_t next(std::uint32_t x, std::uint32_t& entry) const {
    entry = slots[x & mask];
    return ((entry >> 20) + 1) * (x >> bits) + ((entry >> 8) & 0xFFF);
  }
};

class Decoder {
 public:
  Decoder(std::span<const std::byte> bytes, std::span<const DecodingTable> tables) : tables_(tables) {
    if (bytes.size() < kStateBytes || bytes.size() % 2 != 0)
      fail(ErrorKind::bad_data, "{} bytes are no chunk of coded symbols", bytes.size());
    std::memcpy(states_.data(), bytes.data(), kStateBytes);
    word_ = bytes.data() + kStateBytes;
    end_ = bytes.data() + bytes.size();
    if (std::ranges::any_of(states_, [](std::uint32_t x) { return x < kLowest; }))
      fail(ErrorKind::bad_data, "a state of coded symbols is below {}", kLowest);
  }

  /// One symbol by the state that is due.
  std::uint8_t one(std::size_t state, std::uint8_t table) {
    std::uint32_t entry = 0;
    std::uint32_t& x = states_[state];
    x = step(table).next(x, entry);
    if (x < kLowest) {
      if (word_ == end_) fail(ErrorKind::bad_data, "coded symbols end early");
      x = (x << 16) | word();
      word_ += 2;
    }
    return static_cast<std::uint8_t>(entry);
  }

  /// As many rounds of all states with one table as the words that are left allow; how many symbols that was.
  std::size_t rounds(std::uint8_t table, std::span<std::uint8_t> out) {
    const Step step_by = step(table);
    States x = states_;
    const std::byte* word_at = word_;
    std::size_t done = 0;
    for (; done + kRansStates <= out.size() && static_cast<std::size_t>(end_ - word_at) >= 2 * kRansStates;
         done += kRansStates) {
      std::uint64_t symbols = 0;
#pragma GCC unroll 8
      for (std::size_t s = 0; s < kRansStates; ++s) {
        std::uint32_t entry = 0;
        x[s] = step_by.next(x[s], entry);
        std::uint16_t next = 0;
        std::memcpy(&next, word_at, 2);
        const bool refill = x[s] < kLowest;
        x[s] = refill ? (x[s] << 16) | next : x[s];
        word_at += refill ? 2 : 0;
        symbols |= std::uint64_t{entry & 0xFF} << (8 * s);
      }
      std::memcpy(out.data() + done, &symbols, sizeof symbols);
    }
    states_ = x;
    word_ = word_at;
    return done;
  }

  /// The same where every symbol has a table of its own.
  std::size_t mixed_rounds(const std::uint8_t* of_symbol, std::span<std::uint8_t> out) {
    const int bits = tables_[0].bits();
    const std::uint32_t mask = (1u << bits) - 1;
    std::array<const std::uint32_t*, kMaxAlphabet> slots{};
    for (std::size_t t = 0; t < tables_.size(); ++t) slots[t] = tables_[t].slots();
    States x = states_;
    const std::byte* word_at = word_;
    std::size_t done = 0;
    for (; done + kRansStates <= out.size() && static_cast<std::size_t>(end_ - word_at) >= 2 * kRansStates;
         done += kRansStates) {
      std::uint64_t symbols = 0;
#pragma GCC unroll 8
      for (std::size_t s = 0; s < kRansStates; ++s) {
        std::uint32_t entry = 0;
        x[s] = Step{slots[of_symbol[done + s]], mask, bits}.next(x[s], entry);
        std::uint16_t next = 0;
        std::memcpy(&next, word_at, 2);
        const bool refill = x[s] < kLowest;
        x[s] = refill ? (x[s] << 16) | next : x[s];
        word_at += refill ? 2 : 0;
        symbols |= std::uint64_t{entry & 0xFF} << (8 * s);
      }
      std::memcpy(out.data() + done, &symbols, sizeof symbols);
    }
    states_ = x;
    word_ = word_at;
    return done;
  }

  void finish() const {
    if (word_ != end_ || std::ranges::any_of(states_, [](std::uint32_t x) { return x != kLowest; }))
      fail(ErrorKind::bad_data, "coded symbols do not end where they should");
  }

 private:
  Step step(std::uint8_t table) const {
    const DecodingTable& t = tables_[table];
    return {t.slots(), (1u << t.bits()) - 1, t.bits()};
  }
  std::uint32_t word() const {
    std::uint16_t next = 0;
    std::memcpy(&next, word_, 2);
    return next;
  }

  std::span<const DecodingTable> tables_;
  States states_{};
  const std::byte* word_ = nullptr;
  const std::byte* end_ = nullptr;
};

}  // namespace

DecodingTable::DecodingTable(const FrequencyTable& table)
    : bits_(table.bits()), slots_(std::size_t{1} << table.bits()) {
  for (std::uint32_t symbol = 0; symbol < static_cast<std::uint32_t>(table.alphabet()); ++symbol)
    for (std::uint32_t k = 0; k < table.frequency(symbol); ++k)
      slots_[table.start(symbol) + k] = (table.frequency(symbol) - 1) << 20 | k << 8 | symbol;
}

std::vector<std::byte> rans_encode(std::span<const std::uint8_t> symbols, std::span<const FrequencyTable> tables,
                                   const TableOfRuns& which) {
  States states;
  states.fill(kLowest);
  std::vector<std::uint16_t> words;  // last first: what is coded last is decoded first
  words.reserve(symbols.size() / 2);
  RunCursor cursor(which, symbols.empty() ? 0 : symbols.size() - 1);
  for (std::size_t i = symbols.size(); i-- > 0;) {
    const FrequencyTable& table = tables[cursor.table()];
    const std::uint32_t frequency = table.frequency(symbols[i]);
    std::uint32_t& x = states[i % kRansStates];
    if (x >= std::uint64_t{frequency} << (32 - table.bits())) {
      words.push_back(static_cast<std::uint16_t>(x & 0xFFFF));
      x >>= 16;
    }
    x = ((x / frequency) << table.bits()) + x % frequency + table.start(symbols[i]);
    if (i > 0) cursor.go_back();
  }
  std::ranges::reverse(words);
  std::vector<std::byte> bytes(kStateBytes + 2 * words.size());
  std::memcpy(bytes.data(), states.data(), kStateBytes);
  if (!words.empty()) std::memcpy(bytes.data() + kStateBytes, words.data(), 2 * words.size());
  return bytes;
}

void rans_decode(std::span<const std::byte> bytes, std::span<const DecodingTable> tables, const TableOfRuns& which,
                 std::span<std::uint8_t> out) {
  Decoder decoder(bytes, tables);
  RunCursor cursor(which, 0);
  std::size_t i = 0;
  while (i < out.size()) {
    // Whole rounds at once, where the next state is the first and there are words enough; else one by one.
    if (i % kRansStates == 0) {
      const std::size_t rest = std::min<std::uint64_t>(cursor.rest(), out.size() - i);
      const std::size_t done = which.run == 1
                                   ? decoder.mixed_rounds(which.runs.data() + which.first + i, out.subspan(i))
                                   : decoder.rounds(cursor.table(), out.subspan(i, rest));
      i += done;
      cursor.advance(done);
      if (i == out.size()) break;
    }
    out[i] = decoder.one(i % kRansStates, cursor.table());
    cursor.advance(1);
    ++i;
  }
  decoder.finish();
}

}  // namespace adze
