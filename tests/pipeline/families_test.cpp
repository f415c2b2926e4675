// Every family through the whole of a run: compressed, stopped and gone on with, on several threads, exported, opened
// again; and what transforms fold into it.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "base/parallel.h"
#include "export/exporter.h"
#include "export/gguf/metadata.h"
#include "model/logits.h"
#include "model/plain_reference.h"
#include "model/random_checkpoint.h"
#include "pipeline/model_description.h"
#include "pipeline/pipeline_testing.h"

namespace adze {
namespace {

using namespace testing;
namespace fs = std::filesystem;

constexpr std::uint64_t kSeed = 20;

const std::string kInt4 =
    "schemes: { w: { grid: int4, group: 32, symmetric: true, solver: gptq } }\n"
    "rules: [ { modules: layers.**, scheme: w } ]\n";

class FamilyRuns : public ::testing::TestWithParam<FamilyCase> {
 protected:
  void SetUp() override { write_random_checkpoint(model(), GetParam().config, kSeed); }

  fs::path model() const { return folder / "model"; }
  bool has_gguf() const { return !gguf_refuses(open_model(model()).architecture()); }
  /// All formats that can say the family.
  std::string exports() const {
    return std::string("export: [ { format: pack, file: m.adze }, { format: compressed-tensors, file: ct }") +
           ", { format: onnx, file: onnx }, { format: onnx-qdq, file: qdq }" +
           (has_gguf() ? ", { format: gguf, file: m.gguf } ]\n" : " ]\n");
  }

