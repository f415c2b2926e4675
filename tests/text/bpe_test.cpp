#include "text/bpe.h"

#include <chrono>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "text/word_cache.h"

namespace adze {
namespace {

using testing::ElementsAre;
using Ids = std::vector<std::int32_t>;

BpeRules byte_rules() {
  BpeRules rules;
  for (int byte = 0; byte < 256; ++byte) rules.id_of_byte[static_cast<std::size_t>(byte)] = byte;
  return rules;
}

Ids encode(const Bpe& bpe, std::string_view word) {
  Ids ids;
  bpe.encode_word(word, ids);
  return ids;
}

/// As the definition says: the lowest rank, then the leftmost place, again and again.
Ids encode_slowly(const BpeRules& rules, std::string_view word) {
  std::map<std::pair<std::int32_t, std::int32_t>, std::pair<std::size_t, std::int32_t>> table;
  for (std::size_t rank = 0; rank < rules.merges.size(); ++rank)
    table[{rules.merges[rank].left, rules.merges[rank].right}] = {rank, rules.merges[rank].merged};
  Ids ids;
  for (const char byte : word) ids.push_back(rules.id_of_byte[static_cast<unsigned char>(byte)]);
  while (true) {
    std::size_t best_rank = SIZE_MAX, best = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = table.find({ids[i], ids[i + 1]});
      if (found == table.end() || found->second.first >= best_rank) continue;
      best_rank = found->second.first;
      best = i;
    }
    if (best_rank == SIZE_MAX) return ids;
    ids[best] = table[{ids[best], ids[best + 1]}].second;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

/// Merges of random existing symbols: chains, overlaps and ties abound.
BpeRules random_rules(RandomStream& random) {
  BpeRules rules = byte_rules();
  Ids known = {'a', 'b', 'c'};
  for (std::int32_t id = 256; id < 256 + 40; ++id) {
    const auto pick = [&] { return known[random.below(known.size())]; };
    rules.merges.push_back({pick(), pick(), id});
    known.push_back(id);
  }
  return rules;
}

TEST(Bpe, EqualsThePlainDefinitionOnRandomRules) {
  RandomStream random(11, "bpe");
  for (int round = 0; round < 300; ++round) {
    const BpeRules rules = random_rules(random);
    const Bpe bpe(rules);
    for (const std::size_t length : {0, 1, 2, 3, 7, 20, 47, 48, 49, 50, 130}) {
      std::string word;
      for (std::size_t i = 0; i < length; ++i) word += static_cast<char>('a' + random.below(round % 2 == 0 ? 3 : 2));
      ASSERT_EQ(encode(bpe, word), encode_slowly(rules, word)) << word;
    }
  }
}

TEST(Bpe, MergesTheLeftmostOfEqualPairs) {
  BpeRules rules = byte_rules();
  rules.merges = {{'a', 'a', 256}};
  EXPECT_THAT(encode(Bpe(rules), "aaa"), ElementsAre(256, 'a'));
  const Ids many = encode(Bpe(rules), std::string(101, 'a'));
  EXPECT_EQ(many.size(), 51u);
  EXPECT_EQ(many.back(), 'a');
}

TEST(Bpe, TakesTheLaterOfEqualRules) {
  BpeRules rules = byte_rules();
  rules.merges = {{'a', 'b', 256}, {'b', 'c', 257}, {'a', 'b', 258}};
  EXPECT_THAT(encode(Bpe(rules), "abc"), ElementsAre('a', 257));  // the rank of (a, b) is 2
  EXPECT_THAT(encode(Bpe(rules), "ab"), ElementsAre(258));
}

TEST(Bpe, DropsOrReplacesMissingBytes) {
  BpeRules rules = byte_rules();
  rules.id_of_byte['x'] = BpeRules::kNone;
  EXPECT_THAT(encode(Bpe(rules), "axxb"), ElementsAre('a', 'b'));
  rules.unknown_id = 300;
  EXPECT_THAT(encode(Bpe(rules), "axxb"), ElementsAre('a', 300, 300, 'b'));
  rules.fuse_unknown = true;
  EXPECT_THAT(encode(Bpe(rules), "axxbx"), ElementsAre('a', 300, 'b', 300));
}

TEST(Bpe, TakesWholeWordsWhenMergesAreIgnored) {
  BpeRules rules = byte_rules();
  rules.merges = {{'a', 'b', 256}};
  rules.whole_words = {{"abc", 257}};
  EXPECT_THAT(encode(Bpe(rules), "abc"), ElementsAre(257));
  EXPECT_THAT(encode(Bpe(rules), "abcd"), ElementsAre(256, 'c', 'd'));
}

/// Doubling merges: 2, 4, 8 ... of one letter, the most work a run can cause.
TEST(Bpe, LongRunsTakeNearlyLinearTime) {
  BpeRules rules = byte_rules();
  rules.merges = {{'a', 'a', 256}};
  for (std::int32_t id = 257; id < 266; ++id) rules.merges.push_back({id - 1, id - 1, id});
  const Bpe bpe(rules);
  const auto seconds = [&](std::size_t length) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(encode(bpe, std::string(length, 'a')).size(), length / 1024);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  seconds(1 << 16);
  const double small = seconds(1 << 17);
  const double large = seconds(1 << 20);
  EXPECT_LT(large, 40 * small);  // 8 times the length; quadratic would be 64 times the time
}

TEST(WordCache, FindsWhatWasPutInAndNothingElse) {
  WordCache cache;
  RandomStream random(5, "cache");
  std::map<std::string, Ids> kept;
  for (std::int32_t i = 0; i < 50'000; ++i) {
    const std::string word = std::to_string(random.below(40'000)) + std::string(random.below(60), 'w');
    const auto found = cache.find(word);
    if (const auto known = kept.find(word); known != kept.end() && !found.empty()) {
      ASSERT_EQ(Ids(found.begin(), found.end()), known->second);
    } else if (known == kept.end()) {
      ASSERT_TRUE(found.empty()) << word;
      kept[word] = {i, i + 1};
      cache.insert(word, kept[word]);
    }
  }
  std::size_t present = 0;
  for (const auto& [word, ids] : kept) present += !cache.find(word).empty();
  EXPECT_GT(present, kept.size() * 9 / 10);
}

TEST(WordCache, LeavesOutLongAndEmpty) {
  WordCache cache;
  const std::string word(WordCache::kMaxWordBytes + 1, 'x');
  cache.insert(word, Ids{1});
  EXPECT_TRUE(cache.find(word).empty());
  cache.insert("nothing", Ids{});
  EXPECT_TRUE(cache.find("nothing").empty());
}

}  // namespace
}  // namespace adze
