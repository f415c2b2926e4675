// Tables: widths count characters, not bytes.
#include "report/table.h"

#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/checkpoint_testing.h"
#include "report/run_report.h"

namespace adze {
namespace {

/// Code points, counted independently of the table: every byte that is no continuation byte.
std::size_t characters(const std::string& text) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < text.size(); ++count) {
    const auto lead = static_cast<unsigned char>(text[i]);
    i += lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  }
  return count;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(Table, AlignsTextLeftAndNumbersRight) {
  Table table({{"name", Align::left}, {"n"}});
  table.add_row({"a", "1"});
  table.add_row({"longer", "1000"});
  EXPECT_EQ(table.text(),
            "name       n\n"
            "------  ----\n"
            "a          1\n"
            "longer  1000\n");
}

TEST(Table, CountsCharactersNotBytes) {
  Table table({{"wert", Align::left}, {"±"}});
  table.add_row({"größe", "1.0 ± 0.1"});
  table.add_row({"日本", "𝄞"});
  table.add_row({"plain", "10.0 ± 0.1"});
  const std::vector<std::string> lines = lines_of(table.text());
  ASSERT_EQ(lines.size(), 5u);
  for (const std::string& line : lines) EXPECT_EQ(characters(line), 5u + 2 + 10) << line;
}

TEST(Table, FillsMissingCellsAndLeavesNoSpacesAtTheEnd) {
  Table table({{"a", Align::left}, {"b", Align::left}, {"c", Align::left}});
  table.add_row({"1"});
  EXPECT_EQ(table.text(), "a  b  c\n-  -  -\n1\n");
}

TEST(Table, WithoutRowsIsItsHeader) {
  Table table({{"a"}, {"bb"}});
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(table.text(), "a  bb\n-  --\n");
}

TEST(Table, MoreCellsThanColumnsIsOurMistake) {
  Table table({{"a"}});
  testing::expect_error(ErrorKind::internal, "2 cells in a table of 1 columns", [&] { table.add_row({"1", "2"}); });
  EXPECT_TRUE(table.empty());
}

EvaluationResult result_with(double perplexity) {
  EvaluationResult result;
  result.perplexity = perplexity;
  result.perplexity_se = 0.25;
  return result;
}

TEST(JudgementTable, ShowsDivergenceOnlyWhereThereIsAReference) {
  EvaluationResult judged = result_with(12.5);
  judged.reference.emplace();
  judged.reference->kl_mean = 0.00456;
  judged.reference->kl_mean_se = 0.00003;
  judged.reference->same_top = 0.9876;
  const std::vector<std::string> lines =
      lines_of(judgement_table({{"plain", 1000, 16.0, result_with(10)}, {"small", 250, 4.0, judged}}));
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_TRUE(lines[2].ends_with("10.0000 ± 0.2500")) << lines[2];
  EXPECT_NE(lines[3].find("12.5000 ± 0.2500"), std::string::npos);
  EXPECT_NE(lines[3].find("0.004560 ± 0.000030"), std::string::npos);
  EXPECT_NE(lines[3].find("98.76 %"), std::string::npos);
}

}  // namespace
}  // namespace adze
