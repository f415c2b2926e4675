// Packs as output and input of the programs: from a recipe and by export, judged, compressed again, exported without
// loss, inspected, damaged, interrupted.
#include <fstream>

#include "model/pack/pack_file.h"
#include "tools/scheme_testing.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;

std::string pack_recipe() {
  return "adze: 1\ncalibration: { set: " + bundled_text("calib/narrative.txt") +
         ", windows: 4, tokens: 128, seed: 7 }\n"
         "schemes:\n"
         "  q4k: { grid: gguf/q4_k, solver: rtn }\n"
         "  sparse: { grid: int4, group: 32, sparsity: \"2:4\", solver: magnitude }\n"
         "  low: { solver: svd, keep: 50% }\n"
         "rules:\n"
         "  - { modules: \"layers.0.mlp.*\", scheme: sparse }\n"
         "  - { modules: \"layers.1.mlp.*\", scheme: low }\n"
         "  - { modules: \"layers.**\", scheme: q4k }\n"
         "export:\n"
         "  - { format: pack, file: model.adze }\n"
         "  - { format: gguf, file: model.gguf }\n";
}

/// The demo in sparse integers, factors and Q4_K, made once.
const fs::path& made() {
  static const Workplace place;
  static const fs::path out = [] {
    expect_exit(compress(place.recipe(pack_recipe()), demo_model(), place.out(), {"-q"}), 0);
    return fs::path(place.out());
  }();
  return out;
}
fs::path pack() { return made() / "model.adze"; }

TEST(PackTools, APackIsJudgedLikeTheStoreAndSaysItsExactSize) {
  const double meant = divergence(made().string());
  EXPECT_GT(meant, 0.001);
  EXPECT_EQ(divergence(pack().string()), meant);
  const Workplace place;
  const ProgramResult dry = run_program(
      "adze-export", {made().string(), "--format", "pack", "-o", (place / "m.adze").string(), "--dry-run", "--json"});
  expect_exit(dry, 0);
  EXPECT_EQ(Json::parse(dry.out).at("bytes"), fs::file_size(pack()));
}

TEST(PackTools, ExportsFromAPackAreThoseFromTheStoreByteForByte) {
  const Workplace place;
  const std::string gguf = (place / "m.gguf").string(), again = (place / "m.adze").string();
  expect_exit(run_program("adze-export", {pack().string(), "-o", gguf}), 0);
  EXPECT_EQ(read_file(gguf), read_file(made() / "model.gguf"));
  expect_exit(run_program("adze-export", {pack().string(), "--format", "pack", "-o", again}), 0);
  EXPECT_EQ(read_file(again), read_file(pack()));
  const std::string other = (place / "other.adze").string();
  expect_exit(run_program("adze-export", {made().string(), "--format", "pack", "-o", other}), 0);
  EXPECT_EQ(read_file(other), read_file(pack()));
}

TEST(PackTools, CodedPacksAreCodedAgainAndDecodedToTheSameBytes) {
  const Workplace place;
  const std::string coded = (place / "coded.adze").string(), again = (place / "again.adze").string(),
                    raw = (place / "raw.adze").string(), gguf = (place / "m.gguf").string();
  expect_exit(run_program("adze-export", {made().string(), "--format", "pack-entropy", "-o", coded}), 0);
  EXPECT_EQ(PackFile(coded).manifest().provenance.back().first, "adze.entropy");
  expect_exit(run_program("adze-export", {coded, "--format", "pack-entropy", "-o", again}), 0);
  EXPECT_EQ(read_file(again), read_file(coded));
  expect_exit(run_program("adze-export", {again, "-o", gguf}), 0);
  EXPECT_EQ(read_file(gguf), read_file(made() / "model.gguf"));
  expect_exit(run_program("adze-export", {again, "--format", "pack", "-o", raw}), 0);
  EXPECT_EQ(read_file(raw), read_file(pack()));
  for (const PackFile decoded(raw); const auto& pair : decoded.manifest().provenance)
    EXPECT_NE(pair.first, "adze.entropy");
}

/// The same data under another manifest.
template <typename Change>
std::string with_manifest(const fs::path& path, Change&& change) {
  const PackManifest was = PackFile(path).manifest();
  PackManifest is = was;
  change(is);
  place_regions(is);
  for (std::size_t i = 0; i < was.files.size(); ++i) is.files[i].region = was.files[i].region;
  for (std::size_t i = 0; i < was.tensors.size(); ++i) is.tensors[i].region = was.tensors[i].region;
  return pack_head(is) + read_file(path).substr(was.data_start);
}

