// Models whose architecture is not known: what is listed, what a run without calibration makes of it, what is passed
// on, and everything that is refused.
#include <set>

#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "checkpoint/model_store.h"
#include "export/exporter.h"
#include "model/listing.h"
#include "model/packed/raw_tensors.h"
#include "pipeline/apply_scheme.h"
#include "pipeline/inspect.h"
#include "pipeline/manifest.h"
#include "pipeline/pipeline_testing.h"
#include "pipeline/unknown_model.h"

namespace adze::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kRounding =
    "calibration: none\n"
    "schemes: { w4: { grid: int4, group: 32, solver: rtn, scale_rule: minmax } }\n"
    "rules: [ { modules: \"**\", scheme: w4 } ]\n"
    "export: [ { format: safetensors, file: floats }, { format: compressed-tensors, file: packed } ]\n";

/// Of stores and results, which say by themselves that they are lists.
OpenModelOptions lists_too() {
  OpenModelOptions options;
  options.takes_lists = true;
  return options;
}
OpenModelOptions weights_only() {
  OpenModelOptions options = lists_too();
  options.weights_only = true;
  return options;
}

/// The checkpoint, and places for results.
struct Place : TempFolder {
  explicit Place(const std::string& config = bert_config()) { write_unknown(model(), config); }
  fs::path model() const { return path() / "model"; }
};

/// A run that is prepared, and what it refers to.
struct ListedRun {
  Recipe recipe;
  OpenedModel model;
  PreparedRun run;

  ListedRun(const std::string& body, const fs::path& path, const OpenModelOptions& options = weights_only())
      : recipe(parse_recipe("adze: 1\n" + body, "recipe.yaml")),
        model(open_model(path, options)),
        run(prepare_run(recipe, model)) {}
  ListedRun(const ListedRun&) = delete;
  ListedRun& operator=(const ListedRun&) = delete;

  CompressResult go(const fs::path& out, Progress& progress = silent_progress()) const {
    CompressOptions options;
    options.out = out;
    return compress(run, options, progress);
  }
};

std::string refusal_of(const std::string& body) {
  const Place place;
  try {
    ListedRun(body, place.model());
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_recipe) << error.message();
    return error.message();
  }
  ADD_FAILURE() << "it was accepted: " << body;
  return "";
}

bool is_quantized(const UnknownTensor& tensor) {
  return tensor.shape.size() == 2 && tensor.name.ends_with(".weight") &&
         tensor.name.find("embeddings") == std::string::npos;
}

TEST(WeightsOnly, TheListSaysWhichTensorsAreMatricesAndWhichAreABlock) {
  const Place place;
  const OpenedModel model = open_model(place.model(), weights_only());
  const Architecture& architecture = model.architecture();
  EXPECT_TRUE(architecture.is_listed());
  EXPECT_EQ(architecture.layers, 3u);  // the two layers, and what has no number
  EXPECT_FALSE(model.tokenizer);
  std::map<std::string, TensorSpec> specs;
  for (const TensorSpec& spec : expected_tensors(architecture)) specs[spec.hf_name] = spec;
  ASSERT_EQ(specs.size(), unknown_tensors().size());
  for (const UnknownTensor& tensor : unknown_tensors()) {
    SCOPED_TRACE(tensor.name);
    const TensorSpec& spec = specs.at(tensor.name);
    EXPECT_EQ(spec.is_matrix(), is_quantized(tensor));
    EXPECT_EQ(spec.shape, tensor.shape);
    EXPECT_EQ(spec.dtype, tensor.dtype);
  }
  EXPECT_EQ(specs.at("bert.encoder.layer.1.output.dense.weight").module, "bert.encoder.layer.1.output.dense");
  EXPECT_EQ(specs.at("bert.pooler.dense.weight").block, specs.at("logit_scale").block);
  EXPECT_NE(specs.at("bert.encoder.layer.0.output.dense.weight").block,
            specs.at("bert.encoder.layer.1.output.dense.weight").block);
  EXPECT_EQ(parse_listing(listing_text(architecture), "again"), architecture);
}

