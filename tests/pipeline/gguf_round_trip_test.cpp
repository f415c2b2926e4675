// GGUF in, GGUF out, without the checkpoint that it was made of: through a model store, straight, and through
// adze-compress. What comes out is compared byte for byte, by a parser that shares nothing with ours.
#include <nlohmann/json.hpp>

#include "checkpoint/gguf_writer.h"
#include "checkpoint/model_store.h"
#include "export/plain_gguf.h"
#include "model/gguf_files.h"
#include "model/gguf_weights.h"
#include "pipeline/open_model.h"
#include "pipeline/pipeline_testing.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;

ExportPlan plan_of(const OpenedModel& model) {
  return {model.architecture(), planned_tensors(*model.weights), &model.require_tokenizer(), model.files,
          model.name,           {{"adze.version", "test"}}};
}

void export_model(const OpenedModel& model, const fs::path& path) {
  find_exporter("gguf")->make()->write(plan_of(model), *model.weights, path, silent_progress());
}

fs::path import_model(const fs::path& gguf, const fs::path& store) {
  const OpenedModel model = open_model(gguf);
  write_model_store(store, {model.files, {}}, model.require_source(), true, silent_progress());
  return store;
}

/// The same tensors, and the same keys but for those of ours.
void expect_same_gguf(const fs::path& actual, const fs::path& expected) {
  const PlainGguf a(actual), b(expected);
  EXPECT_EQ(a.order, b.order);
  EXPECT_EQ(a.tensors, b.tensors);
  const auto foreign = [](const PlainGguf& file) {
    auto keys = file.keys;
    std::erase_if(keys, [](const auto& pair) { return pair.first.starts_with("adze."); });
    return keys;
  };
  const auto left = foreign(a), right = foreign(b);
  for (const auto& [key, value] : right) EXPECT_TRUE(left.contains(key) && left.at(key) == value) << key;
  for (const auto& [key, value] : left) EXPECT_TRUE(right.contains(key)) << key;
}

/// A model on disk in one dtype, and its GGUF.
struct Original {
  Site site;
  fs::path gguf = site / "original.gguf";

  Original(bool tied, DType dtype) : site(tied, dtype) { export_model(open_model(site.model()), gguf); }
};

TEST(GgufRoundTrip, ThroughAStoreGivesEveryByteBack) {
  for (const bool tied : {true, false})
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      SCOPED_TRACE(name_of(dtype));
      const Original original(tied, dtype);
      const OpenedModel store = open_model(import_model(original.gguf, original.site / "model.h5"));
      EXPECT_EQ(store.name, "model");  // general.name, not the store's
      export_model(store, original.site / "again.gguf");
      expect_same_gguf(original.site / "again.gguf", original.gguf);
      EXPECT_TRUE(read_file(original.site / "again.gguf") == read_file(original.gguf));
    }
}

TEST(GgufRoundTrip, StraightKeepsTheTypesOfBlocksToo) {
  const Original original(true, DType::bf16);
  const std::string recipe = recipe_of(
      "schemes: { w8: { grid: gguf/q8_0, solver: rtn } }\nrules: [ { modules: \"layers.**\", scheme: w8 } ]\n"
      "export: [ { format: gguf, file: small.gguf } ]\n");
  run_recipe(recipe, original.site.model(), original.site / "run");
  export_model(open_model(original.site / "run/small.gguf"), original.site / "again.gguf");
  expect_same_gguf(original.site / "again.gguf", original.site / "run/small.gguf");
}

TEST(GgufRoundTrip, CompressesAGgufAsTheCheckpointThatItWasMadeOf) {
  const Original original(false, DType::bf16);
  const std::string recipe = recipe_of(
      "schemes: { w8: { grid: gguf/q8_0, solver: rtn } }\nrules: [ { modules: \"layers.**\", scheme: w8 } ]\n"
      "export: [ { format: gguf, file: small.gguf } ]\n");
  run_recipe(recipe, original.site.model(), original.site / "from-folder");
  run_recipe(recipe, original.gguf, original.site / "from-gguf");
  EXPECT_TRUE(read_file(original.site / "from-gguf/small.gguf") == read_file(original.site / "from-folder/small.gguf"));
  expect_same_gguf(original.site / "from-gguf/small.gguf", original.site / "from-folder/small.gguf");
  // Again from the compressed file: the blocks that no rule takes become f32, which holds them exactly.
  const CompressResult again = run_recipe(
      recipe_of("schemes: { w4: { grid: gguf/q4_0, solver: rtn } }\n"
                "rules: [ { modules: \"layers.*.mlp.*\", scheme: w4 } ]\nexport: [ { format: gguf, file: s.gguf } ]\n"),
      original.site / "from-gguf/small.gguf", original.site / "twice");
  const OpenedModel twice = open_model(original.site / "twice"), once = open_model(original.site / "from-gguf");
  EXPECT_EQ(twice.weights->block(1)[LinearSlot::q].weight->format(), "f32");
  EXPECT_EQ(twice.weights->block(1)[LinearSlot::q].weight->decode(),
            once.weights->block(1)[LinearSlot::q].weight->decode());
}

