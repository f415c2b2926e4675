#include "base/json_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace adze {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  for_each_json_line(text, "file", [&](const JsonLine& line) {
    lines.push_back(fmt::format("{} {} {}", line.number, line.origin, line.value.dump()));
  });
  return lines;
}

TEST(JsonLines, AreValuesWithTheirNumbers) {
  EXPECT_THAT(lines_of("{\"a\":1}\n\n \t\r\n[2]\r\n\"last\""),
              ElementsAre("1 file:1 {\"a\":1}", "4 file:4 [2]", "5 file:5 \"last\""));
  EXPECT_THAT(lines_of("3\n"), ElementsAre("1 file:1 3"));
  EXPECT_TRUE(lines_of("").empty());
  EXPECT_TRUE(lines_of("\n\n").empty());
}

TEST(JsonLines, NameTheLineThatIsNone) {
  try {
    lines_of("1\n\n{\"a\":}\n");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    EXPECT_THAT(error.message(), ::testing::StartsWith("file:3"));
  }
}

}  // namespace
}  // namespace adze
