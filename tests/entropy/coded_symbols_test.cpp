// Coded symbols: what comes back, how small they are, what is refused.
#include "entropy/coded_symbols.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "base/random.h"
#include "entropy/entropy_testing.h"
#include "entropy/frequency_table.h"

namespace adze {
namespace {

using entropy_testing::PlainReader;
using ::testing::HasSubstr;
using Symbols = std::vector<std::uint8_t>;

/// Normal weights in groups of 128, as a symmetric 4-bit grid rounds them: scale = max / 7, code + 8.
Symbols gaussian_codes(std::size_t count) {
  RandomStream random(1, "gaussian codes");
  Symbols codes;
  for (std::size_t g = 0; g < count / 128; ++g) {
    std::array<double, 128> weights{};
    double most = 0;
    for (double& w : weights) most = std::max(most, std::fabs(w = random.normal()));
    for (const double w : weights) codes.push_back(static_cast<std::uint8_t>(std::lround(w / most * 7) + 8));
  }
  return codes;
}

Symbols uniform_symbols(std::size_t count, int alphabet, const char* name) {
  RandomStream random(2, name);
  Symbols symbols(count);
  for (std::uint8_t& s : symbols) s = static_cast<std::uint8_t>(random.below(static_cast<std::uint64_t>(alphabet)));
  return symbols;
}

/// Symbols near 0 more often: the least of a few draws.
Symbols skewed_symbols(std::size_t count, int alphabet, const char* name) {
  Symbols symbols = uniform_symbols(count, alphabet, name);
  const Symbols second = uniform_symbols(count, alphabet, "second"), third = uniform_symbols(count, alphabet, "third");
  for (std::size_t i = 0; i < count; ++i) symbols[i] = std::min({symbols[i], second[i], third[i]});
  return symbols;
}

Symbols decoded(const CodedSymbols& coded, int alphabet, const Contexts& contexts, std::size_t count) {
  Symbols out(count, 0xEE);
  decode_symbols(coded.bytes, alphabet, contexts, out);
  return out;
}

/// -sum n log2 p, from the definition.
double brute_force_bits(const Symbols& symbols, const std::function<int(std::size_t)>& context_of) {
  std::map<std::pair<int, int>, double> pairs;
  std::map<int, double> contexts;
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    ++pairs[{context_of(i), symbols[i]}];
    ++contexts[context_of(i)];
  }
  double bits = 0;
  for (std::size_t i = 0; i < symbols.size(); ++i)
    bits -= std::log2(pairs[{context_of(i), symbols[i]}] / contexts[context_of(i)]);
  return bits;
}

std::string refusal(std::span<const std::byte> bytes, int alphabet, const Contexts& contexts, std::size_t count) {
  try {
    Symbols out(count);
    decode_symbols(bytes, alphabet, contexts, out);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data) << error.message();
    return error.message();
  }
  return "";
}

TEST(CodedSymbols, ComeBackForEveryLengthAndAlphabet) {
  for (const int alphabet : {2, 3, 4, 15, 16, 17, 32, 33, 64, 100, 255, 256})
    for (const std::size_t count : {0, 1, 2, 7, 8, 9, 63, 1000, 65535, 65536, 65537, 140001})
      for (const bool skewed : {false, true}) {
        const Symbols symbols =
            skewed ? skewed_symbols(count, alphabet, "skewed") : uniform_symbols(count, alphabet, "uniform");
        const CodedSymbols coded = encode_symbols(symbols, alphabet);
        ASSERT_EQ(decoded(coded, alphabet, {}, count), symbols) << alphabet << " " << count;
        const std::size_t chunks = (count + kChunkSymbols - 1) / kChunkSymbols;
        ASSERT_LE(8.0 * static_cast<double>(coded.bytes.size()),
                  coded.report.raw + 8.0 * static_cast<double>(kCodedFixedBytes + kChunkOverheadBytes * chunks))
            << alphabet << " " << count;
      }
}