TEST(PackTools, WhatAForeignPackHoldsBesideTheModelGoesNowhere) {
  const Workplace place;
  const std::string bytes = with_manifest(pack(), [](PackManifest& manifest) {
    for (PackedFile& file : manifest.files)
      if (file.name == "generation_config.json") file.name = "model.onnx";
    manifest.provenance = {{"adze.recipe", "abc"},       {"general.name", "x"},     {"adze.recipe", "def"},
                           {"adze.terminal", "\x1B[2J"}, {"adze.entropy", "1 bit"}, {"adze.n\xC3\xBC", "y"}};
  });
  const std::string foreign = place.put("foreign.adze", bytes).string(), again = (place / "again.adze").string(),
                    gguf = (place / "m.gguf").string();
  const auto names = [](const PackFile& file) {
    std::vector<std::string> all;
    for (const PackedFile& one : file.manifest().files) all.push_back(one.name);
    return all;
  };
  ASSERT_THAT(names(PackFile(foreign)), ::testing::Contains("model.onnx"));
  expect_exit(run_program("adze-export", {foreign, "--format", "pack", "-o", again}), 0);
  EXPECT_THAT(names(PackFile(again)), ::testing::ElementsAre("config.json", "tokenizer.json", "tokenizer_config.json"));
  const auto provenance = PackFile(again).manifest().provenance;
  ASSERT_EQ(provenance.size(), 2u);
  EXPECT_EQ(provenance[0].first, "adze.version");
  EXPECT_EQ(provenance[1], std::pair(std::string("adze.recipe"), std::string("abc")));
  expect_exit(run_program("adze-export", {foreign, "-o", gguf}), 0);
  expect_exit(run_program("adze-export", {foreign, "--format", "safetensors", "-o", place.out()}), 0);
  EXPECT_TRUE(fs::exists(fs::path(place.out()) / "tokenizer.json"));
  EXPECT_FALSE(fs::exists(fs::path(place.out()) / "model.onnx"));
}

TEST(PackTools, FactorsThatBlocksShareTravelInOneFile) {
  const Workplace place;
  const std::string path = (place / "shared.adze").string();
  expect_exit(run_program("adze-factorize", with_statistics({"--solver", "shared-basis", "--keep", "70%", "--modules",
                                                             "layers.*.self_attn.q_proj", "-o", place.out(), "-q"})),
              0);
  expect_exit(run_program("adze-export", {place.out(), "--format", "pack", "-o", path}), 0);
  expect_exit(run_program("adze-inspect", {path, "--verify"}), 0);
  EXPECT_EQ(divergence(path), divergence(place.out()));
}

TEST(PackTools, APackIsCompressedAndImportedLikeItsValues) {
  const Workplace place;
  const std::string recipe = place.recipe(rtn_recipe());
  const std::string a = (place / "a").string(), b = (place / "b").string(), store = (place / "m.h5").string();
  expect_exit(compress(recipe, pack(), a, {"-q"}), 0);
  const ProgramResult imported = run_program("adze-import", {pack().string(), "-o", store});
  expect_exit(imported, 0);
  EXPECT_THAT(imported.out, HasSubstr("copied"));
  expect_exit(compress(recipe, store, b, {"-q"}), 0);
  EXPECT_EQ(read_file(fs::path(a) / "store/block-0001.h5"), read_file(fs::path(b) / "store/block-0001.h5"));
}

TEST(PackTools, InspectNamesTensorAndBytesOfDamage) {
  const ProgramResult shown = run_program("adze-inspect", {pack().string(), "--verify", "--tensors", "--json"});
  expect_exit(shown, 0);
  const Json json = Json::parse(shown.out);
  EXPECT_EQ(json.at("kind"), "pack");
  const Workplace place;
  std::string bytes = read_file(pack());
  const std::size_t at = bytes.size() - 40;  // of the last tensor, the final norm
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  const fs::path broken = place.put("renamed.bin", bytes);
  const ProgramResult damaged = run_program("adze-inspect", {broken.string(), "--verify"});
  expect_exit(damaged, 65,
              {"tensor 'model.norm.weight': bytes 0 to 1023 are damaged (bytes " + std::to_string(bytes.size() - 1024) +
               " to " + std::to_string(bytes.size() - 1)});
  expect_exit(run_program("adze-export", {broken.string(), "-o", (place / "m.gguf").string()}), 65,
              {"'model.norm.weight'", "are damaged"});
  EXPECT_FALSE(fs::exists(place / "m.gguf"));
}

TEST(PackTools, InspectNamesDamagedTensorsBesideDamagedFiles) {
  const Workplace place;
  std::string bytes = read_file(pack());
  const std::size_t config = PackFile(pack()).manifest().data_start + 5;  // the first file, config.json
  for (const std::size_t at : {config, bytes.size() - 40}) bytes[at] = static_cast<char>(bytes[at] ^ 1);
  const fs::path broken = place.put("broken.adze", bytes);
  const ProgramResult damaged = run_program("adze-inspect", {broken.string(), "--verify"});
  expect_exit(damaged, 65, {"file 'config.json': bytes 0 to"});
  EXPECT_THAT(damaged.out, HasSubstr("damaged: 2 finding(s)"));
  EXPECT_THAT(damaged.out, HasSubstr("tensor 'model.norm.weight': bytes 0 to 1023 are damaged"));
}

TEST(PackTools, AFullDiskOrAKillLeavesNoPack) {
  const Workplace place;
  const std::string path = (place / "m.adze").string();
  const Arguments arguments{made().string(), "--format", "pack", "-o", path};
  ProgramOptions full;
  full.largest_file = 100000;
  expect_exit(run_program("adze-export", arguments, full), 74);
  ProgramOptions killed;
  killed.interruption = Interruption{SIGINT, when_exists(path + ".unverified.tmp")};
  run_program("adze-export", arguments, killed);
  for (const auto& entry : fs::directory_iterator(place.path()))
    EXPECT_EQ(entry.path().filename(), "m.adze") << "only a whole one may be left, where the signal came late";
  expect_exit(run_program("adze-export", joined(arguments, {"--overwrite"})), 0);
  EXPECT_EQ(read_file(path), read_file(pack()));
  expect_exit(run_program("adze-export", joined(arguments, {"--overwrite", "--split-max-size", "1MB"})), 65,
              {"cannot be split"});
}

}  // namespace
}  // namespace adze::testing