TEST(WeightsOnly, WhatFeedsAMatrixIsToldByNamesAndShapes) {
  const Place place;
  const Architecture architecture = open_model(place.model(), weights_only()).architecture();
  const std::vector<TensorSpec> block = tensors_of_block(architecture, 1);
  const std::vector<std::optional<std::size_t>> feeders = feeders_of(block);
  std::map<std::string, std::string> fed;
  for (std::size_t i = 0; i < block.size(); ++i)
    if (feeders[i]) fed[block[i].module] = block[*feeders[i]].module;
  const std::string layer = "bert.encoder.layer.0.";
  EXPECT_EQ(fed,
            (std::map<std::string, std::string>{{layer + "output.dense", layer + "intermediate.dense"},
                                                {layer + "attention.output.dense", layer + "attention.self.value"}}));
}

TEST(WeightsOnly, RoundingGivesWhatPlainCodeGivesAndLeavesTheRestAsItIs) {
  const Place place;
  const ListedRun run(kRounding, place.model());
  const CompressResult result = run.go(place / "out");
  const auto exported = open_checkpoint_folder(place / "out" / "floats");
  std::size_t matrices = 0;
  for (const UnknownTensor& tensor : unknown_tensors()) {
    SCOPED_TRACE(tensor.name);
    const TensorInfo* const found = exported->find(tensor.name);
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->shape, tensor.shape);
    const std::vector<std::byte> original = unknown_bytes(tensor);
    const std::vector<std::byte> stored = stored_bytes(*exported, *found);
    if (!is_quantized(tensor)) {
      EXPECT_EQ(found->dtype, tensor.dtype);
      EXPECT_TRUE(stored == original);
      continue;
    }
    ++matrices;
    EXPECT_EQ(found->dtype, DType::f32);  // config.json says so
    EXPECT_EQ(floats_of(found->dtype, stored), plainly_rounded(floats_of(tensor.dtype, original)));
  }
  EXPECT_EQ(exported->tensors().size(), unknown_tensors().size());
  EXPECT_EQ(result.tensors.size(), matrices);
  EXPECT_FALSE(fs::exists(place / "out" / "floats" / kListingFile));
  EXPECT_EQ(nlohmann::json::parse(read_file(place / "out" / "floats" / "config.json")),
            nlohmann::json::parse(bert_config()));
}

TEST(WeightsOnly, APackedFolderNamesAllThatIsNotPacked) {
  const Place place;
  const ListedRun run(kRounding, place.model());
  run.go(place / "out");
  const nlohmann::json config = nlohmann::json::parse(read_file(place / "out" / "packed" / "config.json"));
  const nlohmann::json& said = config.at("quantization_config");
  EXPECT_EQ(said.at("format"), "pack-quantized");
  const auto ignored = said.at("ignore").get<std::set<std::string>>();
  for (const UnknownTensor& tensor : unknown_tensors()) {
    constexpr std::string_view kWeight = ".weight";
    if (!tensor.name.ends_with(kWeight)) continue;
    const std::string module = tensor.name.substr(0, tensor.name.size() - kWeight.size());
    EXPECT_EQ(ignored.contains(module), !is_quantized(tensor)) << module;
  }
  const RawTensors raw(place / "out" / "packed");
  EXPECT_NE(raw.find("bert.encoder.layer.0.output.dense.weight_packed"), nullptr);
  EXPECT_EQ(raw.require("bert.embeddings.position_ids").type, SafetensorsType::i64);
  EXPECT_EQ(raw.require("bert.patches.projection.weight").shape, (std::vector<std::uint64_t>{64, 3, 4, 4}));
}

TEST(WeightsOnly, WithoutConfigJsonAFolderDoes) {
  const Place place("");
  const ListedRun run(kRounding, place.model());
  run.go(place / "out");
  const auto exported = open_checkpoint_folder(place / "out" / "floats");
  const UnknownTensor tensor{"bert.encoder.layer.1.intermediate.dense.weight", DType::f32, {128, 64}};
  const TensorInfo& found = *exported->find(tensor.name);
  EXPECT_EQ(floats_of(found.dtype, stored_bytes(*exported, found)),
            plainly_rounded(floats_of(tensor.dtype, unknown_bytes(tensor))));
  expect_error(ErrorKind::missing_input, "--weights-only", [&] { open_model(place.model()); });
}

