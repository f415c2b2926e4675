#include "recipe/recipe.h"

#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/hash.h"
#include "recipe/recipe_testing.h"

namespace adze {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using testing::errors_of;
using ::testing::HasSubstr;
using testing::kRule;
using testing::problems_of;
using ::testing::StartsWith;
using testing::with;

const std::string kDesign = R"(adze: 1
calibration: { set: ../calibration_data/mixed.yaml, windows: 64, tokens: 256, seed: 7 }
schemes:
  w4:    { grid: int4, group: 128, symmetric: true, solver: gptq }
  q4k:   { grid: gguf/q4_k }
  w4s50: { grid: int4, group: 128, sparsity: 50%, solver: obr, damp: 0.01 }
  basis: { solver: compot, keep: 80%, then: w4 }
rules:
  - { modules: "lm_head", store: bf16 }
  - { modules: "layers.*.mlp.down_proj", choose: [q4k, w4s50], fallback: f16 }
  - { modules: "layers.**", scheme: basis, fallback: q4k }
budget: { size: 4 GiB, of: gguf }
export: [ { format: gguf, file: model.gguf } ]
evaluate: { text: ../calibration_data/eval.txt, context: 256 }
)";

TEST(Recipe, ReadsEveryKeyOfTheDesign) {
  const Recipe recipe = parse_recipe(kDesign, "recipes/design.yaml");
  EXPECT_EQ(recipe.origin, "recipes/design.yaml");
  EXPECT_EQ(recipe.folder, "recipes");
  EXPECT_EQ(recipe.text_hash, hash_hex(kDesign));
  EXPECT_EQ(recipe.calibration.set, "calibration_data/mixed.yaml");
  EXPECT_EQ(recipe.calibration.windows, 64u);
  EXPECT_EQ(recipe.calibration.tokens, 256u);
  EXPECT_EQ(recipe.calibration.seed, 7u);

  ASSERT_EQ(recipe.schemes.size(), 4u);
  const SchemeSpec& w4 = recipe.schemes[0];
  EXPECT_EQ(w4.name, "w4");
  EXPECT_EQ(w4.grid, "int4");
  EXPECT_EQ(w4.group, 128u);
  EXPECT_EQ(w4.symmetric, true);
  EXPECT_EQ(w4.options.entry_count(), 0u);
  EXPECT_EQ(recipe.schemes[1].solver, "gptq");
  EXPECT_EQ(recipe.schemes[1].group, std::nullopt);
  EXPECT_EQ(recipe.schemes[2].options.key(0).text, "sparsity");
  EXPECT_EQ(recipe.schemes[3].grid, "");
  EXPECT_EQ(recipe.find_scheme("basis"), &recipe.schemes[3]);
  EXPECT_EQ(recipe.find_scheme("nope"), nullptr);

  ASSERT_EQ(recipe.rules.size(), 3u);
  EXPECT_EQ(recipe.rules[0].modules, "lm_head");
  EXPECT_EQ(recipe.rules[0].store, DType::bf16);
  EXPECT_THAT(recipe.rules[1].choose, ElementsAre("q4k", "w4s50"));
  EXPECT_EQ(recipe.rules[1].fallback->store, DType::f16);
  EXPECT_EQ(recipe.rules[2].scheme, "basis");
  EXPECT_EQ(recipe.rules[2].fallback->scheme, "q4k");

  EXPECT_EQ(recipe.budget->bytes, std::uint64_t{4} << 30);
  EXPECT_EQ(recipe.budget->of, "gguf");
  ASSERT_EQ(recipe.exports.size(), 1u);
  EXPECT_EQ(recipe.exports[0].format, "gguf");
  EXPECT_EQ(recipe.exports[0].file, "model.gguf");
  EXPECT_EQ(recipe.evaluate->text, "calibration_data/eval.txt");
  EXPECT_EQ(recipe.evaluate->context, 256u);
  EXPECT_EQ(recipe.evaluate->protocol, "lcpp");
  EXPECT_TRUE(recipe.warnings.empty()) << recipe.warnings.format_all();
}