TEST(CodedSymbols, AreReadAlikeByAPlainReader) {
  const Symbols symbols = skewed_symbols(150'000, 16, "plain");
  Symbols of_run;
  for (std::size_t i = 0; i < symbols.size() / 40 + 1; ++i) of_run.push_back(static_cast<std::uint8_t>(i % 3));
  Symbols mixed = symbols;
  for (std::size_t i = 0; i < mixed.size(); ++i)
    if (of_run[i / 40] == 1) mixed[i] = static_cast<std::uint8_t>(15 - mixed[i]);
  const CodedSymbols coded = encode_symbols(mixed, 16, {of_run, 40, 3});
  PlainReader reader(coded.bytes);
  EXPECT_EQ(reader.decode([&](std::size_t i) { return of_run[i / 40]; }), mixed);
  EXPECT_EQ(reader.tables(), 2u) << "the contexts 0 and 2 are alike";
  const Symbols noise = uniform_symbols(70'000, 16, "noise");
  EXPECT_EQ(PlainReader(encode_symbols(noise, 16).bytes).decode([](std::size_t) { return 0; }), noise);
}

TEST(CodedSymbols, OfGaussianWeightsAreWithinTwoPercentOfTheirEntropy) {
  const Symbols codes = gaussian_codes(std::size_t{1} << 20);
  const CodedSymbols coded = encode_symbols(codes, 16);
  EXPECT_NEAR(coded.report.order0, brute_force_bits(codes, [](std::size_t) { return 0; }), 1);
  EXPECT_LT(coded.report.coded, 1.003 * coded.report.conditional);
  EXPECT_NEAR(coded.report.coded / static_cast<double>(codes.size()), 3.4, 0.2) << "allocation.md, 8.3";
}

TEST(CodedSymbols, FollowTheirContexts) {
  const std::size_t count = std::size_t{1} << 20;
  RandomStream random(1, "previous");
  Symbols previous(count), symbols(count);  // of another checkpoint, and ours, which seldom differs
  for (std::size_t i = 0; i < count; ++i) {
    previous[i] = static_cast<std::uint8_t>(random.below(16));
    symbols[i] = static_cast<std::uint8_t>((previous[i] + (random.below(10) == 0 ? 1 : 0)) % 16);
  }
  const Contexts contexts{previous, 1, 16};
  const CodedSymbols coded = encode_symbols(symbols, 16, contexts);
  EXPECT_EQ(decoded(coded, 16, contexts, count), symbols);
  EXPECT_NEAR(coded.report.order0 / static_cast<double>(count), 4.0, 0.01);
  EXPECT_NEAR(coded.report.conditional, brute_force_bits(symbols, [&](std::size_t i) { return previous[i]; }), 1);
  EXPECT_LT(coded.report.coded, 1.02 * coded.report.conditional);
}

TEST(CodedSymbols, ComeBackWithRunsOfAnyLength) {
  const Symbols symbols = skewed_symbols(70'001, 16, "runs");
  for (const std::size_t run : {1, 2, 3, 7, 8, 9, 24, 100, 65536, 100'000}) {
    Symbols of_run, flipped = symbols;
    for (std::size_t i = 0; i <= symbols.size() / run; ++i) of_run.push_back(static_cast<std::uint8_t>((i * i) % 5));
    for (std::size_t i = 0; i < flipped.size(); ++i) flipped[i] ^= of_run[i / run];
    const Contexts contexts{of_run, run, 5};
    const CodedSymbols coded = encode_symbols(flipped, 16, contexts);
    ASSERT_EQ(decoded(coded, 16, contexts, flipped.size()), flipped) << run;
    ASSERT_EQ(PlainReader(coded.bytes).decode([&](std::size_t i) { return of_run[i / run]; }), flipped) << run;
  }
}

TEST(CodedSymbols, ThatAreAllEqualTakeNextToNothing) {
  const Symbols symbols(1'000'000, 9);
  const CodedSymbols coded = encode_symbols(symbols, 16);
  EXPECT_EQ(decoded(coded, 16, {}, symbols.size()), symbols);
  EXPECT_LT(coded.bytes.size(), 700u) << "16 chunks of 40 bytes";
  EXPECT_EQ(coded.report.order0, 0);
}

TEST(CodedSymbols, ThatAlternateTakeOneBit) {
  Symbols symbols(1'000'000);
  for (std::size_t i = 0; i < symbols.size(); ++i) symbols[i] = i % 2 == 0 ? 3 : 200;
  const CodedSymbols coded = encode_symbols(symbols, 256);
  EXPECT_EQ(decoded(coded, 256, {}, symbols.size()), symbols);
  EXPECT_NEAR(coded.report.coded, 1e6, 1e4);
}

TEST(CodedSymbols, WithARareSymbolComeBack) {
  Symbols symbols(3'000'000, 0);
  symbols[1'234'567] = 255;
  const CodedSymbols coded = encode_symbols(symbols, 256);
  EXPECT_EQ(decoded(coded, 256, {}, symbols.size()), symbols);
}

TEST(CodedSymbols, AreTheSameForAnyNumberOfThreads) {
  const Symbols codes = gaussian_codes(400'000);
  set_thread_count(1);
  const CodedSymbols one = encode_symbols(codes, 16);
  const Symbols out = decoded(one, 16, {}, codes.size());
  for (const int threads : {2, 5}) {
    set_thread_count(threads);
    EXPECT_EQ(encode_symbols(codes, 16).bytes, one.bytes);
    EXPECT_EQ(decoded(one, 16, {}, codes.size()), out);
  }
  set_thread_count(0);
}

TEST(CodedSymbols, RandomRoundTrips) {
  RandomStream random(1, "round trips");
  for (int trial = 0; trial < 300; ++trial) {
    const int alphabet = static_cast<int>(2 + random.below(255));
    Symbols symbols(random.below(3000));
    const std::uint64_t used = 1 + random.below(static_cast<std::uint64_t>(alphabet));
    for (auto& s : symbols) s = static_cast<std::uint8_t>(std::min(random.below(used), random.below(used)));
    const std::uint64_t run = 1 + random.below(40);
    Symbols of_run(symbols.size() / run + 1);
    const int contexts = static_cast<int>(1 + random.below(10));
    for (auto& c : of_run) c = static_cast<std::uint8_t>(random.below(static_cast<std::uint64_t>(contexts)));
    const Contexts given{of_run, run, contexts};
    const CodedSymbols coded = encode_symbols(symbols, alphabet, given);
    ASSERT_EQ(decoded(coded, alphabet, given, symbols.size()), symbols) << trial;
    ASSERT_EQ(PlainReader(coded.bytes).decode([&](std::size_t i) { return of_run[i / run]; }), symbols) << trial;
  }
}

TEST(CodedSymbols, CutOrLongerAreRefused) {
  const Symbols symbols = skewed_symbols(70'000, 16, "cut");
  const std::vector<std::byte> whole = encode_symbols(symbols, 16).bytes;
  for (std::size_t size = 0; size < whole.size(); size += size < 200 ? 1 : 997)
    ASSERT_NE(refusal(std::span(whole).first(size), 16, {}, symbols.size()), "") << size;
  std::vector<std::byte> longer = whole;
  longer.push_back({});
  EXPECT_THAT(refusal(longer, 16, {}, symbols.size()), HasSubstr("1 bytes after coded symbols"));
}

TEST(CodedSymbols, WithAnyBitFlippedAreRefused) {
  const Symbols symbols = skewed_symbols(400, 16, "flipped");
  const std::vector<std::byte> whole = encode_symbols(symbols, 16).bytes;
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::vector<std::byte> bytes = whole;
    bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    ASSERT_NE(refusal(bytes, 16, {}, symbols.size()), "") << bit;
  }
}

TEST(CodedSymbols, ThatAreNotWhatIsExpectedAreRefused) {
  const Symbols symbols = skewed_symbols(1000, 16, "expected");
  const std::vector<std::byte> bytes = encode_symbols(symbols, 16).bytes;
  EXPECT_THAT(refusal(bytes, 16, {}, 1001), HasSubstr("1000 coded symbols where 1001"));
  EXPECT_THAT(refusal(bytes, 17, {}, 1000), HasSubstr("alphabet of 16"));
  const Symbols of_run(1000);
  EXPECT_THAT(refusal(bytes, 16, {of_run, 1, 2}, 1000), HasSubstr("in 1 contexts"));
  EXPECT_THAT(refusal({}, 16, {}, 1000), HasSubstr("end early"));
}

/// Puts a right checksum behind the tables and the directory of one chunk, so that what they say is looked at.
void repair_checksum(std::vector<std::byte>& bytes, std::size_t at) {
  const std::string_view before(reinterpret_cast<const char*>(bytes.data()), at);
  const auto sum = static_cast<std::uint32_t>(hash64(before));
  std::memcpy(bytes.data() + at, &sum, sizeof sum);
}

TEST(CodedSymbols, WithFalseTablesOrChunksAreRefused) {
  const Symbols symbols = skewed_symbols(4000, 4, "tables");
  const std::vector<std::byte> whole = encode_symbols(symbols, 4).bytes;
  // 20 bytes, 1 of the map, 1 of the bitmap, 4 frequencies of 11 bits in 6 bytes, 8 of the chunk, the checksum at 36.
  constexpr std::size_t kMap = 20, kFrequencies = 22, kChunk = 28, kChecksum = 36;
  const auto changed = [&](std::size_t at, int value) {
    std::vector<std::byte> bytes = whole;
    bytes[at] = static_cast<std::byte>(value);
    repair_checksum(bytes, kChecksum);
    return refusal(bytes, 4, {}, symbols.size());
  };
  ASSERT_EQ(changed(kMap, 0), "") << "nothing changed";
  EXPECT_THAT(changed(kMap, 1), HasSubstr("a table that is not there"));
  EXPECT_THAT(changed(kFrequencies, std::to_integer<int>(whole[kFrequencies]) ^ 1), HasSubstr("add up to"));
  EXPECT_THAT(changed(8, 2), HasSubstr("with 2 tables"));
  EXPECT_THAT(changed(8, 0), HasSubstr("checksum"));
  EXPECT_THAT(changed(kChunk, std::to_integer<int>(whole[kChunk]) - 2), HasSubstr("2 bytes after"));
  EXPECT_THAT(changed(kChunk + 3, 0x80), HasSubstr("packed symbols of 2 bits"));
  EXPECT_THAT(changed(kChunk + 4, std::to_integer<int>(whole[kChunk + 4]) ^ 1), HasSubstr("the checksum is wrong"));
}

TEST(CodedSymbols, WithChunksThatDoNotDecodeAreRefused) {
  const Symbols symbols = skewed_symbols(4000, 4, "tables");
  const std::vector<std::byte> whole = encode_symbols(symbols, 4).bytes;
  constexpr std::size_t kChunk = 28, kChecksum = 36, kData = 40;
  const auto with_data = [&](std::vector<std::byte> data) {
    std::vector<std::byte> bytes(whole.begin(), whole.begin() + kData);
    const auto length = static_cast<std::uint32_t>(data.size());
    const auto sum =
        static_cast<std::uint32_t>(hash64(std::string_view(reinterpret_cast<const char*>(data.data()), data.size())));
    std::memcpy(bytes.data() + kChunk, &length, 4);
    std::memcpy(bytes.data() + kChunk + 4, &sum, 4);
    repair_checksum(bytes, kChecksum);
    bytes.insert(bytes.end(), data.begin(), data.end());
    return refusal(bytes, 4, {}, symbols.size());
  };
  const std::vector<std::byte> data(whole.begin() + kData, whole.end());
  ASSERT_EQ(with_data(data), "");
  std::vector<std::byte> cut(data.begin(), data.end() - 2), longer = data, other = data;
  longer.resize(longer.size() + 2);
  other[100] ^= std::byte{0x55};
  EXPECT_THAT(with_data(cut), HasSubstr("end early"));
  EXPECT_THAT(with_data(longer), HasSubstr("do not end where they should"));
  EXPECT_NE(with_data(other), "");
  EXPECT_THAT(with_data(std::vector<std::byte>(30)), HasSubstr("no chunk"));
  EXPECT_THAT(with_data(std::vector<std::byte>(data.size())), HasSubstr("a state of coded symbols is below"));
}

TEST(CodedSymbols, OutsideTheirAlphabetAreOurMistake) {
  const Symbols symbols{1, 2, 16};
  EXPECT_THROW(encode_symbols(symbols, 16), Error);
  EXPECT_THROW(encode_symbols(symbols, 257), Error);
  EXPECT_THROW(encode_symbols(symbols, 1), Error);
  const Symbols of_run{0, 1};
  EXPECT_THROW(encode_symbols(symbols, 17, {of_run, 1, 2}), Error) << "the third symbol has no context";
  EXPECT_THROW(encode_symbols(symbols, 17, {of_run, 2, 1 + kMaxContexts}), Error);
}

TEST(FrequencyTable, AddsUpAndKeepsRareSymbols) {
  RandomStream random(1, "frequencies");
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<std::uint64_t> counts(2 + random.below(255));
    for (auto& count : counts) count = random.below(3) == 0 ? 0 : random.next() >> (8 + random.below(50));
    counts[0] += 1;
    const FrequencyTable table(counts);
    std::uint32_t sum = 0;
    for (std::size_t s = 0; s < counts.size(); ++s) {
      ASSERT_EQ(table.frequency(s) > 0, counts[s] > 0);
      ASSERT_EQ(table.start(s), sum);
      sum += table.frequency(s);
    }
    ASSERT_EQ(sum, 1u << table.bits());
    std::vector<std::byte> bytes;
    table.append_to(bytes);
    ASSERT_EQ(bytes.size(), table.stored_bytes());
    std::span<const std::byte> rest(bytes);
    const FrequencyTable again = FrequencyTable::read(table.alphabet(), rest);
    ASSERT_TRUE(rest.empty());
    for (std::size_t s = 0; s < counts.size(); ++s) ASSERT_EQ(again.frequency(s), table.frequency(s));
  }
}

TEST(FrequencyTable, CostsWithinAThousandthOfTheEntropy) {
  const Symbols codes = gaussian_codes(std::size_t{1} << 18);
  std::vector<std::uint64_t> counts(16);
  for (const std::uint8_t code : codes) ++counts[code];
  const FrequencyTable table(counts);
  double bits = 0, entropy = 0;
  for (std::size_t s = 0; s < 16; ++s) {
    if (counts[s] == 0) continue;
    const auto n = static_cast<double>(counts[s]);
    bits -= n * std::log2(table.frequency(s) / 2048.0);
    entropy -= n * std::log2(n / static_cast<double>(codes.size()));
  }
  EXPECT_LT(bits, 1.001 * entropy);
}

}  // namespace
}  // namespace adze
