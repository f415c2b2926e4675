// Recipes with transforms: the model that is compressed, what is stored and exported of it, and what is refused.
#include <set>

#include "base/parallel.h"
#include "linalg/eigen.h"
#include "linalg/gemm.h"
#include "model/logits.h"
#include "model/rope.h"
#include "model/stored_size.h"
#include "pipeline/pipeline_testing.h"
#include "pipeline/transform_step.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* kFloats = "rules: [ { modules: \"**\", store: f32 } ]\n";
constexpr const char* kQuantized =
    "schemes: { w4: { grid: int4, group: 32 } }\n"
    "rules: [ { modules: \"layers.*.self_attn.o_proj\", store: f16 }, { modules: \"layers.**\", scheme: w4 } ]\n";

std::string with_transform(const std::string& transforms, const std::string& rest) {
  return recipe_of("transform: [ " + transforms + " ]\n" + rest + "export: [ { format: gguf, file: m.gguf } ]\n");
}

double difference(const MatrixF& a, const MatrixF& b) {
  double largest = 0, most = 0;
  for (std::size_t i = 0; i < a.values().size(); ++i) {
    largest = std::max(largest, std::fabs(static_cast<double>(a.values()[i]) - b.values()[i]));
    most = std::max(most, std::fabs(static_cast<double>(b.values()[i])));
  }
  return largest / most;
}

MatrixD random_matrix(Shape shape) {
  MatrixD matrix(shape);
  std::ranges::copy(random_values(shape.count(), "directions"), matrix.values().begin());
  return matrix;
}

MatrixD as_double(const std::vector<float>& values, Shape shape) {
  MatrixD matrix(shape);
  std::ranges::copy(values, matrix.values().begin());
  return matrix;
}

const std::vector<std::int32_t> kIds{5, 100, 7, 2000, 301, 42, 4095, 8, 9, 77, 1000, 3};

TEST(Transform, ThatFoldsLeavesTheFunctionInStoreAndExport) {
  for (const bool tied : {true, false}) {
    const Site site(tied);
    const MatrixF expected = logits_of(*open_model(site.model()).weights, kIds);
    int out = 0;
    for (const char* const transforms :
         {"{ kind: rotate }", "{ kind: rotate, residual: false }", "{ kind: awq, ratio: 0.5 }", "{ kind: smoothquant }",
          "{ kind: rotate, seed: 3 }, { kind: smoothquant, alpha: 0.8 }, { kind: awq, ratio: 0.3 }"}) {
      SCOPED_TRACE(transforms);
      const fs::path folder = site / fmt::format("out{}", out++);
      run_recipe(with_transform(transforms, kFloats), site.model(), folder);
      const CompressedStore store(folder / "store");
      EXPECT_LT(difference(logits_of(store, kIds), expected), 2e-5);
      const auto v_of = [](const ModelWeights& model) { return model.block(1)[LinearSlot::v].weight->decode(); };
      EXPECT_GT(difference(v_of(store), v_of(*open_model(site.model()).weights)), 1e-2);  // it did something
      const OpenedModel exported = open_model(folder / "m.gguf");
      EXPECT_LT(difference(logits_of(*exported.weights, kIds), expected), 2e-5);
      const bool rotates = std::string(transforms).find("kind: rotate") != std::string::npos &&
                           std::string(transforms).find("residual: false") == std::string::npos;
      EXPECT_EQ(store.architecture().tied, tied && !rotates);
      EXPECT_THAT(read_file(folder / kManifestName), HasSubstr("\"transforms\""));
    }
  }
}

TEST(Transform, WithoutRuleGivesTheDtypeTheModelHad) {
  const Site site(true);  // bf16
  run_recipe(with_transform("{ kind: rotate }", kQuantized), site.model(), site / "out");
  const CompressedStore store(site / "out/store");
  EXPECT_EQ(store.embedding()->format(), "bf16");
  EXPECT_EQ(store.head()->format(), "bf16");
  const Prepared prepared(with_transform("{ kind: rotate }", kQuantized), site.model());
  EXPECT_EQ(prepared.module("lm_head").original_bytes, 0U);
  EXPECT_EQ(prepared.module("lm_head").bytes, prepared.module("embed_tokens").bytes);
  EXPECT_EQ(stored_size(store).bytes, prepared.run.plan.stored_bytes);
  EXPECT_THAT(prepared.run.plan.transforms.front()->remark(), HasSubstr("one of its own"));
}

