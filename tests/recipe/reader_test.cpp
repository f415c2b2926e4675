#include "recipe/reader.h"

#include <array>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recipe/errors.h"

namespace adze {
namespace {

using ::testing::HasSubstr;

/// A value under the key `k`, and what its getter reported.
class OneValue {
 public:
  explicit OneValue(const std::string& value)
      : document_(Document::parse("k: " + value + "\n", "r.yaml")),
        map_(document_.root(), "the map", document_.problems()) {}

  Value value() { return map_.optional("k"); }
  std::string complaint() {
    const auto& found = document_.problems().found();
    return found.size() == 1 ? found[0].message : std::to_string(found.size()) + " problems";
  }

 private:
  Document document_;
  MapReader map_;
};

TEST(Reader, ReadsEachType) {
  EXPECT_EQ(OneValue("some text").value().text(), "some text");
  EXPECT_EQ(OneValue("'128'").value().text(), "128");
  EXPECT_EQ(OneValue("true").value().boolean(), true);
  EXPECT_EQ(OneValue("-5").value().integer(-10, 10), -5);
  EXPECT_EQ(OneValue("-9223372036854775808").value().integer(INT64_MIN, 0), INT64_MIN);
  EXPECT_EQ(OneValue("18446744073709551615").value().count(0, UINT64_MAX), UINT64_MAX);
  EXPECT_EQ(OneValue("0.01").value().real(0, 1), 0.01);
  EXPECT_EQ(OneValue("1").value().real(0, 1), 1.0);
  EXPECT_EQ(OneValue("4").value().numbers(), (std::vector<double>{4}));
  EXPECT_EQ(OneValue("' 1  0.25 -1e3'").value().numbers(), (std::vector<double>{1, 0.25, -1000}));
  EXPECT_EQ(OneValue("50%").value().percent(), 0.5);
  EXPECT_EQ(OneValue("4 GiB").value().bytes(), std::uint64_t{4} << 30);
}

TEST(Reader, RefusesWrongTypesInWords) {
  struct Case {
    const char* yaml;
    void (*read)(const Value&);
    const char* complaint;
  };
  const Case cases[] = {
      {"12", [](const Value& v) { v.text(); },
       "'k' must be text (quote it if it is meant as text), found the number 12"},
      {"true", [](const Value& v) { v.text(); }, "'k' must be text (quote it if it is meant as text), found true"},
      {"", [](const Value& v) { v.text(); }, "'k' must be text, found nothing"},
      {"[a]", [](const Value& v) { v.text(); }, "'k' must be text, found a list"},
      {"''", [](const Value& v) { v.word(); }, "'k' must be text that is not empty, found the text ''"},
      {"\"a\\0b\"", [](const Value& v) { v.word(); },
       "'k' must be text on one line without control characters, found the text 'a?b'"},
      {"yes", [](const Value& v) { v.boolean(); }, "'k' must be true or false, found the text 'yes'"},
      {"'true'", [](const Value& v) { v.boolean(); }, "'k' must be true or false, found the text 'true'"},
      {"1", [](const Value& v) { v.boolean(); }, "'k' must be true or false, found the number 1"},
      {"11", [](const Value& v) { v.integer(-10, 10); },
       "'k' must be a whole number from -10 to 10, found the number 11"},
      {"-9223372036854775809", [](const Value& v) { v.integer(INT64_MIN, 0); },
       "'k' must be a whole number from -9223372036854775808 to 0, found the number -9223372036854775809"},
      {"1.0", [](const Value& v) { v.count(1, 8); }, "'k' must be a whole number from 1 to 8, found the number 1.0"},
      {"'4'", [](const Value& v) { v.count(1, 8); }, "'k' must be a whole number from 1 to 8, found the text '4'"},
      {"-1", [](const Value& v) { v.count(0, 8); }, "'k' must be a whole number from 0 to 8, found the number -1"},
      {"{a: 1}", [](const Value& v) { v.count(0, 8); }, "'k' must be a whole number from 0 to 8, found a map"},
      {".nan", [](const Value& v) { v.real(0, 1); }, "'k' must be a number from 0 to 1, found the text '.nan'"},
      {"1e999", [](const Value& v) { v.real(0, 1); }, "'k' must be a number from 0 to 1, found the number 1e999"},
      {"'4,2'", [](const Value& v) { v.numbers(); },
       "'k' must be numbers apart by blanks, such as \"4 2\", found the text '4,2'"},
      {"' '", [](const Value& v) { v.numbers(); },
       "'k' must be numbers apart by blanks, such as \"4 2\", found the text ' '"},
      {"[4, 2]", [](const Value& v) { v.numbers(); },
       "'k' must be numbers apart by blanks, such as \"4 2\", found a list"},
      {"0.5", [](const Value& v) { v.percent(); },
       "'k' must be a percentage from 0% to 100% with its sign, such as 50%, found the number 0.5"},
      {"101%", [](const Value& v) { v.percent(); },
       "'k' must be a percentage from 0% to 100% with its sign, such as 50%, found the text '101%'"},
      {"4", [](const Value& v) { v.bytes(); },
       "'k' must be a size with its unit (B, kB, MB, GB, KiB, MiB, GiB), such as 4 GiB, found the number 4"},
      {"4 GiBs", [](const Value& v) { v.bytes(); },
       "'k' must be a size with its unit (B, kB, MB, GB, KiB, MiB, GiB), such as 4 GiB, found the text '4 GiBs'"},
      {"a", [](const Value& v) { v.items(); }, "'k' must be a list, found the text 'a'"},
      {"[]", [](const Value& v) { v.items(); }, "'k' must not be empty"},
      {"[a]", [](const Value& v) { v.map(); }, "'k' must be a map, found a list"},
      {"a", [](const Value& v) { v.entries(); }, "'k' must be a map, found the text 'a'"},
  };
  for (const Case& test : cases) {
    OneValue one(test.yaml);
    test.read(one.value());
    EXPECT_EQ(one.complaint(), test.complaint) << test.yaml;
  }
}

enum class Colour { red, green, blue };
constexpr std::array kColours{Named<Colour>{"red", Colour::red}, Named<Colour>{"green", Colour::green},
                              Named<Colour>{"blue", Colour::blue}};

TEST(Reader, FindsNamesInATableAndSuggests) {
  EXPECT_EQ(OneValue("green").value().one_of<Colour>(kColours), Colour::green);
  OneValue near("grene");
  EXPECT_EQ(near.value().one_of<Colour>(kColours), std::nullopt);
  EXPECT_EQ(near.complaint(), "'k' cannot be 'grene'; did you mean 'green'?");
  OneValue far("8");
  far.value().one_of<Colour>(kColours);
  EXPECT_EQ(far.complaint(), "'k' cannot be '8'; known: red, green and blue");
}

TEST(Reader, SaysNothingAboutAbsentValues) {
  Document document = Document::parse("a: 1\n", "r.yaml");
  MapReader map(document.root(), "the map", document.problems());
  const Value absent = map.optional("b");
  EXPECT_FALSE(absent.present());
  EXPECT_EQ(absent.text(), std::nullopt);
  EXPECT_EQ(absent.count(1, 2), std::nullopt);
  EXPECT_EQ(absent.percent(), std::nullopt);
  EXPECT_EQ(absent.one_of<Colour>(kColours), std::nullopt);
  EXPECT_FALSE(absent.map().has_value());
  EXPECT_TRUE(absent.items().empty());
  EXPECT_TRUE(absent.entries().empty());
  EXPECT_TRUE(document.problems().empty());
}

TEST(Reader, ReportsMissingKeysOnce) {
  Document document = Document::parse("x:\n  a: 1\n", "r.yaml");
  MapReader map(document.root().value(0), "scheme 'x'", document.problems());
  EXPECT_EQ(map.required("grid").word(), std::nullopt);
  EXPECT_EQ(document.problems().format_all(), "r.yaml:2:3: scheme 'x' needs the key 'grid'\n    a: 1\n    ^");
}

TEST(Reader, SuggestsForUnknownKeysFromTheKeysAskedFor) {
  Document document = Document::parse("{ grup: 1, zzzzzz: 2, damp: 3 }\n", "r.yaml");
  MapReader map(document.root(), "the map", document.problems());
  map.optional("group");
  map.optional("damp");
  map.finish();
  EXPECT_EQ(document.problems().format_all(),
            "r.yaml:1:3: unknown key 'grup'; did you mean 'group'?\n"
            "    { grup: 1, zzzzzz: 2, damp: 3 }\n"
            "      ^\n"
            "r.yaml:1:12: unknown key 'zzzzzz'; known here: group and damp\n"
            "    { grup: 1, zzzzzz: 2, damp: 3 }\n"
            "               ^");
}

TEST(Reader, PutsProblemsOfUnwrittenValuesAtTheirKey) {
  Document document = Document::parse("a:\n  k:\nb: 1\n", "r.yaml");
  MapReader map(document.root().value(0), "the map", document.problems());
  map.optional("k").count(1, 8);
  EXPECT_THAT(document.problems().format_all(), HasSubstr("r.yaml:2:3: 'k' must be a whole number"));
}

TEST(Reader, NamesListItemsByNumber) {
  OneValue one("[a, 2]");
  for (const Value& item : one.value().items()) item.word();
  EXPECT_EQ(one.complaint(), "item 2 of 'k' must be text (quote it if it is meant as text), found the number 2");
}

TEST(Reader, ReportsARootThatIsNoMapOnce) {
  Document document = Document::parse("- a\n", "r.yaml");
  MapReader map(document.root(), "the recipe", document.problems());
  map.required("x");
  map.finish();
  EXPECT_EQ(document.problems().format_all(), "r.yaml:1:1: the recipe must be a map, found a list\n    - a\n    ^");
}

TEST(Reader, PassesOverRefusedValues) {
  Document document = Document::parse("a: &x 1\nb: *x\n", "r.yaml");
  MapReader map(document.root(), "the map", document.problems());
  map.optional("a").count(0, 9);
  EXPECT_EQ(map.optional("b").count(0, 9), std::nullopt);
  EXPECT_EQ(map.optional("b").text(), std::nullopt);
  EXPECT_FALSE(map.optional("b").map().has_value());
  EXPECT_TRUE(map.optional("b").items().empty());
  map.finish();
  EXPECT_EQ(document.problems().found().size(), 2u) << "the anchor and the alias, and no more";
}

TEST(Reader, RestKeepsOrderAndPlaces) {
  Document document = Document::parse("{ z: 1, grid: g, a: 2 }\n", "r.yaml");
  MapReader map(document.root(), "the map", document.problems());
  map.optional("grid");
  const Node rest = map.rest();
  ASSERT_EQ(rest.entry_count(), 2u);
  EXPECT_EQ(rest.key(0).text, "z");
  EXPECT_EQ(rest.key(1).text, "a");
  EXPECT_EQ(document.source()->place_of(rest.value(1).where), (Place{1, 21}));
}

}  // namespace
}  // namespace adze
