// Schemes that factorise: what the pre-flight says and refuses, exact bytes, and factors from the solver to the store
// and to an exported file.
#include "base/parallel.h"
#include "calibrate/calibrate.h"
#include "grid/factors/product_tensor.h"
#include "grid/format.h"
#include "linalg/gemm.h"
#include "pipeline/pipeline_testing.h"
#include "solve/factors/low_rank.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;

const Site& site() {
  static const Site tied(true);
  return tied;
}

std::string with_scheme(const std::string& scheme, const std::string& modules = "layers.**",
                        const std::string& more = "") {
  return recipe_of("schemes: { s: { " + scheme + " } }\nrules: [ { modules: \"" + modules + "\", scheme: s } ]\n" +
                   more);
}

std::string refusal(const std::string& text) { return testing::refusal(text, site().model()); }

TEST(FactorRecipe, BudgetsThatMakeNoSenseAreRefusedWithTheirPlace) {
  EXPECT_THAT(refusal(with_scheme("solver: svd, keep: 120%")), HasSubstr("recipe.yaml:3:"));
  for (const char* const keep : {"0%", "120%", "0.8", "most"})
    for (const char* const solver : {"svd", "compot"})
      EXPECT_THAT(refusal(with_scheme(fmt::format("solver: {}, keep: {}", solver, keep))), HasSubstr("keep")) << keep;
  EXPECT_THAT(refusal(with_scheme("solver: svd")), HasSubstr("keep"));
  EXPECT_THAT(refusal(with_scheme("solver: compot")), HasSubstr("keep"));
  EXPECT_THAT(refusal(with_scheme("solver: svd, keep: 80%, rank: 8")), HasSubstr("exclude each other"));
  EXPECT_THAT(
      refusal(with_scheme("solver: svd, keep: 5%")),
      HasSubstr("layers.0.self_attn.q_proj: keep 5% leaves rank 0 of 32, less than align: 8; keep at least 50%"));
  EXPECT_THAT(refusal(with_scheme("solver: svd, keep: 80%, sparsity: 50%")), HasSubstr("does not go with solver svd"));
  EXPECT_THAT(refusal(with_scheme("solver: svd, keep: 60%, grid: int4")), HasSubstr("no rank up to"));
  EXPECT_THAT(refusal(with_scheme("solver: lowrank-residual, rank: 8")), HasSubstr("has no grid"));
  EXPECT_THAT(refusal(with_scheme("solver: svd, keep: 80%, values: f32")), HasSubstr("f16 or bf16"));
  for (const char* const widths : {"2 2", "1 2", "2 9", "3 7", "0", "2,3", "two"})
    EXPECT_THAT(refusal(with_scheme(fmt::format("solver: mixed-rows, grid: int4, group: 32, widths: \"{}\"", widths))),
                HasSubstr("different widths of 0, 2 to 6 and 8"))
        << widths;
  EXPECT_THAT(refusal(with_scheme("solver: mixed-rows, grid: gguf/q4_0")), HasSubstr("of integers with scales"));
  EXPECT_THAT(refusal(with_scheme("solver: mixed-rows, grid: int4, scope: tensor")), HasSubstr("scales of their own"));
  EXPECT_THAT(refusal(with_scheme("solver: mixed-rows, grid: int4, group: 32, bits: 2, widths: \"2 3\"")),
              HasSubstr("8 bytes a row of 32 columns are too few: the smallest takes 10"));
  EXPECT_THAT(refusal(with_scheme("solver: mixed-rows, grid: int4, group: 32, base: svd")),
              HasSubstr("codes of a grid: gptq, rtn, obq"));
}

TEST(FactorRecipe, TheEmbeddingIsNotFactorised) {
  EXPECT_THAT(refusal(with_scheme("solver: svd, keep: 80%", "lm_head")),
              HasSubstr("rows of an embedding table are looked up one by one"));
  EXPECT_THAT(refusal(with_scheme("solver: lowrank-residual, rank: 4, grid: int8, group: 32", "embed_tokens")),
              HasSubstr("looked up one by one"));
  static const Site untied(false);
  const Prepared prepared(with_scheme("solver: svd, rank: 8", "lm_head"), untied.model());
  EXPECT_EQ(prepared.module("lm_head").format, "rank 8 [f16] [f16]");
  const Prepared rows(with_scheme("solver: mixed-rows, grid: int4, group: 32", "embed_tokens"), untied.model());
  EXPECT_THAT(rows.module("embed_tokens").format, HasSubstr("[int3 g32 sym]"));  // its rows are read one by one
}

TEST(FactorRecipe, WhatSavesNothingIsStoredWholeAndSaidSo) {
  const Prepared prepared(with_scheme("solver: svd, rank: 24"), site().model());
  EXPECT_EQ(prepared.module("layers.0.self_attn.q_proj").format, "f16");
  EXPECT_THAT(prepared.run.plan.warnings,
              ::testing::ElementsAre("layers.0.self_attn.q_proj: factors would take no less than the matrix: stored "
                                     "whole, as f16; so are 13 others"));
}

TEST(FactorRecipe, TheExportSaysThatItMultipliesOut) {
  const Prepared prepared(
      with_scheme("solver: svd, keep: 60%, align: 4", "layers.**", "export: [ { format: gguf, file: m.gguf } ]\n"),
      site().model());
  EXPECT_THAT(prepared.run.plan.exports.front().remarks,
              ::testing::Contains(HasSubstr("is multiplied out and rounded to F16 at 16 bits per weight")));
}

