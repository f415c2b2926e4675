// adze-allocate: budgets to the byte, the recipe it writes, and what it refuses.
#include "base/hash.h"
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

std::string with_scheme(std::string text, const std::string& scheme) {
  return text.insert(text.find("rules:"), "  " + scheme + "\n");
}

Arguments with(const fs::path& recipe, const Arguments& more) {
  return joined({recipe.string()}, with_statistics(more));
}

/// Of the export, as adze compress predicts it for a written recipe.
Json planned_bytes(const fs::path& plan) {
  const ProgramResult dry = run_program("adze-compress", joined({plan.string()}, on_demo({"--dry-run", "--json"})));
  expect_exit(dry, 0);
  return dry.exit_code == 0 ? Json::parse(dry.out).at("exports").at(0).at("bytes") : Json();
}

TEST(Allocate, KeepsTheSizeOfTheFileToTheByteAndSpendsIt) {
  const Workplace place;
  place.put("choose.yaml", choosing("{ size: 4700000 B }"));
  const fs::path plan = place / "plan.yaml";
  const ProgramResult result = allocate(
      with(place / "choose.yaml", {"-o", plan.string(), "--measure", "relative", "--evaluations", "0", "--json"}));
  expect_exit(result, 0);
  const Json json = Json::parse(result.out);
  EXPECT_LE(json.at("cost"), 4700000);
  EXPECT_GT(json.at("cost"), 4600000);
  EXPECT_LE(json.at("bound").get<double>(), json.at("loss").get<double>());
  std::set<std::string> taken;
  std::size_t choosing = 0;
  for (const Json& module : json.at("modules"))
    if (module.at("chooses")) {
      taken.insert(module.at("chosen"));
      ++choosing;
    }
  EXPECT_EQ(choosing, 36U);  // o_proj has a scheme
  EXPECT_GT(taken.size(), 1U);
  EXPECT_EQ(planned_bytes(plan), json.at("cost"));
  expect_exit(run_program("adze-compress", joined({plan.string()}, on_demo({"-o", place.out()}))), 0);
  EXPECT_EQ(fs::file_size(fs::path(place.out()) / "model.gguf"), json.at("cost").get<std::uint64_t>());
}

/// Parts of a split file have headers of their own, which no option has a price of.
TEST(Allocate, KeepsTheSizeOfASplitFileToTheByte) {
  const Workplace place;
  std::string text = choosing("{ size: 4700000 B }");
  text.replace(text.find("file: model.gguf"), 16, "file: model.gguf, split_max_size: 2200 kB");
  place.put("choose.yaml", text);
  const fs::path plan = place / "plan.yaml";
  const ProgramResult result = allocate(
      with(place / "choose.yaml", {"-o", plan.string(), "--measure", "relative", "--evaluations", "0", "--json"}));
  expect_exit(result, 0);
  const Json json = Json::parse(result.out);
  EXPECT_LE(json.at("cost"), 4700000);
  EXPECT_GT(json.at("cost"), 4600000);
  EXPECT_EQ(planned_bytes(plan), json.at("cost"));
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
  expect_exit(allocate(with(place / "choose.yaml", {"-o", plan.string(), "--measure", "loss", "--evaluations", "0"})),
              0);
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
  text = with_scheme(text, "wide: { grid: int4, group: 512, solver: rtn }");
  place.put("choose.yaml", text);
  const fs::path plan = place / "plan.yaml";
  expect_exit(
      allocate(with(place / "choose.yaml", {"-o", plan.string(), "--measure", "relative", "--evaluations", "0"})), 0);
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
  std::string no_text = choosing("{ bits_per_weight: 6 }");
  no_text.replace(no_text.find("{ set:"), no_text.find('}') + 1 - no_text.find("{ set:"), "none");
  refuses(no_text, {"losses are measured with text; give calibration a set"});
  std::string settled = choosing("{ bits_per_weight: 6 }");
  settled.replace(settled.find("choose: [q3, q4, q6]"), 20, "scheme: q4");
  refuses(settled, {"no rule leaves a choice"});
  refuses(choosing("{ kl: 1e-9 }", "[q3, q4]"), {"no choice was measured with a KL of at most"});
  refuses(choosing("{ fit: { ram: 100 MiB, context: 100000 } }"), {"a cache of 100000 tokens takes 307200000 bytes"});
  refuses(choosing("{ size: 9 MB, multiplications: 10% }"), {"multiplications a token are below the fewest possible"});
  std::string tied =
      choosing("{ bits_per_weight: 6 }", "[q3, q4]", "  - { modules: \"layers.3.self_attn.k_proj\", scheme: q6 }\n");
  tied.replace(tied.find("choose: [q3, q4]"), 16, "choose: [q3, q4], tie: input");
  refuses(tied, {"ties matrices that read one input, but layers.3.self_attn.k_proj does not follow it"});
  refuses(choosing("{ bits_per_weight: 6, size: 1 MB }"), {"needs one of 'size', 'bits_per_weight', 'kl' and 'fit'"});
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
  EXPECT_THAT(dry.out, ::testing::ContainsRegex("36 modules choose in 36 groups; .* can take [0-9]+ to [0-9]+ bytes"));
}