/// `from` with other metadata and the same tensors.
fs::path with_keys(const fs::path& from, const fs::path& to,
                   const std::function<void(std::vector<GgufKeyValue>&)>& change) {
  const GgufFile file(from);
  std::vector<GgufKeyValue> keys(file.metadata().begin(), file.metadata().end());
  change(keys);
  std::vector<GgufTensorSpec> specs;
  for (const GgufTensor& tensor : file.tensors()) specs.push_back({tensor.name, tensor.type->id, tensor.dims});
  GgufWriter writer(to, keys, specs);
  for (const GgufTensor& tensor : file.tensors()) {
    std::vector<std::byte> bytes(tensor.bytes);
    file.read(tensor, 0, bytes);
    writer.write(tensor.name, bytes);
  }
  writer.commit();
  return to;
}

TEST(GgufRoundTrip, KeepsWhatOthersSaidOfTheModel) {
  const Original original(true, DType::f16);
  const fs::path told = with_keys(original.gguf, original.site / "told.gguf", [](std::vector<GgufKeyValue>& keys) {
    keys.push_back({"general.author", std::string("somebody")});
    keys.push_back({"general.tags", std::vector<std::string>{"text-generation", "en"}});
    keys.push_back({"general.base_model.count", std::uint32_t{1}});
    keys.push_back({"general.sampling.temp", 0.25f});
    keys.push_back({"general.license", std::string("apache-2.0")});
    keys.push_back({"quantize.imatrix.file", std::string("imatrix.dat")});
    std::uint32_t id = 0;  // of any tokens
    for (const char* const role :
         {"eot", "eom", "mask", "seperator", "cls", "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep"}) {
      const std::string key = fmt::format("tokenizer.ggml.{}_token_id", role);
      std::erase_if(keys, [&](const GgufKeyValue& pair) { return pair.key == key; });
      keys.push_back({key, ++id});
    }
  });
  export_model(open_model(told), original.site / "straight.gguf");
  expect_same_gguf(original.site / "straight.gguf", told);
  export_model(open_model(import_model(told, original.site / "told.h5")), original.site / "again.gguf");
  expect_same_gguf(original.site / "again.gguf", told);
}

TEST(GgufRoundTrip, FilesThatLlamaCppWroteComeBackTensorForTensor) {
  const fs::path folder = ADZE_SOURCE_DIR "/../shared/peers";
  if (!fs::exists(folder)) GTEST_SKIP() << "extra: no files written by llama.cpp here";
  const TempFolder out;
  int compared = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path().filename());
    const OpenedModel model = open_model(entry.path());
    EXPECT_NE(model.require_source().find("model.layers.5.mlp.down_proj.weight"), nullptr);
    export_model(model, out / "again.gguf");
    const PlainGguf again(out / "again.gguf"), theirs(entry.path());
    EXPECT_EQ(again.tensors, theirs.tensors);
    for (const auto& [key, value] : again.keys) {
      const bool of_model = key.starts_with("llama.") || key.starts_with("tokenizer.");
      if (of_model && theirs.keys.contains(key)) {
        EXPECT_TRUE(theirs.keys.at(key) == value) << key;
      }
    }
    ++compared;
  }
  EXPECT_GT(compared, 0);
}

TEST(GgufRoundTrip, ANameThatWouldSteerATerminalIsNotTaken) {
  const Original original(true, DType::f16);
  const fs::path odd = with_keys(original.gguf, original.site / "odd.gguf", [](std::vector<GgufKeyValue>& keys) {
    for (GgufKeyValue& pair : keys)
      if (pair.key == "general.name") pair.value = std::string("red \x1b[31m");
  });
  EXPECT_EQ(open_model(odd).name, "odd");
  EXPECT_EQ(open_model(import_model(odd, original.site / "store.h5")).name, "store");
}

