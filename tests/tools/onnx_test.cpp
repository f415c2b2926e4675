// ONNX folders as output and input of the programs: from a recipe, judged, inspected, imported, exported again,
// refused.
#include <fstream>

#include "tools/scheme_testing.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;

std::string onnx_recipe(const std::string& grid, const std::string& exports) {
  return "adze: 1\ncalibration: { set: " + bundled_text("calib/narrative.txt") +
         ", windows: 4, tokens: 128, seed: 7 }\nschemes: { s: { " + grid +
         ", solver: rtn } }\nrules: [ { modules: \"layers.**\", scheme: s } ]\nexport: [ " + exports + " ]\n";
}

/// The demo as both kinds of ONNX, made once.
const fs::path& made() {
  static const Workplace place;
  static const fs::path out = [] {
    const std::string recipe =
        place
            .put("r.yaml",
                 onnx_recipe("grid: int4, group: 32", "{ format: onnx, file: onnx }, { format: onnx-qdq, file: qdq }"))
            .string();
    expect_exit(compress(recipe, demo_model(), place.out(), {"-q"}), 0);
    return fs::path(place.out());
  }();
  return out;
}

TEST(OnnxTools, BothKindsAreJudgedAsTheStoreIs) {
  const double meant = divergence(made().string());
  EXPECT_GT(meant, 0.001);
  for (const char* const folder : {"onnx", "qdq"}) EXPECT_EQ(divergence((made() / folder).string()), meant);
}

TEST(OnnxTools, TheDryRunPromisesTheBytes) {
  const Workplace place;
  const std::string out = (place / "onnx").string();
  const Arguments arguments{made().string(), "--format", "onnx", "-o", out};
  const ProgramResult dry = run_program("adze-export", joined(arguments, {"--dry-run", "--json"}));
  expect_exit(dry, 0);
  EXPECT_FALSE(fs::exists(out));
  expect_exit(run_program("adze-export", arguments), 0);
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(out)) bytes += entry.file_size();
  EXPECT_EQ(Json::parse(dry.out).at("bytes"), bytes);
  expect_exit(run_program("adze-export", arguments), 73, {"exists"});
  expect_exit(run_program("adze-export", joined(arguments, {"--overwrite"})), 0);
  EXPECT_EQ(read_file(fs::path(out) / "model.onnx_data"), read_file(made() / "onnx" / "model.onnx_data"));
}

TEST(OnnxTools, OneKindBecomesAnotherFormatWithoutRounding) {
  const Workplace place;
  const auto exported = [&](const fs::path& model, const std::string& format, const char* name) {
    expect_exit(run_program("adze-export", {model.string(), "--format", format, "-o", (place / name).string()}), 0);
    return place / name;
  };
  const fs::path ct = exported(made() / "qdq", "compressed-tensors", "ct");
  const fs::path direct = exported(made(), "compressed-tensors", "direct");
  EXPECT_EQ(read_file(ct / "model.safetensors"), read_file(direct / "model.safetensors"));
  EXPECT_THAT(read_file(made() / "qdq" / "config.json"), HasSubstr("transformers.js_config"));
  EXPECT_EQ(read_file(ct / "config.json").find("transformers.js_config"), std::string::npos);
  const fs::path again = exported(ct, "onnx", "again");
  EXPECT_EQ(read_file(again / "model.onnx_data"), read_file(made() / "onnx" / "model.onnx_data"));
}

TEST(OnnxTools, ImportAndInspectTakeThem) {
  const Workplace place;
  const ProgramResult imported =
      run_program("adze-import", {(made() / "onnx").string(), "-o", (place / "m.h5").string()});
  expect_exit(imported, 0);
  EXPECT_THAT(imported.out, HasSubstr("copied"));
  expect_exit(run_program("adze-inspect", {(place / "m.h5").string(), "--verify"}), 0);
  const ProgramResult shown = run_program("adze-inspect", {(made() / "qdq").string(), "--verify", "--tensors"});
  expect_exit(shown, 0);
  EXPECT_THAT(shown.out, HasSubstr("LlamaForCausalLM"));
  EXPECT_THAT(shown.out, ::testing::ContainsRegex("packed +onnx"));
  EXPECT_THAT(shown.out, HasSubstr("int4"));
  EXPECT_THAT(shown.out, HasSubstr("verified: no damage found"));
}

/// Written, read back and compared by the run itself.
TEST(OnnxTools, PrunedAndFactorisedMatricesAreMadeDense) {
  const Workplace place;
  const std::string recipe =
      place
          .put("r.yaml", "adze: 1\ncalibration: { set: " + bundled_text("calib/narrative.txt") +
                             ", windows: 2, tokens: 64, seed: 7 }\nschemes:\n"
                             "  half: { grid: int4, group: 32, sparsity: \"2:4\", solver: magnitude }\n"
                             "  low: { solver: svd, keep: 50% }\n"
                             "rules:\n  - { modules: \"layers.*.mlp.*\", scheme: half }\n"
                             "  - { modules: \"layers.**\", scheme: low }\n"
                             "export: [ { format: onnx, file: onnx }, { format: onnx-qdq, file: qdq } ]\n")
          .string();
  expect_exit(compress(recipe, demo_model(), place.out(), {"-q"}), 0);
  const ProgramResult shown = run_program("adze-inspect", {(place.out() + "/onnx"), "--tensors"});
  expect_exit(shown, 0);
  EXPECT_THAT(shown.out, HasSubstr("model.layers.0.mlp.up_proj.weight_codes"));
  EXPECT_THAT(shown.out, HasSubstr("model.layers.0.self_attn.q_proj.weight "));
}

TEST(OnnxTools, WhatDoesNotFitIsRefusedBeforeAnythingRuns) {
  const Workplace place;
  const auto refuses = [&](const std::string& grid, const std::string& format, Words words) {
    const std::string recipe = place.put("r.yaml", onnx_recipe(grid, "{ format: " + format + ", file: o }")).string();
    expect_exit(compress(recipe, demo_model(), place.out(), {"-q"}), 78, words);
    EXPECT_FALSE(fs::exists(place.out()));
  };
  refuses("grid: gguf/q4_k", "onnx", {"ONNX holds integers with scales, not gguf/q4_k"});
  refuses("grid: int4, group: 8", "onnx", {"8 are no multiple of 16", "export onnx-qdq"});
  refuses("grid: int4, scope: tensor", "onnx-qdq", {"take scope: channel"});
}

}  // namespace
}  // namespace adze::testing
