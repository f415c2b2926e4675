// Every way in which a tokenizer.json can be wrong or of another kind, and the message for it.
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "text/tokenizer_fixtures.h"

namespace adze {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string refusal_of(const std::string& text) {
  try {
    Tokenizer::from_json(text, "tokenizer.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    return error.message();
  }
  return "accepted";
}

struct Case {
  const char* pointer;  ///< what to replace in the toy tokenizer
  json value;
  const char* message;  ///< part of the refusal
};

void expect_refusals(const std::vector<Case>& cases) {
  for (const auto& [pointer, value, message] : cases) {
    json root = test::toy_json();
    root[json::json_pointer(pointer)] = value;
    const std::string refusal = refusal_of(root.dump());
    EXPECT_THAT(refusal, HasSubstr(message)) << pointer << " = " << value;
    EXPECT_TRUE(refusal.starts_with("tokenizer.json: ")) << refusal;
  }
}

TEST(MalformedTokenizer, ToyItselfIsAccepted) { EXPECT_EQ(refusal_of(test::toy_json().dump()), "accepted"); }

TEST(MalformedTokenizer, NamesWrongTypesAndMissingParts) {
  expect_refusals({
      {"", json::array(), "top level: expected an object, found array"},
      {"/version", "2.0", "version '2.0' is not supported"},
      {"/version", 1, "'version' must be a string, not number"},
      {"/model", nullptr, "'model' is missing"},
      {"/model", "BPE", "model: expected an object, found string"},
      {"/model/vocab", nullptr, "model: 'vocab' is missing"},
      {"/model/vocab", json::array(), "'vocab' must be an object, not array"},
      {"/model/merges", nullptr, "model: 'merges' is missing"},
      {"/model/merges", json::object(), "'merges' must be an array, not object"},
      {"/model/ignore_merges", "yes", "'ignore_merges' must be true or false, not string"},
      {"/model/byte_fallback", 1, "'byte_fallback' must be true or false, not number"},
      {"/model/byte_fallback", true, "'byte_fallback' is set, but the tokenizer is ByteLevel"},
      {"/model/unk_token", 3, "'unk_token' must be a string, not number"},
      {"/model/unk_token", "<nowhere>", "unk_token: '<nowhere>' is not in the vocabulary"},
      {"/model/dropout", "0.1", "'dropout' must be a number, not string"},
      {"/model/dropout", 0.1, "'dropout' is 0.1: its tokens would be random"},
      {"/model/continuing_subword_prefix", "##", "'continuing_subword_prefix' is set"},
      {"/model/end_of_word_suffix", "</w>", "'end_of_word_suffix' is set"},
      {"/added_tokens", json::object(), "'added_tokens' must be an array, not object"},
      {"/added_tokens/0", 5, "added_tokens[0]: expected an object, found number"},
      {"/added_tokens/0/id", nullptr, "added_tokens[0]: 'id' is missing"},
      {"/added_tokens/0/content", nullptr, "added_tokens[0]: 'content' is missing"},
      {"/added_tokens/0/content", 5, "'content' must be a string, not number"},
      {"/added_tokens/0/content", "", "content has 0 bytes"},
      {"/added_tokens/0/content", std::string(2000, 'x'), "content has 2000 bytes; it must have 1 to 1024"},
      {"/added_tokens/0/special", 1, "'special' must be true or false, not number"},
  });
}

TEST(MalformedTokenizer, BoundsTokenIds) {
  expect_refusals({
      {"/model/vocab/he", -1, "vocab['he']: token id -1 is outside 0 ... 16777216"},
      {"/model/vocab/he", 16777217, "token id 16777217 is outside"},
      {"/model/vocab/he", std::uint64_t{1} << 63, "token id 9223372036854775808 is outside"},
      {"/model/vocab/he", UINT64_MAX, "token id 18446744073709551615 is outside"},
      {"/model/vocab/he", 1.5, "vocab['he']: a token id must be an integer, not number"},
      {"/model/vocab/he", "256", "a token id must be an integer, not string"},
      {"/model/vocab/he", 255, "id 255 is there twice"},
      {"/model/vocab/he", 16000000, "the largest token id is 16000000, but there are only 266 tokens"},
      {"/model/vocab/", 266, "vocab: token 266 is empty"},
      {"/added_tokens/0/id", -5, "added_tokens[0]: 'id': token id -5 is outside"},
      {"/added_tokens/0/id", 1 << 25, "token id 33554432 is outside"},
      {"/added_tokens/0/id", 300.0, "a token id must be an integer"},
      {"/added_tokens/0/id", 100, "added token '<|start|>' has id 100, which is 'd' in the vocabulary"},
      {"/added_tokens/0/content", "he", "added token 'he' has id 265, but 256 in the vocabulary"},
      {"/added_tokens/1", test::added_token(265, "<other>", true), "added_tokens[1]: id 265 is there twice"},
      {"/added_tokens/1", test::added_token(266, "<|start|>", true), "added_tokens[1]: '<|start|>' is there twice"},
  });
}

TEST(MalformedTokenizer, ChecksMergesAgainstTheVocabulary) {
  expect_refusals({
      {"/model/merges/3", "zz o", "merges[3]: 'zz' is not in the vocabulary"},
      {"/model/merges/3", "o zz", "merges[3]: 'zz' is not in the vocabulary"},
      {"/model/merges/3", "z o", "merges[3]: 'zo' is not in the vocabulary"},
      {"/model/merges/3", "hello", "'hello' must be two tokens with one space between"},
      {"/model/merges/3", "h e l", "must be two tokens with one space between"},
      {"/model/merges/3", "", "must be two tokens"},
      {"/model/merges/3", " o", "'' is not in the vocabulary"},
      {"/model/merges/3", 7, "merges[3]: expected \"a b\" or [\"a\", \"b\"]"},
      {"/model/merges/3", json::array({"h"}), "merges[3]: expected"},
      {"/model/merges/3", json::array({"h", 1}), "merges[3]: expected"},
      {"/model/merges/3", json::array({"h", "e", "l"}), "merges[3]: expected"},
  });
}

TEST(MalformedTokenizer, NamesComponentsThatAreNotSupported) {
  const json split = {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Isolated"}};
  const auto sequence = [](const json& parts) { return json{{"type", "Sequence"}, {"pretokenizers", parts}}; };
  expect_refusals({
      {"/normalizer", {{"type", "NFKC"}}, "normalizer: normalizer type 'NFKC' is not supported"},
      {"/normalizer",
       {{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}}}},
       "normalizers[0]: normalizer type 'Lowercase' is not supported"},
      {"/normalizer", {{"type", "Prepend"}, {"prepend", "▁"}}, "only NFC is supported for byte-level BPE"},
      {"/pre_tokenizer", {{"type", "Metaspace"}}, "type 'Metaspace' is not supported for byte-level BPE"},
      {"/normalizer", {{"type", "Sequence"}}, "normalizer: 'normalizers' is missing"},
      {"/normalizer", json::object(), "normalizer: 'type' is missing"},
      {"/normalizer", "NFC", "normalizer: expected an object, found string"},
      {"/pre_tokenizer", nullptr, "pre_tokenizer is null"},
      {"/pre_tokenizer", {{"type", "Whitespace"}}, "pre-tokenizer type 'Whitespace' is not supported"},
      {"/pre_tokenizer", split, "pre_tokenizer has no ByteLevel step"},
      {"/pre_tokenizer", sequence(json::array()), "pre_tokenizer has no ByteLevel step"},
      {"/pre_tokenizer", sequence({test::byte_level(true), split}), "pretokenizers[1]: 'Split' after ByteLevel"},
      {"/pre_tokenizer/pretokenizers", 3, "'pretokenizers' must be an array, not number"},
      {"/pre_tokenizer/pretokenizers/0/behavior", "Sideways", "unknown split behavior 'Sideways'"},
      {"/pre_tokenizer/pretokenizers/0/behavior", nullptr, "'behavior' is missing"},
      {"/pre_tokenizer/pretokenizers/0/pattern", "x", "'pattern': expected an object"},
      {"/pre_tokenizer/pretokenizers/0/pattern", json::object(), "'String' is missing"},
      {"/pre_tokenizer/pretokenizers/0/pattern", {{"String", ""}}, "an empty string cannot be a split pattern"},
      {"/pre_tokenizer/pretokenizers/0/pattern", {{"Regex", "(a"}}, "split pattern '(a'"},
      {"/pre_tokenizer/pretokenizers/0/pattern", {{"Regex", "[[:alpha:]]"}}, "a character class inside another"},
      {"/pre_tokenizer/pretokenizers/1/use_regex", "no", "'use_regex' must be true or false"},
      {"/decoder", nullptr, "decoder is null"},
      {"/decoder", {{"type", "Replace"}}, "decoder type 'Replace' is not supported"},
      {"/decoder", {{"type", "Sequence"}, {"decoders", {{{"type", "Fuse"}}}}}, "decoder: ByteLevel is missing"},
      {"/post_processor", {{"type", "Custom"}}, "post-processor type 'Custom' is not supported"},
      {"/post_processor/single", nullptr, "post_processor: 'single' is missing"},
      {"/post_processor/single", json::array(), "lacks sequence 'A'"},
      {"/post_processor/single/1/Sequence/id", "B", "must contain sequence 'A' once"},
      {"/post_processor/single/1", {{"Text", "x"}}, "single[1]: 'Sequence' is missing"},
      {"/post_processor/single/0/SpecialToken/id", "<none>", "special_tokens: '<none>' is missing"},
      {"/post_processor/special_tokens/<|start|>/ids", {-1}, "token id -1 is outside"},
      {"/post_processor/special_tokens/<|start|>/ids", {266}, "post_processor adds id 266, which no token has"},
      {"/post_processor",
       {{"type", "BertProcessing"}, {"cls", {"a"}}, {"sep", {"b", 1}}},
       "'cls' must be a text and an id"},
  });
}

TEST(MalformedTokenizer, SaysWhatOtherKindsAre) {
  const char* suffix = "BPE is what is supported";
  const std::pair<std::function<void(json&)>, const char*> cases[] = {
      {[](json& root) {
         root["model"] = {{"type", "Unigram"}, {"vocab", {{"a", 0.0}}}};
       },
       "a Unigram tokenizer"},
      {[](json& root) {
         root["model"] = {{"vocab", json::array()}};
       },
       "a Unigram tokenizer"},
      {[](json& root) {
         root["model"] = {{"type", "WordPiece"}, {"vocab", json::object()}};
       },
       "a WordPiece tokenizer"},
      {[](json& root) {
         root["model"] = {{"type", "WordLevel"}, {"vocab", json::object()}};
       },
       "a WordLevel tokenizer"},
      {[](json& root) {
         root["model"] = {{"vocab", json::object()}};
       },
       "a WordPiece or WordLevel tokenizer"},
  };
  for (const auto& [change, message] : cases) {
    json root = test::toy_json();
    change(root);
    const std::string refusal = refusal_of(root.dump());
    EXPECT_THAT(refusal, HasSubstr(message));
    EXPECT_THAT(refusal, HasSubstr(suffix));
  }
}

TEST(MalformedTokenizer, RefusesBrokenJson) {
  const std::string whole = test::toy_json().dump();
  for (std::size_t size = 0; size < whole.size(); size += 97)
    EXPECT_THAT(refusal_of(whole.substr(0, size)), HasSubstr("tokenizer.json: ")) << size;
  EXPECT_THAT(refusal_of(whole + "x"), HasSubstr("tokenizer.json: byte"));
  EXPECT_THAT(refusal_of(R"({"model": {"vocab": {"a": 1, "a": 2}, "merges": []}})"),
              HasSubstr("duplicate JSON key 'a'"));
  EXPECT_THAT(refusal_of(std::string(200, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(refusal_of("{\"model\": \"\xFF\"}"), HasSubstr("tokenizer.json: byte"));
}

TEST(MalformedTokenizer, AcceptsWhatIsOptional) {
  json root = test::toy_json();
  for (const char* name : {"version", "truncation", "padding", "added_tokens", "normalizer", "post_processor"})
    root.erase(name);
  root["model"].erase("type");
  root["unknown key"] = 1;
  EXPECT_EQ(refusal_of(root.dump()), "accepted");
}

}  // namespace
}  // namespace adze
