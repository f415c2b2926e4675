// Families through the programs: what a model is said to be, a store of an architecture that is taken for a known one,
// and every family imported, measured and judged.
#include <nlohmann/json.hpp>

#include "model/random_checkpoint.h"
#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kSeed = 20;

ProgramResult import(std::vector<std::string> arguments) { return run_program("adze-import", std::move(arguments)); }

TEST(Describe, ShowsATreeSettingsAndWhatMayBeDone) {
  const TempFolder folder;
  const std::string model = write_random_checkpoint(folder / "gemma2", family_case("gemma2").config, kSeed).string();
  const ProgramResult shown = import({model, "--describe"});
  expect_exit(shown, 0);
  for (const char* const words :
       {"Gemma2ForCausalLM (gemma2 in GGUF)", "embed_tokens", "4096 x 64", "the head too", "layers.0 ... layers.2",
        "self_attn.q_proj", "post_feedforward_layernorm", "norm of down's output, before it joins the states",
        "window of 16 tokens, but in layers 1", "scores capped at 10", "norms multiply by 1 + weight",
        "can export gguf",
        "cannot rotate the residual stream: rotate the residual stream: Gemma2ForCausalLM has norms behind attention "
        "and FFN",
        "can rotate heads", "can export onnx"})
    EXPECT_THAT(shown.out, ::testing::HasSubstr(words));
  const Json json = Json::parse(import({model, "--describe", "--json"}).out);
  EXPECT_EQ(json["family"], "Gemma2ForCausalLM");
  EXPECT_EQ(json["parts"][0]["shape"], Json::array({4096, 64}));
  EXPECT_EQ(json["abilities"][0]["possible"], false);
  EXPECT_GT(json["parameters"], 4096 * 64);
}

/// What --describe prints of a test model.
std::string described(const char* family) {
  const TempFolder folder;
  const fs::path model = write_random_checkpoint(folder / family, family_case(family).config, kSeed);
  const ProgramResult result = import({model.string(), "--describe"});
  expect_exit(result, 0);
  return result.out;
}

TEST(Describe, ShowsExpertsAndTheirRouter) {
  const std::string mixtral = described("mixtral");
  for (const char* const words : {"MixtralForCausalLM (llama in GGUF)", "block_sparse_moe.gate", "8 x 64",
                                  "experts 0 ... 7", "block_sparse_moe.experts.0.w1", "96 x 64", "can export gguf",
                                  "can export onnx"})
    EXPECT_THAT(mixtral, ::testing::HasSubstr(words));
  const std::string qwen2 = described("qwen2_moe");
  for (const char* const words :
       {"Qwen2MoeForCausalLM (qwen2moe in GGUF)", "mlp.gate", "6 x 64", "experts 0 ... 5",
        "mlp.shared_expert.down_proj", "64 x 96", "mlp.shared_expert_gate", "mlp.experts.0.up_proj"})
    EXPECT_THAT(qwen2, ::testing::HasSubstr(words));
}

TEST(Describe, ShowsLearnedPositionsAndBiasesOfNorms) {
  const std::string gpt2 = described("gpt2");
  for (const char* const words :
       {"OPTForCausalLM (gpt2 in GGUF)", "embed_positions", "258 x 64", "positions: 256 that are learned",
        "activation: GELU (tanh)", "norms subtract the mean and add a bias", "reads activation(up)", "fc1",
        "self_attn.out_proj", "can export gguf", "can awq of qkv,o,gate_up\n", "cannot rotate the residual stream",
        "can export onnx"})
    EXPECT_THAT(gpt2, ::testing::HasSubstr(words));
  const std::string opt = described("opt");
  for (const char* const words : {"activation: ReLU", "can awq of qkv,o,gate_up,down", "cannot export gguf",
                                  "whose activation is gelu_pytorch_tanh, not relu"})
    EXPECT_THAT(opt, ::testing::HasSubstr(words));
}

TEST(Describe, OrAnOutputIsWanted) {
  expect_exit(import({demo_model().string()}), 64, {"-o FILE.h5 is required, or --describe"});
}

TEST(Like, MakesAStoreThatSaysTheOtherName) {
  const TempFolder folder;
  Json config = family_case("qwen3").config;
  write_random_checkpoint(folder / "qwen3", config, kSeed);
  config["architectures"] = {"OakForCausalLM"};
  const std::string oak = copy_checkpoint(folder / "qwen3", folder / "oak", config).string();
  const std::string store = (folder / "oak.h5").string();
  expect_exit(import({oak, "-o", store}), 65, {"'OakForCausalLM' is not supported", "--like"});
  expect_exit(import({oak, "-o", store, "--like", "Qwen3ForCausalLM"}), 0);
  expect_exit(import({store, "-o", (folder / "again.h5").string(), "--like", "Qwen3ForCausalLM"}), 64,
              {"--like is for folders"});
  EXPECT_THAT(import({store, "--describe"}).out, ::testing::HasSubstr("Qwen3ForCausalLM"));
  expect_exit(import({oak, "-o", store, "--overwrite", "--like", "Olmo2ForCausalLM"}), 65, {"is missing"});
}

