// adze-allocate on recipes with transforms: models of several shapes in one budget.
#include "model/compressed_store.h"
#include "tools/scheme_testing.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* kDrop = "{ kind: drop-blocks, count: 1, optional: true }";
constexpr const char* kNarrow = "{ kind: prune-ffn, keep: 75%, optional: true }";

std::string shaped(const std::string& budget, const std::string& transforms) {
  return "adze: 1\ncalibration: { set: " + bundled_text("calib/narrative.txt") +
         ", windows: 8, tokens: 128, seed: 7 }\n"
         "schemes:\n  q3: { grid: gguf/q3_k, solver: rtn }\n  q4: { grid: gguf/q4_k, solver: rtn }\n"
         "transform: [ " +
         transforms +
         " ]\n"
         "rules:\n  - { modules: \"layers.*.mlp.down_proj\", choose: [q3, q4], fallback: f16 }\n"
         "  - { modules: \"layers.**\", choose: [q3, q4] }\nbudget: " +
         budget + "\nexport: [ { format: gguf, file: model.gguf } ]\npropagate: original\nstages: 1\n";
}

ProgramResult allocate(const fs::path& recipe, const Arguments& more) {
  return run_program("adze-allocate", joined(joined({recipe.string()}, on_demo({"--windows", "2"})), more));
}

Json json_of(const ProgramResult& result) {
  expect_exit(result, 0);
  return result.exit_code == 0 ? Json::parse(result.out) : Json::object();
}

/// Smallest and largest size of each shape, as --dry-run says.
std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges_of(const fs::path& recipe) {
  const ProgramResult dry = allocate(recipe, {"--dry-run"});
  expect_exit(dry, 0);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  for (std::size_t at = dry.out.find("can take "); at != std::string::npos; at = dry.out.find("can take ", at + 1)) {
    const std::size_t second = dry.out.find(" to ", at);
    ranges.emplace_back(std::stoull(dry.out.substr(at + 9)), std::stoull(dry.out.substr(second + 4)));
  }
  return ranges;
}

TEST(AllocateShapes, TheModelAsItIsWinsWhereBitsAreThere) {
  const Workplace place;
  place.put("r.yaml", shaped("{ size: 1 GB }", kDrop));
  const auto ranges = ranges_of(place / "r.yaml");
  ASSERT_EQ(ranges.size(), 2U);
  EXPECT_LT(ranges[1].first, ranges[0].first);
  const std::uint64_t middle = (ranges[0].first + ranges[0].second) / 2;
  place.put("r.yaml", shaped(fmt::format("{{ size: {} B }}", middle), kDrop));
  const fs::path plan = place / "plan.yaml";
  const Json json = json_of(allocate(place / "r.yaml", {"-o", plan.string(), "--json"}));
  const Json& shapes = json.at("shapes");
  ASSERT_EQ(shapes.size(), 2U);
  EXPECT_EQ(shapes[0].at("shape"), "as it is");
  EXPECT_EQ(shapes[0].at("taken"), true);
  EXPECT_EQ(shapes[1].at("shape"), "drop-blocks");
  EXPECT_GT(shapes[1].at("base_loss").get<double>(), 0.05);
  EXPECT_GT(shapes[1].at("measured"), shapes[0].at("measured"));
  // What a shape loses before anything is solved is part of what is predicted.
  EXPECT_NEAR(shapes[1].at("loss").get<double>() / shapes[1].at("measured").get<double>(), 1, 0.25);
  EXPECT_THAT(read_file(plan), ::testing::Not(HasSubstr("transform")));
}

/// Too little for all blocks: one goes, and the plan is a recipe that makes this file to the byte.
TEST(AllocateShapes, ABlockGoesWhereNothingElseFits) {
  const Workplace place;
  place.put("r.yaml", shaped("{ size: 1 GB }", kDrop));
  const auto ranges = ranges_of(place / "r.yaml");
  ASSERT_EQ(ranges.size(), 2U);
  const std::uint64_t size = ranges[0].first - 1000;
  place.put("r.yaml", shaped(fmt::format("{{ size: {} B }}", size), kDrop));
  const std::string plan = (place / "plan.yaml").string(), stitched = (place / "stitched").string();
  const Json json = json_of(
      allocate(place / "r.yaml", {"-o", plan, "--json", "--stitched", stitched, "--work", (place / "work").string()}));
  EXPECT_THAT(json.at("shapes")[0].at("refusal").get<std::string>(), HasSubstr("is below the smallest possible"));
  EXPECT_EQ(json.at("shapes")[1].at("taken"), true);
  EXPECT_LE(json.at("cost").get<std::uint64_t>(), size);
  const std::string text = read_file(plan);
  EXPECT_THAT(text, HasSubstr("  - kind: drop-blocks\n    count: 1\n"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("optional")));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("layers.5.")));  // five blocks are left
  expect_exit(run_program("adze-compress", joined({plan}, on_demo({"-o", place.out()}))), 0);
  EXPECT_EQ(fs::file_size(fs::path(place.out()) / "model.gguf"), json.at("cost").get<std::uint64_t>());
  for (const char* file : {"store/block-0000.h5", "store/block-0004.h5", "store/model.h5"})
    EXPECT_EQ(read_file(fs::path(stitched) / file), read_file(fs::path(place.out()) / file)) << file;
  EXPECT_NEAR(json.at("judged").at("measured"), divergence(stitched), 0.5 * divergence(stitched));
  // Another budget finds the model, its statistics and all that was solved.
  place.put("r.yaml", shaped(fmt::format("{{ size: {} B }}", size - 50000), kDrop));
  const Json again =
      json_of(allocate(place / "r.yaml", {"-o", plan, "--overwrite", "--json", "--work", (place / "work").string()}));
  EXPECT_EQ(again.at("solved"), 0);
}

