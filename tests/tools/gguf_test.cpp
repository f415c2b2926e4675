// GGUF files as input and output of the programs: imported, measured, compressed, exported again, in one file or
// several; and importance matrices.
#include <nlohmann/json.hpp>

#include "checkpoint/imatrix.h"
#include "export/plain_gguf.h"
#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

ProgramResult tool(const std::string& name, std::vector<std::string> arguments) {
  arguments.push_back("-q");
  return run_program("adze-" + name, std::move(arguments));
}

std::string path_in(const Workplace& place, std::string_view name) { return (place.path() / name).string(); }

/// The demo as a GGUF file in bf16.
std::string demo_gguf(const Workplace& place) {
  const std::string gguf = path_in(place, "demo.gguf");
  expect_exit(tool("export", {demo_model().string(), "-o", gguf}), 0);
  return gguf;
}

TEST(GgufTools, ImportAndExportGiveTheFileBack) {
  const Workplace place;
  const std::string gguf = demo_gguf(place), store = path_in(place, "m.h5"), again = path_in(place, "again.gguf");
  const ProgramResult imported = tool("import", {gguf, "-o", store});
  expect_exit(imported, 0);
  EXPECT_THAT(imported.out, HasSubstr("LlamaForCausalLM, 56 tensors"));
  EXPECT_THAT(imported.out, HasSubstr("copied"));
  fs::remove(gguf);  // a store of a GGUF needs nothing else
  expect_exit(tool("export", {store, "-o", again}), 0);
  const std::string original = demo_gguf(place);
  EXPECT_TRUE(read_file(again) == read_file(original));
}

TEST(GgufTools, CompressingAGgufGivesWhatItsCheckpointGives) {
  const Workplace place;
  const std::string recipe = place.recipe(rtn_recipe());
  expect_exit(compress(recipe, demo_model(), path_in(place, "a"), {"-q"}), 0);
  expect_exit(compress(recipe, demo_gguf(place), path_in(place, "b"), {"-q"}), 0);
  PlainGguf a(path_in(place, "a/model.gguf")), b(path_in(place, "b/model.gguf"));
  EXPECT_EQ(a.tensors, b.tensors);
  EXPECT_EQ(a.keys, b.keys);
}

TEST(GgufTools, InspectShowsWhereAnExportComesFrom) {
  const Workplace place;
  expect_exit(compress(place.recipe(rtn_recipe()), demo_model(), place.out(), {"-q"}), 0);
  const ProgramResult shown = tool("inspect", {path_in(place, "out/model.gguf")});
  expect_exit(shown, 0);
  for (const char* const key : {"adze.version", "adze.recipe", "adze.calibration"})
    EXPECT_THAT(shown.out, HasSubstr(key));
}

TEST(GgufTools, ExportWritesSeveralFilesAndInspectReadsThemAsOne) {
  const Workplace place;
  const std::string out = path_in(place, "m.gguf");
  const ProgramResult planned =
      tool("export", {demo_model().string(), "-o", out, "--split-max-size", "5MB", "--dry-run", "--json"});
  expect_exit(planned, 0);
  EXPECT_FALSE(fs::exists(path_in(place, "m-00001-of-00003.gguf")));
  const ProgramResult result = tool("export", {demo_model().string(), "-o", out, "--split-max-size", "5MB", "--json"});
  expect_exit(result, 0);
  EXPECT_EQ(result.out, planned.out);
  const Json json = Json::parse(result.out);
  ASSERT_EQ(json["files"].size(), 3U);
  std::uint64_t bytes = 0;
  for (const Json& file : json["files"]) {
    EXPECT_LE(fs::file_size(file.get<std::string>()), 5'000'000U);
    bytes += fs::file_size(file.get<std::string>());
  }
  EXPECT_EQ(json["bytes"], bytes);
  EXPECT_EQ(json["files"][0], path_in(place, "m-00001-of-00003.gguf"));
  const ProgramResult shown = tool("inspect", {json["files"][0], "--json"});
  expect_exit(shown, 0);
  EXPECT_THAT(shown.out, HasSubstr("file 1 of 3; 3 opened"));
  expect_exit(tool("export", {demo_model().string(), "-o", out, "--split-max-size", "5MB"}), 73,
              {"m-00001-of-00003.gguf: exists"});
  expect_exit(tool("export", {demo_model().string(), "-o", out, "--split-max-size", "five"}), 64,
              {"a number and a unit"});
  expect_exit(tool("export", {demo_model().string(), "-o", out, "--split-max-size", "1KiB"}), 65,
              {"the metadata alone take"});
  expect_exit(tool("export", {json["files"][1], "-o", out}), 65, {"give the first one"});
}