TEST(GgufRoundTrip, AKeptKeyThatSomebodyEditedIsNamed) {
  const Original original(true, DType::f16);
  for (const char* const edited : {R"({"llama.block_count": 7})", R"({"general.x": null})", R"({"general.x": []})",
                                   R"({"general.x": [1]})", R"({"general.x": ""})", R"({"general.x": 5000000000})"}) {
    OpenedModel model = open_model(original.gguf);
    for (StoreFile& file : model.files)
      if (file.name == kGgufKeysFile) file.text = edited;
    expect_error(ErrorKind::bad_data, "gguf.json: '",
                 [&] { find_exporter("gguf")->make()->predict_bytes(plan_of(model)); });
  }
}

TEST(GgufRoundTrip, SplitFilesAreReadAsOne) {
  const Original original(false, DType::f32);
  const OpenedModel model = open_model(original.gguf);
  ExportPlan plan = plan_of(model);
  plan.split_max_bytes = 600 << 10;
  const auto exporter = find_exporter("gguf")->make();
  const std::vector<fs::path> files = exporter->files(plan, original.site / "split.gguf");
  ASSERT_GT(files.size(), 2u);
  exporter->write(plan, *model.weights, original.site / "split.gguf", silent_progress());
  const OpenedModel split = open_model(files.front());
  EXPECT_EQ(split.parts, files);
  export_model(open_model(import_model(files.front(), original.site / "split.h5")), original.site / "again.gguf");
  EXPECT_TRUE(read_file(original.site / "again.gguf") == read_file(original.gguf));
}

TEST(GgufRoundTrip, RecipesMayAskForSeveralFiles) {
  const Original original(true, DType::f32);
  const std::string recipe = recipe_of(
      "schemes: { w8: { grid: gguf/q8_0, solver: rtn } }\nrules: [ { modules: \"layers.**\", scheme: w8 } ]\n"
      "export: [ { format: gguf, file: x/small.gguf, split_max_size: 600 KiB } ]\n");
  const fs::path out = original.site / "run";
  const CompressResult result = run_recipe(recipe, original.site.model(), out);
  std::vector<std::string> made;
  for (const LedgerFile& file : result.files)
    if (file.path.starts_with("x/")) made.push_back(file.path);
  EXPECT_EQ(made, (std::vector<std::string>{"x/small-00001-of-00002.gguf", "x/small-00002-of-00002.gguf"}));
  for (const std::string& name : made) EXPECT_LE(fs::file_size(out / name), std::uintmax_t{600} << 10);
  EXPECT_EQ(open_model(out / made[0]).weights->block(0)[LinearSlot::up].weight->decode(),
            open_model(out).weights->block(0)[LinearSlot::up].weight->decode());
  // What the run made it may replace, also when a process was killed between the files.
  write_file(out / "x/small-00002-of-00003.gguf.unverified.tmp", "left over");
  EXPECT_NO_THROW(run_recipe(recipe, original.site.model(), out, IfExists::overwrite));
  EXPECT_FALSE(fs::exists(out / "x/small-00002-of-00003.gguf.unverified.tmp"));
  write_file(out / "x/other-00002-of-00003.gguf", "foreign");
  expect_error(ErrorKind::cannot_create, "other-00002-of-00003.gguf",
               [&] { run_recipe(recipe, original.site.model(), out, IfExists::overwrite); });
}

TEST(GgufRoundTrip, AChangedFileIsAnotherModel) {
  const Original original(true, DType::f16);
  const std::string recipe = recipe_of(
      "schemes: { w8: { grid: gguf/q8_0, solver: rtn } }\nrules: [ { modules: \"layers.**\", scheme: w8 } ]\n");
  const auto identity = [&] { return Prepared(recipe, original.gguf).run.ingredients.at("model"); };
  const std::string before = identity();
  EXPECT_EQ(identity(), before);
  fs::last_write_time(original.gguf, fs::last_write_time(original.gguf) + std::chrono::seconds(2));
  EXPECT_NE(identity(), before);
}

TEST(OpenGguf, SaysWhatIsMissingOnlyWhenItIsWanted) {
  const Original original(true, DType::f16);
  const fs::path other = with_keys(original.gguf, original.site / "t5.gguf", [](std::vector<GgufKeyValue>& keys) {
    for (GgufKeyValue& pair : keys)
      if (pair.key == "tokenizer.ggml.model") pair.value = std::string("t5");
  });
  const OpenedModel model = open_model(other);
  EXPECT_EQ(model.architecture().hidden, 32u);
  EXPECT_NE(model.source, nullptr);
  EXPECT_FALSE(model.tokenizer);
  expect_error(ErrorKind::bad_data, "t5", [&] { model.require_tokenizer(); });
  expect_error(ErrorKind::bad_data, "t5.gguf", [&] { model.require_tokenizer(); });
}

}  // namespace
}  // namespace adze::testing
