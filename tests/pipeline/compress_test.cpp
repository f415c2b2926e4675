// Whole runs on a tiny random model: what is measured with what, tied and untied tables, conversions, the manifest.
#include "pipeline/compress.h"

#include <set>

#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "calibrate/block_pass.h"
#include "model/stored_size.h"
#include "pipeline/block_step.h"
#include "pipeline/manifest.h"
#include "pipeline/pipeline_testing.h"

namespace adze::testing {
namespace {

using Json = nlohmann::json;

const std::string kSchemes = "schemes: { w4: { grid: int4, group: 32, solver: gptq } }\n";
const std::string kBlocks = kSchemes + "rules: [ { modules: \"layers.**\", scheme: w4 } ]\n";

/// What solving one stage against these inputs gives, without the pipeline.
MatrixF single(const MatrixD& matrix) {
  MatrixF result(matrix.shape());
  std::ranges::transform(matrix.values(), result.values().begin(), [](double v) { return static_cast<float>(v); });
  return result;
}

/// drift: how far the inputs have drifted from the original model's; joins: the stage makes up for the states' drift.
std::vector<TensorPtr> solve_stage(const Prepared& prepared, const InputStatistics& statistics,
                                   const ReferencedStatistics* drift, bool joins, std::size_t block, Stage stage) {
  Problem problem;
  std::vector<MatrixF> weights;
  const BlockWeights original = prepared.model.weights->block(block);
  for (const LinearInfo& info : linears_of(prepared.model.architecture(), stage))
    weights.push_back(original[info.slot].weight->decode());
  problem.weights.assign(weights.begin(), weights.end());
  problem.hessian = statistics.second_moment;
  problem.grid = prepared.run.plan.schemes.at(0).grid;
  MatrixF cross, residual;
  if (drift != nullptr) {
    cross = single(drift->cross);
    residual = single(drift->residual);
    problem.cross = cross;
    if (joins && !residual.empty()) problem.residual = {residual};
  }
  std::vector<TensorPtr> tensors;
  for (const Solution& solution : prepared.run.plan.schemes.at(0).solver->solve(problem))
    tensors.push_back(solution.tensor);
  return tensors;
}

/// The calibration windows before block 0.
HiddenStates embedded(const Prepared& prepared) {
  const TokenWindows& windows = prepared.run.windows;
  const ModelWeights& original = *prepared.model.weights;
  HiddenStates states({windows.count(), windows.tokens, original.architecture().hidden, 1, false});
  const Forward forward(original.architecture(), windows.tokens);
  embed_windows(forward, input_tables(original), windows.ids, states);
  return states;
}

/// With what the linears of block 1 may have been measured.
struct Inputs {
  bool compressed_block_zero;  ///< the states come from block 0 as compressed
  bool sees_itself;            ///< later stages see the compressed earlier ones
  bool operator==(const Inputs&) const = default;
};

/// True when the store holds what solving block 1 by hand with these inputs gives. `drifts`: the original model's
/// states walk along.
bool block_one_is(const CompressedStore& store, const Prepared& prepared, Inputs inputs, bool drifts) {
  const ModelWeights& original = *prepared.model.weights;
  const std::size_t tokens = prepared.run.windows.tokens;
  const Forward forward(original.architecture(), tokens);
  HiddenStates states = embedded(prepared);
  run_block(forward, inputs.compressed_block_zero ? store.block(0) : original.block(0), states);
  const BlockWeights stored = store.block(1);
  BlockWeights seen = original.block(1);
  HiddenStates reference_states = embedded(prepared);
  run_block(forward, original.block(0), reference_states);
  BlockPass pass(forward, states);
  BlockPass reference(forward, reference_states);
  bool same = true;
  for (const Stage stage : stages_of(original.architecture())) {
    ReferencedStatistics measured;
    if (drifts) {
      measured = pass.measure_against(reference, original.block(1), stage, seen);
    } else {
      measured.inputs = pass.measure(stage, seen);
    }
    // Measured once, only the last stage makes up for the states' drift: `o` would do so a second time.
    const bool joins = inputs.sees_itself || stage == Stage::down;
    const std::vector<TensorPtr> solved =
        solve_stage(prepared, measured.inputs, drifts ? &measured : nullptr, joins, 1, stage);
    for (std::size_t i = 0; i < solved.size(); ++i) {
      const LinearSlot slot = linears_of(original.architecture(), stage)[i].slot;
      same = same && std::ranges::equal(stored[slot].weight->payload(), solved[i]->payload());
      if (inputs.sees_itself) seen[slot].weight = solved[i];
    }
  }
  return same;
}

/// Of all inputs that might have been used, a run with these modes used `expected` and no others.
void expect_inputs(const std::string& modes, Inputs expected) {
  const Site site(true);
  const std::string text = recipe_of(kBlocks + modes);
  run_recipe(text, site.model(), site / "out");
  const CompressedStore store(site / "out/store");
  const Prepared prepared(text, site.model());
  const bool drifts = prepared.run.plan.walks_reference(prepared.recipe.propagate);
  for (const Inputs inputs : {Inputs{true, true}, Inputs{true, false}, Inputs{false, true}, Inputs{false, false}})
    EXPECT_EQ(block_one_is(store, prepared, inputs, drifts), inputs == expected)
        << modes << inputs.compressed_block_zero << inputs.sees_itself;
}

TEST(Propagate, CompressedIsTheDefaultAndSeesEverythingDoneSoFar) { expect_inputs("", {true, true}); }

TEST(Propagate, CompressedMeasuredOnceSeesTheBlocksBeforeButNotItself) { expect_inputs("stages: 1\n", {true, false}); }

TEST(Propagate, OriginalSeesNothingOfTheCompression) {
  expect_inputs("propagate: original\n", {false, false});
  expect_inputs("propagate: original\nstages: 1\n", {false, false});
}

/// Of the second block: the largest keys and values that it gave on the states that its mode walks with.
void expect_maxima(const std::string& modes, bool of_compressed) {
  const Site site(true);
  const std::string text =
      recipe_of(kBlocks + modes + "export: [ { format: compressed-tensors, file: ct, kv_cache: fp8 } ]\n");
  run_recipe(text, site.model(), site / "out");
  const CompressedStore store(site / "out/store");
  const Prepared prepared(text, site.model());
  const ModelWeights& original = *prepared.model.weights;
  const Forward forward(original.architecture(), prepared.run.windows.tokens);
  const auto walked = [&](const ModelWeights& model) {
    HiddenStates states = embedded(prepared);
    run_block(forward, model.block(0), states);
    return run_block(forward, model.block(1), states);
  };
  const CacheMaxima compressed = walked(store), originals = walked(original);
  ASSERT_NE(compressed, originals);
  EXPECT_EQ(store.block(1).cache, of_compressed ? compressed : originals) << modes;
  EXPECT_EQ(store.cache_of(1), store.block(1).cache);
}

TEST(Cache, MaximaAreThoseOfTheBlockThatIsStored) {
  expect_maxima("", true);
  expect_maxima("stages: 1\n", true);
  expect_maxima("propagate: original\n", false);
}

TEST(Cache, MaximaAreStoredOnlyWhereAnExportAsks) {
  const Site site(true);
  run_recipe(recipe_of(kBlocks), site.model(), site / "out");
  EXPECT_FALSE(CompressedStore(site / "out/store").cache_of(1));
}

TEST(Cache, ScalesAreAskedForWhereTheFormatHasAPlace) {
  const Site site(true);
  const auto refused = [&](const std::string& target) {
    return refusal(recipe_of(kBlocks + "export: [ { file: out, " + target + " } ]\n"), site.model());
  };
  EXPECT_THAT(refused("format: compressed-tensors, kv_cache: int8"),
              ::testing::HasSubstr("unknown kv_cache 'int8'; there is fp8"));
  EXPECT_THAT(refused("format: gptq, kv_cache: fp8"),
              ::testing::HasSubstr("gptq has no place for scales of a cache; compressed-tensors"));
}

TEST(Head, OfATiedTableIsSolvedWithTheHeadsInputs) {
  const Site site(true);
  const std::string text = recipe_of(kSchemes + "rules: [ { modules: \"lm_head\", scheme: w4 } ]\n");
  const CompressResult result = run_recipe(text, site.model(), site / "out");
  const CompressedStore store(site / "out/store");
  EXPECT_TRUE(store.architecture().tied);
  EXPECT_EQ(store.embedding()->format(), "int4 g32 sym");
  EXPECT_GT(record_of(result, "embed_tokens").report.damping, 0.0);  // gptq saw an H

  const Prepared prepared(text, site.model());
  const ModelWeights& original = *prepared.model.weights;
  const Forward forward(original.architecture(), 16);
  HiddenStates states = embedded(prepared);
  for (std::size_t b = 0; b < 2; ++b) run_block(forward, original.block(b), states);
  const InputStatistics h = measure_head_input(forward, norm_of(original), states);
  const MatrixF table = original.embedding()->decode();
  Problem problem{{table}, h.second_moment, prepared.run.plan.schemes[0].grid};
  expect_same_payload(*store.embedding(), *prepared.run.plan.schemes[0].solver->solve(problem).front().tensor);
}

TEST(Head, UntiedIsSolvedWithItsInputsAndTheEmbeddingWithTheIdentity) {
  const Site site(false);
  const std::string text = recipe_of(
      kSchemes + "rules: [ { modules: \"lm_head\", scheme: w4 }, { modules: \"embed_tokens\", scheme: w4 } ]\n");
  const CompressResult result = run_recipe(text, site.model(), site / "out");
  const CompressedStore store(site / "out/store");
  EXPECT_FALSE(store.architecture().tied);
  EXPECT_EQ(store.head()->format(), "int4 g32 sym");
  EXPECT_GT(record_of(result, "lm_head").report.loss, 0.0);
  const Prepared prepared(text, site.model());
  const MatrixF table = prepared.model.weights->embedding()->decode();
  Problem problem{{table}, {}, prepared.run.plan.schemes[0].grid};
  expect_same_payload(*store.embedding(), *prepared.run.plan.schemes[0].solver->solve(problem).front().tensor);
}

TEST(Head, UntiedMayBeKeptWhileTheEmbeddingIsConverted) {
  const Site site(false);
  run_recipe(recipe_of("rules: [ { modules: \"embed_tokens\", store: f32 } ]\n"), site.model(), site / "out");
  const CompressedStore store(site / "out/store");
  EXPECT_EQ(store.embedding()->format(), "f32");
  EXPECT_EQ(store.head()->format(), "bf16");
  const OpenedModel original = open_model(site.model());
  EXPECT_EQ(store.embedding()->decode(), original.weights->embedding()->decode());
  expect_same_payload(*store.head(), *original.weights->head());
}

TEST(Store, ConvertsBetweenDtypesExactlyWhereTheyHoldTheValues) {
  const Site site(true);
  run_recipe(
      recipe_of("rules: [ { modules: \"layers.0.**\", store: f32 }, { modules: \"layers.1.**\", store: f16 } ]\n"),
      site.model(), site / "out");
  const CompressedStore store(site / "out/store");
  const OpenedModel original = open_model(site.model());
  for (const LinearInfo& info : block_linears(original.architecture())) {
    const MatrixF before = original.weights->block(0)[info.slot].weight->decode();
    EXPECT_EQ(store.block(0)[info.slot].weight->format(), "f32");
    EXPECT_EQ(store.block(0)[info.slot].weight->decode(), before);
    const MatrixF rounded = original.weights->block(1)[info.slot].weight->decode();
    const MatrixF halves = store.block(1)[info.slot].weight->decode();
    EXPECT_EQ(store.block(1)[info.slot].weight->format(), "f16");
    for (std::size_t i = 0; i < halves.values().size(); ++i)
      ASSERT_EQ(halves.values()[i], f16_to_float(float_to_f16(rounded.values()[i]))) << i;
  }
}

TEST(Store, AnOverflowingConversionStopsTheRunWithTheModulesName) {
  Site site(true);
  std::vector<float> values(32 * 32, 0.0f);
  values[77] = 1e6f;  // fits bf16, not f16
  site.source.put("model.layers.1.self_attn.o_proj.weight", DType::bf16, {32, 32}, values);
  fs::remove_all(site.model());
  write_checkpoint(site.model(), site.architecture, site.source);
  expect_error(ErrorKind::bad_data, "layers.1.self_attn.o_proj: ", [&] {
    run_recipe(recipe_of("rules: [ { modules: \"layers.**\", store: f16 } ]\n"), site.model(), site / "out");
  });
  EXPECT_FALSE(fs::exists(site / "out" / kManifestName));
}

TEST(Store, KeepsWhatNoRuleMatchesBitForBit) {
  const Site site(true, DType::f16);
  run_recipe(recipe_of(kSchemes + "rules: [ { modules: \"layers.0.mlp.*\", scheme: w4 } ]\n"), site.model(),
             site / "out");
  const CompressedStore store(site / "out/store");
  const OpenedModel original = open_model(site.model());
  expect_same_payload(*store.embedding(), *original.weights->embedding());
  EXPECT_EQ(store.final_norm(), original.weights->final_norm());
  for (const LinearInfo& info : block_linears(original.architecture()))
    expect_same_payload(*store.block(1)[info.slot].weight, *original.weights->block(1)[info.slot].weight);
}

TEST(Manifest, IsTheSameForTwoRunsWhereverAndOnHoweverManyThreads) {
  const Site site(true);
  const std::string text = recipe_of(kBlocks +
                                     "export: [ { format: gguf, file: m.gguf } ]\n"
                                     "evaluate: { text: " +
                                     calibration_text() + ", context: 32 }\n");
  run_recipe(text, site.model(), site / "first");
  set_thread_count(3);
  run_recipe(text, site.model(), site / "elsewhere/second");
  set_thread_count(0);
  const std::string manifest = read_file(site / "first" / kManifestName);
  EXPECT_EQ(manifest, read_file(site / "elsewhere/second" / kManifestName));
  EXPECT_EQ(manifest.find(site.path().string()), std::string::npos) << "a path of this machine";
  EXPECT_EQ(manifest.find("seconds"), std::string::npos);
  EXPECT_NE(read_file(site / "first/report.json").find("seconds"), std::string::npos);
}

/// The manifest of a run of `text` that holds `memory`.
std::string manifest_with(const std::string& text, const Site& site, const std::string& out, MemoryChoice memory) {
  Prepared prepared(text, site.model());
  prepared.run.memory.choice = memory;
  CompressOptions options;
  options.out = site / out;
  compress(prepared.run, options, silent_progress());
  return read_file(site / out / kManifestName);
}

TEST(Memory, StatesOnDiskSmallBatchesAndThreadsChangeNoByte) {
  const Site site(true);
  for (const std::string modes : {"", "stages: 1\n", "propagate: original\n"}) {
    std::string text = recipe_of(kBlocks + modes);
    text.replace(text.find("windows: 4"), 10, "windows: 70");  // slices of 32: three batches of one slice
    const std::string expected = manifest_with(text, site, "memory", {});
    for (const int threads : {1, 2, 5}) {
      set_thread_count(threads);
      const std::string out = fmt::format("disk{}", threads);
      EXPECT_EQ(manifest_with(text, site, out, {1, true, 1}), expected) << modes << threads;
      fs::remove_all(site / out);
    }
    set_thread_count(0);
    fs::remove_all(site / "memory");
  }
}

TEST(Manifest, ListsEveryFileWithItsHashAndEveryTensorWithItsBytes) {
  const Site site(true);
  run_recipe(recipe_of(kBlocks + "export: [ { format: gguf, file: sub/m.gguf } ]\n"), site.model(), site / "out");
  const Json manifest = Json::parse(read_file(site / "out" / kManifestName));
  std::set<std::string> listed;
  for (const Json& file : manifest.at("files")) {
    const LedgerFile entry{file.at("path"), file.at("bytes"), file.at("xxh3")};
    EXPECT_TRUE(is_intact(site / "out", entry)) << entry.path;
    listed.insert(entry.path);
  }
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(site / "out")) {
    const std::string name = entry.path().lexically_relative(site / "out").string();
    const bool unlisted = !entry.is_regular_file() || name == "manifest.json" || name.starts_with("report.");
    EXPECT_TRUE(unlisted || listed.contains(name)) << name;
  }
  EXPECT_EQ(manifest.at("tensors").size(), 14u);
  for (const Json& tensor : manifest.at("tensors")) {
    EXPECT_EQ(tensor.at("format"), "int4 g32 sym");
    EXPECT_GT(tensor.at("loss").get<double>(), 0.0);
  }
  EXPECT_EQ(manifest.at("stored").at("bytes"), stored_size(CompressedStore(site / "out/store")).bytes);
}

TEST(Manifest, HoldsTheJudgementWhenTheRecipeAsksForOne) {
  const Site site(true);
  const std::string text =
      recipe_of(kBlocks + "evaluate: { text: " + calibration_text() + ", context: 32, protocol: gptq }\n");
  const CompressResult result = run_recipe(text, site.model(), site / "out");
  ASSERT_TRUE(result.evaluation && result.evaluation->reference);
  EXPECT_GT(result.evaluation->reference->kl_mean, 0.0);
  const Json manifest = Json::parse(read_file(site / "out" / kManifestName));
  EXPECT_EQ(manifest.at("evaluation").at("protocol"), "gptq-32");
  EXPECT_EQ(manifest.at("evaluation").at("perplexity"), result.evaluation->perplexity);
}

TEST(Compress, ARuleForNothingButStorageNeedsNoSolver) {
  const Site site(true);
  const CompressResult result =
      run_recipe(recipe_of("rules: [ { modules: \"**\", store: bf16 } ]\n"), site.model(), site / "out");
  EXPECT_TRUE(result.tensors.empty());
  expect_same_payload(*CompressedStore(site / "out/store").embedding(), *open_model(site.model()).weights->embedding());
}

TEST(Compress, SaysHowManyWeightsAGridClips) {
  Site site(true);
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  std::vector<float> weights = site.source.values(name);
  weights[5] = -5.375f;
  weights[7] = 5.25f;
  site.source.put(name, DType::bf16, {site.architecture.ffn, site.architecture.hidden}, weights);
  fs::remove_all(site.model());
  write_checkpoint(site.model(), site.architecture, site.source);
  const std::string body =
      "schemes: { w4: { grid: nvfp4, solver: rtn } }\nrules: [ { modules: \"**\", scheme: w4 } ]\n";
  const CompressResult result = run_recipe(recipe_of(body), site.model(), site / "out");
  for (const TensorRecord& record : result.tensors)
    EXPECT_EQ(record.report.fallback, record.module == "layers.1.mlp.up_proj"
                                          ? "0.049 % of its weights are clipped: nvfp4 holds none beyond 5.25"
                                          : "")
        << record.module;
}

TEST(Compress, LeavesNoWorkBehind) {
  const Site site(true);
  run_recipe(recipe_of(kBlocks), site.model(), site / "out");
  EXPECT_FALSE(fs::exists(site / "out/work"));
  EXPECT_EQ(read_file(site / "out/recipe.yaml"), recipe_of(kBlocks));
}

TEST(Compress, AChangedCheckpointIsAnotherRun) {
  const Site site(true);
  {
    const Prepared prepared(recipe_of(kBlocks), site.model());
    const WorkFolder folder(site / "out", IfExists::resume);
    const Ledger ledger(folder.ledger(), prepared.run.ingredients);
  }
  fs::last_write_time(site.model() / "model.safetensors", fs::file_time_type::clock::now() + std::chrono::seconds(5));
  expect_error(ErrorKind::cannot_create, "an unfinished run with another model;",
               [&] { run_recipe(recipe_of(kBlocks), site.model(), site / "out"); });
  run_recipe(recipe_of(kBlocks), site.model(), site / "out", IfExists::restart);
  EXPECT_TRUE(fs::exists(site / "out" / kManifestName));
}

TEST(Compress, AnotherKindOfCpuNeedsForce) {
  const Site site(true);
  const Prepared prepared(recipe_of(kBlocks), site.model());
  {
    RunIngredients other = prepared.run.ingredients;
    other["kernels"] = "another";
    const WorkFolder folder(site / "out", IfExists::resume);
    const Ledger ledger(folder.ledger(), other);
  }
  CompressOptions options;
  options.out = site / "out";
  expect_error(ErrorKind::cannot_create, "an unfinished run with another kernels;",
               [&] { compress(prepared.run, options, silent_progress()); });
  options.force = true;
  EXPECT_EQ(compress(prepared.run, options, silent_progress()).tensors.size(), 14u);
}

}  // namespace
}  // namespace adze::testing