/// Stops a run as a signal would, once so many blocks are begun.
struct StopAt final : Progress {
  explicit StopAt(std::uint64_t blocks) : when(blocks) {}
  void start(std::string_view what, std::uint64_t) override { counts = what == "compressing"; }
  void update(std::uint64_t done) override {
    if (counts && done >= when) fail(ErrorKind::stopped, "stopped");
  }
  std::uint64_t when;
  bool counts = false;
};

TEST(WeightsOnly, StoppedAndResumedOnAnyNumberOfThreadsTheManifestIsTheSame) {
  const Place place;
  const ListedRun run(kRounding, place.model());
  run.go(place / "whole");
  const std::string expected = read_file(place / "whole" / "manifest.json");
  for (const int threads : {1, 2}) {
    SCOPED_TRACE(threads);
    set_thread_count(threads);
    const fs::path out = place / fmt::format("out-{}", threads);
    StopAt stop(2);
    EXPECT_THROW(run.go(out, stop), Error);
    EXPECT_FALSE(fs::exists(out / "manifest.json"));
    EXPECT_EQ(run.go(out).resumed_steps, 2u);
    EXPECT_EQ(read_file(out / "manifest.json"), expected);
    EXPECT_EQ(read_file(out / "floats" / "model.safetensors"),
              read_file(place / "whole" / "floats" / "model.safetensors"));
  }
  set_thread_count(0);
}

constexpr const char* kFromWeights =
    "calibration: weights\n"
    "schemes: { w4: { grid: int4, group: 32, solver: gptq, polish: 0, scale_rule: minmax, order: natural, shift: 1 } "
    "}\n"
    "rules: [ { modules: \"bert.encoder.**\", scheme: w4 } ]\n";

/// || W2 W1 - W2hat W1hat ||^2, what UDFC makes small.
double pair_error(const ModelWeights& original, const ModelWeights& compressed, std::size_t block) {
  const auto product = [&](const ModelWeights& model) {
    MatrixF first, second;
    const BlockWeights loaded = model.block(block);
    for (const NamedTensor& named : loaded.listed) {
      if (named.name.ends_with("intermediate.dense.weight")) first = named.tensor->decode();
      if (named.name.ends_with("output.dense.weight") && !named.name.ends_with("attention.output.dense.weight"))
        second = named.tensor->decode();
    }
    MatrixF result(second.rows(), first.cols());
    for (std::size_t r = 0; r < result.rows(); ++r)
      for (std::size_t k = 0; k < second.cols(); ++k)
        for (std::size_t c = 0; c < result.cols(); ++c) result(r, c) += second(r, k) * first(k, c);
    return result;
  };
  const MatrixF left = product(original), right = product(compressed);
  double error = 0;
  for (std::size_t i = 0; i < left.values().size(); ++i) {
    const double difference = static_cast<double>(left.values()[i]) - right.values()[i];
    error += difference * difference;
  }
  return error;
}

TEST(WeightsOnly, InputsFromWeightsLoseLessOfWhatTwoMatricesMakeTogether) {
  const Place place;
  const ListedRun rounding(kRounding, place.model()), fed(kFromWeights, place.model());
  rounding.go(place / "rounded");
  const CompressResult result = fed.go(place / "fed");
  for (const TensorRecord& record : result.tensors) EXPECT_EQ(record.report.fallback, "") << record.module;
  const CompressedStore rounded(place / "rounded" / "store"), solved(place / "fed" / "store");
  for (const std::size_t block : {1u, 2u})
    EXPECT_LT(pair_error(*fed.model.weights, solved, block), pair_error(*fed.model.weights, rounded, block));
  // What nothing feeds has white inputs, for which feedback changes nothing.
  const std::string name = "bert.encoder.layer.0.attention.self.query.weight";
  const auto tensor_of = [&](const ModelWeights& model) {
    for (const NamedTensor& named : model.block(1).listed)
      if (named.name == name) return named.tensor;
    throw std::runtime_error("no " + name);
  };
  expect_same_payload(*tensor_of(solved), *tensor_of(rounded));
}

