// Schemes that prune: what the pre-flight refuses, exact bytes, and masks from the solver to the exported file and
// back.
#include <set>

#include "base/parallel.h"
#include "grid/sparse/sparse_tensor.h"
#include "pipeline/pipeline_testing.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;

const Site& tied_site() {
  static const Site site(true);
  return site;
}

std::string with_scheme(const std::string& scheme, const std::string& modules = "layers.**") {
  return recipe_of("schemes: { s: { " + scheme + " } }\nrules: [ { modules: \"" + modules + "\", scheme: s } ]\n");
}

std::string refusal(const std::string& text, const Site& site = tied_site()) {
  return testing::refusal(text, site.model());
}

TEST(SparseRecipe, SparsitiesThatMakeNoSenseAreRefusedWithTheirPlace) {
  EXPECT_THAT(refusal(with_scheme("sparsity: 120%, solver: wanda")), HasSubstr("recipe.yaml:3:"));
  for (const char* const sparsity : {"120%", "4:2", "4:4", "0:4", "2:99", "half", "0.5", "50"})
    EXPECT_THAT(refusal(with_scheme(std::string("sparsity: ") + sparsity + ", solver: wanda")), HasSubstr("sparsity"))
        << sparsity;
  EXPECT_THAT(refusal(with_scheme("sparsity: 4:2, solver: wanda")), HasSubstr("n is 1 to 1"));
}

TEST(SparseRecipe, GroupsThatDoNotDivideTheRowAreRefusedWithWhatDoes) {
  EXPECT_THAT(refusal(with_scheme("sparsity: 3:6, solver: wanda")),
              HasSubstr("rows of 32 columns do not divide into groups of 6; m = 4 does"));
  EXPECT_THAT(refusal(with_scheme("sparsity: 50%, block: 24, solver: wanda")), HasSubstr("block: 16 does"));
}

TEST(SparseRecipe, SolverAndPatternMustGoTogether) {
  EXPECT_THAT(refusal(with_scheme("sparsity: 50%, grid: int4, group: 32, solver: gptq")),
              HasSubstr("does not go with solver gptq, which prunes nothing; magnitude, wanda"));
  EXPECT_THAT(refusal(with_scheme("grid: int4, group: 32, solver: wanda")),
              HasSubstr("solver wanda prunes: give the scheme"));
  EXPECT_THAT(refusal(with_scheme("sparsity: 50%, solver: gqsa")), HasSubstr("nothing that solver gqsa makes"));
  EXPECT_THAT(refusal(with_scheme("sparsity: 50%, whole_rows: true, solver: sparsegpt")),
              HasSubstr("nothing that solver sparsegpt makes; magnitude"));
  EXPECT_THAT(refusal(with_scheme("grid: int4, group: 32, block: 16")), HasSubstr("is of schemes with a sparsity"));
  EXPECT_THAT(refusal(with_scheme("sparsity: 50%, block: 8, whole_rows: true, solver: wanda")),
              HasSubstr("exclude each other"));
  EXPECT_THAT(refusal(with_scheme("sparsity: 50%, solver: wanda, values: f32")), HasSubstr("f16 or bf16"));
  EXPECT_THAT(refusal(with_scheme("sparsity: 50%, solver: sparsegpt, restore: true")),
              HasSubstr("unknown key 'restore'"));
  EXPECT_THAT(refusal(with_scheme("solver: obq")), HasSubstr("has no grid"));
}

TEST(SparseRecipe, GridsWithoutZeroAreRefused) {
  for (const char* const grid : {"gguf/q4_1", "gguf/iq4_nl"})
    EXPECT_THAT(refusal(with_scheme(std::string("sparsity: 50%, solver: obr, grid: ") + grid)),
                HasSubstr("has no zero"))
        << grid;
}

TEST(SparseRecipe, TheEmbeddingIsNotPrunedNorAHeadThatIsIt) {
  EXPECT_THAT(refusal(with_scheme("sparsity: 50%, solver: wanda", "lm_head")),
              HasSubstr("lm_head is the embedding table in this model"));
  static const Site untied(false);
  EXPECT_THAT(refusal(with_scheme("sparsity: 50%, solver: wanda", "embed_tokens"), untied),
              HasSubstr("no inputs to prune by"));
  const Prepared prepared(with_scheme("sparsity: 50%, solver: wanda", "lm_head"), untied.model());
  EXPECT_EQ(prepared.module("lm_head").format, "f16, 50%");
}