/// Numbers of one run's JSON.
Json allocated(const fs::path& recipe, const Arguments& more) {
  const ProgramResult result = allocate(with(recipe, joined(more, {"--json", "--windows", "2"})));
  expect_exit(result, 0);
  return result.exit_code == 0 ? Json::parse(result.out) : Json();
}

TEST(Allocate, SolvesNothingTwice) {
  const Workplace place;
  const std::string work = (place / "work").string();
  place.put("a.yaml", choosing("{ bits_per_weight: 7 }"));
  place.put("b.yaml", choosing("{ bits_per_weight: 8 }"));
  place.put("c.yaml", with_scheme(choosing("{ bits_per_weight: 8 }", "[q3, q4, q6]",
                                           "  - { modules: \"layers.2.mlp.up_proj\", choose: [q4, q5] }\n"),
                                  "q5: { grid: gguf/q5_k, solver: rtn }"));
  const auto run = [&](const char* name, const Arguments& more = {}) {
    return allocated(place / (std::string(name) + ".yaml"),
                     joined({"--work", work, "-o", (place / (std::string(name) + "-plan.yaml")).string()}, more));
  };
  const Json first = run("a");
  EXPECT_EQ(first.at("solved"), 36 * 3 + 6);
  const Json second = run("b");
  EXPECT_EQ(second.at("solved"), 0);
  EXPECT_EQ(first.at("modules").at(0).at("options"), second.at("modules").at(0).at("options"));
  const Json third = run("c");  // one rule more: one option of one matrix
  EXPECT_EQ(third.at("solved"), 1);
  // A damaged solution is made again; the plan is that of a run without a store.
  std::size_t damaged = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(work))
    if (entry.path().extension() == ".bin" && damaged++ < 2) fs::resize_file(entry.path(), 100);
  fs::remove(place / "b-plan.yaml");
  EXPECT_EQ(run("b").at("solved"), 2);
  const Json alone = allocated(place / "b.yaml", {"-o", (place / "alone.yaml").string()});
  EXPECT_EQ(alone.at("solved"), 36 * 3 + 6);
  EXPECT_EQ(read_file(place / "alone.yaml"), read_file(place / "b-plan.yaml"));
  EXPECT_FALSE(fs::exists(place / "alone.yaml.options.tmp"));
}

TEST(Allocate, TouchesNoFolderThatHoldsOtherThings) {
  const Workplace place;
  place.put("a.yaml", choosing("{ bits_per_weight: 7 }"));
  const fs::path plan = place / "p.yaml";
  for (const char* folder : {"work", "p.yaml.options.tmp"}) {
    fs::create_directory(place / folder);
    place.put(std::string(folder) + "/letter.txt", "dear");
  }
  expect_exit(allocate(with(place / "a.yaml", {"--work", (place / "work").string(), "-o", plan.string()})), 73,
              {"letter.txt", "no solved option"});
  expect_exit(allocate(with(place / "a.yaml", {"-o", plan.string()})), 73, {"letter.txt"});
  EXPECT_TRUE(fs::exists(place / "p.yaml.options.tmp/letter.txt"));
}