TEST(WeightsOnly, QuantizeMakesWhatCompressMakes) {
  const Place place;
  const ListedRun run(kRounding, place.model());
  run.go(place / "out");
  const Recipe recipe = scheme_recipe({{"--grid", "grid", "int4", true},
                                       {"--group", "group", "32"},
                                       {"--solver", "solver", "rtn", true},
                                       {"--option", "scale_rule", "minmax"},
                                       {"--modules", "modules", "**", true}});
  const PreparedScheme scheme = prepare_scheme(recipe, run.model);
  apply_scheme(scheme, place / "alone", false, silent_progress());
  for (std::size_t block = 0; block < 3; ++block)
    EXPECT_EQ(read_file(place / "alone" / "store" / block_file_name(block)),
              read_file(place / "out" / "store" / block_file_name(block)));
}

TEST(WeightsOnly, AStoreSaysByItselfThatItIsAList) {
  const Place place;
  const OpenedModel folder = open_model(place.model(), weights_only());
  const fs::path store = place / "model.h5";
  write_model_store(store, {folder.files, {}}, folder.require_source(), true, silent_progress());
  const OpenedModel model = open_model(store, lists_too());
  EXPECT_EQ(model.architecture(), folder.architecture());
  expect_error(ErrorKind::bad_data, "its architecture is not known", [&] { open_model(store); });
  const ListedRun run(kRounding, store, lists_too());
  run.go(place / "out");
  expect_error(ErrorKind::bad_data, "its architecture is not known", [&] { open_model(place / "out"); });
  EXPECT_EQ(open_model(place / "out", lists_too()).architecture(), folder.architecture());
}

TEST(WeightsOnly, InspectionListsWhatIsStoredAndFindsDamage) {
  const Place place;
  ListedRun(kRounding, place.model()).go(place / "out");
  const Inspection whole = inspect(place / "out", {.verify = true}, silent_progress());
  EXPECT_THAT(whole.damage, ElementsAre());
  EXPECT_EQ(whole.tensors.size(), unknown_tensors().size());
  for (const InspectTensor& tensor : whole.tensors)
    if (tensor.name == "bert.patches.projection.weight") {
      EXPECT_EQ(tensor.shape, (std::vector<std::uint64_t>{64, 3, 4, 4}));
      EXPECT_EQ(tensor.type, "f32");
    }
}

TEST(WeightsOnly, SizesArePredictedToTheByte) {
  const Place place;
  const ListedRun run(kRounding, place.model());
  const CompressResult result = run.go(place / "out");  // checks each export's size against the prediction
  std::uint64_t bytes = 0;
  const CompressedStore store(place / "out" / "store");
  for (std::size_t block = 0; block < store.architecture().layers; ++block) {
    const BlockWeights loaded = store.block(block);
    for (const NamedTensor& named : loaded.listed) bytes += named.tensor->bytes();
  }
  EXPECT_EQ(run.run.plan.stored_bytes, bytes);
  EXPECT_GT(run.run.memory.peak_memory, 0u);
  EXPECT_EQ(run.run.memory.temporary_disk, 0u);
  EXPECT_FALSE(result.evaluation);
  expect_error(ErrorKind::out_of_memory, "--memory allows 1.00 KiB",
               [&] { prepare_run(run.recipe, run.model, std::uint64_t{1024}); });
}

TEST(WeightsOnly, AnUnknownArchitectureIsRefusedWithWhatCanBeDone) {
  const Place place;
  expect_error(ErrorKind::bad_data, "'BertModel' is not supported", [&] { open_model(place.model()); });
  expect_error(ErrorKind::bad_data, "--like", [&] { open_model(place.model()); });
  expect_error(ErrorKind::bad_data, "--weights-only", [&] { open_model(place.model()); });
}