/// tr(D H D^T) in double.
double loss_of(const MatrixD& difference, const MatrixD& h) {
  const MatrixD product = product_nn(difference, h);
  double sum = 0;
  for (std::size_t i = 0; i < product.values().size(); ++i) sum += product.values()[i] * difference.values()[i];
  return sum;
}

/// On every layer of a trained model: no rank loses more than the spectrum says, which comes from another Gram
/// matrix than the loss.
TEST(LowRankOnATrainedModel, EveryLayerReachesTheTailOfItsSpectrum) {
  const TempFolder place;
  const OpenedModel model = open_model(demo_model());
  const TokenWindows windows = load_windows(calibration_text(), model.require_tokenizer(), {8, 128, 7});
  calibrate(*model.weights, model.name, windows, {place / "stats"}, silent_progress());
  const StatisticsFolder statistics(place / "stats");
  std::size_t compared = 0;
  for (std::size_t block = 0; block < model.architecture().layers; ++block) {
    const BlockWeights weights = model.weights->block(block);
    for (const Stage stage : stages_of(model.architecture())) {
      const MatrixD h = statistics.block_input(block, stage).second_moment;
      const MatrixD root = moment_root(h);
      for (const LinearInfo& info : linears_of(model.architecture(), stage)) {
        const MatrixD w = to_double(weights[info.slot].weight->decode());
        const std::size_t rank = std::min(w.rows(), w.cols()) / 3;
        const OutputSpectrum spectrum = output_spectrum(w, h, root, rank);
        const Factors factors = leading_factors(w, spectrum);
        MatrixD difference = product_nn(factors.left, factors.right);
        for (std::size_t i = 0; i < difference.values().size(); ++i) difference.values()[i] -= w.values()[i];
        const double expected = tail(spectrum.energy, rank);
        if (expected < 1e-6 * loss_of(w, h)) continue;
        ++compared;
        EXPECT_NEAR(loss_of(difference, h), expected, 1e-8 * expected) << module_name(block, info);
      }
    }
  }
  EXPECT_GT(compared, 30u);
}

const std::vector<const char*> kSchemes = {
    "solver: svd, keep: 60%, align: 4",
    "solver: svd, keep: 60%, align: 4, form: pivoted, values: bf16",
    "solver: svd, keep: 80%, grid: int8, group: 8",
    "solver: svd, keep: 60%, align: 4, metric: diagonal, alpha: 0.5, balanced: true",
    "solver: compot, keep: 60%, align: 4",
    "solver: compot, keep: 80%, grid: int8, group: 8",
    "solver: mpo, keep: 60%, cores: 3",
    "solver: lowrank-residual, rank: 4, grid: int3, group: 32",
    "solver: lowrank-residual, rank: 4, grid: int4, group: 32, sparsity: 2:4, factors: int8, factor_group: 4",
    "solver: mixed-rows, grid: int3, group: 32, symmetric: false",
    "solver: mixed-rows, grid: int4, scope: channel, bits: 2.75, base: rtn",
    "solver: nested, grid: int8, group: 32, symmetric: false, planes: 4",
};

/// Bytes as planned; a store that reads back; a GGUF whose values are those of the store rounded to f16.
TEST(FactorRun, IsWhatThePlanSaidInStoreAndFile) {
  const TempFolder place;
  for (const char* const scheme : kSchemes) {
    SCOPED_TRACE(scheme);
    const std::string text = with_scheme(scheme, "layers.**", "export: [ { format: gguf, file: model.gguf } ]\n");
    const Prepared prepared(text, site().model());
    const fs::path out = place / std::to_string(std::hash<std::string>()(scheme));
    const CompressResult result = run_recipe(text, site().model(), out);
    for (const TensorRecord& record : result.tensors) {
      EXPECT_EQ(record.format, prepared.module(record.module).format);
      EXPECT_EQ(record.bytes, prepared.module(record.module).bytes);
      EXPECT_EQ(record.bytes, format_bytes(record.format, {prepared.module(record.module).spec.shape[0],
                                                           prepared.module(record.module).spec.shape[1]}));
      EXPECT_LT(record.report.relative_loss, 1);
    }
    const CompressedStore store(out / "store");
    const OpenedModel file = open_model(out / "model.gguf");
    for (std::size_t block = 0; block < 2; ++block) {
      const BlockWeights stored = store.block(block), written = file.weights->block(block);
      for (const LinearInfo& info : block_linears(store.architecture())) {
        const TensorPtr& tensor = stored[info.slot].weight;
        EXPECT_EQ(written[info.slot].weight->decode(), densified(tensor)->decode()) << info.module;
      }
    }
  }
}

TEST(FactorRun, GivesTheSameBytesWithAnyThreadsAndStatesOnDisk) {
  const TempFolder place;
  for (const char* const scheme : {kSchemes[1], kSchemes[4], kSchemes[6], kSchemes[7], kSchemes[9]}) {
    SCOPED_TRACE(scheme);
    std::string expected;
    for (const int threads : {1, 2, 5})
      for (const bool on_disk : {false, true}) {
        set_thread_count(threads);
        Prepared prepared(with_scheme(scheme), site().model());
        prepared.run.memory.choice = on_disk ? MemoryChoice{1, true, 1} : MemoryChoice{};
        CompressOptions options;
        options.out = place / "out";
        compress(prepared.run, options, silent_progress());
        set_thread_count(0);
        const std::string manifest = read_file(place / "out" / kManifestName);  // with hashes of every file
        if (expected.empty()) expected = manifest;
        EXPECT_EQ(manifest, expected) << threads << on_disk;
        fs::remove_all(place / "out");
      }
  }
}

}  // namespace
}  // namespace adze::testing