TEST(Recipe, HasTheDocumentedDefaults) {
  const Recipe recipe = parse_recipe(with(kRule), "r.yaml");
  EXPECT_EQ(recipe.folder, "");
  EXPECT_EQ(recipe.calibration.set, "a.txt");
  EXPECT_EQ(recipe.calibration.windows, 128u);
  EXPECT_EQ(recipe.calibration.tokens, 512u);
  EXPECT_EQ(recipe.calibration.seed, 0u);
  EXPECT_EQ(recipe.propagate, PropagateMode::compressed);
  EXPECT_EQ(recipe.stages, StageMode::staged);
  EXPECT_FALSE(recipe.budget.has_value());
  EXPECT_FALSE(recipe.evaluate.has_value());
  EXPECT_TRUE(recipe.exports.empty());
}

TEST(Recipe, ReadsPropagateAndStages) {
  const Recipe recipe = parse_recipe(with(kRule + "propagate: original\nstages: 1\n"), "r.yaml");
  EXPECT_EQ(recipe.propagate, PropagateMode::original);
  EXPECT_EQ(recipe.stages, StageMode::once);
  EXPECT_EQ(parse_recipe(with(kRule + "stages: staged\n"), "r.yaml").stages, StageMode::staged);
}

TEST(Recipe, MayCalibrateWithoutText) {
  const std::string rest = "\nschemes: { w4: { grid: int4 } }\n" + kRule;
  const auto inputs_of = [&](const std::string& calibration) {
    const Recipe recipe = parse_recipe("adze: 1\ncalibration: " + calibration + rest, "r.yaml");
    EXPECT_EQ(recipe.calibration.windows == 0, recipe.calibration.from != InputsFrom::text);
    return recipe.calibration.from;
  };
  EXPECT_EQ(inputs_of("none"), InputsFrom::nothing);
  EXPECT_EQ(inputs_of("weights"), InputsFrom::weights);
  EXPECT_EQ(inputs_of("{ set: a.txt }"), InputsFrom::text);
  EXPECT_THAT(problems_of("adze: 1\ncalibration: a.txt" + rest),
              ElementsAre("2:14: 'calibration' must be a map with the key 'set'; or, where nothing is run, none or "
                          "weights"));
}

TEST(Recipe, KeepsAbsolutePaths) {
  const Recipe recipe =
      parse_recipe("adze: 1\ncalibration: { set: /data/a.txt }\nrules: [{modules: x, store: f32}]\n", "d/r");
  EXPECT_EQ(recipe.calibration.set, "/data/a.txt");
}

TEST(Recipe, ReportsAllErrorsOfAFileInOneRun) {
  const std::string text = R"(adze: 1
calibration: { set: a.txt, windows: 0, token: 512 }
schemes:
  w4: { grid: int4, group: big, symmetric: yes }
rules:
  - { modules: "lm_head", store: fp16 }
  - { modules: "layers.**", scheme: w5 }
  - { modules: "layers.**" }
export: [ { format: gguf, file: ../model.gguf } ]
evalute: { text: b.txt }
)";
  EXPECT_EQ(errors_of(text),
            "dir/r.yaml:2:37: 'windows' must be a whole number from 1 to 1000000, found the number 0\n"
            "    calibration: { set: a.txt, windows: 0, token: 512 }\n"
            "                                        ^\n"
            "dir/r.yaml:2:40: unknown key 'token'; did you mean 'tokens'?\n"
            "    calibration: { set: a.txt, windows: 0, token: 512 }\n"
            "                                           ^\n"
            "dir/r.yaml:4:28: 'group' must be a whole number from 1 to 1048576, found the text 'big'\n"
            "    w4: { grid: int4, group: big, symmetric: yes }\n"
            "                             ^\n"
            "dir/r.yaml:4:44: 'symmetric' must be true or false, found the text 'yes'\n"
            "    w4: { grid: int4, group: big, symmetric: yes }\n"
            "                                             ^\n"
            "dir/r.yaml:6:34: 'store' cannot be 'fp16'; did you mean 'f16'?\n"
            "    - { modules: \"lm_head\", store: fp16 }\n"
            "                                   ^\n"
            "dir/r.yaml:7:37: there is no scheme 'w5'; schemes here: w4\n"
            "    - { modules: \"layers.**\", scheme: w5 }\n"
            "                                      ^\n"
            "dir/r.yaml:8:5: a rule needs one of 'scheme', 'store' and 'choose'\n"
            "    - { modules: \"layers.**\" }\n"
            "      ^\n"
            "dir/r.yaml:9:33: 'file' must lie in the output folder: a relative path without '..'\n"
            "    export: [ { format: gguf, file: ../model.gguf } ]\n"
            "                                    ^\n"
            "dir/r.yaml:10:1: unknown key 'evalute'; did you mean 'evaluate'?\n"
            "    evalute: { text: b.txt }\n"
            "    ^");
}

