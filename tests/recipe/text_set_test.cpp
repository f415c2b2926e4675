#include "recipe/text_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recipe/errors.h"

namespace adze {
namespace {

using ::testing::HasSubstr;
using testing::recipe_error;
using ::testing::StartsWith;

std::string errors_of(const std::string& text) {
  return recipe_error([&] { parse_text_set(text, "data/set.yaml"); });
}

TEST(TextSet, ReadsEveryKindOfText) {
  const TextSet set = parse_text_set(R"(adze_text: 1
description: |
  two
  lines
licence: Apache-2.0
texts:
  - { file: calib/code.txt }
  - { file: notes.md }
  - { file: x.jsonl, field: content }
  - { file: y.jsonl }
  - { file: z.log, field: body }
  - { file: /abs/ids.json, ids: true }
)",
                                     "data/set.yaml");
  EXPECT_EQ(set.origin, "data/set.yaml");
  EXPECT_EQ(set.description, "two\nlines\n");
  EXPECT_EQ(set.licence, "Apache-2.0");
  EXPECT_EQ(set.interleave, std::nullopt);
  ASSERT_EQ(set.texts.size(), 6u);
  EXPECT_EQ(set.texts[0].file, "data/calib/code.txt");
  EXPECT_EQ(set.texts[0].kind, TextKind::plain);
  EXPECT_EQ(set.texts[1].kind, TextKind::plain);
  EXPECT_EQ(set.texts[2].kind, TextKind::jsonl);
  EXPECT_EQ(set.texts[2].field, "content");
  EXPECT_EQ(set.texts[3].field, "text");
  EXPECT_EQ(set.texts[4].kind, TextKind::jsonl);
  EXPECT_EQ(set.texts[5].file, "/abs/ids.json");
  EXPECT_EQ(set.texts[5].kind, TextKind::ids);
}

TEST(TextSet, ReadsInterleave) {
  EXPECT_EQ(parse_text_set("adze_text: 1\ntexts: [{file: a.txt}]\ninterleave: 2000\n", "s.yaml").interleave, 2000u);
}

TEST(TextSet, ReportsAllProblemsInOneRun) {
  EXPECT_EQ(
      errors_of("adze_text: 1\ntexts:\n  - { fle: a.txt }\n  - { file: b, field: f, ids: true }\ninterleave: 0\n"),
      "data/set.yaml:3:5: item 1 of 'texts' needs the key 'file'\n"
      "    - { fle: a.txt }\n"
      "      ^\n"
      "data/set.yaml:3:7: unknown key 'fle'; did you mean 'file'?\n"
      "    - { fle: a.txt }\n"
      "        ^\n"
      "data/set.yaml:4:31: 'ids' and 'field' exclude each other: token ids have no fields\n"
      "    - { file: b, field: f, ids: true }\n"
      "                                ^\n"
      "data/set.yaml:5:13: 'interleave' must be a whole number from 1 to 1000000000, found the number 0\n"
      "    interleave: 0\n"
      "                ^");
}

TEST(TextSet, RequiresItsVersionAndTexts) {
  EXPECT_THAT(errors_of("texts: [{file: a.txt}]\n"), StartsWith("data/set.yaml:1:1: the key 'adze_text' is missing"));
  EXPECT_THAT(errors_of("adze_text: 2\nx: y\n"),
              StartsWith("data/set.yaml:1:12: text set version 2 is not supported; this program reads version 1\n"));
  EXPECT_THAT(errors_of("adze_text: 1\n"), HasSubstr("the text set needs the key 'texts'"));
  EXPECT_THAT(errors_of("adze_text: 1\ntexts: []\n"), HasSubstr("2:8: 'texts' must not be empty"));
  EXPECT_THAT(errors_of(""), HasSubstr("the text set must be a map, found nothing"));
}

TEST(TextSet, RefusesToInterleaveTokenIds) {
  EXPECT_THAT(errors_of("adze_text: 1\ntexts: [{file: a.json}]\ninterleave: 10\n"),
              HasSubstr("3:13: 'interleave' counts characters; a set with token ids has none"));
}

TEST(TextSet, TakesOneTextDirectly) {
  const TextSet plain = load_text_set("dir/a.txt");
  ASSERT_EQ(plain.texts.size(), 1u);
  EXPECT_EQ(plain.origin, "dir/a.txt");
  EXPECT_EQ(plain.texts[0].file, "dir/a.txt");
  EXPECT_EQ(plain.texts[0].kind, TextKind::plain);
  EXPECT_EQ(plain.source, nullptr);
  EXPECT_EQ(load_text_set("a.jsonl").texts[0].kind, TextKind::jsonl);
  EXPECT_EQ(load_text_set("a.jsonl").texts[0].field, "text");
  EXPECT_EQ(load_text_set("a.json").texts[0].kind, TextKind::ids);
}

TEST(TextSet, RefusesOtherEndings) {
  EXPECT_EQ(recipe_error([] { load_text_set("model.gguf"); }),
            "model.gguf: not a text set; a .yaml descriptor or a text ending in .txt, .jsonl or .json (ids)");
}

TEST(TextSet, SaysThatADescriptorIsMissing) {
  try {
    load_text_set("no/such.yaml");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::missing_input);
  }
}

}  // namespace
}  // namespace adze
