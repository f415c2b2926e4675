// adze-allocate: budgets to the byte, the recipe it writes, and what it refuses.
#include "model/compressed_store.h"
#include "tools/scheme_testing.h"

namespace adze::testing {
namespace {

ProgramResult allocate(const Arguments& arguments) { return run_program("adze-allocate", arguments); }

std::string choosing(const std::string& budget, const std::string& choose = "[q3, q4, q6]",
                     const std::string& rest = "") {
  return "adze: 1\ncalibration: { set: " + bundled_text("calib/narrative.txt") +
         ", windows: 8, tokens: 128, seed: 7 }\n"
         "schemes:\n  q3: { grid: gguf/q3_k, solver: rtn }\n  q4: { grid: gguf/q4_k, solver: rtn }\n"
         "  q6: { grid: gguf/q6_k, solver: rtn }\n"
         "rules:\n" +
         rest +
         "  - { modules: \"layers.*.self_attn.o_proj\", scheme: q6 }\n"
         "  - { modules: \"layers.**\", choose: " +
         choose +
         " }\n"
         "budget: " +
         budget + "\nexport: [ { format: gguf, file: model.gguf } ]\n";
}

Arguments with(const fs::path& recipe, const Arguments& more) {
  return joined({recipe.string()}, with_statistics(more));
}

TEST(Allocate, KeepsTheSizeOfTheFileToTheByteAndSpendsIt) {
  const Workplace place;
  place.put("choose.yaml", choosing("{ size: 4700000 B }"));
  const fs::path plan = place / "plan.yaml";
  const ProgramResult result =
      allocate(with(place / "choose.yaml", {"-o", plan.string(), "--measure", "relative", "--json"}));
  expect_exit(result, 0);
  const Json json = Json::parse(result.out);
  EXPECT_LE(json.at("cost"), 4700000);
  EXPECT_GT(json.at("cost"), 4600000);
  EXPECT_LE(json.at("bound").get<double>(), json.at("loss").get<double>());
  EXPECT_EQ(json.at("modules").size(), 36U);  // o_proj has a scheme
  std::set<std::string> taken;
  for (const Json& module : json.at("modules")) taken.insert(module.at("chosen"));
  EXPECT_GT(taken.size(), 1U);
  const ProgramResult dry = run_program("adze-compress", joined({plan.string()}, on_demo({"--dry-run", "--json"})));
  expect_exit(dry, 0);
  EXPECT_EQ(Json::parse(dry.out).at("exports").at(0).at("bytes"), json.at("cost"));
  expect_exit(run_program("adze-compress", joined({plan.string()}, on_demo({"-o", place.out()}))), 0);
  EXPECT_EQ(fs::file_size(fs::path(place.out()) / "model.gguf"), json.at("cost").get<std::uint64_t>());
}

TEST(Allocate, LosesLessThanOneSchemeForAllInTheSameBytes) {
  const Workplace place;
  const auto without = [](std::string text, std::string_view first, std::string_view next) {
    text.erase(text.find(first), text.find(next) - text.find(first));
    return text;
  };
  std::string uniform = without(choosing("{ size: 1 B }"), "budget:", "export:");
  uniform.replace(uniform.find("choose: [q3, q4, q6]"), 20, "scheme: q4");
  place.put("uniform.yaml", uniform);
  const std::string same = (place / "uniform").string();
  expect_exit(run_program("adze-compress", joined({(place / "uniform.yaml").string()}, on_demo({"-o", same}))), 0);
  const auto bytes = [](const std::string& out) {
    return Json::parse(read_file(fs::path(out) / "manifest.json")).at("stored").at("bytes").get<std::uint64_t>();
  };
  // Without an export, `size` is that of the store's tensors.
  const std::string choice = choosing(fmt::format("{{ size: {} B }}", bytes(same)));
  place.put("choose.yaml", choice.substr(0, choice.find("export:")));
  const fs::path plan = place / "plan.yaml";
  expect_exit(allocate(with(place / "choose.yaml", {"-o", plan.string(), "--windows", "2"})), 0);
  expect_exit(run_program("adze-compress", joined({plan.string()}, on_demo({"-o", place.out()}))), 0);
  EXPECT_LE(bytes(place.out()), bytes(same));
  EXPECT_LT(divergence(place.out()), divergence(same));
}

TEST(Allocate, WritesARecipeThatKeepsTheRestAndItsPaths) {
  const Workplace place;
  fs::create_directories(place / "deep/er");
  place.put("choose.yaml", choosing("{ bits_per_weight: 6 }") + "# what follows stays\npropagate: original\n");
  const fs::path plan = place / "deep/er/plan.yaml";
  expect_exit(allocate(with(place / "choose.yaml", {"-o", plan.string(), "--measure", "loss"})), 0);
  const std::string text = read_file(plan);
  EXPECT_THAT(text, ::testing::HasSubstr("# what follows stays\npropagate: original\n"));
  EXPECT_THAT(text, ::testing::HasSubstr("- { modules: \"layers.0.self_attn.q_proj\", scheme: q"));
  EXPECT_THAT(text, ::testing::HasSubstr("- { modules: \"layers.*.self_attn.o_proj\", scheme: q6 }"));
  EXPECT_THAT(text, ::testing::Not(::testing::HasSubstr("budget")));
  EXPECT_EQ(text.find("  q3: {") == std::string::npos, text.find("scheme: q3") == std::string::npos);
  EXPECT_THAT(text, ::testing::HasSubstr("  q6: { grid: gguf/q6_k, solver: rtn }\n"));
  expect_exit(run_program("adze-compress", joined({plan.string()}, on_demo({"--dry-run"}))), 0);
  expect_exit(allocate(with(place / "choose.yaml", {"-o", plan.string()})), 73, {"exists", "--overwrite"});
}

/// A scheme that some matrices cannot take: FFN rows of 768 do not divide into groups of 512, those of 256 neither.
TEST(Allocate, KeepsTheFallbackOfARuleThatLeftTheChoice) {
  const Workplace place;
  std::string text = choosing("{ bits_per_weight: 9 }", "[q4, wide]");
  text.replace(text.find("choose: [q4, wide]"), 18, "choose: [q4, wide], fallback: f16");
  text.insert(text.find("rules:"), "  wide: { grid: int4, group: 512, solver: rtn }\n");
  place.put("choose.yaml", text);
  const fs::path plan = place / "plan.yaml";
  expect_exit(allocate(with(place / "choose.yaml", {"-o", plan.string(), "--measure", "relative"})), 0);
  EXPECT_THAT(read_file(plan), ::testing::HasSubstr("scheme: wide, fallback: f16 }"));
  expect_exit(run_program("adze-compress", joined({plan.string()}, on_demo({"--dry-run"}))), 0);
}

TEST(Allocate, RefusesWhatCannotBe) {
  const Workplace place;
  const auto refuses = [&](const std::string& recipe, Words words, int code = 78) {
    place.put("r.yaml", recipe);
    const ProgramResult result = allocate(with(place / "r.yaml", {"-o", (place / "p.yaml").string()}));
    expect_exit(result, code, words);
    EXPECT_FALSE(fs::exists(place / "p.yaml"));
  };
  refuses(choosing("{ bits_per_weight: 2 }"), {"below the smallest possible", "the largest is"});
  refuses(choosing("{ bits_per_weight: 6 }", "[q3, q9]"), {"there is no scheme 'q9'"});
  std::string without = choosing("{ bits_per_weight: 6 }");
  without.erase(without.find("budget:"), without.find("export:") - without.find("budget:"));
  refuses(without, {"there is no budget"});
  std::string settled = choosing("{ bits_per_weight: 6 }");
  settled.replace(settled.find("choose: [q3, q4, q6]"), 20, "scheme: q4");
  refuses(settled, {"no rule leaves a choice"});
  refuses(choosing("{ bits_per_weight: 6 }", "[q3, q4]", "  - { modules: embed_tokens, choose: [q4, q6] }\n"),
          {"embed_tokens cannot choose"});
  refuses(choosing("{ bits_per_weight: 6 }") + "transform: [ { kind: rotate } ]\n", {"transforms would change"});
  place.put("r.yaml", choosing("{ bits_per_weight: 6 }"));
  expect_exit(allocate(with(place / "r.yaml", {"-o", (place / "p.yaml").string(), "--measure", "kll"})), 64,
              {"unknown measure 'kll'; did you mean 'kl'?"});
  expect_exit(allocate(with(place / "r.yaml", {})), 64, {"-o RECIPE is required"});
  const ProgramResult dry = allocate(with(place / "r.yaml", {"--dry-run"}));
  expect_exit(dry, 0);
  place.put("r.yaml", choosing("{ size: 1 GB }"));
  const ProgramResult wide = allocate(with(place / "r.yaml", {"--dry-run"}));
  expect_exit(wide, 0);
  EXPECT_THAT(wide.err, ::testing::HasSubstr("is above the largest possible"));
  EXPECT_THAT(dry.out, ::testing::ContainsRegex("36 modules choose; .* can take [0-9]+ to [0-9]+ bytes"));
}

}  // namespace
}  // namespace adze::testing