TEST(Allocate, BoundsWhatItKeepsOnDisk) {
  const Workplace place;
  place.put("a.yaml", choosing("{ bits_per_weight: 7 }"));
  const std::string work = (place / "work").string();
  const ProgramResult result = allocate(with(
      place / "a.yaml", {"--work", work, "--disk", "500 KB", "--windows", "2", "-o", (place / "p.yaml").string()}));
  expect_exit(result, 0);
  EXPECT_THAT(result.err, ::testing::HasSubstr("no whole model can be judged"));
  std::uint64_t kept = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(work))
    if (entry.path().extension() == ".bin") kept += entry.file_size();
  EXPECT_LE(kept, 500000U);
  EXPECT_GT(kept, 300000U);
}

/// `propagate: original`, every matrix solved by itself: what the solutions make is what adze compress makes.
TEST(Allocate, StitchesWhatItHasSolved) {
  const Workplace place;
  std::string text = choosing("{ bits_per_weight: 7 }") + "propagate: original\nstages: 1\n";
  place.put("a.yaml", text);
  const std::string plan = (place / "plan.yaml").string(), stitched = (place / "stitched").string();
  const Json json = allocated(place / "a.yaml", {"-o", plan, "--stitched", stitched});
  expect_exit(run_program("adze-compress", joined({plan}, on_demo({"-o", place.out()}))), 0);
  for (const char* file : {"store/block-0000.h5", "store/block-0005.h5", "store/model.h5"})
    EXPECT_EQ(hash_file(fs::path(stitched) / file), hash_file(fs::path(place.out()) / file)) << file;
  expect_exit(run_program("adze-inspect", {stitched, "--verify"}), 0);
  const Json judged = json.at("judged");
  EXPECT_EQ(judged.at("cost"), json.at("cost"));
  EXPECT_NEAR(judged.at("measured"), divergence(stitched), 0.5 * judged.at("measured").get<double>());
}

TEST(Allocate, FindsTheSmallestModelForADistance) {
  const Workplace place;
  const auto run = [&](double kl) {
    place.put("a.yaml", choosing(fmt::format("{{ kl: {} }}", kl)));
    return allocated(place / "a.yaml",
                     {"--overwrite", "-o", (place / "p.yaml").string(), "--work", (place / "work").string()});
  };
  const Json near = run(0.004), far = run(0.008);
  EXPECT_LE(near.at("judged").at("measured"), 0.004);
  EXPECT_LE(far.at("judged").at("measured"), 0.008);
  EXPECT_GE(far.at("judged").at("measured"), 0.005);
  EXPECT_LT(far.at("cost"), near.at("cost"));
  EXPECT_EQ(far.at("solved"), 0);
}

TEST(Allocate, TiesWhatMustAgree) {
  const Workplace place;
  const auto run = [&](const char* tie) {
    std::string text = choosing("{ bits_per_weight: 7.6 }");
    const std::size_t settled = text.find("  - { modules: \"layers.*.self_attn.o_proj\"");
    text.erase(settled, text.find('\n', settled) + 1 - settled);
    text.replace(text.find("choose: [q3, q4, q6]"), 20, std::string("choose: [q3, q4, q6], tie: ") + tie);
    place.put("a.yaml", text);
    const Json json = allocated(place / "a.yaml", {"--overwrite", "-o", (place / "p.yaml").string(), "--work",
                                                   (place / "work").string(), "--evaluations", "0"});
    std::map<std::string, std::string> chosen;
    for (const Json& module : json.at("modules")) chosen[module.at("module")] = module.at("chosen");
    EXPECT_LE(json.at("cost"), json.at("budget"));
    return chosen;
  };
  auto input = run("input");
  std::set<std::string> different;
  for (int b = 0; b < 6; ++b) {
    const std::string block = fmt::format("layers.{}.", b);
    EXPECT_EQ(input[block + "self_attn.q_proj"], input[block + "self_attn.v_proj"]);
    EXPECT_EQ(input[block + "self_attn.q_proj"], input[block + "self_attn.k_proj"]);
    EXPECT_EQ(input[block + "mlp.gate_proj"], input[block + "mlp.up_proj"]);
    different.insert(input[block + "self_attn.q_proj"]);
    different.insert(input[block + "mlp.gate_proj"]);
  }
  EXPECT_GT(different.size(), 1U);
  auto block = run("block");
  for (int b = 0; b < 6; ++b)
    EXPECT_EQ(block[fmt::format("layers.{}.mlp.down_proj", b)], block[fmt::format("layers.{}.self_attn.q_proj", b)]);
  auto all = run("all");
  for (const auto& [module, scheme] : all) EXPECT_EQ(scheme, all.begin()->second) << module;
}