TEST(AllocateShapes, EveryChoiceOfOptionalTransformsCompetes) {
  const Workplace place;
  place.put("r.yaml", shaped("{ bits_per_weight: 9 }", std::string(kDrop) + ", " + kNarrow));
  const Json json =
      json_of(allocate(place / "r.yaml", {"-o", (place / "p.yaml").string(), "--json", "--evaluations", "1"}));
  std::vector<std::string> names;
  for (const Json& shape : json.at("shapes")) {
    names.push_back(shape.at("shape"));
    EXPECT_LE(shape.at("cost"), json.at("budget")) << names.back();  // bits of the model as it is
  }
  EXPECT_THAT(names, ::testing::ElementsAre("as it is", "drop-blocks", "prune-ffn", "drop-blocks, prune-ffn"));
}

/// With KL as the budget the smallest file wins, whatever its shape; transforms that cost more than it are out.
TEST(AllocateShapes, ADistanceIsKeptByTheSmallestShapeThatCan) {
  const Workplace place;
  place.put("r.yaml", shaped("{ kl: 0.02 }", kDrop));
  const Json json = json_of(allocate(place / "r.yaml", {"-o", (place / "p.yaml").string(), "--json"}));
  EXPECT_THAT(json.at("shapes")[1].at("refusal").get<std::string>(), HasSubstr("the transforms alone cost a KL of"));
  EXPECT_LE(json.at("judged").at("measured"), 0.02);
}

TEST(AllocateShapes, TransformsThatAreNotOptionalAreAlwaysDone) {
  const Workplace place;
  place.put("r.yaml", shaped("{ bits_per_weight: 9 }", "{ kind: rotate, seed: 3 }"));
  const std::string plan = (place / "plan.yaml").string();
  const Json json = json_of(allocate(place / "r.yaml", {"-o", plan, "--json", "--evaluations", "1"}));
  EXPECT_FALSE(json.contains("shapes"));
  EXPECT_THAT(read_file(plan), HasSubstr("transform:\n  - kind: rotate\n    seed: 3\n"));
  const ProgramResult dry = run_program("adze-compress", joined({plan}, on_demo({"--dry-run", "--json"})));
  expect_exit(dry, 0);
  EXPECT_LE(Json::parse(dry.out).at("bytes").get<std::uint64_t>(), json.at("budget").get<std::uint64_t>());
}

/// Statistics that are measured on the way are those that adze calibrate gives.
TEST(AllocateShapes, WithoutStatisticsTheyAreMeasured) {
  const Workplace place;
  std::string text = shaped("{ bits_per_weight: 9 }", kDrop);
  const std::size_t at = text.find("transform:");
  text.erase(at, text.find('\n', at) + 1 - at);
  place.put("r.yaml", text);
  const auto plan = [&](const Arguments& more) {
    const fs::path file = place / "p.yaml";
    expect_exit(allocate(place / "r.yaml", joined({"-o", file.string(), "--overwrite"}, more)), 0);
    return read_file(file);
  };
  EXPECT_EQ(plan({}), plan({"--stats", demo_statistics()}));
}

TEST(AllocateShapes, RefusesWhatCannotBe) {
  const Workplace place;
  const auto refuses = [&](const std::string& text, int code, const Arguments& more, Words words) {
    place.put("r.yaml", text);
    expect_exit(allocate(place / "r.yaml", joined({"-o", (place / "p.yaml").string()}, more)), code, words);
    EXPECT_FALSE(fs::exists(place / "p.yaml"));
  };
  const std::string budget = "{ bits_per_weight: 9 }";
  refuses(shaped(budget, "{ kind: rotate }"), 64, {"--stats", demo_statistics()},
          {"--stats is of the model as it is, which this recipe always transforms"});
  std::string five = kNarrow;
  for (int i = 0; i < 4; ++i) five += std::string(", ") + kNarrow;
  refuses(shaped(budget, five), 78, {}, {"5 optional transforms make 32 models to compare; 4 are the most"});
  refuses(shaped(budget, kDrop), 64, {"--measure", "relative", "--evaluations", "0"},
          {"models of several shapes are compared by KL, which relative does not predict"});
  refuses(shaped("{ size: 10 kB }", kDrop), 78, {}, {"below the smallest possible"});
  refuses(shaped(budget, "{ kind: drop-blocs, count: 1, optional: true }"), 78, {}, {"did you mean 'drop-blocks'?"});
  place.put("r.yaml", shaped(budget, kDrop));
  expect_tool_refuses("adze-compress", joined({(place / "r.yaml").string()}, on_demo({})), 78,
                      {"whether an optional transform is done, adze allocate decides"});
}

}  // namespace
}  // namespace adze::testing