TEST(Transform, StructuredPruningMakesASmallerModelThatEveryReaderUnderstands) {
  const Site site(true);
  const std::string text =
      with_transform("{ kind: prune-ffn, keep: 50% }, { kind: prune-heads, keep: 50%, what: queries }", kQuantized);
  const Prepared prepared(text, site.model());
  run_recipe(text, site.model(), site / "out");
  Architecture expected = site.architecture;
  expected.ffn = 32;
  expected.heads = 1;
  const CompressedStore store(site / "out/store");
  const OpenedModel exported = open_model(site / "out/m.gguf");
  for (const ModelWeights* const model : std::initializer_list<const ModelWeights*>{&store, exported.weights.get()}) {
    EXPECT_EQ(model->architecture().ffn, expected.ffn);
    EXPECT_EQ(model->architecture().heads, expected.heads);
    EXPECT_EQ(model->architecture().kv_heads, expected.kv_heads);
    EXPECT_EQ(model->architecture().head_dim, expected.head_dim);
  }
  EXPECT_EQ(difference(logits_of(*exported.weights, kIds), logits_of(store, kIds)), 0.0);
  EXPECT_EQ(stored_size(store).bytes, prepared.run.plan.stored_bytes);
  EXPECT_FALSE(fs::exists(site / "out/work"));
}

/// All that the residual stream ever holds lies in 8 of its 32 directions, drawn at random.
TEST(Transform, SliceLosesNothingWhereDirectionsAreUnused) {
  for (const bool tied : {true, false}) {
    Site site(tied, DType::f32);
    const std::size_t hidden = site.architecture.hidden;
    const MatrixD basis = singular_values(random_matrix({hidden, 8})).u;  // [hidden x 8], orthonormal columns
    const MatrixD projector = product_nt(basis, basis);
    for (const TensorSpec& spec : expected_tensors(site.architecture)) {
      const bool reads = spec.role == TensorRole::embedding;
      const bool writes = spec.module.ends_with("o_proj") || spec.module.ends_with("down_proj");
      if ((!reads && !writes) || spec.shape.size() != 2) continue;
      const MatrixD weights = as_double(site.source.values(spec.hf_name), {spec.shape[0], spec.shape[1]});
      const MatrixD kept = reads ? product_nn(weights, projector) : product_nn(projector, weights);
      std::vector<float> values(kept.values().begin(), kept.values().end());
      site.source.put(spec.hf_name, DType::f32, spec.shape, values);
    }
    write_checkpoint(site / "low", site.architecture, site.source);
    const MatrixF expected = logits_of(*open_model(site / "low").weights, kIds);
    run_recipe(with_transform("{ kind: slice, keep: 25%, align: 8 }", kFloats), site / "low", site / "out");
    const CompressedStore store(site / "out/store");
    EXPECT_EQ(store.architecture().hidden, 8U);
    EXPECT_EQ(store.architecture().head_dim, site.architecture.head_dim);
    EXPECT_FALSE(store.architecture().tied);
    EXPECT_LT(difference(logits_of(store, kIds), expected), 1e-4);
    const OpenedModel exported = open_model(site / "out/m.gguf");
    EXPECT_EQ(exported.architecture().hidden, 8U);
    EXPECT_EQ(difference(logits_of(*exported.weights, kIds), logits_of(store, kIds)), 0.0);
  }
}