/// By reference: the store has no more than the language model, and says so.
TEST(TextAndImages, AreImportedAsTheLanguageModel) {
  const TempFolder folder;
  write_random_checkpoint(folder / "text", family_case("gemma3").config, kSeed);
  const std::string whole =
      wrap_checkpoint(folder / "text", folder / "whole", "Gemma3ForConditionalGeneration", TowerNames::older).string();
  const std::string store = (folder / "whole.h5").string();
  constexpr std::string_view kLeftOut =
      "the language model alone is read; left out: 1 tensor of multi_modal_projector, 2 tensors of vision_tower";
  expect_exit(import({whole, "-o", store}), 0, {kLeftOut});
  const ProgramResult described = import({store, "--describe"});
  expect_exit(described, 0);
  EXPECT_THAT(described.out, ::testing::HasSubstr("Gemma3ForCausalLM (gemma3 in GGUF)"));
  EXPECT_EQ(described.out, import({(folder / "text").string(), "--describe"}).out);
  expect_exit(import({whole, "--describe"}), 0, {kLeftOut});
  const Json json = Json::parse(import({whole, "-o", store, "--overwrite", "--json"}).out);
  EXPECT_EQ(json["left_out"], Json::array({"1 tensor of multi_modal_projector", "2 tensors of vision_tower"}));
}

/// Every tool that has a plan says so, not only those that write files for others.
TEST(TextAndImages, AreToldOfByToolsOfOneScheme) {
  const TempFolder folder;
  write_random_checkpoint(folder / "text", family_case("gemma3").config, kSeed);
  const std::string whole =
      wrap_checkpoint(folder / "text", folder / "whole", "Gemma3ForConditionalGeneration", TowerNames::newer).string();
  expect_exit(run_program("adze-quantize", {whole, "--grid", "int8", "--group", "32", "--solver", "rtn", "--modules",
                                            "layers.**", "-o", (folder / "out").string(), "--dry-run"}),
              0, {"left out: 1 tensor of multi_modal_projector"});
}

/// What cannot be read as a model is described all the same, with the reason.
TEST(TextAndImages, WhosePartsArePackedAreInspectedAsTensors) {
  const TempFolder folder;
  folder.put("config.json",
             R"({"architectures":["Gemma3ForConditionalGeneration"],"model_type":"gemma3","text_config":{},
                               "quantization_config":{"quant_method":"gptq","bits":4,"group_size":32}})");
  const std::vector<float> values(16, 0.5f);
  const std::vector<SafetensorsItem> items{
      {{"language_model.model.norm.weight", SafetensorsType::f32, {16}}, std::as_bytes(std::span(values))}};
  write_safetensors(folder / "model.safetensors", items);
  const ProgramResult shown = run_program("adze-inspect", {folder.path().string(), "--tensors"});
  expect_exit(shown, 0);
  EXPECT_THAT(shown.out, ::testing::HasSubstr("a model of text and images whose weights are packed"));
  EXPECT_THAT(shown.out, ::testing::HasSubstr("language_model.model.norm.weight"));
}

/// Gate and up lie in one tensor of that GGUF, which no two rules can agree on.
TEST(Phi3Gguf, MatricesOfOneTensorChooseByOneRule) {
  const Workplace place;
  const fs::path model = write_random_checkpoint(place / "model", family_case("phi3_partial").config, kSeed);
  const auto allocated = [&](const std::string& rules) {
    const fs::path recipe = place.put("r.yaml", "adze: 1\ncalibration: { set: " + bundled_text("calib/narrative.txt") +
                                                    ", windows: 2, tokens: 32, seed: 7 }\n"
                                                    "schemes:\n  a: { grid: gguf/q4_0, solver: rtn }\n"
                                                    "  b: { grid: gguf/q8_0, solver: rtn }\nrules: [ " +
                                                    rules +
                                                    " ]\nbudget: { size: 10 MB }\n"
                                                    "export: [ { format: gguf, file: m.gguf } ]\n");
    return run_program("adze-allocate", {recipe.string(), model.string(), "--dry-run"});
  };
  expect_exit(allocated("{ modules: \"**.gate_proj\", choose: [a, b] }, { modules: \"**.up_proj\", choose: [a, b] }"),
              78, {"follow different rules", "gate and up of a block in one tensor"});
  expect_exit(allocated("{ modules: \"layers.*.mlp.*\", choose: [a, b] }"), 0);
}

class FamiliesInTools : public ::testing::TestWithParam<FamilyCase> {};

/// Imported by reference, measured, and judged beside the checkpoint: the same model.
TEST_P(FamiliesInTools, AreImportedMeasuredAndJudged) {
  const TempFolder folder;
  const std::string model = write_random_checkpoint(folder / "model", GetParam().config, kSeed).string();
  const std::string store = (folder / "model.h5").string();
  const fs::path narrative = fs::path(ADZE_SOURCE_DIR) / "calibration_data/calib/narrative.txt";
  const std::string text = folder.put("text.txt", read_file(narrative).substr(0, 4000)).string();
  expect_exit(import({model, "-o", store}), 0);
  expect_exit(run_program("adze-calibrate", {store, "--set", text, "--windows", "4", "--tokens", "32", "-q", "-o",
                                             (folder / "stats").string()}),
              0);
  const ProgramResult judged =
      run_program("adze-eval", {store, "--reference", model, "--text", text, "--protocol", "lcpp-64", "--json", "-q"});
  expect_exit(judged, 0);
  EXPECT_THAT(judged.out, ::testing::HasSubstr("perplexity"));
}

INSTANTIATE_TEST_SUITE_P(Models, FamiliesInTools, ::testing::ValuesIn(family_cases()),
                         [](const auto& case_info) { return case_info.param.name; });

}  // namespace
}  // namespace adze::testing
