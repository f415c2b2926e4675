// Broken checkpoints: every kind of damage has its exit code, a message that names file and place, and leaves nothing.
#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

void expect_model_refused(const Workplace& place, const fs::path& model, int code, Words words) {
  expect_refused(place, small_recipe(), model, code, words);
}

/// A checkpoint whose model.safetensors is these bytes.
fs::path model_with(const Workplace& place, std::string_view safetensors) {
  const fs::path folder = place.model(false);
  Workplace::overwrite(folder / "model.safetensors", safetensors);
  return folder;
}

fs::path model_with_header(const Workplace& place, std::string_view header, std::string_view data) {
  return model_with(place, safetensors_bytes_of(header, data));
}

TEST(BadModel, DoesNotExist) {
  const Workplace place;
  expect_model_refused(place, place / "nothing", 66, {"/nothing: does not exist"});
}

TEST(BadModel, IsAFileOfNoKind) {
  const Workplace place;
  place.put("model.txt", "x");
  expect_model_refused(place, place / "model.txt", 65, {"/model.txt: is no model; a model is a Hugging Face folder"});
}

TEST(BadModel, IsAnEmptyFolder) {
  const Workplace place;
  fs::create_directory(place / "empty");
  expect_model_refused(place, place / "empty", 66, {"/empty/config.json"});
}

TEST(BadModel, HasNoWeights) {
  const Workplace place;
  expect_model_refused(place, place.model(false), 66, {"/model: no model.safetensors"});
}

TEST(BadModel, HasNoTokenizer) {
  const Workplace place;
  const fs::path model = place.model();
  fs::remove(model / "tokenizer.json");
  expect_model_refused(place, model, 65, {"/model: has no tokenizer.json"});
}

TEST(BadModel, HasATokenizerThatIsNoJson) {
  const Workplace place;
  const fs::path model = place.model();
  fs::resize_file(model / "tokenizer.json", 5000);
  expect_model_refused(place, model, 65, {"/model/tokenizer.json: byte"});
}

TEST(BadModel, HasAConfigThatIsNoJson) {
  const Workplace place;
  const fs::path model = place.model();
  fs::resize_file(model / "config.json", 100);
  expect_model_refused(place, model, 65, {"/model/config.json: byte"});
}

TEST(BadModel, IsOfAnUnknownArchitecture) {
  const Workplace place;
  expect_model_refused(
      place, place.model_with_config("LlamaForCausalLM", "LamaForCausalLM"), 65,
      {"/model/config.json: ", "'LamaForCausalLM' is not supported; did you mean 'LlamaForCausalLM'?"});
}

TEST(BadModel, HasTensorsOfAnotherShapeThanItsConfig) {
  const Workplace place;
  expect_model_refused(place, place.model_with_config("\"intermediate_size\": 768", "\"intermediate_size\": 512"), 65,
                       {"/model: ", "'model.layers.0.mlp.gate_proj.weight' has shape [768, 256]", "[512, 256]"});
}

TEST(BadModel, LacksABlock) {
  const Workplace place;
  expect_model_refused(place, place.model_with_config("\"num_hidden_layers\": 6", "\"num_hidden_layers\": 7"), 65,
                       {"tensor 'model.layers.6.input_layernorm.weight' is missing"});
}

TEST(BadModel, HasATensorTooMany) {
  const Workplace place;
  expect_model_refused(place, place.model_with_config("\"num_hidden_layers\": 6", "\"num_hidden_layers\": 5"), 65,
                       {"/model: ", "model.layers.5."});
}

TEST(BadModel, LacksAShard) {
  const Workplace place;
  const fs::path model = sharded_model(place);
  fs::remove(model / "model-00002-of-00002.safetensors");
  expect_model_refused(place, model, 66, {"/model: shard 'model-00002-of-00002.safetensors' of the index is missing"});
}

TEST(BadModel, HasShardsThatDisagreeWithTheIndex) {
  const Workplace place;
  const fs::path model = sharded_model(place);
  const fs::path index = model / "model.safetensors.index.json";
  Workplace::overwrite(index, replaced(read_file(index), "model-00002", "model-00001"));
  expect_model_refused(place, model, 65, {"model-00002-of-00002.safetensors: tensor '", "the index puts it into"});
}

TEST(BadModel, IsCutShort) {
  const Workplace place;
  const fs::path model = place.model();
  fs::resize_file(model / "model.safetensors", fs::file_size(model / "model.safetensors") - 1);
  expect_model_refused(
      place, model, 65,
      {"/model/model.safetensors: the tensors need 11540992 bytes of data, the file has 11540991; it is cut short"});
}

TEST(BadModel, HasBytesAfterTheLastTensor) {
  const Workplace place;
  const fs::path model = place.model();
  fs::resize_file(model / "model.safetensors", fs::file_size(model / "model.safetensors") + 1);
  expect_model_refused(place, model, 65, {"/model/model.safetensors: ", "trailing bytes"});
}

TEST(BadModel, HasTensorsThatOverlap) {
  const Workplace place;
  const fs::path model = model_with_header(place,
                                           R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                           R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                                           std::string(12, 'x'));
  expect_model_refused(place, model, 65, {"model.safetensors: tensor 'b': begins at 4", "an overlap"});
}

TEST(BadModel, HasATensorLargerThanTheFile) {
  const Workplace place;
  const fs::path model = model_with_header(
      place, R"({"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}})", "xxxx");
  expect_model_refused(place, model, 65, {"model.safetensors: ", "need 4398046511104 bytes of data, the file has 4"});
}

