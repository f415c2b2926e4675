// One door for every kind of model: which kind a path is, and what is said of a path that is none.
#include "pipeline/open_model.h"

#include "checkpoint/model_store.h"
#include "pipeline/pipeline_testing.h"

namespace adze::testing {
namespace {

constexpr const char* kRecipe =
    "schemes: { w8: { grid: gguf/q8_0, solver: rtn } }\nrules: [ { modules: \"layers.**\", scheme: w8 } ]\n"
    "export: [ { format: gguf, file: small.gguf } ]\n";

/// One model in all its forms.
struct Forms {
  Site site{true};
  fs::path out = site / "run";
  fs::path gguf = out / "small.gguf";
  fs::path store = site / "tiny.h5";

  Forms() {
    run_recipe(recipe_of(kRecipe), site.model(), out);
    const OpenedModel model = open_model(site.model());
    ModelStoreContents contents{model.files, {}};
    for (const TensorInfo& tensor : model.require_source().tensors()) contents.canonical[tensor.name] = tensor.name;
    write_model_store(store, contents, model.require_source(), false, silent_progress());
  }
};
const Forms& forms() {
  static const Forms made;
  return made;
}

TEST(OpenModel, KnowsEachKind) {
  const Forms& f = forms();
  EXPECT_EQ(detect_model(f.site.model()), ModelKind::checkpoint_folder);
  EXPECT_EQ(detect_model(f.store), ModelKind::model_store);
  EXPECT_EQ(detect_model(f.out), ModelKind::compressed);
  EXPECT_EQ(detect_model(f.gguf), ModelKind::gguf);
}

TEST(OpenModel, GivesEachKindItsNameFilesAndSource) {
  const Forms& f = forms();
  struct Expected {
    fs::path path;
    std::string name;
    std::size_t files;
    bool has_source;
  };
  for (const Expected& e : {Expected{f.site.model(), "model", 3, true}, Expected{f.store, "model", 3, true},
                            Expected{f.out, "run", 3, false}, Expected{f.gguf, "model", 4, true}}) {
    SCOPED_TRACE(e.path);
    const OpenedModel model = open_model(e.path);
    EXPECT_EQ(model.name, e.name);
    EXPECT_EQ(model.files.size(), e.files);
    EXPECT_EQ(model.source != nullptr, e.has_source);
    EXPECT_EQ(model.tokenizer.has_value(), e.files > 0);
    EXPECT_EQ(model.architecture().hidden, 32u);
    EXPECT_TRUE(model.architecture().tied);
  }
}

TEST(OpenModel, ATrailingSlashDoesNotChangeTheName) {
  EXPECT_EQ(open_model(forms().site.model() / "").name, "model");
  EXPECT_EQ(open_model(forms().site.model() / ".." / "model").name, "model");
}

TEST(OpenModel, AllKindsHoldTheSameWeights) {
  const Forms& f = forms();
  const OpenedModel checkpoint = open_model(f.site.model());
  const OpenedModel store = open_model(f.store);
  expect_same_payload(*store.weights->embedding(), *checkpoint.weights->embedding());
  const OpenedModel compressed = open_model(f.out);
  const OpenedModel gguf = open_model(f.gguf);
  for (const LinearInfo& info : block_linears(checkpoint.architecture()))
    EXPECT_EQ(gguf.weights->block(1)[info.slot].weight->decode(),
              compressed.weights->block(1)[info.slot].weight->decode())
        << info.module;
}

TEST(OpenModel, CompressedModelsCannotBeCompressedAgain) {
  const Recipe recipe = parse_recipe(recipe_of(kRecipe), "recipe.yaml");
  for (const fs::path& path : {forms().out}) {
    const OpenedModel model = open_model(path);
    expect_error(
        ErrorKind::bad_data,
        "is a compressed model; what can be compressed is a Hugging Face folder, a model store, a GGUF file or a pack",
        [&] { prepare_run(recipe, model); });
  }
  const OpenedModel gguf = open_model(forms().gguf);
  EXPECT_NO_THROW(prepare_run(recipe, gguf));
  EXPECT_NE(gguf.file("config.json"), nullptr);
}

TEST(OpenModel, SaysWhatAPathIsNot) {
  const TempFolder folder;
  expect_error(ErrorKind::missing_input, "/nothing: does not exist", [&] { detect_model(folder / "nothing"); });
  expect_error(ErrorKind::bad_data, "/a.txt: is no model; a model is", [&] { detect_model(folder.put("a.txt", "x")); });
  const std::string long_name(300, 'x');
  expect_error(ErrorKind::missing_input, "File name too long", [&] { detect_model(folder / long_name); });
  expect_error(ErrorKind::missing_input, "config.json", [&] { open_model(folder.path()); });
  expect_error(ErrorKind::bad_data, "fake.gguf", [&] { open_model(folder.put("fake.gguf", "GGUX")); });
  expect_error(ErrorKind::bad_data, "fake.h5", [&] { open_model(folder.put("fake.h5", "x")); });
}

TEST(OpenModel, AnUnfinishedRunIsNoModelEvenWhenItsStoreIsComplete) {
  const TempFolder folder;
  fs::copy(forms().out, folder / "run", fs::copy_options::recursive);
  EXPECT_EQ(detect_model(folder / "run"), ModelKind::compressed);
  fs::create_directory(folder / "run/work");
  folder.put("run/work/lock", "");
  EXPECT_EQ(detect_model(folder / "run"), ModelKind::compressed);  // leftovers; the manifest says that it is finished
  fs::remove(folder / "run/manifest.json");
  expect_error(ErrorKind::bad_data, "/run: an unfinished run of adze-compress; run it again to finish it",
               [&] { detect_model(folder / "run"); });
}

TEST(OpenModel, ACheckpointMayHaveAFolderNamedWork) {
  const Site site(true);
  fs::create_directory(site.model() / "work");
  EXPECT_EQ(detect_model(site.model()), ModelKind::checkpoint_folder);
}

}  // namespace
}  // namespace adze::testing