std::vector<std::string> measuring(const std::string& model, const std::string& out, std::vector<std::string> more) {
  std::vector<std::string> arguments{
      model, "--set", bundled_text("mixed.yaml"), "--windows", "2", "--tokens", "64", "--seed", "7", "-o", out};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(GgufTools, CalibrateMeasuresAGgufAndWritesImportanceMatrices) {
  const Workplace place;
  const std::string gguf = path_in(place, "i.gguf"), dat = path_in(place, "i.dat");
  expect_exit(tool("calibrate", measuring(demo_model().string(), path_in(place, "a"), {"--imatrix", gguf})), 0);
  expect_exit(tool("calibrate", measuring(demo_gguf(place), path_in(place, "b"), {"--imatrix", dat})), 0);
  EXPECT_EQ(read_file(path_in(place, "a/block-0003.h5.xxh3")), read_file(path_in(place, "b/block-0003.h5.xxh3")));

  const Imatrix ours = read_imatrix(gguf), older = read_imatrix(dat);
  ASSERT_EQ(ours.entries.size(), 6U * (7 + 1) + 1);  // attn_qkv, as files of Phi-3 have it, and the head
  EXPECT_EQ(ours.chunks, 2U);
  EXPECT_EQ(ours.chunk_tokens, 64U);
  const ImatrixEntry& down = *ours.find("blk.2.ffn_down.weight");
  EXPECT_EQ(down.cols(), 768U);
  EXPECT_EQ(down.counts, std::vector<double>{128});
  EXPECT_EQ(ours.find("blk.2.attn_q.weight")->sums, ours.find("blk.2.attn_v.weight")->sums);
  EXPECT_NE(ours.find("output.weight"), nullptr);
  const std::vector<float> means = down.means(), same = older.find("blk.2.ffn_down.weight")->means();
  EXPECT_EQ(older.find("blk.2.ffn_down.weight")->counts, std::vector<double>{2});
  for (std::size_t j = 0; j < means.size(); ++j) EXPECT_NEAR(means[j], same[j], 1e-6 * means[j]);

  for (const std::string& file : {gguf, dat}) {
    const ProgramResult shown = tool("inspect", {file, "--tensors", "--verify"});
    expect_exit(shown, 0);
    EXPECT_THAT(shown.out, HasSubstr("importance matrix"));
    EXPECT_THAT(shown.out, HasSubstr("blk.2.ffn_down.weight"));
  }
  // Statistics that are there already give the same file.
  const std::string again = path_in(place, "again.gguf");
  expect_exit(tool("export", {path_in(place, "a"), "-o", again}), 0);
  EXPECT_TRUE(read_file(again) == read_file(gguf));
  expect_exit(tool("export", {path_in(place, "a"), "-o", again}), 73, {"exists"});
  expect_exit(tool("export", {path_in(place, "a"), "-o", path_in(place, "x.txt")}), 64,
              {"importance matrix is a .gguf"});
  expect_exit(tool("calibrate", measuring(demo_model().string(), path_in(place, "c"), {"--imatrix", gguf})), 73,
              {"i.gguf: exists"});
  EXPECT_FALSE(fs::exists(path_in(place, "c")));
}

/// Its name for the rules, with a character that would steer a terminal, is foreign: it must be shown as an escape.
TEST(GgufTools, ImportWarnsThatATokenizerCannotBeReproduced) {
  const Workplace place;
  std::string bytes = read_file(demo_gguf(place));
  const std::string key = "tokenizer.ggml.pre";
  bytes.at(bytes.find(key) + key.size() + 4 + 8) = '\x1b';  // after the type and the length of the text
  Workplace::overwrite(path_in(place, "demo.gguf"), bytes);
  const ProgramResult imported = tool("import", {path_in(place, "demo.gguf"), "-o", path_in(place, "x.h5"), "--json"});
  expect_exit(imported, 0, {"warning: the store gets no tokenizer: ", "tokenizer.ggml.pre is '\\x1b"});
  EXPECT_EQ(imported.err.find('\x1b'), std::string::npos);
  EXPECT_THAT(Json::parse(imported.out).value("tokenizer_problem", ""), HasSubstr("tokenizer.ggml.pre is '\x1b"));
}

TEST(GgufTools, RefuseOtherArchitecturesByName) {
  const Workplace place;
  std::string bytes = read_file(demo_gguf(place));
  const std::size_t at = bytes.find("llama");
  Workplace::overwrite(path_in(place, "demo.gguf"), bytes.replace(at, 5, "qwenX"));
  for (const auto& [name, out] : {std::pair{"import", "x.h5"}, {"export", "x.gguf"}})
    expect_exit(tool(name, {path_in(place, "demo.gguf"), "-o", path_in(place, out)}), 65,
                {"architecture 'qwenX' is not supported; did you mean 'qwen2'?; known: llama, qwen2"});
  expect_exit(tool("inspect", {path_in(place, "demo.gguf")}), 0);
}

}  // namespace
}  // namespace adze::testing
