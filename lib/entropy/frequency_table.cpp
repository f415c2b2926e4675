#include "entropy/frequency_table.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "base/checked.h"
#include "base/error.h"
#include "entropy/packed_symbols.h"

namespace adze {
namespace {

/// count * total / sum, to nearest, at least 1 for what occurs.
std::uint32_t scaled(std::uint64_t count, std::uint64_t sum, std::uint64_t total) {
  if (count == 0) return 0;
  __extension__ using Wide = unsigned __int128;  // counts of a tensor times 4096 may pass 64 bits
  const auto nearest = static_cast<std::uint64_t>((Wide{count} * total + sum / 2) / sum);
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(nearest, 1));
}

}  // namespace

FrequencyTable::FrequencyTable(std::span<const std::uint64_t> counts) : alphabet_(static_cast<int>(counts.size())) {
  assert(counts.size() >= 2 && counts.size() <= kMaxAlphabet);
  const std::uint32_t total = 1u << bits();
  std::uint64_t sum = 0;
  for (const std::uint64_t count : counts) sum += count;
  assert(sum > 0);
  std::uint32_t given = 0;
  for (std::size_t s = 0; s < counts.size(); ++s) given += frequencies_[s] = scaled(counts[s], sum, total);
  // A symbol's bits are -count log2(frequency): one more saves about count / (frequency + 1/2), one less costs about
  // count / (frequency - 1/2).
  const auto slope = [&](std::size_t s, double half) {
    return static_cast<double>(counts[s]) / (static_cast<double>(frequencies_[s]) + half);
  };
  for (; given < total; ++given) {
    std::size_t best = 0;
    for (std::size_t s = 1; s < counts.size(); ++s)
      if (slope(s, 0.5) > slope(best, 0.5)) best = s;
    ++frequencies_[best];
  }
  for (; given > total; --given) {
    std::size_t best = counts.size();
    for (std::size_t s = 0; s < counts.size(); ++s)
      if (frequencies_[s] > 1 && (best == counts.size() || slope(s, -0.5) < slope(best, -0.5))) best = s;
    --frequencies_[best];
  }
  fill_starts();
}

void FrequencyTable::fill_starts() {
  std::uint32_t start = 0;
  for (std::size_t s = 0; s < static_cast<std::size_t>(alphabet_); ++s) {
    starts_[s] = start;
    start += frequencies_[s];
  }
}

std::size_t FrequencyTable::stored_bytes() const {
  const auto present = static_cast<std::uint64_t>(std::ranges::count_if(frequencies_, [](auto f) { return f > 0; }));
  return packed_symbol_bytes(static_cast<std::uint64_t>(alphabet_), 1) + packed_symbol_bytes(present, bits());
}

void FrequencyTable::append_to(std::vector<std::byte>& bytes) const {
  std::vector<std::uint8_t> occurs;
  std::vector<std::uint16_t> less_one;
  for (std::size_t s = 0; s < static_cast<std::size_t>(alphabet_); ++s) {
    occurs.push_back(frequencies_[s] > 0 ? 1 : 0);
    if (frequencies_[s] > 0) less_one.push_back(static_cast<std::uint16_t>(frequencies_[s] - 1));
  }
  const std::size_t at = bytes.size(), bitmap = packed_symbol_bytes(occurs.size(), 1);
  bytes.resize(at + stored_bytes());
  pack_symbols<std::uint8_t>(occurs, 1, std::span(bytes).subspan(at, bitmap));
  pack_symbols<std::uint16_t>(less_one, bits(), std::span(bytes).subspan(at + bitmap));
}

FrequencyTable FrequencyTable::read(int alphabet, std::span<const std::byte>& bytes) {
  FrequencyTable table(alphabet);
  const auto take = [&](std::uint64_t count) {
    if (bytes.size() < count) fail(ErrorKind::bad_data, "a table of frequencies ends early");
    const auto taken = bytes.first(count);
    bytes = bytes.subspan(count);
    return taken;
  };
  std::vector<std::uint8_t> occurs(static_cast<std::size_t>(alphabet));
  unpack_symbols<std::uint8_t>(take(packed_symbol_bytes(occurs.size(), 1)), 1, occurs);
  std::vector<std::uint16_t> less_one(static_cast<std::size_t>(std::ranges::count(occurs, 1)));
  unpack_symbols<std::uint16_t>(take(packed_symbol_bytes(less_one.size(), table.bits())), table.bits(), less_one);
  std::uint32_t sum = 0;
  auto next = less_one.begin();
  for (std::size_t s = 0; s < occurs.size(); ++s)
    if (occurs[s] != 0) sum += table.frequencies_[s] = *next++ + 1u;
  if (sum != 1u << table.bits())
    fail(ErrorKind::bad_data, "frequencies of symbols add up to {} instead of {}", sum, 1u << table.bits());
  table.fill_starts();
  return table;
}

}  // namespace adze