TEST(Recipe, RequiresItsVersion) {
  EXPECT_THAT(problems_of("calibration: { set: a.txt }\nrules: [{modules: x, store: f32}]\n"),
              ElementsAre("1:1: the key 'adze' is missing; a recipe says its version: adze: 1"));
  EXPECT_THAT(problems_of("adze: 2\nnew_key: 1\n"),
              ElementsAre("1:7: recipe version 2 is not supported; this program reads version 1"));
  EXPECT_THAT(problems_of("adze: one\n"), Contains(StartsWith("1:7: 'adze' must be a whole number")));
}

TEST(Recipe, ReportsMissingSections) {
  EXPECT_THAT(problems_of("adze: 1\n"),
              ElementsAre("1:1: the recipe needs the key 'calibration'", "1:1: the recipe needs the key 'rules'"));
  EXPECT_THAT(problems_of("adze: 1\ncalibration:\nrules: []\n"),
              ElementsAre("2:1: 'calibration' must be a map, found nothing", "3:8: 'rules' must not be empty"));
  EXPECT_THAT(problems_of("adze: 1\ncalibration: {windows: 3}\nrules: [{modules: x, store: f32}]\n"),
              ElementsAre("2:14: 'calibration' needs the key 'set'"));
}

TEST(Recipe, RefusesAnEmptyFile) {
  EXPECT_EQ(errors_of(""), "dir/r.yaml:1:1: the recipe must be a map, found nothing");
  EXPECT_THAT(problems_of("# nothing\n"), ElementsAre("1:1: the recipe must be a map, found nothing"));
}

TEST(Recipe, RefusesATextOrAListAsTheWhole) {
  EXPECT_THAT(problems_of("hello\n"), ElementsAre("1:1: the recipe must be a map, found the text 'hello'"));
  EXPECT_THAT(problems_of("- adze: 1\n"), ElementsAre("1:1: the recipe must be a map, found a list"));
}

TEST(Recipe, ReportsDuplicateKeysBesideOtherProblems) {
  EXPECT_THAT(problems_of(with("  w4: { grid: int8 }\n" + kRule + "stagse: 1\n")),
              ElementsAre("5:3: duplicate key 'w4'; it stands in line 4 already",
                          "7:1: unknown key 'stagse'; did you mean 'stages'?"));
}

TEST(Recipe, BoundsCalibration) {
  const auto problem = [](const std::string& keys) {
    return problems_of("adze: 1\ncalibration: { set: a.txt, " + keys + " }\nrules: [{modules: x, store: f32}]\n").at(0);
  };
  EXPECT_EQ(problem("windows: 1000001"),
            "2:37: 'windows' must be a whole number from 1 to 1000000, found the number 1000001");
  EXPECT_EQ(problem("tokens: 1"), "2:36: 'tokens' must be a whole number from 2 to 1000000, found the number 1");
  EXPECT_EQ(problem("seed: -1"),
            "2:34: 'seed' must be a whole number from 0 to 18446744073709551615, found the number -1");
  EXPECT_EQ(problem("windows: '12'"), "2:37: 'windows' must be a whole number from 1 to 1000000, found the text '12'");
}

