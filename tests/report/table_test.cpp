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

EvaluationResult judged_result() {
  EvaluationResult judged = result_with(12.5);
  ReferenceResult& r = judged.reference.emplace();
  r.kl_mean = 0.00456;
  r.kl_mean_se = 0.000031;
  r.kl_mean_95 = Interval{0.0042, 0.0051};
  r.kl_999 = 3.25;
  r.kl_999_se = 1.5;
  r.kl_max = 7.125;
  r.same_top = 0.9876;
  r.same_top_se = 0.0021;
  r.ppl_difference = {0.0123, 0.004, Interval{-0.001, 0.026}};
  return judged;
}

TEST(JudgementTable, ShowsEveryDistanceWithItsIntervalWhereThereIsAReference) {
  const std::string table =
      judgement_table({{"plain", 1000, 16.0, result_with(10)}, {"small", 250, 4.0, judged_result()}});
  EXPECT_EQ(table,
            "model  bytes  bits/weight              mean KL [95 %]  99.9% KL  max KL  same top %            "
            "ΔPPL [95 %]    perplexity  in words\n"
            "-----  -----  -----------  --------------------------  --------  ------  ----------  ---------------------"
            "  ------------  --------\n"
            "plain   1000       16.000                                                                                 "
            "  10.0000±0.25\n"
            "small    250        4.000  0.00456 [0.00420, 0.00510]   3.2±1.5    7.12  98.76±0.21  0.012 [-0.001, 0.026]"
            "  12.5000±0.25  minor\n");
}

TEST(JudgementTable, WithoutReferencesHasPerplexityOnly) {
  EXPECT_EQ(judgement_table({{"plain", 1000, 16.0, result_with(10)}}),
            "model  bytes  bits/weight    perplexity\n"
            "-----  -----  -----------  ------------\n"
            "plain   1000       16.000  10.0000±0.25\n");
}

TEST(JudgementTable, SaysNothingOfErrorsThatAreUnknownAndZeroOfThoseThatAreZero) {
  EvaluationResult judged = judged_result();
  ReferenceResult& r = *judged.reference;
  r.kl_999_se.reset();
  r.kl_mean_95 = Interval{0, 0};
  r.kl_mean = r.kl_max = 0;
  const std::string line = lines_of(judgement_table({{"small", 250, 4.0, judged}}))[2];
  EXPECT_NE(line.find("  0  "), std::string::npos) << line;
  EXPECT_NE(line.find("  3.25  "), std::string::npos) << line;
  EXPECT_NE(line.find("the same"), std::string::npos) << line;
  EXPECT_EQ(line.find("nan"), std::string::npos) << line;
}

JudgedModel with_domains() {
  JudgedModel model{"small", 250, 4.0, judged_result(), {{"wiki", judged_result()}, {"code", judged_result()}}};
  ReferenceResult& code = *model.domains[1].result.reference;
  code.kl_mean = 0.02;
  code.kl_mean_95 = Interval{0.015, 0.025};
  return model;
}

TEST(DomainTable, MarksWhatStandsApartAndTheWorstIsNamed) {
  const std::vector<std::string> lines = lines_of(domain_table({with_domains()}));
  ASSERT_EQ(lines.size(), 5U);
  EXPECT_EQ(lines[2].find('*'), std::string::npos);
  EXPECT_TRUE(lines[3].starts_with("code") && lines[3].ends_with("0.0200 [0.0150, 0.0250] *")) << lines[3];
  EXPECT_TRUE(lines[4].starts_with("all")) << lines[4];
  EXPECT_NE(judgement_table({with_domains()}).find("code 0.02"), std::string::npos);
}

TEST(ComparisonTable, NamesBothModels) {
  ModelComparison pair;
  pair.b = 1;
  pair.loss.value = 0.25;
  pair.loss.interval_95 = Interval{0.1, 0.4};
  pair.loss.a_better = 0.0125;
  pair.loss.p_holm = 0.05;
  const std::vector<std::string> names{"first", "second"};
  const std::string line = lines_of(comparison_table(std::span(&pair, 1), names))[2];
  for (const char* const words : {"first", "second", "loss", "0.25 [0.10, 0.40]", "0.013", "0.050", "no"})
    EXPECT_NE(line.find(words), std::string::npos) << line;
}

}  // namespace
}  // namespace adze
