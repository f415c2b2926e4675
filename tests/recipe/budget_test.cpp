// Budgets, and what must choose alike.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recipe/recipe_testing.h"

namespace adze {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kRule;
using testing::problems_of;
using testing::with;

TEST(Recipe, ChecksTheBudget) {
  const auto problems = [](const std::string& budget) {
    return problems_of(with(kRule + "export: [ { format: gguf, file: m } ]\nbudget: " + budget + "\n"));
  };
  EXPECT_THAT(problems("{ size: 4 }"),
              ElementsAre("7:17: 'size' must be a size with its unit (B, kB, MB, GB, KiB, MiB, GiB), such as 4 GiB, "
                          "found the number 4"));
  EXPECT_THAT(problems("{ size: 4 GB, bits_per_weight: 4 }"),
              ElementsAre("7:9: 'budget' needs one of 'size', 'bits_per_weight', 'kl' and 'fit'"));
  EXPECT_THAT(problems("{ of: gguf }"),
              ElementsAre("7:9: 'budget' needs one of 'size', 'bits_per_weight', 'kl' and 'fit'"));
  EXPECT_THAT(problems("{ size: 4 GB, of: ggfu }"),
              ElementsAre("7:27: no export has the format 'ggfu'; did you mean 'gguf'?"));
  EXPECT_THAT(problems("{ bits_per_weight: 4, of: gguf }"),
              ElementsAre("7:31: 'of' names the export whose size is meant; 'bits_per_weight' has none"));
  EXPECT_THAT(problems("{ bits_per_weight: 4 bits }"),
              ElementsAre("7:28: 'bits_per_weight' must be a number from 0 to 64, found the text '4 bits'"));
}

TEST(Recipe, ReadsBudgetsInOtherWords) {
  const auto budget = [](const std::string& text) {
    return *parse_recipe(with(kRule + "budget: " + text + "\n"), "r.yaml").budget;
  };
  EXPECT_EQ(budget("{ kl: 0.02 }").kl, 0.02);
  const BudgetSpec fit = budget("{ fit: { ram: 8 GiB, context: 8192 } }");
  EXPECT_EQ(fit.fit->ram, std::uint64_t{8} << 30);
  EXPECT_EQ(fit.fit->context, 8192u);
  EXPECT_EQ(fit.fit->reserve, std::uint64_t{256} << 20);
  EXPECT_EQ(budget("{ size: 1 GB, multiplications: 60% }").multiplications, 0.6);
  const auto problems = [](const std::string& text) { return problems_of(with(kRule + "budget: " + text + "\n")); };
  EXPECT_THAT(problems("{ fit: { context: 8192 } }"), ElementsAre(HasSubstr("needs the key 'ram'")));
  EXPECT_THAT(problems("{ kl: 0.1, multiplications: 60% }"), ElementsAre(HasSubstr("not both")));
  EXPECT_THAT(problems("{ kl: -1 }"), ElementsAre(HasSubstr("'kl' must be a number from 0")));
}

TEST(Recipe, ReadsWhatMustChooseAlike) {
  const auto rule = [](const std::string& rest) {
    return "adze: 1\ncalibration: { set: a.txt }\nschemes: { a: { grid: int4 }, b: { grid: int8 } }\n"
           "rules: [ { modules: \"layers.**\", " +
           rest + " } ]\n";
  };
  EXPECT_EQ(parse_recipe(rule("choose: [a, b]"), "r.yaml").rules[0].tie, TieMode::none);
  EXPECT_EQ(parse_recipe(rule("choose: [a, b], tie: input"), "r.yaml").rules[0].tie, TieMode::input);
  EXPECT_EQ(parse_recipe(rule("choose: [a, b], tie: all"), "r.yaml").rules[0].tie, TieMode::all);
  EXPECT_THAT(problems_of(rule("choose: [a, b], tie: layer")), ElementsAre(HasSubstr("'tie'")));
  EXPECT_THAT(problems_of(rule("scheme: a, tie: block")), Contains(HasSubstr("this rule leaves no choice")));
}

}  // namespace
}  // namespace adze