/// The first of two blocks adds nothing to the states: without it the model is the same, and the search finds it.
TEST(Transform, DropBlocksFindsTheOneThatDoesNothing) {
  for (const char* const select : {"select: kl", "select: influence", "select: angular", "select: kl, merge: mean"}) {
    SCOPED_TRACE(select);
    Site site(true, DType::f32);
    for (const TensorSpec& spec : expected_tensors(site.architecture)) {
      const bool writes = spec.module == "layers.0.self_attn.o_proj" || spec.module == "layers.0.mlp.down_proj";
      if (!writes || spec.shape.size() != 2) continue;
      const std::vector<float> zeros(spec.shape[0] * spec.shape[1]);
      site.source.put(spec.hf_name, DType::f32, spec.shape, zeros);
    }
    write_checkpoint(site / "idle", site.architecture, site.source);
    const MatrixF expected = logits_of(*open_model(site / "idle").weights, kIds);
    const std::string text = with_transform(fmt::format("{{ kind: drop-blocks, count: 1, {} }}", select), kFloats);
    const Prepared prepared(text, site / "idle");
    run_recipe(text, site / "idle", site / "out");
    const CompressedStore store(site / "out/store");
    EXPECT_EQ(store.architecture().layers, 1U);
    EXPECT_EQ(difference(logits_of(store, kIds), expected), 0.0);
    EXPECT_EQ(stored_size(store).bytes, prepared.run.plan.stored_bytes);
    EXPECT_GT(prepared.run.plan.original_bytes, prepared.run.plan.stored_bytes);
    const OpenedModel exported = open_model(site / "out/m.gguf");
    EXPECT_EQ(exported.architecture().layers, 1U);
    EXPECT_EQ(difference(logits_of(*exported.weights, kIds), logits_of(store, kIds)), 0.0);
  }
}

/// Named blocks go without a look at any text, and what follows works on what is left.
TEST(Transform, DropBlocksThatAreNamed) {
  const Site site(true);
  run_recipe(with_transform("{ kind: drop-blocks, blocks: \"0\" }", kFloats), site.model(), site / "named");
  const CompressedStore named(site / "named/store");
  const BlockWeights left = open_model(site.model()).weights->block(1);
  EXPECT_EQ(difference(named.block(0)[LinearSlot::up].weight->decode(), left[LinearSlot::up].weight->decode()), 0.0);
  run_recipe(with_transform("{ kind: drop-blocks, count: 1 }, { kind: prune-ffn, keep: 50% }", kQuantized),
             site.model(), site / "both");
  const CompressedStore both(site / "both/store");
  EXPECT_EQ(both.architecture().layers, 1U);
  EXPECT_EQ(both.architecture().ffn, 32U);
}

TEST(Transform, SliceOfAllDirectionsIsARotation) {
  const Site site(true);
  const MatrixF expected = logits_of(*open_model(site.model()).weights, kIds);
  const auto moved = [&](const std::string& keep) {
    run_recipe(with_transform("{ kind: slice, keep: " + keep + ", align: 8 }", kFloats), site.model(), site / keep);
    return difference(logits_of(CompressedStore(site / keep / "store"), kIds), expected);
  };
  EXPECT_LT(moved("100%"), 2e-5);
  EXPECT_GT(moved("75%"), 1e-2);
}