TEST(SparseRecipe, ExactSolversWarnWhereTheyTakeLong) {
  const auto warned = [](const std::string& scheme, const fs::path& model) {
    const Prepared prepared(with_scheme(scheme), model);
    return std::ranges::any_of(prepared.run.plan.warnings,
                               [](const std::string& w) { return w.find("exact solving takes") != std::string::npos; });
  };
  EXPECT_FALSE(warned("sparsity: 50%, solver: obq", tied_site().model()));  // a toy
  EXPECT_FALSE(warned("sparsity: 50%, solver: sparsegpt", demo_model()));
  EXPECT_TRUE(warned("sparsity: 50%, solver: obq", demo_model()));
}

struct Case {
  const char* scheme;
  const char* format;
};
const std::vector<Case> kCases = {
    {"sparsity: 50%, solver: sparsegpt", "f16, 50%"},
    {"sparsity: 2:4, solver: sparsegpt, polish: 2, values: bf16", "bf16, 2:4"},
    {"sparsity: 1:4, solver: magnitude", "f16, 1:4"},
    {"sparsity: 25%, whole_rows: true, solver: nowag-p", "f16, 25% in rows"},
    {"sparsity: 97%, solver: wanda", "f16, 97%"},
    {"sparsity: 2:4, grid: int4, group: 32, solver: obr", "int4 g32 sym, 2:4"},
    {"sparsity: 50%, grid: int8, group: 32, solver: obq", "int8 g32 sym, 50%"},
    {"sparsity: 50%, grid: gguf/q4_0, solver: sparsegpt", "gguf/q4_0, 50%"},
    {"sparsity: 50%, block: 16, grid: int4, group: 32, solver: gqsa", "int4 g32 sym, 50% in blocks of 16"},
};

TEST(SparseRun, MasksSurviveStoreExportAndReimport) {
  for (const Case& which : kCases) {
    SCOPED_TRACE(which.scheme);
    const Site site(true);
    const std::string text = with_scheme(which.scheme) + "export: [ { format: gguf, file: model.gguf } ]\n";
    const Prepared prepared(text, site.model());
    run_recipe(text, site.model(), site / "out");
    const CompressedStore store(site / "out/store");
    const OpenedModel exported = open_model(site / "out/model.gguf");
    for (std::size_t b = 0; b < 2; ++b) {
      const BlockWeights stored = store.block(b);
      const BlockWeights again = exported.weights->block(b);
      for (const LinearInfo& info : block_linears(store.architecture())) {
        const auto tensor = std::dynamic_pointer_cast<const SparseTensor>(stored[info.slot].weight);
        ASSERT_NE(tensor, nullptr) << info.module;
        EXPECT_EQ(tensor->format(), which.format);
        EXPECT_EQ(tensor->bytes(), prepared.module(module_name(b, info)).bytes);
        EXPECT_EQ(pattern_problem(tensor->mask(), *prepared.run.plan.schemes[0].pattern), std::nullopt);
        const MatrixF values = tensor->decode();
        EXPECT_EQ(again[info.slot].weight->decode(), values) << info.module;
        for (std::size_t r = 0; r < values.rows(); ++r)
          for (std::size_t c = 0; c < values.cols(); ++c)
            if (!tensor->mask().kept(r, c)) {
              ASSERT_EQ(values(r, c), 0.0f);
            }
      }
    }
  }
}

TEST(SparseRun, GivesTheSameBytesForAnyNumberOfThreads) {
  const std::string text = with_scheme("sparsity: 50%, grid: int4, group: 32, solver: obr");
  std::set<std::string> hashes;
  for (const int threads : {1, 2, 5}) {
    set_thread_count(threads);
    const Site site(true);
    run_recipe(text, site.model(), site / "out");
    hashes.insert(read_file(site / "out/store/block-0001.h5"));
  }
  set_thread_count(0);
  EXPECT_EQ(hashes.size(), 1u);
}

}  // namespace
}  // namespace adze::testing
