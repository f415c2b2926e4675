// Packed checkpoints as output and input of the programs: from a recipe, from one format to another, judged, compressed
// again, inspected, damaged.
#include <algorithm>
#include <fstream>

#include <fmt/format.h>

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

TEST(PackedTools, ScalesOfACacheComeFromARecipeOrLater) {
  const Workplace place;
  const std::string recipe =
      place.put("r.yaml", packed_recipe(kSymmetric, "{ format: compressed-tensors, file: ct, kv_cache: fp8 }"))
          .string();
  expect_exit(compress(recipe, demo_model(), place.out(), {"-q"}), 0);
  const std::string later = (place / "later").string();
  const std::vector<std::string> asked{"--format", "compressed-tensors", "--kv-cache", "fp8", "-o", later};
  const auto exported = [&](const std::string& model) {
    std::vector<std::string> arguments{model};
    arguments.insert(arguments.end(), asked.begin(), asked.end());
    return run_program("adze-export", arguments);
  };
  expect_exit(exported(place.out()), 0);
  for (const char* const name : {"model.safetensors", "config.json"})
    EXPECT_EQ(read_file(fs::path(later) / name), read_file(fs::path(place.out()) / "ct" / name)) << name;
  EXPECT_EQ(divergence(later), divergence(packed().string()));  // the cache's rounding is the runtime's

  fs::remove_all(later);
  expect_exit(exported(demo_model()), 65, {"block 0: how large its keys and values are was not measured"});
  expect_exit(run_program("adze-export", {place.out(), "--format", "gptq", "--kv-cache", "fp8", "-o", later}), 64,
              {"gptq has no place for scales of a cache"});
  expect_exit(
      run_program("adze-export", {place.out(), "--format", "compressed-tensors", "--kv-cache", "q8", "-o", later}), 64,
      {"--kv-cache q8: there is fp8"});
  EXPECT_FALSE(fs::exists(later));
}