TEST(Recipe, ChecksSchemes) {
  const auto problems = [](const std::string& scheme) { return problems_of(with("  " + scheme + "\n" + kRule)); };
  EXPECT_THAT(problems("x: {}"), ElementsAre("5:3: scheme 'x' needs a grid, a solver or both"));
  EXPECT_THAT(problems("x: int4"), ElementsAre("5:6: 'x' must be a map, found the text 'int4'"));
  EXPECT_THAT(problems("x: { grid: int4, group: 0 }"),
              ElementsAre("5:27: 'group' must be a whole number from 1 to 1048576, found the number 0"));
  EXPECT_THAT(problems("x: { grid: int4, damp: [1] }"), ElementsAre("5:26: 'damp' must be one value, found a list"));
  EXPECT_THAT(problems("x: { grid: int4, damp: }"), ElementsAre("5:20: 'damp' must be one value, found nothing"));
  EXPECT_THAT(problems("a b: { grid: int4 }"),
              ElementsAre("5:3: a scheme's name is a word of letters, digits, '_', '-' and '.', not the text 'a b'"));
  EXPECT_THAT(problems("4: { grid: int4 }"),
              ElementsAre("5:3: a scheme's name is a word of letters, digits, '_', '-' and '.', not the number 4"));
  EXPECT_THAT(problems("bf16: { grid: int4 }"), ElementsAre("5:3: 'bf16' is a dtype and cannot name a scheme"));
}

TEST(Recipe, ChecksRules) {
  const auto problems = [](const std::string& rule) { return problems_of(with("rules:\n  - " + rule + "\n")); };
  EXPECT_THAT(problems("{ scheme: w4 }"), ElementsAre("6:5: item 1 of 'rules' needs the key 'modules'"));
  EXPECT_THAT(problems("w4"), ElementsAre("6:5: item 1 of 'rules' must be a map, found the text 'w4'"));
  EXPECT_THAT(problems("{ modules: \"a[0]\", scheme: w4 }"),
              ElementsAre("6:16: 'modules' is a glob of letters, digits, '_', '-', '.', '*', '**' and '?' only"));
  EXPECT_THAT(problems("{ modules: x, scheme: w4, store: f16, choose: [w4] }"),
              ElementsAre("6:31: a rule has one of 'scheme', 'store' and 'choose'; keep one of them",
                          "6:43: a rule has one of 'scheme', 'store' and 'choose'; keep one of them"));
  EXPECT_THAT(problems("{ modules: x, store: int8 }"),
              ElementsAre("6:26: 'store' cannot be 'int8'; known: f32, f16 and bf16"));
  EXPECT_THAT(problems("{ modules: x, choose: w4 }"),
              ElementsAre("6:27: 'choose' must be a list, found the text 'w4'"));
  EXPECT_THAT(problems("{ modules: x, choose: [w4, w4] }"), ElementsAre("6:32: item 2 of 'choose' repeats 'w4'"));
  EXPECT_THAT(problems("{ modules: x, choose: [] }"), ElementsAre("6:27: 'choose' must not be empty"));
  EXPECT_THAT(problems("{ modules: x, scheme: w4, fallback: w44 }"),
              ElementsAre("6:41: there is no scheme 'w44'; did you mean 'w4'?"));
  EXPECT_THAT(problems("{ modules: x, store: f16, fallback: w4 }"),
              ElementsAre("6:31: a stored tensor needs no fallback: every shape can be stored"));
  EXPECT_THAT(problems("{ modules: x, scheme: w4, when: 3 }"),
              ElementsAre(StartsWith("6:31: unknown key 'when'; known here: modules")));
}

TEST(Recipe, DoesNotBlameRulesForBrokenSchemes) {
  EXPECT_THAT(problems_of(with("  bad: 5\nrules: [ { modules: x, scheme: bad } ]\n")),
              ElementsAre("5:8: 'bad' must be a map, found the number 5"));
}

