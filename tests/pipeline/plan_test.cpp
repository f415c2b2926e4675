// The pre-flight: which rule a module gets, exact bytes, and every reason to refuse a recipe.
#include "pipeline/plan.h"

#include "pipeline/pipeline_testing.h"
#include "pipeline/run_tables.h"

namespace adze::testing {
namespace {

const Site& tied_site() {
  static const Site site(true);
  return site;
}
const Site& untied_site() {
  static const Site site(false);
  return site;
}

constexpr std::string_view kSchemes =
    "schemes: { w4: { grid: int4, group: 32, solver: rtn }, w8: { grid: int8, group: 16, solver: rtn } }\n";

std::string with_rules(std::string_view rules) { return recipe_of(std::string(kSchemes) + std::string(rules)); }

/// The message with which a recipe is refused.
std::string refusal(const std::string& text, const Site& site = tied_site()) {
  return testing::refusal(text, site.model());
}

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Plan, TheFirstRuleThatMatchesWins) {
  const Prepared prepared(with_rules("rules:\n"
                                     "  - { modules: \"layers.1.**\", scheme: w8 }\n"
                                     "  - { modules: \"layers.*.mlp.*\", store: f16 }\n"
                                     "  - { modules: \"layers.**\", scheme: w4 }\n"),
                          tied_site().model());
  EXPECT_EQ(prepared.module("layers.1.mlp.up_proj").format, "int8 g16 sym");
  EXPECT_EQ(prepared.module("layers.1.mlp.up_proj").rule, 0u);
  EXPECT_EQ(prepared.module("layers.0.mlp.up_proj").format, "f16");
  EXPECT_EQ(prepared.module("layers.0.mlp.up_proj").scheme, std::nullopt);
  EXPECT_EQ(prepared.module("layers.0.self_attn.o_proj").format, "int4 g32 sym");
  EXPECT_EQ(prepared.module("layers.0.self_attn.o_proj").rule, 2u);
}

/// A rule with a module's name and one with wildcards are found in different ways.
TEST(Plan, TheFirstRuleThatMatchesWinsWhetherItNamesOneModuleOrMany) {
  const Prepared prepared(with_rules("rules:\n"
                                     "  - { modules: \"layers.0.mlp.up_proj\", scheme: w8 }\n"
                                     "  - { modules: \"layers.*.mlp.*\", store: f16 }\n"
                                     "  - { modules: \"layers.1.mlp.up_proj\", scheme: w8 }\n"
                                     "  - { modules: \"layers.0.mlp.up_proj\", scheme: w4 }\n"
                                     "  - { modules: \"layers.1.self_attn.o_proj\", scheme: w8 }\n"
                                     "  - { modules: \"layers.**\", scheme: w4 }\n"),
                          tied_site().model());
  EXPECT_EQ(prepared.module("layers.0.mlp.up_proj").rule, 0u);
  EXPECT_EQ(prepared.module("layers.0.mlp.up_proj").format, "int8 g16 sym");
  EXPECT_EQ(prepared.module("layers.1.mlp.up_proj").rule, 1u);
  EXPECT_EQ(prepared.module("layers.1.self_attn.o_proj").rule, 4u);
  EXPECT_EQ(prepared.module("layers.0.self_attn.o_proj").rule, 5u);
  EXPECT_THAT(refusal(with_rules("rules: [ { modules: \"layers.7.mlp.up_proj\", scheme: w4 } ]\n")),
              HasSubstr("'layers.7.mlp.up_proj' matches no module"));
}

TEST(Plan, EveryModuleIsFoundByItsNameAndACopyHasItsOwn) {
  const Prepared prepared(with_rules("rules: [ { modules: \"layers.0.**\", scheme: w4 } ]\n"), untied_site().model());
  ModuleList copy = prepared.run.plan.modules;
  ASSERT_EQ(copy.size(), prepared.run.plan.modules.size());
  for (ModulePlan& module : copy) {
    EXPECT_EQ(copy.find(module.spec.module), &module);
    EXPECT_NE(prepared.run.plan.find(module.spec.module), &module);
  }
  EXPECT_EQ(copy.find("layers.0.mlp"), nullptr);
  try {
    copy.push_back(*copy.find("lm_head"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), HasSubstr("two modules are named 'lm_head'"));
  }
}

TEST(Plan, WhatNoRuleMatchesIsKept) {
  const Prepared prepared(with_rules("rules: [ { modules: \"layers.0.**\", scheme: w4 } ]\n"), tied_site().model());
  for (const char* const name : {"embed_tokens", "layers.1.mlp.up_proj"}) {
    EXPECT_EQ(prepared.module(name).format, "bf16");
    EXPECT_EQ(prepared.module(name).rule, std::nullopt);
    EXPECT_EQ(prepared.module(name).bytes, prepared.module(name).original_bytes);
  }
}

TEST(MatchTable, HasALinePerRuleAndFormatAndListsWhatIsKept) {
  const Prepared prepared(with_rules("rules: [ { modules: \"layers.*.mlp.*\", scheme: w4 } ]\n"), tied_site().model());
  const std::string table = match_table(prepared.run);
  EXPECT_THAT(table, HasSubstr("layers.*.mlp.*"));
  EXPECT_THAT(table, HasSubstr("int4 g32 sym"));
  EXPECT_THAT(table, HasSubstr("kept as they are: embed_tokens, layers.0.self_attn.q_proj, "));
  EXPECT_THAT(table, HasSubstr(" and layers.1.self_attn.o_proj\n"));
}

TEST(Plan, NormsAreNoModules) {
  const Prepared prepared(with_rules("rules: [ { modules: \"layers.**\", scheme: w4 } ]\n"), tied_site().model());
  EXPECT_EQ(prepared.run.plan.find("norm"), nullptr);
  EXPECT_EQ(prepared.run.plan.find("layers.0.input_layernorm"), nullptr);
  EXPECT_THAT(refusal(with_rules("rules: [ { modules: \"**norm\", store: f32 } ]\n")),
              HasSubstr("'**norm' matches no module"));
}

TEST(Plan, ATiedTableAnswersToBothNames) {
  for (const char* const name : {"lm_head", "embed_tokens"}) {
    const Prepared prepared(with_rules(fmt::format("rules: [ {{ modules: \"{}\", store: f32 }} ]\n", name)),
                            tied_site().model());
    EXPECT_EQ(prepared.module("embed_tokens").format, "f32");
    EXPECT_EQ(prepared.run.plan.find("lm_head"), nullptr);
  }
}

TEST(Plan, ATiedTableMayHaveTwoRulesThatAgree) {
  const Prepared prepared(
      with_rules("rules: [ { modules: \"lm_head\", scheme: w8 }, { modules: \"embed*\", scheme: w8 } ]\n"),
      tied_site().model());
  EXPECT_EQ(prepared.module("embed_tokens").format, "int8 g16 sym");
  EXPECT_THAT(
      refusal(with_rules("rules: [ { modules: \"lm_head\", scheme: w8 }, { modules: \"embed*\", scheme: w4 } ]\n")),
      HasSubstr("embed_tokens and lm_head are one table in this model, but the rules 'embed*' and 'lm_head'"));
}

TEST(Plan, UntiedTablesAreTwoModules) {
  const Prepared prepared(
      with_rules("rules: [ { modules: \"lm_head\", scheme: w8 }, { modules: \"embed*\", scheme: w4 } ]\n"),
      untied_site().model());
  EXPECT_EQ(prepared.module("lm_head").format, "int8 g16 sym");
  EXPECT_EQ(prepared.module("embed_tokens").format, "int4 g32 sym");
}

/// Rows have 32 columns (64 in down_proj): a group of 64 fits one module only.
TEST(Plan, AFallbackTakesWhatTheSchemeCannotHold) {
  const std::string schemes =
      "schemes: { wide: { grid: int4, group: 64, solver: rtn }, w4: { grid: int4, group: 32 } }\n";
  const Prepared stored(recipe_of(schemes + "rules: [ { modules: \"layers.**\", scheme: wide, fallback: f32 } ]\n"),
                        tied_site().model());
  EXPECT_EQ(stored.module("layers.0.mlp.down_proj").format, "int4 g64 sym");
  EXPECT_EQ(stored.module("layers.0.mlp.up_proj").format, "f32");
  const Prepared solved(recipe_of(schemes + "rules: [ { modules: \"layers.**\", scheme: wide, fallback: w4 } ]\n"),
                        tied_site().model());
  EXPECT_EQ(solved.module("layers.0.mlp.up_proj").format, "int4 g32 sym");
  const std::string none = recipe_of(
      "schemes: { a: { grid: int4, group: 64 }, b: { grid: gguf/q4_k } }\n"
      "rules: [ { modules: \"layers.**\", scheme: a, fallback: b } ]\n");
  EXPECT_THAT(refusal(none), HasSubstr("layers.0.self_attn.q_proj: gguf/q4_k: rows of 32 columns do not divide"));
}

TEST(Plan, AMisfitIsReportedOncePerReasonWithPlaceAndChoice) {
  const std::string message = refusal(
      recipe_of("schemes: { wide: { grid: int4, group: 64 } }\nrules: [ { modules: \"layers.**\", scheme: wide } ]\n"));
  EXPECT_THAT(message, HasSubstr("recipe.yaml:4:42: layers.0.self_attn.q_proj: int4 g64 sym: rows of 32 columns"));
  EXPECT_THAT(message, HasSubstr("group: 32 does; or give the rule a fallback"));
  EXPECT_THAT(message, Not(HasSubstr("k_proj")));
}

TEST(Plan, BytesAreExactAndAddUp) {
  const Prepared prepared(
      with_rules("rules: [ { modules: \"lm_head\", store: f32 }, { modules: \"layers.**\", scheme: w4 } ]\n"),
      tied_site().model());
  const CompressionPlan& plan = prepared.run.plan;
  // 4 bits a code and 16 bits for every 32: 18 bytes per 32 weights; k_proj is 16 x 32.
  EXPECT_EQ(prepared.module("layers.0.self_attn.k_proj").bytes, 16u * 18);
  EXPECT_EQ(prepared.module("embed_tokens").bytes, 4096u * 32 * 4);
  EXPECT_EQ(prepared.module("embed_tokens").original_bytes, 4096u * 32 * 2);
  const std::uint64_t block_weights = 32 * 32 + 16 * 32 + 16 * 32 + 32 * 32 + 3 * 64 * 32;
  const std::uint64_t norm_weights = 5 * 32;
  EXPECT_EQ(plan.weights, 4096u * 32 + 2 * block_weights + norm_weights);
  EXPECT_EQ(plan.original_bytes, 2 * plan.weights);
  EXPECT_EQ(plan.stored_bytes, 4096u * 32 * 4 + 2 * block_weights / 32 * 18 + 4 * norm_weights);
  EXPECT_DOUBLE_EQ(plan.bits_per_weight(),
                   8.0 * static_cast<double>(plan.stored_bytes) / static_cast<double>(plan.weights));
}

TEST(Plan, MemoryAndDiskGrowWithTheWindows) {
  const std::string rules = "rules: [ { modules: \"layers.**\", scheme: w4 } ]\n";
  const Prepared few(with_rules(rules), tied_site().model());
  std::string text = with_rules(rules);
  text.replace(text.find("windows: 4"), 10, "windows: 8");
  const Prepared more(text, tied_site().model());
  const std::uint64_t states = 4 * 16 * 32 * sizeof(float);
  EXPECT_EQ(few.run.plan.temporary_disk, 2 * states);
  EXPECT_EQ(more.run.plan.temporary_disk, 4 * states);
  EXPECT_EQ(more.run.plan.peak_memory - few.run.plan.peak_memory, states);
}

TEST(Plan, ExportsAreSizedAndRemarkOnWhatGrows) {
  const Prepared prepared(with_rules("rules: [ { modules: \"layers.**\", scheme: w4 } ]\n"
                                     "export: [ { format: gguf, file: sub/a.gguf } ]\n"),
                          tied_site().model());
  ASSERT_EQ(prepared.run.plan.exports.size(), 1u);
  EXPECT_GT(prepared.run.plan.exports[0].bytes, 4096u * 32 * 2);
  EXPECT_EQ(prepared.run.plan.exports[0].file, "sub/a.gguf");
  ASSERT_EQ(prepared.run.plan.exports[0].remarks.size(), 1u);  // not one per module
  EXPECT_THAT(prepared.run.plan.exports[0].remarks[0],
              HasSubstr("layers.0.self_attn.q_proj: int4 g32 sym is stored exactly as Q4_0"));
  EXPECT_THAT(prepared.run.plan.exports[0].remarks[0], ::testing::EndsWith("; so are 13 others"));
}

TEST(Plan, WarningsOfTheRecipeArePassedOn) {
  const Prepared prepared(with_rules("rules: [ { modules: \"layers.**\", scheme: w4 } ]\n"), tied_site().model());
  ASSERT_EQ(prepared.run.plan.warnings.size(), 1u);
  EXPECT_THAT(prepared.run.plan.warnings[0], HasSubstr("no rule uses scheme 'w8'"));
}

TEST(Plan, NamesThatNoRegistryKnowsGetASuggestion) {
  const std::string rules = "rules: [ { modules: \"layers.**\", scheme: a } ]\n";
  EXPECT_THAT(refusal(recipe_of("schemes: { a: { grid: itn4 } }\n" + rules)),
              HasSubstr("recipe.yaml:3:23: unknown grid 'itn4'; did you mean 'int4'?"));
  EXPECT_THAT(refusal(recipe_of("schemes: { a: { grid: int4, group: 32, solver: rtm } }\n" + rules)),
              HasSubstr("unknown solver 'rtm'; did you mean 'rtn'?"));
  EXPECT_THAT(refusal(recipe_of("schemes: { a: { grid: gguf/q8_0, group: 32 } }\n" + rules)),
              HasSubstr("grid gguf/q8_0 is fixed: it takes no group"));
  EXPECT_THAT(refusal(recipe_of("schemes: { a: { solver: gptq } }\n" + rules)),
              HasSubstr("scheme 'a' has no grid; grids are int2"));
}

TEST(Plan, WhatThisVersionCannotDoIsSaid) {
  EXPECT_THAT(refusal(with_rules("rules: [ { modules: \"layers.**\", choose: [w4, w8] } ]\n")),
              HasSubstr("adze allocate chooses"));
  EXPECT_THAT(
      refusal(with_rules("rules: [ { modules: \"layers.**\", scheme: w4 } ]\nbudget: { bits_per_weight: 4 }\n")),
      HasSubstr("a budget is kept by adze allocate"));
}

TEST(Plan, ExportsMayNotOverwriteTheRun) {
  for (const char* const file : {"store/x.gguf", "work/x", "manifest.json", "report.json", "report.html", "report.md",
                                 "recipe.yaml", "./store/../store/x"}) {
    const std::string text =
        with_rules(fmt::format("rules: [ {{ modules: \"layers.**\", scheme: w4 }} ]\n"
                               "export: [ {{ format: gguf, file: {} }} ]\n",
                               file));
    EXPECT_THAT(refusal(text), HasSubstr("belongs to the run itself; choose another name")) << file;
  }
}

TEST(Plan, AllProblemsComeInOneMessage) {
  const std::string message =
      refusal(recipe_of("schemes: { a: { grid: int9 } }\n"
                        "rules: [ { modules: \"layer.*\", scheme: a } ]\n"
                        "export: [ { format: onyx, file: m } ]\n"));
  for (const char* const words : {"recipe.yaml:3:", "unknown grid 'int9'", "recipe.yaml:4:",
                                  "'layer.*' matches no module", "recipe.yaml:5:", "unknown export format 'onyx'"})
    EXPECT_THAT(message, HasSubstr(words));
}

}  // namespace
}  // namespace adze::testing