TEST(PackedTools, ARecipeIsRefusedBeforeAnythingRuns) {
  const Workplace place;
  const auto refuses = [&](const std::string& grid, const std::string& exports, Words words) {
    const std::string recipe = place.put("r.yaml", packed_recipe(grid, exports)).string();
    expect_exit(compress(recipe, demo_model(), place.out(), {"-q"}), 78, words);
    EXPECT_FALSE(fs::exists(place.out()));
  };
  refuses(kSymmetric, "{ format: awq, file: awq }", {"r.yaml:", "take symmetric: false"});
  refuses("grid: gguf/q4_k", "{ format: gptq, file: gptq }",
          {"GPTQ cannot hold gguf/q4_k: it holds codes with scales"});
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

/// Codes are codes: only what was noted when the folder was written tells that one is another.
TEST(PackedTools, InspectNamesTheTensorAndTheBytesThatChanged) {
  const Workplace place;
  const fs::path copy = place / "ct";
  fs::copy(packed() / "ct", copy);
  const auto listed = Json::parse(read_file(copy / "adze.json"));
  const auto& tensors = listed.at("tensors");
  const auto codes = std::ranges::find_if(
      tensors, [](const auto& one) { return one.at("name") == "model.layers.2.mlp.up_proj.weight_packed"; });
  ASSERT_NE(codes, tensors.end());
  const std::uint64_t begin = codes->at("begin"), end = begin + codes->at("bytes").get<std::uint64_t>();
  std::string bytes = read_file(copy / "model.safetensors");
  bytes[begin + 1000] = static_cast<char>(bytes[begin + 1000] ^ 0x10);
  Workplace::overwrite(copy / "model.safetensors", bytes);
  const ProgramResult shown = run_program("adze-inspect", {copy.string(), "--verify", "--json"});
  expect_exit(shown, 65);
  const auto damage = Json::parse(shown.out).at("damage");
  ASSERT_EQ(damage.size(), 1u);
  EXPECT_THAT(damage[0].get<std::string>(),
              HasSubstr(fmt::format("model.safetensors: tensor 'model.layers.2.mlp.up_proj.weight_packed', bytes {} to "
                                    "{}, is not what was written",
                                    begin, end)));
  // Names in the header that changed places: every range of bytes is still what it was.
  std::string renamed = read_file(packed() / "ct" / "model.safetensors");
  const auto swap_names = [&](std::string_view a, std::string_view b) {
    const std::size_t at_a = renamed.find(a), at_b = renamed.find(b);
    renamed.replace(at_a, a.size(), b);
    renamed.replace(at_b, b.size(), a);
  };
  swap_names("layers.1.self_attn.k_proj.weight_packed", "layers.1.self_attn.v_proj.weight_packed");
  swap_names("layers.1.self_attn.k_proj.weight_scale", "layers.1.self_attn.v_proj.weight_scale");
  Workplace::overwrite(copy / "model.safetensors", renamed);
  expect_exit(run_program("adze-inspect", {copy.string(), "--verify"}), 65, {"its header"});
  bytes.resize(begin + 10);
  Workplace::overwrite(copy / "model.safetensors", bytes);
  EXPECT_NE(run_program("adze-inspect", {copy.string(), "--verify"}).exit_code, 0);
}

TEST(PackedTools, InspectNoticesChangedSettingsAndAListThatIsNone) {
  const Workplace place;
  const fs::path copy = place / "gptq";
  fs::copy(packed() / "gptq", copy);
  Workplace::overwrite(copy / "tokenizer.json", read_file(copy / "tokenizer.json") + "\n");
  expect_exit(run_program("adze-inspect", {copy.string(), "--verify"}), 65,
              {"tokenizer.json: is not what was written"});
  for (const char* const list : {"[]", "{}", R"({"format": "gptq", "provenance": {}, "files": [], "tensors": [{}]})",
                                 R"({"format": "gptq", "provenance": {}, "files": [{"name": "../x", "xxh3": ""}]})"}) {
    Workplace::overwrite(copy / "adze.json", list);
    expect_exit(run_program("adze-inspect", {copy.string(), "--verify"}), 65, {"is no list of what was exported"});
  }
  fs::remove(copy / "adze.json");
  expect_exit(run_program("adze-inspect", {copy.string(), "--verify"}), 0);
}

TEST(PackedTools, AFullDiskLeavesNothing) {
  const Workplace place;
  const fs::path out = place / "ct";
  ProgramOptions options;
  options.largest_file = 300'000;
  for (const char* const format : {"compressed-tensors", "safetensors"}) {
    const ProgramResult result =
        run_program("adze-export", {packed().string(), "--format", format, "-o", out.string()}, options);
    expect_exit(result, 74, {"model.safetensors"});
    EXPECT_FALSE(fs::exists(out)) << format;
    EXPECT_FALSE(fs::exists(out.string() + ".tmp")) << format;
  }
}

/// One solve on nvfp4 and fp8 in every form that holds it, and from GGUF to compressed-tensors.
TEST(PackedTools, SmallFloatsGoFromOneFormatToAnother) {
  const Workplace place;
  const std::string recipe = place
                                 .put("r.yaml", packed_recipe("grid: nvfp4",
                                                              "{ format: compressed-tensors, file: ct }, "
                                                              "{ format: gguf, file: m.gguf }"))
                                 .string();
  expect_exit(compress(recipe, demo_model(), place.out(), {"-q"}), 0);
  const fs::path out = place.out();
  const double meant = divergence(out.string());
  EXPECT_GT(meant, 0.001);
  EXPECT_EQ(divergence((out / "ct").string()), meant);
  EXPECT_EQ(divergence((out / "m.gguf").string()), meant);
  const std::string gguf = (place / "again.gguf").string(), ct = (place / "ct").string();
  expect_exit(run_program("adze-export", {(out / "ct").string(), "-o", gguf}), 0);
  expect_exit(run_program("adze-export", {gguf, "--format", "compressed-tensors", "-o", ct}), 0);
  EXPECT_EQ(read_file(fs::path(ct) / "model.safetensors"), read_file(out / "ct" / "model.safetensors"));
}

TEST(PackedTools, InputsOfEightBitsAreAskedForAndRemarkedOn) {
  const Workplace place;
  const std::string recipe = place
                                 .put("r.yaml", packed_recipe("grid: int8, scope: channel, scales: bf16",
                                                              "{ format: compressed-tensors-w8a8, file: w8a8 }"))
                                 .string();
  const ProgramResult dry = compress(recipe, demo_model(), place.out(), {"--dry-run"});
  expect_exit(dry, 0);
  EXPECT_THAT(dry.out + dry.err, HasSubstr("rounds this matrix' inputs to 8 bits as well"));
  expect_exit(compress(recipe, demo_model(), place.out(), {"-q"}), 0);
  EXPECT_EQ(divergence((fs::path(place.out()) / "w8a8").string()), divergence(place.out()));
}

}  // namespace
}  // namespace adze::testing