TEST(BadModel, HasAShapeThatOverflows) {
  const Workplace place;
  const fs::path model = model_with_header(
      place, R"({"a":{"dtype":"F32","shape":[281474976710655,281474976710655],"data_offsets":[0,4]}})", "xxxx");
  expect_model_refused(place, model, 65, {"model.safetensors: tensor 'a': ", "overflow"});
}

TEST(BadModel, HasAnUnknownDtype) {
  const Workplace place;
  const fs::path model = model_with_header(place, R"({"a":{"dtype":"Q9","shape":[2],"data_offsets":[0,2]}})", "xx");
  expect_model_refused(place, model, 65, {"model.safetensors: tensor 'a': unknown dtype 'Q9'"});
}

TEST(BadModel, HasADtypeThatIsNoWeight) {
  const Workplace place;
  const fs::path model =
      model_with_header(place, R"({"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}})", "xx");
  expect_model_refused(place, model, 65, {"tensor 'a' has dtype F8_E4M3, which cannot be read as weights"});
}

/// None of these may cost memory or time in proportion to what they claim.
TEST(BadModel, IsAHeaderBomb) {
  const std::string deep = std::string(200'000, '[');
  const std::pair<std::string, std::string_view> kBombs[] = {
      {raw<std::uint64_t>(~std::uint64_t{0}) + "{}", "header of 18446744073709551615 bytes is above the limit"},
      {raw<std::uint64_t>(99'999'999) + "{}", "header of 99999999 bytes does not fit into the file of 10"},
      {raw<std::uint64_t>(3), "does not fit into the file of 8"},
      {"abc", "3 bytes are too few"},
      {"", "0 bytes are too few"},
      {safetensors_bytes_of("{\"a\":" + deep, ""), "JSON nested deeper than 4"},
      {safetensors_bytes_of("{\"a\":{},\"a\":{}}", ""), "duplicate JSON key 'a'"},
      {safetensors_bytes_of(std::string(1'000'000, ' '), ""), "the header is not a JSON object"}};
  for (const auto& [bytes, words] : kBombs) {
    SCOPED_TRACE(words);
    const Workplace place;
    expect_model_refused(place, model_with(place, bytes), 65, {"/model/model.safetensors: ", words});
  }
}

TEST(BadModel, IsAFolderOfAnotherFormat) {
  const Workplace place;
  const fs::path model = place.model(false);
  Workplace::overwrite(model / "pytorch_model.bin", "x");
  expect_model_refused(place, model, 66, {"pytorch_model.bin, a PyTorch pickle: convert it to safetensors first"});
}

/// The demo with a NaN in one weight.
class ModelWithNan : public Workplace {
 public:
  static constexpr const char* kTensor = "model.layers.3.mlp.up_proj.weight";
  fs::path folder = model();

  ModelWithNan() {
    const auto source = open_checkpoint_folder(folder);
    const std::uint64_t offset = source->place(*source->find(kTensor))->offset + 2 * 1234;
    std::fstream file(folder / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset));
    file.write("\xC0\x7F", 2);
  }
};

TEST(NanInAWeight, StopsCompressWithTheTensorsNameAndNoResult) {
  const ModelWithNan place;
  const ProgramResult result = compress(place.recipe(rtn_recipe()), place.folder, place.out());
  expect_exit(result, 65, {"/model: tensor 'model.layers.3.mlp.up_proj.weight': non-finite value nan at element 1234"});
  EXPECT_FALSE(fs::exists(fs::path(place.out()) / "manifest.json"));
  EXPECT_FALSE(fs::exists(fs::path(place.out()) / "model.gguf"));
  expect_nothing_half_written(place.path());
}

TEST(NanInAWeight, StopsImportAndExport) {
  const ModelWithNan place;
  const std::string store = (place / "model.h5").string();
  expect_exit(run_program("adze-import", {place.folder.string(), "-o", store}), 65,
              {"tensor 'model.layers.3.mlp.up_proj.weight'", "at element 1234"});
  expect_exit(run_program("adze-import", {place.folder.string(), "-o", store, "--copy"}), 65, {"at element 1234"});
  EXPECT_FALSE(fs::exists(store));
  const std::string gguf = (place / "model.gguf").string();
  expect_exit(run_program("adze-export", {place.folder.string(), "-o", gguf}), 65,
              {"tensor 'model.layers.3.mlp.up_proj.weight'", "at element 1234"});
  EXPECT_FALSE(fs::exists(gguf));
  expect_nothing_half_written(place.path());
}

TEST(NanInAWeight, StopsEval) {
  const ModelWithNan place;
  const ProgramResult result = run_program(
      "adze-eval", {place.folder.string(), "--text", bundled_text("heldout/code.txt"), "--protocol", "lcpp-64"});
  expect_exit(result, 65, {"tensor 'model.layers.3.mlp.up_proj.weight'", "at element 1234"});
  EXPECT_EQ(result.out, "");
}

TEST(BadModel, IsTheOutputOfARun) {
  const Workplace place;
  fs::create_directories(place / "run/work");
  place.put("run/work/lock", "");
  expect_model_refused(place, place / "run", 65,
                       {"/run: an unfinished run of adze-compress; run it again to finish it"});
}

}  // namespace
}  // namespace adze::testing
