// One scheme with saved statistics on a tiny random model: the same payloads as a run that measures the original model,
// tied and untied, with and without statistics, and statistics of another shape.
#include "pipeline/apply_scheme.h"

#include <nlohmann/json.hpp>

#include "calibrate/calibrate.h"
#include "pipeline/manifest.h"
#include "pipeline/pipeline_testing.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;
using Arguments = std::vector<SchemeArgument>;

SchemeArgument text_argument(const std::string& key, const std::string& value) {
  return {"--" + key, key, value, true};
}

/// The windows that recipe_of(body) calibrates with, measured on the site's model.
fs::path measure(const Site& site) {
  const OpenedModel model = open_model(site.model());
  const TokenWindows windows = load_windows(calibration_text(), model.require_tokenizer(), {4, 16, 7});
  calibrate(*model.weights, model.name, windows, {site / "stats"}, silent_progress());
  return site / "stats";
}

/// Everything that must outlive a prepared scheme.
struct Applied {
  Recipe recipe;
  OpenedModel model;
  PreparedScheme scheme;

  Applied(const Arguments& arguments, const fs::path& path, const KnownInputs& inputs)
      : recipe(scheme_recipe(arguments)), model(open_model(path)), scheme(prepare_scheme(recipe, model, inputs)) {}
  Applied(const Applied&) = delete;
  Applied& operator=(const Applied&) = delete;
};

void expect_same_model(const CompressedStore& actual, const CompressedStore& expected) {
  for (std::size_t b = 0; b < expected.architecture().layers; ++b)
    for (const LinearInfo& info : block_linears(expected.architecture()))
      expect_same_payload(*actual.block(b)[info.slot].weight, *expected.block(b)[info.slot].weight);
  expect_same_payload(*actual.embedding(), *expected.embedding());
  expect_same_payload(*actual.head(), *expected.head());
}

/// The matrices that `modules` matches with `scheme`, as a recipe writes it and as arguments.
void expect_equals_a_run(const Site& site, const std::string& scheme, Arguments arguments,
                         const std::string& modules = "**") {
  SCOPED_TRACE(scheme);
  arguments.push_back(text_argument("modules", modules));
  const fs::path out = site / "ours";
  const Applied applied(arguments, site.model(), measure(site));
  const CompressResult ours = apply_scheme(applied.scheme, out, false, silent_progress());
  const CompressResult theirs =
      run_recipe(recipe_of("schemes: { s: { " + scheme + " } }\nrules: [ { modules: \"" + modules +
                           "\", scheme: s } ]\n" + "propagate: original\nstages: 1\n"),
                 site.model(), site / "theirs");
  expect_same_model(CompressedStore(out / "store"), CompressedStore(site / "theirs" / "store"));
  ASSERT_EQ(ours.tensors.size(), theirs.tensors.size());
  for (std::size_t i = 0; i < ours.tensors.size(); ++i) {
    EXPECT_EQ(ours.tensors[i].module, theirs.tensors[i].module);
    EXPECT_EQ(ours.tensors[i].report.loss, theirs.tensors[i].report.loss);
  }
}

TEST(ApplyScheme, EqualsARunThatMeasuresTheOriginalModel) {
  for (const bool tied : {true, false})
    expect_equals_a_run(Site(tied), "grid: int4, group: 32",
                        {text_argument("grid", "int4"), {"--group", "group", "32"}});
  expect_equals_a_run(Site(false), "grid: int4, group: 16, sparsity: \"2:4\", solver: sparsegpt",
                      {text_argument("grid", "int4"),
                       {"--group", "group", "16"},
                       text_argument("sparsity", "2:4"),
                       text_argument("solver", "sparsegpt")},
                      "layers.**");
}

TEST(ApplyScheme, WithoutStatisticsWeighsInputsEqually) {
  const Site site(true);
  const Arguments arguments{text_argument("grid", "gguf/q8_0"), text_argument("solver", "rtn"),
                            text_argument("modules", "layers.0.**")};
  const Applied applied(arguments, site.model(), KnownInputs());
  EXPECT_THAT(applied.scheme.remark, HasSubstr("no statistics"));
  apply_scheme(applied.scheme, site / "out", false, silent_progress());
  const CompressedStore store(site / "out" / "store");
  EXPECT_EQ(store.block(0)[LinearSlot::q].weight->format(), "gguf/q8_0");
  EXPECT_EQ(store.block(1)[LinearSlot::q].weight->format(), "bf16");
  const auto manifest = nlohmann::json::parse(read_file(site / "out" / kManifestName));
  EXPECT_EQ(manifest.at("/calibration/hash"_json_pointer), "none");
  EXPECT_EQ(manifest.at("files").size(), 6U);
}

TEST(ApplyScheme, WithoutTextInputsComeFromTheWeights) {
  const Site site(true);
  const Arguments arguments{
      text_argument("grid", "int4"), {"--group", "group", "32"}, text_argument("modules", "layers.**")};
  const Applied applied(arguments, site.model(), DataFree());
  EXPECT_THAT(applied.scheme.remark, HasSubstr("white noise; nothing is shifted"));
  const CompressResult result = apply_scheme(applied.scheme, site / "out", false, silent_progress());
  const CompressedStore store(site / "out" / "store");
  EXPECT_EQ(store.block(1)[LinearSlot::down].weight->format(), "int4 g32 sym");
  for (const TensorRecord& record : result.tensors) {
    EXPECT_GT(record.report.loss, 0.0) << record.module;
    EXPECT_LT(record.report.relative_loss, 0.1) << record.module;
  }
  expect_error(ErrorKind::usage, "needs statistics with these options: give --stats",
               [&] { Applied(arguments, site.model(), KnownInputs()); });
}

TEST(ApplyScheme, RefusesStatisticsOfAnotherShapeWithBothValues) {
  const Site site(true);
  const fs::path statistics = measure(site);
  expect_error(ErrorKind::bad_data, "statistics of another model (model): layers is 2, the model's is 6", [&] {
    Applied({text_argument("grid", "int4"), text_argument("modules", "**")}, demo_model(), statistics);
  });
}

TEST(ApplyScheme, AnErrorHalfWayLeavesNothing) {
  const Site site(true);
  const fs::path statistics = measure(site);
  const Applied applied({text_argument("grid", "gguf/q4_0"), text_argument("modules", "**")}, site.model(), statistics);
  fs::remove(statistics / "block-0001.h5");
  EXPECT_ANY_THROW(apply_scheme(applied.scheme, site / "out", false, silent_progress()));
  EXPECT_FALSE(fs::exists(site / "out"));
  EXPECT_FALSE(fs::exists(site / "out.tmp"));
}

}  // namespace
}  // namespace adze::testing
