// Token-for-token comparison with an independent implementation, the npm package @huggingface/tokenizers, run in node.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "text/character_fixtures.h"
#include "text/text_generator.h"
#include "text/tokenizer_fixtures.h"

namespace adze {
namespace {

using nlohmann::json;
using Texts = std::vector<std::string>;
using Ids = std::vector<std::int32_t>;

constexpr std::size_t kTextCount = 12'000;
const std::filesystem::path kNodeFolder = ADZE_SOURCE_DIR "/tests/node";

std::string node_program() {
  const char* chosen = std::getenv("ADZE_NODE");
  return chosen != nullptr ? chosen : "node";
}

/// Why the oracle cannot run; empty when it can.
std::string missing_oracle() {
  if (std::system(("'" + node_program() + "' --version > /dev/null 2>&1").c_str()) != 0)
    return "cannot run '" + node_program() + "' (set ADZE_NODE)";
  if (!std::filesystem::exists(kNodeFolder / "node_modules/@huggingface/tokenizers"))
    return "package @huggingface/tokenizers is not installed in tests/node (npm ci)";
  return {};
}

std::string base64(std::string_view bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (std::size_t j = 0; j < 4; ++j) out += i + j <= bytes.size() ? kDigits[(group >> (18 - 6 * j)) & 63] : '=';
  }
  return out;
}

/// Ids of each text according to the oracle.
std::vector<Ids> oracle_ids(const json& tokenizer, const Texts& texts, const std::string& name) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / ("adze_oracle_" + name);
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "tokenizer.json") << tokenizer.dump();
  std::ofstream lines(folder / "texts");
  for (const std::string& text : texts) lines << "{\"b64\":\"" << base64(text) << "\"}\n";
  lines.close();
  const std::string command = "'" + node_program() + "' '" + (kNodeFolder / "tokenize.mjs").string() + "' '" +
                              (folder / "tokenizer.json").string() + "' < '" + (folder / "texts").string() + "' > '" +
                              (folder / "ids").string() + "'";
  if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
  std::ifstream answers(folder / "ids");
  std::vector<Ids> result;
  for (std::string line; std::getline(answers, line);) result.push_back(json::parse(line).get<Ids>());
  std::filesystem::remove_all(folder);
  return result;
}

void expect_agreement(const json& root, const Texts& texts, const std::string& name) {
  const Tokenizer tokenizer = test::load(root);
  const std::vector<Ids> expected = oracle_ids(root, texts, name);
  ASSERT_EQ(expected.size(), texts.size());
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const Ids ids = tokenizer.encode(texts[i], true);
    if (ids == expected[i]) continue;
    ++wrong;
    EXPECT_GT(wrong, 5u) << json(replace_invalid_utf8(texts[i])) << "\n" << json(ids) << "\n" << json(expected[i]);
  }
  EXPECT_EQ(wrong, 0u) << "of " << texts.size() << " texts";
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

/// In the GPT-4 kind of pattern, the oracle folds case of ASCII only: to it an apostrophe and a long s are no
/// contraction.
bool has_long_s_contraction(std::string_view text) { return contains(text, "'\xC5\xBF"); }

/// Of ByteLevel's own pattern the oracle reads \s as JavaScript does: with U+FEFF, without U+0085.
bool has_javascript_space(std::string_view text) {
  return contains(text, "\xEF\xBB\xBF") || contains(text, "\xC2\x85");
}

