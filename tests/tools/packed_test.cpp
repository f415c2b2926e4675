// Packed checkpoints as output and input of the programs: from a recipe, from one format to another, judged, compressed
// again, inspected, damaged.
#include <fstream>

#include "tools/scheme_testing.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;

std::string packed_recipe(const std::string& grid, const std::string& exports) {
  return "adze: 1\ncalibration: { set: " + bundled_text("calib/narrative.txt") +
         ", windows: 4, tokens: 128, seed: 7 }\nschemes: { s: { " + grid +
         ", solver: rtn } }\nrules: [ { modules: \"layers.**\", scheme: s } ]\nexport: [ " + exports + " ]\n";
}

const char* const kSymmetric = "grid: int4, group: 32";

/// The demo in four formats of one solve, made once.
const fs::path& packed() {
  static const Workplace place;
  static const fs::path out = [] {
    const std::string recipe =
        place
            .put("r.yaml", packed_recipe(kSymmetric,
                                         "{ format: gptq, file: gptq }, { format: compressed-tensors, file: ct }, "
                                         "{ format: mlx, file: mlx }, { format: safetensors, file: hf }"))
            .string();
    expect_exit(compress(recipe, demo_model(), place.out(), {"-q"}), 0);
    return fs::path(place.out());
  }();
  return out;
}

TEST(PackedTools, EveryFormatOfOneSolveIsJudgedAlike) {
  const double meant = divergence(packed().string());
  EXPECT_GT(meant, 0.001);
  for (const char* const format : {"gptq", "ct", "mlx"}) EXPECT_EQ(divergence((packed() / format).string()), meant);
  EXPECT_NEAR(divergence((packed() / "hf").string()), meant, 0.05 * meant);  // rounded to BF16
}

TEST(PackedTools, OneFormatBecomesAnotherWithoutRounding) {
  const Workplace place;
  const std::string ct = (place / "ct").string(), gptq = (place / "gptq").string();
  expect_exit(run_program("adze-export", {(packed() / "gptq").string(), "--format", "compressed-tensors", "-o", ct}),
              0);
  EXPECT_EQ(read_file(fs::path(ct) / "model.safetensors"), read_file(packed() / "ct" / "model.safetensors"));
  EXPECT_EQ(read_file(fs::path(ct) / "config.json"), read_file(packed() / "ct" / "config.json"));
  expect_exit(run_program("adze-export", {(packed() / "mlx").string(), "--format", "gptq", "-o", gptq}), 0);
  EXPECT_EQ(read_file(fs::path(gptq) / "model.safetensors"), read_file(packed() / "gptq" / "model.safetensors"));
  // Groups of 32 symmetric integers are Q4_0, value for value.
  const std::string gguf = (place / "m.gguf").string(), same = (place / "same.gguf").string();
  expect_exit(run_program("adze-export", {(packed() / "ct").string(), "-o", gguf}), 0);
  EXPECT_EQ(divergence(gguf), divergence(packed().string()));
  const ProgramResult refused =
      run_program("adze-export", {(packed() / "ct").string(), "--format", "awq", "-o", (place / "awq").string()});
  expect_exit(refused, 65, {"AWQ cannot hold int4 g32 sym: it has a zero point for each group"});
  EXPECT_FALSE(fs::exists(place / "awq"));
}

TEST(PackedTools, ARecipeIsRefusedBeforeAnythingRuns) {
  const Workplace place;
  const auto refuses = [&](const std::string& grid, const std::string& exports, Words words) {
    const std::string recipe = place.put("r.yaml", packed_recipe(grid, exports)).string();
    expect_exit(compress(recipe, demo_model(), place.out(), {"-q"}), 78, words);
    EXPECT_FALSE(fs::exists(place.out()));
  };
  refuses(kSymmetric, "{ format: awq, file: awq }", {"r.yaml:", "take symmetric: false"});
  refuses("grid: gguf/q4_k", "{ format: gptq, file: gptq }", {"GPTQ holds integers with scales, not gguf/q4_k"});
  refuses("grid: int3, group: 32", "{ format: compressed-tensors, file: ct }", {"4 and 8 bits"});
  refuses(kSymmetric, "{ format: gtpq, file: x }", {"unknown export format 'gtpq'; did you mean 'gptq'?"});
}

TEST(PackedTools, APackedCheckpointIsCompressedLikeItsValues) {
  const Workplace place;
  const std::string recipe = place.recipe(rtn_recipe());
  const std::string a = (place / "a").string(), b = (place / "b").string();
  expect_exit(compress(recipe, packed() / "gptq", a, {"-q"}), 0);
  const std::string store = (place / "m.h5").string();
  const ProgramResult imported = run_program("adze-import", {(packed() / "gptq").string(), "-o", store});
  expect_exit(imported, 0);
  EXPECT_THAT(imported.out, HasSubstr("copied"));
  expect_exit(compress(recipe, store, b, {"-q"}), 0);
  EXPECT_EQ(read_file(fs::path(a) / "store/block-0001.h5"), read_file(fs::path(b) / "store/block-0001.h5"));
}

TEST(PackedTools, SplitFoldersAreShards) {
  const Workplace place;
  const std::string out = (place / "ct").string();
  const Arguments arguments{packed().string(), "--format", "compressed-tensors", "-o", out, "--split-max-size", "1MB"};
  const ProgramResult dry = run_program("adze-export", joined(arguments, {"--dry-run", "--json"}));
  expect_exit(dry, 0);
  EXPECT_FALSE(fs::exists(out));
  expect_exit(run_program("adze-export", arguments), 0);
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(out)) bytes += entry.file_size();
  EXPECT_EQ(Json::parse(dry.out).at("bytes"), bytes);
  EXPECT_EQ(divergence(out), divergence(packed().string()));
  expect_exit(run_program("adze-export", arguments), 73, {"exists"});
  expect_exit(run_program("adze-export", joined(arguments, {"--overwrite"})), 0);
}

TEST(PackedTools, InspectDescribesAndVerifies) {
  const ProgramResult shown = run_program("adze-inspect", {(packed() / "gptq").string(), "--verify"});
  expect_exit(shown, 0);
  EXPECT_THAT(shown.out, HasSubstr("LlamaForCausalLM"));
  EXPECT_THAT(shown.out, ::testing::ContainsRegex("packed +gptq"));
  EXPECT_THAT(shown.out, HasSubstr("verified: no damage found"));
  const Workplace place;
  fs::copy(packed() / "gptq", place / "broken");
  std::string bytes = read_file(place / "broken/model.safetensors");
  bytes[bytes.rfind("F16") + 3] = 'x';  // in the header
  std::ofstream(place / "broken/model.safetensors", std::ios::binary) << bytes;
  EXPECT_NE(run_program("adze-inspect", {(place / "broken").string(), "--verify"}).exit_code, 0);
}

}  // namespace
}  // namespace adze::testing