  TempFolder folder;
  const std::vector<std::int32_t> ids = random_ids(60, 4096);
};

/// Stops a run at the beginning of its second block.
class StopAtSecondBlock final : public Progress {
 public:
  void update(std::uint64_t done) override {
    if (done == 1) throw Error(ErrorKind::stopped, "stopped by the test");
  }
};

TEST_P(FamilyRuns, CompressResumeExportAndOpenAgain) {
  const std::string text = recipe_of(kInt4 + exports());
  set_thread_count(1);
  run_recipe(text, model(), folder / "out");
  set_thread_count(2);
  {
    const Prepared prepared(text, model());
    CompressOptions options;
    options.out = folder / "again";
    StopAtSecondBlock stop;
    EXPECT_ANY_THROW(compress(prepared.run, options, stop));
    EXPECT_FALSE(fs::exists(folder / "again" / kManifestName));
  }
  run_recipe(text, model(), folder / "again");
  set_thread_count(0);
  EXPECT_EQ(read_file(folder / "out" / kManifestName), read_file(folder / "again" / kManifestName));

  const MatrixF original = logits_of(*open_model(model()).weights, ids);
  const MatrixF stored = logits_of(*open_model(folder / "out").weights, ids);
  const double moved = largest_difference(stored, original);
  EXPECT_GT(moved, 1e-3) << "nothing was rounded";
  EXPECT_LT(moved, 0.7 * range_of(original));
  std::vector<const char*> files = {"out/m.adze", "out/ct", "out/onnx", "out/qdq"};
  if (has_gguf()) files.push_back("out/m.gguf");
  for (const char* const file : files) {
    const auto opened = open_model(folder / file);
    const bool no_window = GetParam().name == "mistral" || GetParam().name == "phi3_longrope";  // in GGUF
    const std::size_t tokens = no_window ? 20 : ids.size();
    const std::vector<std::int32_t> some(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(tokens));
    EXPECT_LT(
        largest_difference(logits_of(*opened.weights, some), logits_of(*open_model(folder / "out").weights, some)),
        1e-5 * range_of(original))
        << file;
  }
}

/// The model after a transform that folds in, all weights in floats.
MatrixF transformed_logits(const fs::path& model, const fs::path& out, const std::string& transform,
                           const std::vector<std::int32_t>& ids) {
  run_recipe(recipe_of("transform: [ " + transform + " ]\n" + "rules: [ { modules: \"**\", store: f32 } ]\n"), model,
             out);
  return logits_of(*open_model(out).weights, ids);
}

TEST_P(FamilyRuns, TransformsFoldInOrAreRefusedWithTheReason) {
  const auto opened = open_model(model());
  const MatrixF original = logits_of(*opened.weights, ids);
  const double tolerance = 2e-3 * range_of(original);
  const ModelDescription description = describe_model(opened.architecture());
  const auto reason_against = [&](std::string_view name) {
    return std::ranges::find(description.abilities, name, &Ability::name)->reason;
  };
  if (const std::string reason = reason_against("rotate the residual stream"); reason.empty())
    EXPECT_LT(
        largest_difference(transformed_logits(model(), folder / "rotated", "{ kind: rotate, seed: 3 }", ids), original),
        tolerance);
  else
    EXPECT_THAT(refusal(recipe_of("transform: [ { kind: rotate } ]\n" + kInt4), model()), ::testing::HasSubstr("norm"));
  EXPECT_LT(
      largest_difference(
          transformed_logits(model(), folder / "heads", "{ kind: rotate, residual: false, seed: 3 }", ids), original),
      tolerance);
  EXPECT_LT(largest_difference(transformed_logits(model(), folder / "awq", "{ kind: awq }", ids), original), tolerance);
}

TEST_P(FamilyRuns, ADescriptionNamesEveryTensorOfABlock) {
  const Architecture architecture = open_model(model()).architecture();
  const std::string text = text_of(describe_model(architecture));
  for (const TensorSpec& spec : expected_tensors(architecture)) {
    if (spec.block != std::size_t{0} || spec.role == TensorRole::bias) continue;
    const std::string module = spec.module.substr(std::string("layers.0.").size());
    if (spec.slot && spec.slot->is_expert() && spec.slot->expert > 0) continue;  // like the first
    EXPECT_THAT(text, ::testing::HasSubstr(module)) << text;
  }
}

class MixtureRuns : public FamilyRuns {};

TEST_P(MixtureRuns, RoundExpertsAndLeaveRouters) {
  run_recipe(recipe_of(kInt4), model(), folder / "out");
  const OpenedModel before = open_model(model()), after = open_model(folder / "out");
  const Architecture a = before.architecture();
  for (std::size_t b = 0; b < a.layers; ++b) {
    const BlockWeights original = before.weights->block(b), stored = after.weights->block(b);
    for (const LinearInfo& info : block_linears(a)) {
      const bool routes = info.slot == LinearSlot::router || info.slot == LinearSlot::shared_router;
      const MatrixF was = original[info.slot].weight->decode(), is = stored[info.slot].weight->decode();
      EXPECT_EQ(is == was, routes) << b << " " << info.module;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, MixtureRuns, ::testing::ValuesIn(mixture_cases()),
                         [](const auto& case_info) { return case_info.param.name; });

/// 64 tokens that go to one of 128 experts each.
TEST(UnusedExperts, AreRoundedAllTheSame) {
  const TempFolder folder;
  nlohmann::json config = family_case("olmoe").config;
  config.update({{"num_experts", 128}, {"num_experts_per_tok", 1}, {"num_hidden_layers", 1}});
  write_random_checkpoint(folder / "model", config, kSeed);
  run_recipe(recipe_of(kInt4), folder / "model", folder / "out");
  const OpenedModel opened = open_model(folder / "out");
  const BlockWeights block = opened.weights->block(0);
  for (std::size_t e = 0; e < 128; ++e)
    for (const LinearSlot::Kind kind : {LinearSlot::gate, LinearSlot::up, LinearSlot::down}) {
      const CompressedTensor& weight = *block[LinearSlot(kind, e)].weight;
      EXPECT_EQ(weight.format(), block[LinearSlot::q].weight->format()) << e;
      const MatrixF decoded = weight.decode();
      EXPECT_TRUE(std::ranges::all_of(decoded.values(), [](float v) { return std::isfinite(v); })) << e;
      EXPECT_TRUE(std::ranges::any_of(decoded.values(), [](float v) { return v != 0; })) << e;
    }
}

TEST(StackedExperts, MustHaveOneFormatWhereTheyAreOneTensor) {
  const TempFolder folder;
  const fs::path model = write_random_checkpoint(folder / "model", family_case("qwen3_moe").config, kSeed);
  const auto recipe = [](const std::string& exported) {
    return recipe_of(
        "schemes: { w: { grid: int4, group: 32, symmetric: true, solver: gptq } }\n"
        "rules: [ { modules: layers.1.mlp.experts.3.up_proj, store: f16 }, { modules: layers.**, scheme: w } ]\n"
        "export: [ " +
        exported + " ]\n");
  };
  EXPECT_THAT(
      refusal(recipe("{ format: gguf, file: m.gguf }"), model),
      ::testing::AllOf(::testing::HasSubstr("experts"), ::testing::HasSubstr("layers.1.mlp.experts.3.up_proj")));
  EXPECT_NO_THROW(Prepared(recipe("{ format: pack, file: m.adze }"), model));
}

/// GPT-2 and OPT, whose parts are others than those of all families around them.
class LearnedRuns : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { write_random_checkpoint(model(), family_case(GetParam()).config, kSeed); }
  fs::path model() const { return folder / "model"; }

  TempFolder folder;
  const std::vector<std::int32_t> ids = random_ids(60, 4096);
};

TEST_P(LearnedRuns, RefuseWhatDoesNotFoldIntoThem) {
  const auto refused = [&](const std::string& transform) {
    return refusal(recipe_of("transform: [ " + transform + " ]\n" + kInt4), model());
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(refused("{ kind: rotate }"), HasSubstr("norms that subtract the mean"));
  EXPECT_THAT(refused("{ kind: slice, keep: 50% }"), HasSubstr("norms that subtract the mean"));
  EXPECT_THAT(refused("{ kind: narrow-heads, keep: 50% }"), HasSubstr("learned positions"));
  EXPECT_THAT(refused("{ kind: prune-heads, keep: 50% }"), HasSubstr("as wide as the states together"));
}

TEST_P(LearnedRuns, LoseChannelsAndBlocks) {
  for (const char* const transform :
       {"{ kind: prune-ffn, keep: 67%, align: 32 }", "{ kind: prune-ffn, keep: 67%, align: 32, inputs: none }",
        "{ kind: drop-blocks, blocks: \"1\" }", "{ kind: smoothquant }"}) {
    SCOPED_TRACE(transform);
    const TempFolder out;
    const MatrixF left = transformed_logits(model(), out / "out", transform, ids);
    EXPECT_TRUE(std::ranges::all_of(left.values(), [](float v) { return std::isfinite(v); }));
  }
}

TEST_P(LearnedRuns, AreRoundedToEightBitsWithLittleLoss) {
  const fs::path out = folder / "out";
  run_recipe(recipe_of("schemes: { w: { grid: int8, group: 32, symmetric: true, solver: rtn } }\n"
                       "rules: [ { modules: layers.**, scheme: w } ]\n"),
             model(), out);
  const MatrixF original = logits_of(*open_model(model()).weights, ids);
  EXPECT_LT(largest_difference(logits_of(*open_model(out).weights, ids), original), 0.1 * range_of(original));
}

/// A scheme for everything leaves positions as they are; a dtype to store them in is taken.
TEST_P(LearnedRuns, KeepTheirPositions) {
  run_recipe(recipe_of("schemes: { w: { grid: int4, group: 32, symmetric: true, solver: rtn } }\n"
                       "rules: [ { modules: \"**\", scheme: w } ]\n"),
             model(), folder / "out");
  const OpenedModel before = open_model(model()), after = open_model(folder / "out");
  EXPECT_EQ(after.weights->positions()->decode(), before.weights->positions()->decode());
  EXPECT_EQ(after.weights->final_norm_bias(), before.weights->final_norm_bias());
  EXPECT_EQ(after.weights->block(1).norm_biases, before.weights->block(1).norm_biases);
  run_recipe(recipe_of("rules: [ { modules: embed_positions, store: f16 }, { modules: \"**\", store: f32 } ]\n"),
             model(), folder / "halves");
  EXPECT_EQ(open_model(folder / "halves").weights->positions()->format(), "f16");
}

INSTANTIATE_TEST_SUITE_P(Models, LearnedRuns, ::testing::Values("gpt2", "opt"),
                         [](const auto& case_info) { return std::string(case_info.param); });

TEST(FusedQueriesKeysAndValues, MustHaveOneFormatWhereTheyAreOneTensor) {
  const TempFolder folder;
  const fs::path model = write_random_checkpoint(folder / "model", family_case("gpt2").config, kSeed);
  const auto recipe = [](const std::string& exported) {
    return recipe_of(
        "schemes: { w: { grid: int4, group: 32, symmetric: true, solver: gptq } }\n"
        "rules: [ { modules: layers.1.self_attn.v_proj, store: f16 }, { modules: layers.**, scheme: w } ]\n"
        "export: [ " +
        exported + " ]\n");
  };
  EXPECT_THAT(refusal(recipe("{ format: gguf, file: m.gguf }"), model),
              ::testing::AllOf(::testing::HasSubstr("q, k and v"), ::testing::HasSubstr("self_attn.v_proj")));
  EXPECT_NO_THROW(Prepared(recipe("{ format: pack, file: m.adze }"), model));
}

/// Phi-4-mini: what asks for whole heads is refused before anything is computed.
TEST(HeadsRotatedInPart, AreNamedWhereTheyAreNotSupported) {
  const TempFolder folder;
  const fs::path model = write_random_checkpoint(folder / "model", family_case("phi3_partial").config, kSeed);
  using ::testing::HasSubstr;
  EXPECT_THAT(refusal(recipe_of("transform: [ { kind: narrow-heads, keep: 50% } ]\n" + kInt4), model),
              HasSubstr("heads that are rotated in part"));
  EXPECT_THAT(refusal(recipe_of(kInt4 + "export: [ { format: mlx, file: mlx } ]\n"), model),
              HasSubstr("rotates whole heads"));
  const auto recipe = [](const std::string& exported) {
    return recipe_of(
        "schemes: { w: { grid: int4, group: 32, symmetric: true, solver: gptq } }\n"
        "rules: [ { modules: layers.1.mlp.up_proj, store: f16 }, { modules: layers.**, scheme: w } ]\n"
        "export: [ " +
        exported + " ]\n");
  };
  EXPECT_THAT(refusal(recipe("{ format: gguf, file: m.gguf }"), model),
              ::testing::AllOf(HasSubstr("gate and up"), HasSubstr("mlp.up_proj")));
  EXPECT_NO_THROW(Prepared(recipe("{ format: pack, file: m.adze }"), model));
}

/// Ranks of q are others than those of k and v; in the file they are multiplied out.
TEST(HeadsRotatedInPart, TakeOneSchemeOfFactorsForQueriesKeysAndValues) {
  const TempFolder folder;
  const fs::path model = write_random_checkpoint(folder / "model", family_case("phi3_partial").config, kSeed);
  const Prepared prepared(recipe_of("schemes: { low: { solver: svd, keep: 50% } }\n"
                                    "rules: [ { modules: \"layers.*.self_attn.*\", scheme: low } ]\n"
                                    "export: [ { format: gguf, file: m.gguf } ]\n"),
                          model);
  EXPECT_NE(prepared.run.plan.find("layers.0.self_attn.q_proj")->format,
            prepared.run.plan.find("layers.0.self_attn.k_proj")->format);
}

INSTANTIATE_TEST_SUITE_P(Models, FamilyRuns, ::testing::ValuesIn(family_cases()),
                         [](const auto& case_info) { return case_info.param.name; });

/// What is made of a model of text and images is the language model's, as if it had come alone.
TEST(TextAndImages, BecomeAFolderOfTheLanguageModel) {
  const TempFolder folder;
  write_random_checkpoint(folder / "text", family_case("gemma3").config, kSeed);
  for (const TowerNames names : {TowerNames::older, TowerNames::newer}) {
    const std::string name = names == TowerNames::older ? "older" : "newer";
    const fs::path whole = wrap_checkpoint(folder / "text", folder / name, "Gemma3ForConditionalGeneration", names);
    const OpenedModel opened = open_model(whole);
    EXPECT_EQ(opened.left_out,
              (std::vector<std::string>{"1 tensor of multi_modal_projector", "2 tensors of vision_tower"}));
    EXPECT_TRUE(open_model(folder / "text").left_out.empty());
    EXPECT_THAT(Prepared(recipe_of(kInt4), whole).run.plan.warnings,
                ::testing::Contains(::testing::HasSubstr("left out: 1 tensor of multi_modal_projector")));
    const fs::path out = folder / (name + "-out");
    run_recipe(recipe_of("rules: [ { modules: \"**\", store: f32 } ]\n"
                         "export: [ { format: safetensors, file: st }, { format: gguf, file: m.gguf } ]\n"),
               whole, out);
    const auto config = nlohmann::json::parse(read_file(out / "st" / "config.json"));
    EXPECT_EQ(config["architectures"], nlohmann::json::array({"Gemma3ForCausalLM"}));
    EXPECT_EQ(config["model_type"], "gemma3_text");
    for (const char* const key : {"text_config", "vision_config"}) EXPECT_FALSE(config.contains(key)) << key;
    const std::vector<std::int32_t> ids = random_ids(40, 4096);
    const MatrixF meant = logits_of(*open_model(folder / "text").weights, ids);
    EXPECT_EQ(largest_difference(logits_of(*open_model(out / "st").weights, ids), meant), 0);
    EXPECT_LT(largest_difference(logits_of(*open_model(out / "m.gguf").weights, ids), meant), 1e-5 * range_of(meant));
  }
}

TEST(UnknownArchitecture, IsNamedAndMayBeTakenForAKnownOne) {
  const TempFolder folder;
  nlohmann::json config = family_case("llama").config;
  config["architectures"] = {"LarchForCausalLM"};
  write_random_checkpoint(folder / "model", family_case("llama").config, kSeed);
  copy_checkpoint(folder / "model", folder / "larch", config);
  expect_error(ErrorKind::bad_data, "'LarchForCausalLM' is not supported", [&] { open_model(folder / "larch"); });
  expect_error(ErrorKind::bad_data, "--like", [&] { open_model(folder / "larch"); });
  OpenModelOptions options;
  options.like = "LlamaForCausalLM";
  const OpenedModel taken = open_model(folder / "larch", options);
  EXPECT_EQ(taken.architecture(), open_model(folder / "model").architecture());
  options.like = "Qwen3ForCausalLM";
  expect_error(ErrorKind::bad_data, "self_attn.q_norm.weight' is missing",
               [&] { open_model(folder / "larch", options); });
  options.like = "Llama";
  expect_error(ErrorKind::bad_data, "'Llama' is not supported", [&] { open_model(folder / "larch", options); });
}

}  // namespace
}  // namespace adze
