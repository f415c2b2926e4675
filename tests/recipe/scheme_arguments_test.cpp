// Options of a command line read as a recipe of one scheme.
#include "recipe/scheme_arguments.h"

#include <gtest/gtest.h>

#include "recipe/errors.h"

namespace adze {
namespace {

using testing::recipe_error;

const SchemeArgument kGrid{"--grid", "grid", "int4", true};
const SchemeArgument kModules{"--modules", "modules", "layers.**", true};

TEST(SchemeArguments, BecomeOneSchemeAndOneRule) {
  const Recipe recipe = recipe_of({kGrid,
                                   {"--group", "group", "64"},
                                   {"--symmetric", "symmetric", "false"},
                                   parse_scheme_option("damp=0.1"),
                                   kModules,
                                   {"--fallback", "fallback", "f16", true}});
  ASSERT_EQ(recipe.schemes.size(), 1U);
  EXPECT_EQ(recipe.schemes[0].grid, "int4");
  EXPECT_EQ(recipe.schemes[0].solver, "gptq");
  EXPECT_EQ(recipe.schemes[0].group, 64U);
  EXPECT_EQ(recipe.schemes[0].symmetric, false);
  Diagnostics problems(recipe.source);
  MapReader options = read_options(recipe.schemes[0], problems);
  EXPECT_EQ(options.optional("damp").real(0, 1), 0.1);
  options.finish();
  EXPECT_TRUE(problems.empty());
  ASSERT_EQ(recipe.rules.size(), 1U);
  EXPECT_EQ(recipe.rules[0].modules, "layers.**");
  EXPECT_EQ(recipe.rules[0].scheme, recipe.schemes[0].name);
  ASSERT_TRUE(recipe.rules[0].fallback);
  EXPECT_EQ(recipe.rules[0].fallback->store, DType::f16);
  EXPECT_EQ(recipe.propagate, PropagateMode::original);
}

TEST(SchemeArguments, AreShownAsTheyAreTyped) {
  const Recipe recipe =
      recipe_of({kGrid, {"--sparsity", "sparsity", "50% in rows", true}, parse_scheme_option("a=b=c"), kModules});
  EXPECT_EQ(recipe.source->text(), "--grid int4 --sparsity '50% in rows' --option a=b=c --modules layers.**");
  EXPECT_NE(recipe.text_hash, recipe_of({kGrid, kModules}).text_hash);
}

TEST(SchemeArguments, AllProblemsAreReportedBelowTheirOptions) {
  EXPECT_EQ(recipe_error([] {
              recipe_of({kGrid, {"--group", "group", "some"}, {"--modules", "modules", "a b", true}});
            }),
            "'group' must be a whole number from 1 to 1048576, found the text 'some'\n"
            "    --grid int4 --group some --modules 'a b'\n"
            "                        ^\n"
            "'modules' is a glob of letters, digits, '_', '-', '.', '*', '**' and '?' only\n"
            "    --grid int4 --group some --modules 'a b'\n"
            "                                        ^");
}

TEST(SchemeArguments, AKeyComesOnce) {
  EXPECT_EQ(recipe_error([] {
              recipe_of({kGrid, parse_scheme_option("grid=int8"), kModules});
            }),
            "'grid' is given twice\n"
            "    --grid int4 --option grid=int8 --modules layers.**\n"
            "                         ^");
}

TEST(SchemeArguments, AnOptionIsAnAssignment) {
  for (const char* const text : {"damp", "=1", ""}) {
    try {
      parse_scheme_option(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
    }
  }
  EXPECT_EQ(parse_scheme_option("a=").value, "");
}

}  // namespace
}  // namespace adze