Texts varied_texts(const std::function<bool(std::string_view)>& is_excluded) {
  RandomStream random(2024, "oracle texts");
  Texts texts;
  while (texts.size() < kTextCount) {
    std::string text = test::random_text(random);
    if (!is_excluded(text)) texts.push_back(std::move(text));
  }
  for (const char c : {'a', ' ', '\n', '7', 'e', '='}) texts.emplace_back(30'000, c);
  texts.emplace_back();
  return texts;
}

/// The bundled tokenizer with two more added tokens.
json base_json() {
  json root = test::bundled_json();
  root["added_tokens"].push_back(test::added_token(4096, "<|im_start|>", true));
  root["added_tokens"].push_back(test::added_token(4097, "<tool_call>", false));
  return root;
}

json variant(SplitFamily family, bool nfc) {
  json root = base_json();
  root["pre_tokenizer"] = test::split_then_bytes(split_pattern(family));
  if (nfc) root["normalizer"] = {{"type", "NFC"}};
  return root;
}

class TokenizerOracle : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = missing_oracle(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

TEST_F(TokenizerOracle, AgreesWithTheBundledTokenizer) {
  expect_agreement(base_json(), varied_texts(has_javascript_space), "bundled");
}

TEST_F(TokenizerOracle, AgreesWithGpt2AsASplitPattern) {
  expect_agreement(variant(SplitFamily::gpt2, false), varied_texts(has_long_s_contraction), "gpt2");
}

TEST_F(TokenizerOracle, AgreesWithLlama3) {
  expect_agreement(variant(SplitFamily::llama3, false), varied_texts(has_long_s_contraction), "llama3");
}

TEST_F(TokenizerOracle, AgreesWithQwen2InNfc) {
  expect_agreement(variant(SplitFamily::qwen2, true), varied_texts(has_long_s_contraction), "qwen2");
}

TEST_F(TokenizerOracle, AgreesWithQwen35InNfc) {
  expect_agreement(variant(SplitFamily::qwen35, true), varied_texts(has_long_s_contraction), "qwen35");
}

TEST_F(TokenizerOracle, AgreesWithTekken) {
  expect_agreement(variant(SplitFamily::tekken, false), varied_texts(has_long_s_contraction), "tekken");
}

TEST_F(TokenizerOracle, AgreesWithO200k) {
  expect_agreement(variant(SplitFamily::o200k, false), varied_texts(has_long_s_contraction), "o200k");
}

TEST_F(TokenizerOracle, AgreesWithIgnoreMerges) {
  json root = variant(SplitFamily::llama3, false);
  root["model"]["ignore_merges"] = true;
  json& merges = root["model"]["merges"];
  merges.erase(merges.begin() + 1000, merges.end());  // whole words that merging cannot reach
  expect_agreement(root, varied_texts(has_long_s_contraction), "ignore_merges");
}

/// SentencePiece-style: the bundled special tokens of the generator, one of each kind of flag, and words of our own.
json character_json() {
  json root = test::llama2_json(test::small_pieces());
  const int first = static_cast<int>(root["model"]["vocab"].size());
  root["added_tokens"].push_back(test::added_token(first, "<|im_start|>", true));
  root["added_tokens"].push_back(test::added_token(first + 1, "<tool_call>", false));
  root["added_tokens"].push_back(test::added_token(first + 2, "<|eos|>", true));
  return root;
}

json with_metaspace(const char* scheme, bool split) {
  json root = character_json();
  root["normalizer"] = nullptr;
  root["pre_tokenizer"] = test::metaspace(scheme, split);
  return root;
}

bool nothing_excluded(std::string_view) { return false; }

TEST_F(TokenizerOracle, AgreesWithLlama2) {
  expect_agreement(character_json(), varied_texts(nothing_excluded), "llama2");
}

/// Where a token is matched only with a mark in front, the text of a second one right behind it stays text: its
/// pattern is the normalized content, which has the mark. The oracle looks up every gap in the list of contents too,
/// marks or not, which the Rust library does not do.
bool has_adjacent_tokens(std::string_view text) {
  static const std::vector<std::string> kTokens = {"<|im_start|>", "<tool_call>", "<|eos|>"};
  for (const std::string& first : kTokens)
    for (const std::string& second : kTokens)
      if (contains(text, first + second)) return true;
  return false;
}

TEST_F(TokenizerOracle, AgreesWithNormalizedAddedTokensOfLlama2) {
  json root = character_json();
  for (json& token : root["added_tokens"]) token["normalized"] = true;  // matched only where a word begins
  expect_agreement(root, varied_texts(has_adjacent_tokens), "llama2_normalized");
}

TEST_F(TokenizerOracle, AgreesWithStrippingAddedTokensOfLlama2) {
  json root = character_json();
  root["added_tokens"][3]["lstrip"] = root["added_tokens"][4]["rstrip"] = true;
  root["added_tokens"][5]["lstrip"] = root["added_tokens"][5]["rstrip"] = true;
  expect_agreement(root, varied_texts(has_javascript_space), "llama2_strip");  // it trims what JavaScript trims
}

TEST_F(TokenizerOracle, AgreesWithMistralWithoutPrefix) {
  json root = character_json();
  root["normalizer"] = root["normalizer"]["normalizers"][1];
  expect_agreement(root, varied_texts(nothing_excluded), "replace_only");
}

TEST_F(TokenizerOracle, AgreesWithGemmasSplitAtSpacesThatAreGone) {
  json root = character_json();
  root["normalizer"] = root["normalizer"]["normalizers"][1];
  root["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "MergedWithPrevious"}, {"invert", false}};
  expect_agreement(root, varied_texts(nothing_excluded), "gemma");
}

TEST_F(TokenizerOracle, AgreesWithMetaspaceAlways) {
  expect_agreement(with_metaspace("always", false), varied_texts(nothing_excluded), "metaspace_always");
}

TEST_F(TokenizerOracle, AgreesWithMetaspaceFirst) {
  expect_agreement(with_metaspace("first", false), varied_texts(nothing_excluded), "metaspace_first");
}

TEST_F(TokenizerOracle, AgreesWithMetaspaceNever) {
  expect_agreement(with_metaspace("never", false), varied_texts(nothing_excluded), "metaspace_never");
}

/// The oracle does not implement "split"; without pieces that have a mark inside it changes nothing.
TEST_F(TokenizerOracle, AgreesWithMetaspaceThatSplitsWordsOnly) {
  std::vector<std::string> pieces = test::small_pieces();
  std::erase_if(pieces, [](const std::string& piece) { return piece.find(test::kMark, 1) != piece.npos; });
  json root = test::llama2_json(pieces);
  root["normalizer"] = nullptr;
  root["pre_tokenizer"] = test::metaspace("always", true);
  expect_agreement(root, varied_texts(nothing_excluded), "metaspace_split");
}

TEST_F(TokenizerOracle, AgreesWithUnknownTokensInsteadOfBytes) {
  for (const bool fuse : {false, true}) {
    json root = character_json();
    root["model"]["byte_fallback"] = false;
    root["model"]["fuse_unk"] = fuse;
    expect_agreement(root, varied_texts(nothing_excluded), fuse ? "unknown_fused" : "unknown");
  }
}

TEST_F(TokenizerOracle, AgreesWithIgnoreMergesOfWholeTexts) {
  json root = character_json();
  root["model"]["ignore_merges"] = true;
  Texts texts = varied_texts(nothing_excluded);
  for (const std::string& piece : test::small_pieces())
    texts.push_back(piece.starts_with(test::kMark) ? piece.substr(test::kMark.size()) : piece);
  expect_agreement(root, texts, "characters_ignore_merges");
}

/// Merges across words: cuts before marks must be left out where such a piece could begin.
TEST_F(TokenizerOracle, AgreesWithPiecesOfSeveralWords) {
  std::vector<std::string> pieces = test::small_pieces();
  for (const char* piece : {"e▁", "▁of▁", "▁of▁the", "e▁w", "!▁", "'t▁"}) pieces.push_back(piece);
  json root = test::llama2_json(pieces);
  expect_agreement(root, varied_texts(nothing_excluded), "several_words");
}

TEST_F(TokenizerOracle, TellsSplitFamiliesApart) {
  const Texts texts = {"in 1234 days"};
  EXPECT_NE(oracle_ids(variant(SplitFamily::llama3, false), texts, "three_digits"),
            oracle_ids(variant(SplitFamily::qwen2, false), texts, "one_digit"));
}

TEST_F(TokenizerOracle, AgreesOnWholeFilesOfEveryDomain) {
  const std::filesystem::path folder = ADZE_SOURCE_DIR "/../shared/corpora/eval";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "extra: no evaluation corpora beside the source tree";
  Texts texts;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) texts.push_back(read_file(entry.path()));
  expect_agreement(test::bundled_json(), texts, "corpora");
}

TEST_F(TokenizerOracle, AgreesOnTheBundledCalibrationTexts) {
  Texts texts;
  for (const char* part : {"calib", "heldout"})
    for (const auto& entry :
         std::filesystem::directory_iterator(ADZE_SOURCE_DIR "/calibration_data/" + std::string(part)))
      texts.push_back(read_file(entry.path()));
  expect_agreement(test::bundled_json(), texts, "calibration");
}

}  // namespace
}  // namespace adze