TEST(Allocate, KeepsASecondBudgetOfMultiplications) {
  const Workplace place;
  std::string text = choosing("{ bits_per_weight: 12, multiplications: 75% }", "[q6, low, lower]");
  text = with_scheme(with_scheme(text, "low: { solver: svd, keep: 80% }"), "lower: { solver: svd, keep: 50% }");
  text.replace(text.find("o_proj\", scheme: q6"), 19, "o_proj\", choose: [q6, low, lower]");
  place.put("a.yaml", text);
  const Json json = allocated(place / "a.yaml", {"-o", (place / "p.yaml").string(), "--evaluations", "0"});
  std::uint64_t all = 0;
  for (const Json& module : json.at("modules"))
    all += module.at("options").at(0).at("multiplications").get<std::uint64_t>();
  EXPECT_LE(json.at("multiplications").get<double>(), 0.75 * static_cast<double>(all));
  EXPECT_GT(json.at("multiplications").get<double>(), 0.6 * static_cast<double>(all));
}

TEST(Allocate, EmbeddingAndHeadChooseToo) {
  const Workplace place;
  std::string text = choosing("{ bits_per_weight: 5 }", "[q3, q4, q6]", "  - { modules: lm_head, choose: [q4, q6] }\n");
  place.put("other.yaml", text);
  text.insert(text.find("budget:"), "  - { modules: \"lm_*\", store: f16 }\n");  // which the written rule comes before
  place.put("a.yaml", text);
  const fs::path plan = place / "p.yaml";
  const Json json = allocated(place / "a.yaml", {"-o", plan.string(), "--picture", (place / "front.svg").string()});
  EXPECT_LE(json.at("cost"), json.at("budget"));
  EXPECT_THAT(read_file(plan), ::testing::HasSubstr("modules: \"embed_tokens\", scheme: q"));
  EXPECT_THAT(read_file(place / "front.svg"),
              ::testing::AllOf(::testing::StartsWith("<svg"), ::testing::HasSubstr("measured")));
  expect_exit(run_program("adze-compress", joined({plan.string()}, on_demo({"--dry-run"}))), 0);
  expect_exit(allocate(with(place / "other.yaml", {"--dry-run", "--measure", "lim"})), 78,
              {"embed_tokens cannot choose by the measure lim"});
  // Predictions were fitted to whole models.
  EXPECT_GT(json.at("fit").at("r2"), 0.9);
}

/// Every measure of the registry; and bytes that are those of the file, whatever the plan.
TEST(Allocate, EveryMeasureMakesAPlanOfTheBytesThatAreWritten) {
  const Workplace place;
  const std::string work = (place / "work").string();
  std::uint64_t budget = 4930000;
  for (const char* measure : {"kl", "swap", "relative", "loss", "block-output", "taylor", "hessian-trace", "lim", "zd",
                              "cmpq", "pmpq", "tdmpq", "pq-index"}) {
    budget += 11415;
    std::string text = choosing(fmt::format("{{ size: {} B }}", budget));
    text.replace(text.find("\"layers.**\""), 11, "\"layers.4.**\"");
    text.insert(text.find("budget:"), "  - { modules: \"layers.**\", scheme: q4 }\n");
    place.put("a.yaml", text);
    const fs::path plan = place / "p.yaml";
    const auto run = [&] {
      return allocated(place / "a.yaml", {"--overwrite", "-o", plan.string(), "--work", work, "--measure", measure,
                                          "--evaluations", "0"});
    };
    const Json json = run();
    EXPECT_LE(json.at("cost").get<std::uint64_t>(), budget) << measure;
    EXPECT_GT(json.at("cost").get<std::uint64_t>(), budget - 30000) << measure;
    EXPECT_EQ(planned_bytes(plan), json.at("cost")) << measure;
    EXPECT_EQ(run().at("modules"), json.at("modules")) << measure;  // from the store
  }
}

}  // namespace
}  // namespace adze::testing