/// Query heads read nothing through most RoPE pairs, values lie in half of their directions.
TEST(Transform, NarrowHeadsLoseNothingWhereHeadsAreWiderThanTheirUse) {
  Site site(true, DType::f32);
  const Architecture& a = site.architecture;
  const std::set<std::size_t> used{0, 3, 6, 7};  // of 8 pairs
  for (const TensorSpec& spec : expected_tensors(a)) {
    const bool q = spec.module.ends_with("q_proj"), v = spec.module.ends_with("v_proj");
    if ((!q && !v) || spec.shape.size() != 2) continue;
    MatrixD weights = as_double(site.source.values(spec.hf_name), {spec.shape[0], spec.shape[1]});
    if (v) {
      const MatrixD basis = singular_values(random_matrix({a.head_dim, 8})).u;
      weights = product_nn(product_nt(basis, basis), weights);
    }
    for (std::size_t r = 0; q && r < weights.rows(); ++r)
      if (!used.contains(r % (a.head_dim / 2))) std::ranges::fill(weights.row(r), 0.0);
    std::vector<float> values(weights.values().begin(), weights.values().end());
    site.source.put(spec.hf_name, DType::f32, spec.shape, values);
  }
  write_checkpoint(site / "narrow", a, site.source);
  const MatrixF expected = logits_of(*open_model(site / "narrow").weights, kIds);
  const std::string text = with_transform("{ kind: narrow-heads, keep: 50%, damp: 1e-6 }, { kind: awq }", kFloats);
  const Prepared prepared(text, site / "narrow");
  run_recipe(text, site / "narrow", site / "out");
  const CompressedStore store(site / "out/store");
  EXPECT_EQ(store.architecture().head_dim, 8U);
  EXPECT_EQ(stored_size(store).bytes, prepared.run.plan.stored_bytes);
  const std::vector<double> before = rope_frequencies(a.rope, a.head_dim);
  const std::vector<double> after = rope_frequencies(store.architecture().rope, 8);
  for (std::size_t i = 0; i < after.size(); ++i) EXPECT_NEAR(after[i] / before[*std::next(used.begin(), i)], 1, 1e-12);
  EXPECT_LT(difference(logits_of(store, kIds), expected), 1e-4);
  const OpenedModel exported = open_model(site / "out/m.gguf");
  EXPECT_EQ(exported.architecture().head_dim, 8U);
  EXPECT_EQ(exported.architecture().rope.kind, RopeKind::longrope);
  EXPECT_LT(difference(logits_of(*exported.weights, kIds), logits_of(store, kIds)), 1e-5);  // f32 divisors
}

constexpr const char* kPassNames[] = {"RotateAwqPrune", "SliceAwqPrune", "NarrowHeadsPrune", "DropBlocksPrune"};

class TransformPassBytes : public ::testing::TestWithParam<const char*> {};

TEST_P(TransformPassBytes, AreTheSameWithAnyThreadsAndMemory) {
  const Site site(true);
  std::string text = with_transform(GetParam(), kQuantized);
  text.replace(text.find("windows: 4"), 10, "windows: 70");
  std::string expected;
  for (const int threads : {1, 2, 5}) {
    set_thread_count(threads);
    for (const bool on_disk : {false, true}) {
      Prepared prepared(text, site.model());
      prepared.run.memory.choice = on_disk ? MemoryChoice{1, true, 1} : MemoryChoice{};
      CompressOptions options;
      options.out = site / "out";
      compress(prepared.run, options, silent_progress());
      const std::string manifest = read_file(site / "out" / kManifestName);
      if (expected.empty()) expected = manifest;
      EXPECT_EQ(manifest, expected) << threads << on_disk;
      fs::remove_all(site / "out");
    }
  }
  set_thread_count(0);
}

INSTANTIATE_TEST_SUITE_P(
    Transforms, TransformPassBytes,
    ::testing::Values("{ kind: rotate }, { kind: awq }, { kind: prune-ffn, keep: 50% }",
                      "{ kind: slice, keep: 100% }, { kind: awq }, { kind: prune-ffn, keep: 50% }",
                      "{ kind: narrow-heads, keep: 50% }, { kind: prune-ffn, keep: 50%, select: leverage }",
                      "{ kind: drop-blocks, count: 1 }, { kind: prune-ffn, keep: 50%, select: activity }"),
    [](const auto& one) { return std::string(kPassNames[one.index]); });

TEST(Transform, APassGoesOnAfterTheBlocksThatAreThere) {
  const Site site(true);
  const Prepared prepared(with_transform("{ kind: awq }, { kind: prune-ffn, keep: 50% }", kQuantized), site.model());
  const fs::path folder = site / "work";
  fs::create_directories(folder);
  const StatesLayout layout{4, 16, site.architecture.hidden, 4, false};
  const auto make = [&] {
    return transformed_model(prepared.run.plan, prepared.model, prepared.run.windows, layout, folder,
                             silent_progress());
  };
  make();
  const std::string last = read_file(folder / block_file_name(1));
  const std::string outer = read_file(folder / kOuterFileName);
  fs::remove(folder / kOuterFileName);
  write_file(folder / block_file_name(1), last.substr(0, last.size() / 2));  // as if a disk had lost its end
  const auto first_made = fs::last_write_time(folder / block_file_name(0));
  const auto again = make();
  EXPECT_EQ(read_file(folder / block_file_name(1)), last);
  EXPECT_EQ(read_file(folder / kOuterFileName), outer);
  EXPECT_EQ(fs::last_write_time(folder / block_file_name(0)), first_made);
  EXPECT_EQ(again->architecture().ffn, 32U);
  EXPECT_EQ(difference(logits_of(*make(), kIds), logits_of(*again, kIds)), 0.0);
}