TEST(Recipe, KeepsExportsInTheOutputFolder) {
  const auto problems = [](const std::string& exports) {
    return problems_of(with(kRule + "export: " + exports + "\n"));
  };
  const std::string outside = "'file' must lie in the output folder: a relative path without '..'";
  EXPECT_THAT(problems("[ { format: a, file: /etc/x } ]"), ElementsAre("6:30: " + outside));
  EXPECT_THAT(problems("[ { format: a, file: a/../../x } ]"), ElementsAre("6:30: " + outside));
  EXPECT_THAT(problems("[ { format: a, file: x }, { format: b, file: ./x } ]"),
              ElementsAre("6:54: 'file' is written by another export already"));
  EXPECT_THAT(problems("[ { file: x } ]"), ElementsAre("6:11: item 1 of 'export' needs the key 'format'"));
  EXPECT_THAT(problems("{ format: a, file: x }"), ElementsAre("6:9: 'export' must be a list, found a map"));
}

TEST(Recipe, ReadsTheSizeOfSplitExports) {
  const auto exported = [](const std::string& keys) {
    return parse_recipe(with(kRule + "export: [ { format: gguf, file: m.gguf" + keys + " } ]\n"), "r.yaml").exports[0];
  };
  EXPECT_EQ(exported("").split_max_bytes, 0u);
  EXPECT_EQ(exported(", split_max_size: 2 GiB").split_max_bytes, std::uint64_t{2} << 30);
  const auto problems = [](const std::string& keys) {
    return problems_of(with(kRule + "export: [ { format: gguf, " + keys + " } ]\n"));
  };
  EXPECT_THAT(problems("file: m.gguf, split_max_size: 2"),
              ElementsAre(::testing::HasSubstr("'split_max_size' must be")));
  EXPECT_THAT(problems("file: m.gguf, split_max_size: 0 B"),
              ElementsAre(::testing::HasSubstr("'split_max_size' must be above zero")));
  EXPECT_THAT(problems("file: m.bin, split_max_size: 2 GiB"),
              ElementsAre(::testing::HasSubstr("the name of a file that is split must end with .gguf")));
}

TEST(Recipe, ReadsTheScalesOfACache) {
  const auto text = [](const std::string& keys) {
    return with(kRule + "export: [ { format: compressed-tensors, file: m" + keys + " } ]\n");
  };
  EXPECT_EQ(parse_recipe(text(""), "r.yaml").exports[0].kv_cache, std::nullopt);
  EXPECT_EQ(parse_recipe(text(", kv_cache: fp8"), "r.yaml").exports[0].kv_cache, "fp8");
  EXPECT_THAT(problems_of(text(", kv_cache: 8")), ElementsAre(::testing::HasSubstr("'kv_cache' must be")));
}

TEST(Recipe, SplitsProtocolAndContext) {
  const auto evaluate = [](const std::string& keys) {
    return *parse_recipe(with(kRule + "evaluate: { text: t.txt, " + keys + " }\n"), "r.yaml").evaluate;
  };
  EXPECT_EQ(evaluate("protocol: gptq-2048").protocol, "gptq");
  EXPECT_EQ(evaluate("protocol: gptq-2048").context, 2048u);
  EXPECT_EQ(evaluate("protocol: gptq, context: 99").context, 99u);
  EXPECT_EQ(evaluate("protocol: gptq-64, context: 64").context, 64u);
  EXPECT_EQ(evaluate("protocol: some-name").protocol, "some-name");
  EXPECT_EQ(evaluate("protocol: some-name").context, 512u);
  EXPECT_THAT(problems_of(with(kRule + "evaluate: { text: t, context: 256, protocol: lcpp-512 }\n")),
              ElementsAre("6:46: 'protocol' says context 512, the key 'context' 256"));
  EXPECT_THAT(problems_of(with(kRule + "evaluate: { text: t, protocol: lcpp-1 }\n")),
              ElementsAre("6:32: 'protocol' names a context outside 2 to 1000000"));
  EXPECT_THAT(problems_of(with(kRule + "evaluate: { context: 256 }\n")),
              ElementsAre("6:11: 'evaluate' needs the key 'text'"));
}

TEST(Recipe, RefusesUnknownModes) {
  EXPECT_THAT(problems_of(with(kRule + "propagate: orginal\nstages: 2\n")),
              ElementsAre("6:12: 'propagate' cannot be 'orginal'; did you mean 'original'?",
                          "7:9: 'stages' cannot be '2'; known: staged and 1"));
}

