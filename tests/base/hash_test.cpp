// Hashes: published vectors of XXH3, pieces and wholes, files.
#include "base/hash.h"

#include <string>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/checkpoint_testing.h"

namespace adze {
namespace {

using testing::TempFolder;

/// Known since the algorithm's specification: the hash of nothing with seed 0.
TEST(Hash, OfNothingIsThePublishedOne) {
  EXPECT_EQ(hash64(""), 0x2D06800538D394C2ULL);
  EXPECT_EQ(hash_hex(""), "99aa06d3014798d86001c324468d497f");
}

TEST(Hash, OfWordsNeverChanges) {
  EXPECT_EQ(hash64("adze"), 0x98F8A91B5381971EULL);
  EXPECT_EQ(hash_hex("adze"), "1a53e60d0cf0ff6f0a71f05955620300");
  EXPECT_EQ(hash_hex(std::string(1000, 'x')), "50a1af5a5f2dcf01c0a4877b962cba82");
}

TEST(Hasher, PiecesGiveTheHashOfTheWhole) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += static_cast<char>(i * 31);
  for (const std::size_t cut : {std::size_t{0}, std::size_t{1}, std::size_t{255}, std::size_t{1024}, text.size()}) {
    Hasher hasher;
    hasher.add(std::string_view(text).substr(0, cut)).add(std::string_view(text).substr(cut));
    EXPECT_EQ(hasher.hex(), hash_hex(text)) << cut;
  }
}

TEST(Hasher, MayBeAskedInBetween) {
  Hasher hasher;
  EXPECT_EQ(hasher.add("a").hex(), hash_hex("a"));
  EXPECT_EQ(hasher.add("b").hex(), hash_hex("ab"));
}

TEST(HashFile, EqualsTheHashOfItsBytesAroundThePieceSize) {
  const TempFolder folder;
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, kPiece - 1, kPiece, kPiece + 1, 2 * kPiece + 17}) {
    std::string bytes(size, 'a');
    for (std::size_t i = 0; i < size; i += 97) bytes[i] = static_cast<char>(i >> 3);
    EXPECT_EQ(hash_file(folder.put("file", bytes)), hash_hex(bytes)) << size;
  }
}

TEST(HashFile, SeesASingleFlippedBit) {
  const TempFolder folder;
  std::string bytes(5000, 'a');
  const std::string before = hash_file(folder.put("file", bytes));
  bytes[4999] ^= 1;
  EXPECT_NE(hash_file(folder.put("file", bytes)), before);
}

TEST(HashFile, RefusesAMissingFile) {
  testing::expect_error(ErrorKind::missing_input, "cannot open", [] { hash_file("/nonexistent/file"); });
}

}  // namespace
}  // namespace adze
