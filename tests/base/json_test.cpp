// Strict JSON: what foreign files may not contain.
#include "base/json.h"

#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/checkpoint_testing.h"

namespace adze {
namespace {

void expect_refused(const std::string& text, std::string_view words) {
  SCOPED_TRACE(text.substr(0, 60));
  testing::expect_error(ErrorKind::bad_data, words, [&] { parse_json(text, "a.json"); });
}

std::string nested(std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(Json, ReadsEveryKindOfValue) {
  const auto json = parse_json(R"({"a": [1, -2, 1.5e3, true, false, null, "\u00e9\n"], "b": {}})", "a.json");
  EXPECT_EQ(json["a"].size(), 7u);
  EXPECT_EQ(json["a"][2], 1500.0);
  EXPECT_EQ(json["a"][6], "é\n");
  EXPECT_TRUE(json["b"].empty());
  EXPECT_EQ(parse_json(" 7 ", "a.json"), 7);
}

TEST(Json, KeepsAllDigitsOf64BitNumbers) {
  EXPECT_EQ(parse_json("18446744073709551615", "a").get<std::uint64_t>(), 18446744073709551615ULL);
  EXPECT_EQ(parse_json("-9223372036854775808", "a").get<std::int64_t>(), INT64_MIN);
}

TEST(Json, RefusesSyntaxErrorsWithFileAndByte) {
  expect_refused("{\"a\": }", "a.json: byte 7");
  for (const char* const text : {"", "   ", "{", "[1,]", "{\"a\":1,}", "{a:1}", "'a'", "[1 2]", "// c\n1", "[01]", "+1",
                                 "\"\t\"", "\"\\x\"", "tru", "[1"})
    expect_refused(text, "a.json: byte");
}

TEST(Json, RefusesBytesAfterTheValue) {
  for (const char* const text : {"{} x", "{}{}", "1 2", "[] ]", "null,"}) expect_refused(text, "a.json: byte");
}

/// The parser underneath takes a NUL for the end of the text.
TEST(Json, RefusesBytesAfterANul) {
  expect_refused(std::string("{}\0garbage", 10), "a.json: byte 2");
  expect_refused(std::string("{}\0", 3), "a.json: byte 2");
  expect_refused(std::string("\0", 1), "a.json: byte 0");
}

TEST(Json, RefusesAByteOrderMark) { expect_refused("\xEF\xBB\xBF{}", "a.json: JSON with a byte order mark"); }

TEST(Json, RefusesNumbersThatJsonDoesNotHave) {
  for (const char* const text : {"NaN", "[nan]", "Infinity", "-Infinity", "[-inf]", "0x10", "1.", ".5"})
    expect_refused(text, "a.json: byte");
  expect_refused("[1e999]", "a.json");  // beyond a double: it would become infinity
}

TEST(Json, RefusesTextThatIsNotUtf8) {
  for (const std::string bytes : {"\xFF", "\xC0\xAF", "\xED\xA0\x80", "\xE2\x82"})
    expect_refused("\"" + bytes + "\"", "a.json: byte");
}

TEST(Json, RefusesDuplicateKeysOfTheSameObjectOnly) {
  expect_refused(R"({"a": 1, "a": 2})", "a.json: duplicate JSON key 'a'");
  expect_refused(R"({"a": 1, "\u0061": 2})", "duplicate JSON key 'a'");
  expect_refused(R"([{"b": {"c": 1, "d": 2, "c": 3}}])", "duplicate JSON key 'c'");
  EXPECT_EQ(parse_json(R"([{"a": {"a": 1}}, {"a": 2}])", "a.json")[0]["a"]["a"], 1);
}

TEST(Json, RefusesDeepNesting) {
  EXPECT_NO_THROW(parse_json(nested(64), "a.json"));
  expect_refused(nested(65), "a.json: JSON nested deeper than 64");
  expect_refused(std::string(1'000'000, '['), "JSON nested deeper than 64");
  testing::expect_error(ErrorKind::bad_data, "deeper than 1", [] { parse_json(R"({"a": {}})", "a.json", 1); });
}

TEST(Json, DepthCountsOpenBracketsNotAllOfThem) {
  std::string text = "[";
  for (int i = 0; i < 200; ++i) text += "[{}],";
  EXPECT_EQ(parse_json(text + "[]]", "a.json", 3).size(), 201u);
}

}  // namespace
}  // namespace adze