TEST(Recipe, WarnsAboutUnusedSchemesAndRepeatedGlobs) {
  const Recipe recipe = parse_recipe(
      with("  spare: { grid: int8 }\nrules:\n  - { modules: x, scheme: w4 }\n  - { modules: x, store: f16 }\n"),
      "r.yaml");
  EXPECT_EQ(recipe.warnings.format_all(),
            "r.yaml:5:3: no rule uses scheme 'spare'\n"
            "    spare: { grid: int8 }\n"
            "    ^\n"
            "r.yaml:8:16: an earlier rule has the modules 'x' already; the first match wins\n"
            "    - { modules: x, store: f16 }\n"
            "                 ^");
}

TEST(Recipe, LetsHigherLayersReadOptionsAndReportInTheSameFormat) {
  const Recipe recipe = parse_recipe(
      with("  x: { grid: int44, grup: 128, damp: 2, act_order: true, sparsity: 50% }\n" + kRule), "dir/r.yaml");
  const SchemeSpec& scheme = *recipe.find_scheme("x");
  Diagnostics problems(recipe.source);
  problems.report(scheme.grid_where, "unknown grid '{}'", scheme.grid);
  MapReader options = read_options(scheme, problems);
  EXPECT_EQ(options.optional("act_order").boolean(), true);
  EXPECT_EQ(options.optional("sparsity").percent(), 0.5);
  EXPECT_EQ(options.optional("damp").real(0, 1), std::nullopt);
  options.finish();
  EXPECT_EQ(problems.format_all(),
            "dir/r.yaml:5:14: unknown grid 'int44'\n"
            "    x: { grid: int44, grup: 128, damp: 2, act_order: true, sparsity: 50% }\n"
            "               ^\n"
            "dir/r.yaml:5:21: unknown key 'grup'; did you mean 'group'?\n"
            "    x: { grid: int44, grup: 128, damp: 2, act_order: true, sparsity: 50% }\n"
            "                      ^\n"
            "dir/r.yaml:5:38: 'damp' must be a number from 0 to 1, found the number 2\n"
            "    x: { grid: int44, grup: 128, damp: 2, act_order: true, sparsity: 50% }\n"
            "                                       ^");
}

TEST(Recipe, LimitsListsSoThatComparingNamesStaysCheap) {
  std::string schemes = "adze: 1\ncalibration: { set: a.txt }\nschemes:\n";
  for (int i = 0; i < 2000; ++i) schemes += "  scheme" + std::to_string(i) + ": { grid: int4 }\n";
  std::string rules = "rules:\n";
  for (int i = 0; i < 2000; ++i) rules += "  - { modules: x, scheme: plan" + std::to_string(i) + " }\n";
  EXPECT_THAT(problems_of(schemes + rules), Contains("2005:27: there is no scheme 'plan0'"));
  EXPECT_THAT(problems_of(schemes + "  one-more: { grid: int4 }\nrules: [ { modules: x, store: f16 } ]\n"),
              ElementsAre("4:3: 'schemes' has 2001 entries, more than 2000"));
  EXPECT_THAT(problems_of(with(rules + "  - { modules: x, store: f16 }\n")),
              ElementsAre("6:3: 'rules' has 2001 entries, more than 2000"));
}

TEST(Recipe, SurvivesCopyingAndMoving) {
  Recipe recipe = parse_recipe(kDesign, "r.yaml");
  const Recipe copy = recipe;
  const Recipe moved = std::move(recipe);
  EXPECT_EQ(copy.schemes[2].options.value(0).text, "50%");
  EXPECT_EQ(moved.source->place_of(copy.schemes[0].where), (Place{4, 3}));
}

/// Cutting a recipe anywhere gives a recipe or an Error(bad_recipe), nothing else.
TEST(Recipe, TruncatedAnywhereIsARecipeOrABadRecipe) {
  std::size_t good = 0;
  for (std::size_t length = 0; length <= kDesign.size(); ++length) {
    try {
      parse_recipe(kDesign.substr(0, length), "r.yaml");
      ++good;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_recipe) << length;
    }
  }
  EXPECT_GT(good, 1u);
  EXPECT_LT(good, 200u);
}

}  // namespace
}  // namespace adze