TEST(Transform, TheJudgeComparesWithTheOriginal) {
  const Site site(true);
  const std::string text = with_transform("{ kind: prune-ffn, keep: 50% }", kFloats) +
                           "evaluate: { text: " + calibration_text() + ", context: 32 }\n";
  const CompressResult result = run_recipe(text, site.model(), site / "out");
  ASSERT_TRUE(result.evaluation);
  EXPECT_GT(result.evaluation->reference->kl_mean, 1e-6);  // not zero, as against the pruned model it would be
}

TEST(TransformRecipe, WhatMakesNoSenseIsRefusedWithItsPlace) {
  const Site site(true);
  const auto refused = [&](const std::string& transforms) {
    return refusal(with_transform(transforms, kFloats), site.model());
  };
  EXPECT_THAT(refused("{ kind: rotat }"), HasSubstr("recipe.yaml:3:"));
  EXPECT_THAT(refused("{ kind: rotat }"), HasSubstr("unknown transform 'rotat'; did you mean 'rotate'"));
  EXPECT_THAT(refused("{ seed: 1 }"), HasSubstr("'kind'"));
  EXPECT_THAT(refused("{ kind: awq }, { kind: rotate }"), HasSubstr("rotate must be the first transform"));
  EXPECT_THAT(refused("{ kind: rotate, residual: false, heads: false }"), HasSubstr("nothing is rotated"));
  EXPECT_THAT(refused("{ kind: smoothquant, inputs: [down] }"), HasSubstr("no norm precedes it"));
  EXPECT_THAT(refused("{ kind: awq, inputs: [embed_tokens] }"), HasSubstr("nothing before it"));
  EXPECT_THAT(refused("{ kind: prune-heads, keep: 50% }"), HasSubstr("nothing would be pruned"));
  EXPECT_THAT(refused("{ kind: awq }, { kind: slice, keep: 50% }"), HasSubstr("slice must be the first transform"));
  EXPECT_THAT(refused("{ kind: slice, keep: 50% }"), HasSubstr("leaves 16 of 32 directions, less than align: 32"));
  EXPECT_THAT(refused("{ kind: slice, keep: 120% }"), HasSubstr("keep"));
  EXPECT_THAT(refused("{ kind: awq }, { kind: narrow-heads, keep: 50% }"), HasSubstr("must be the first transform"));
  EXPECT_THAT(refused("{ kind: narrow-heads, keep: 40% }"), HasSubstr("leaves 6 of 16 per head, less than align: 8"));
  EXPECT_THAT(refused("{ kind: narrow-heads, keep: 50%, align: 3 }"), HasSubstr("must be even"));
  EXPECT_THAT(refused("{ kind: narrow-heads, keep: 100% }"), HasSubstr("nothing would be cut"));
  EXPECT_THAT(refused("{ kind: narrow-heads }"), HasSubstr("needs the key 'keep'"));
  EXPECT_THAT(refused("{ kind: slice }"), HasSubstr("needs the key 'keep'"));
  EXPECT_THAT(refusal(with_transform("{ kind: prune-ffn, keep: 50% }",
                                     "schemes: { w: { grid: int4, group: 64 } }\n"
                                     "rules: [ { modules: \"layers.*.mlp.down_proj\", scheme: w } ]\n"),
                      site.model()),
              HasSubstr("rows of 32 columns do not divide into groups of 64"));
}

}  // namespace
}  // namespace adze::testing