TEST(WeightsOnly, WhatNeedsARunOfTheModelIsRefusedBeforeAnyWork) {
  const std::string schemes = "schemes: { w4: { grid: int4, group: 32 } }\n";
  const std::string rules = "rules: [ { modules: \"**\", scheme: w4 } ]\n";
  const std::string rtn = "schemes: { w4: { grid: int4, group: 32, solver: rtn } }\n";
  EXPECT_THAT(refusal_of("calibration: none\n" + schemes + rules),
              AllOf(HasSubstr("gptq needs inputs"), HasSubstr("take rtn, or calibration: weights")));
  EXPECT_THAT(refusal_of("calibration: { set: a.txt }\n" + rtn + rules), HasSubstr("write calibration: none"));
  EXPECT_THAT(refusal_of("calibration: none\n" + rtn + rules + "evaluate: { text: a.txt }\n"),
              HasSubstr("cannot be judged"));
  EXPECT_THAT(refusal_of("calibration: none\ntransform: [ { kind: rotate } ]\n" + rtn + rules),
              HasSubstr("nothing can be folded into it"));
  EXPECT_THAT(refusal_of("calibration: none\n" + rtn + rules + "export: [ { format: gguf, file: m.gguf } ]\n"),
              AllOf(HasSubstr("gguf says what a model computes"), HasSubstr("safetensors or compressed-tensors")));
  for (const ExporterInfo& info : exporters()) {
    if (info.holds_lists) continue;
    EXPECT_THAT(refusal_of("calibration: none\n" + rtn + rules + "export: [ { format: " + std::string(info.name) +
                           ", file: m } ]\n"),
                HasSubstr("only its tensors"));
  }
}

TEST(WeightsOnly, SolversOfTwoBlocksAreRefusedWhateverModulesAreCalled) {
  const TempFolder folder;
  const std::vector<float> values(64 * 64, 0.5f);
  const std::vector<SafetensorsItem> items{
      {{"0.weight", SafetensorsType::f32, {64, 64}}, std::as_bytes(std::span(values))},
      {{"2.weight", SafetensorsType::f32, {64, 64}}, std::as_bytes(std::span(values))}};
  write_safetensors(folder / "model.safetensors", items);
  expect_error(ErrorKind::bad_recipe, "pairs neighbouring blocks", [&] {
    ListedRun(
        "calibration: weights\nschemes: { s: { solver: shared-basis, keep: 50% } }\n"
        "rules: [ { modules: \"**\", scheme: s } ]\n",
        folder.path());
  });
}

TEST(WeightsOnly, ARuleThatMatchesNothingIsToldWhatWasMeant) {
  const auto with_rule = [](const std::string& glob) {
    return refusal_of(
        "calibration: none\nschemes: { w4: { grid: int4, group: 32, solver: rtn } }\n"
        "rules: [ { modules: \"" +
        glob + "\", scheme: w4 } ]\n");
  };
  EXPECT_THAT(with_rule("bert.encoder.layer.0.output.dens"),
              HasSubstr("did you mean 'bert.encoder.layer.0.output.dense'?"));
  EXPECT_THAT(with_rule("bert.embeddings.word_embeddings"), HasSubstr("is kept as it is"));
}

TEST(WeightsOnly, KnownModelsAreNotCompressedWithoutText) {
  const Site site(true);
  EXPECT_THAT(refusal("adze: 1\n" + std::string(kRounding), site.model()),
              HasSubstr("only models whose architecture is not known"));
}

TEST(WeightsOnly, AKnownModelMayBeTakenForAList) {
  const Site site(true);
  const ListedRun run(kRounding, site.model());
  run.go(site / "out");
  const OpenedModel exported = open_model(site / "out" / "floats");  // config.json still says what it is
  EXPECT_EQ(exported.architecture().hidden, site.architecture.hidden);
}

TEST(WeightsOnly, ListsThatThisProgramDoesNotWriteAreRefused) {
  for (
      const char* const text :
      {"[]", "{}", R"({"adze_tensors":2,"tensors":[{"name":"a","dtype":"f32","shape":[1]}]})",
       R"({"adze_tensors":1,"tensors":[]})", R"({"adze_tensors":1,"tensors":[{"name":"a","dtype":"f99","shape":[1]}]})",
       R"({"adze_tensors":1,"tensors":[{"name":"a","dtype":"f32","shape":[-1]}]})",
       R"({"adze_tensors":1,"tensors":[{"name":"a","dtype":"f32","shape":[4294967296,4294967296,4]}]})",
       R"({"adze_tensors":1,"tensors":[{"name":"b","dtype":"f32","shape":[]},{"name":"a","dtype":"f32","shape":[]}]})"}) {
    SCOPED_TRACE(text);
    EXPECT_THROW(parse_listing(text, "store"), Error);
  }
}

}  // namespace
}  // namespace adze::testing
