#include <fstream>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "checkpoint/gguf_writer.h"
#include "checkpoint/sidecar.h"
#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

using Json = nlohmann::json;

ProgramResult look(const fs::path& path, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments{path.string(), "-q"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_program("adze-inspect", std::move(arguments));
}

Json json_of(const fs::path& path, std::vector<std::string> more = {}) {
  more.push_back("--json");
  const ProgramResult result = look(path, std::move(more));
  expect_exit(result, 0);
  return Json::parse(result.out);
}

/// Exit code 65, the words in the message and in the list of findings.
void expect_damage(const fs::path& path, std::string_view words) {
  const ProgramResult result = look(path, {"--verify", "--json"});
  expect_exit(result, 65, {words});
  ASSERT_FALSE(result.out.empty()) << result.err;
  const Json json = Json::parse(result.out);
  ASSERT_EQ(json["damage"].size(), 1U);
  EXPECT_THAT(json["damage"][0].get<std::string>(), ::testing::HasSubstr(std::string(words)));
}

void expect_whole(const fs::path& path) {
  EXPECT_EQ(json_of(path, {"--verify"})["damage"], Json::array());
  EXPECT_THAT(look(path, {"--verify"}).out, ::testing::HasSubstr("verified: no damage found"));
}

/// Changes one byte of a file.
void flip(const fs::path& file, std::size_t at) {
  std::string bytes = read_file(file);
  ASSERT_LT(at, bytes.size());
  bytes[at] = static_cast<char>(bytes[at] ^ 0x40);
  Workplace::overwrite(file, bytes);
}

/// A safetensors file of three values.
fs::path small_safetensors(const Workplace& place, float value) {
  const std::vector<float> values = {1.0f, value, 3.0f};
  const SafetensorsItem item{{"layer\x1b[31m.weight", SafetensorsType::f32, {3}}, std::as_bytes(std::span(values))};
  write_safetensors(place.path() / "x.safetensors", std::span(&item, 1));
  return place.path() / "x.safetensors";
}

/// A GGUF file with long texts, an array and a plain and a block tensor.
fs::path small_gguf(const Workplace& place, float value) {
  std::vector<std::string> words(10, "word");
  const std::vector<GgufKeyValue> metadata = {{"general.architecture", std::string("llama")},
                                              {"general.long", std::string(59, 'x') + "äöü" + std::string(100, 'y')},
                                              {"tokenizer.words", words},
                                              {"llama.eps", 0.5f}};
  const std::vector<GgufTensorSpec> tensors = {{"plain", 0, {3}}, {"blocks", 8, {32, 2}}};
  GgufWriter writer(place.path() / "x.gguf", metadata, tensors);
  const std::vector<float> values = {1.0f, value, 3.0f};
  writer.write("plain", std::as_bytes(std::span(values)));
  writer.write("blocks", std::vector<std::byte>(68));
  writer.commit();
  return place.path() / "x.gguf";
}

TEST(InspectTool, DescribesACheckpoint) {
  const Json json = json_of(demo_model());
  EXPECT_EQ(json["kind"], "checkpoint");
  const Json& properties = json["properties"];
  EXPECT_EQ(properties["family"], "LlamaForCausalLM");
  EXPECT_EQ(properties["layers"], 6);
  EXPECT_EQ(properties["supported"], true);
  EXPECT_EQ(properties["parameters"], 5770496);
  EXPECT_EQ(properties["tokenizer"], "byte-level BPE, 4096 tokens");
  ASSERT_EQ(json["types"].size(), 1U);
  EXPECT_EQ(json["types"][0]["type"], "bf16");
  EXPECT_EQ(json["types"][0]["tensors"], 56);
  EXPECT_EQ(json["types"][0]["bits_per_weight"], 16.0);
  EXPECT_FALSE(json.contains("tensors"));
  EXPECT_THAT(look(demo_model()).out, ::testing::HasSubstr("  kv heads    2\n"));
}

TEST(InspectTool, ListsTensorsWhenAsked) {
  const Json tensors = json_of(demo_model(), {"--tensors"})["tensors"];
  ASSERT_EQ(tensors.size(), 56U);
  EXPECT_EQ(tensors[0]["name"], "model.embed_tokens.weight");
  EXPECT_EQ(tensors[0]["shape"], (Json{4096, 256}));
  EXPECT_EQ(tensors[0]["bytes"], 4096 * 256 * 2);
  EXPECT_THAT(look(demo_model(), {"--tensors"}).out,
              ::testing::ContainsRegex("model.layers.5.mlp.down_proj.weight +bf16 +256 x 768 +393216\n"));
}

TEST(InspectTool, DescribesWhatAdzeCannotCompress) {
  const Workplace place;
  const Json unknown = json_of(place.model_with_config("LlamaForCausalLM", "BloomForCausalLM"));
  EXPECT_EQ(unknown["properties"]["supported"], false);
  EXPECT_THAT(unknown["properties"]["reason"].get<std::string>(), ::testing::HasSubstr("BloomForCausalLM"));
  EXPECT_EQ(unknown["types"][0]["tensors"], 56);
  Workplace::overwrite(place.path() / "model/tokenizer.json", "{}");
  EXPECT_THAT(json_of(place.path() / "model")["properties"]["tokenizer"].get<std::string>(),
              ::testing::StartsWith("not supported: "));
}

TEST(InspectTool, DescribesShards) {
  const Workplace place;
  const fs::path folder = sharded_model(place);
  EXPECT_EQ(json_of(folder)["types"][0]["tensors"], 56);
  expect_whole(folder);
}

/// Bytes read by this process and the programs that it waited for.
std::uint64_t bytes_read() {
  std::ifstream io("/proc/self/io");
  std::string key;
  std::uint64_t bytes = 0;
  io >> key >> bytes;
  return key == "rchar:" ? bytes : 0;
}

/// A safetensors file whose tensors are holes.
void write_sparse(const fs::path& path,
                  const std::vector<std::pair<std::string, std::vector<std::uint64_t>>>& tensors) {
  Json header = Json::object();
  std::uint64_t end = 0;
  for (const auto& [name, shape] : tensors) {
    std::uint64_t bytes = 2;
    for (const std::uint64_t dim : shape) bytes *= dim;
    header[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {end, end + bytes}}};
    end += bytes;
  }
  const std::string text = header.dump();
  const std::uint64_t length = text.size();
  std::ofstream(path, std::ios::binary) << std::string(reinterpret_cast<const char*>(&length), 8) << text;
  fs::resize_file(path, 8 + length + end);
}

/// A model of 70 billion weights, one shard a block: only headers are read.
TEST(InspectTool, ReadsHeadersAloneOfFoldersOfAnySize) {
  const Workplace place;
  const fs::path folder = place.path() / "large";
  fs::create_directory(folder);
  constexpr std::uint64_t kHidden = 8192, kFfn = 28672, kKeys = 1024, kVocab = 32000;
  constexpr int kLayers = 80;
  const Json config{{"architectures", {"LlamaForCausalLM"}},
                    {"model_type", "llama"},
                    {"hidden_size", kHidden},
                    {"intermediate_size", kFfn},
                    {"num_hidden_layers", kLayers},
                    {"num_attention_heads", 64},
                    {"num_key_value_heads", 8},
                    {"vocab_size", kVocab},
                    {"rms_norm_eps", 1e-5},
                    {"max_position_embeddings", 4096},
                    {"hidden_act", "silu"},
                    {"tie_word_embeddings", false}};
  std::ofstream(folder / "config.json") << config.dump();
  Json index{{"metadata", Json::object()}, {"weight_map", Json::object()}};
  const auto add = [&](const std::string& file,
                       const std::vector<std::pair<std::string, std::vector<std::uint64_t>>>& tensors) {
    write_sparse(folder / file, tensors);
    for (const auto& [name, shape] : tensors) index["weight_map"][name] = file;
  };
  for (int b = 0; b < kLayers; ++b) {
    const std::string base = fmt::format("model.layers.{}.", b);
    add(fmt::format("model-{:05}-of-00081.safetensors", b + 1), {{base + "input_layernorm.weight", {kHidden}},
                                                                 {base + "post_attention_layernorm.weight", {kHidden}},
                                                                 {base + "self_attn.q_proj.weight", {kHidden, kHidden}},
                                                                 {base + "self_attn.k_proj.weight", {kKeys, kHidden}},
                                                                 {base + "self_attn.v_proj.weight", {kKeys, kHidden}},
                                                                 {base + "self_attn.o_proj.weight", {kHidden, kHidden}},
                                                                 {base + "mlp.gate_proj.weight", {kFfn, kHidden}},
                                                                 {base + "mlp.up_proj.weight", {kFfn, kHidden}},
                                                                 {base + "mlp.down_proj.weight", {kHidden, kFfn}}});
  }
  add("model-00081-of-00081.safetensors", {{"model.embed_tokens.weight", {kVocab, kHidden}},
                                           {"model.norm.weight", {kHidden}},
                                           {"lm_head.weight", {kVocab, kHidden}}});
  std::ofstream(folder / "model.safetensors.index.json") << index.dump();
  const std::uint64_t before = bytes_read();
  const Json json = json_of(folder);
  EXPECT_EQ(json["properties"]["supported"], true);
  EXPECT_GT(json["properties"]["parameters"].get<std::uint64_t>() * 2, std::uint64_t{100} << 30);
  EXPECT_GT(bytes_read(), before);  // they are counted
  EXPECT_LT(bytes_read() - before, std::uint64_t{16} << 20);
}

TEST(InspectTool, FindsValuesThatAreNotFinite) {
  const Workplace place;
  expect_whole(small_safetensors(place, 2.0f));
  expect_damage(small_safetensors(place, std::numeric_limits<float>::infinity()), "non-finite value at element 1");
  Tensors tensors = Tensors::of_demo();
  auto& bytes = tensors.data.at("model.layers.3.mlp.up_proj.weight");
  bytes[200] = std::byte{0xC0};
  bytes[201] = std::byte{0x7F};  // bf16 NaN
  const fs::path model = place.model(false);
  tensors.write(model / "model.safetensors", tensors.names());
  expect_exit(look(model), 0);
  expect_damage(model, "tensor 'model.layers.3.mlp.up_proj.weight': non-finite value at element 100");
}

TEST(InspectTool, NamesOfForeignFilesDoNotSteerTheTerminal) {
  const Workplace place;
  const ProgramResult result = look(small_safetensors(place, 2.0f), {"--tensors"});
  expect_exit(result, 0);
  EXPECT_THAT(result.out, ::testing::HasSubstr("layer\\x1b[31m.weight"));
  EXPECT_EQ(result.out.find('\x1b'), std::string::npos);
}

TEST(InspectTool, RefusesWhatItDoesNotKnowOrCannotParse) {
  const Workplace place;
  expect_exit(look(place.path() / "none"), 66, {"none: does not exist"});
  expect_exit(look(place.put("x.bin", "bytes")), 65, {"x.bin: is nothing that adze knows"});
  expect_exit(look(place.put("empty", "")), 65, {"is nothing that adze knows"});
  expect_exit(look(place.put("x.safetensors", "bytes")), 65, {"x.safetensors"});
  expect_exit(look(place.put("x.gguf", "GGUF\x03")), 65, {"x.gguf"});
  expect_exit(look(place.put("x.h5", "\x89HDF\r\n\x1a\n....")), 65, {"x.h5"});
  fs::create_directory(place.path() / "nothing");
  expect_exit(look(place.path() / "nothing"), 65, {"nothing: is nothing that adze knows"});
  expect_exit(run_program("adze-inspect", {}), 64);
}

TEST(InspectTool, DescribesGguf) {
  const Workplace place;
  const fs::path file = small_gguf(place, 2.0f);
  const Json json = json_of(file, {"--tensors"});
  EXPECT_EQ(json["kind"], "GGUF file");
  EXPECT_EQ(json["properties"]["version"], 3);
  EXPECT_EQ(json["properties"]["file_bytes"], fs::file_size(file));
  ASSERT_GE(json["metadata"].size(), 4U);
  EXPECT_EQ(json["metadata"][0]["value"], "\"llama\"");
  EXPECT_EQ(json["metadata"][1]["value"], "\"" + std::string(59, 'x') + "\"... (165 bytes)");  // not cut inside ä
  EXPECT_EQ(json["metadata"][2]["type"], "ARRAY of STRING");
  EXPECT_EQ(json["metadata"][2]["value"], R"(10 values: "word" "word" "word" "word" ...)");
  EXPECT_EQ(json["metadata"][3]["value"], "0.5");
  EXPECT_EQ(json["tensors"][1]["shape"], (Json{2, 32}));
  EXPECT_EQ(json["tensors"][1]["type"], "Q8_0");
  EXPECT_EQ(json["types"][1]["bits_per_weight"], 8.5);
}

TEST(InspectTool, VerifiesTheNumbersOfGguf) {
  const Workplace place;
  const Json json = json_of(small_gguf(place, 2.0f), {"--verify"});
  EXPECT_EQ(json["damage"], Json::array());
  EXPECT_FALSE(json["properties"].contains("tensors_of_blocks_not_decoded"));
  expect_damage(small_gguf(place, std::numeric_limits<float>::quiet_NaN()),
                "tensor 'plain': non-finite value at element 1");
}

TEST(InspectTool, DecodesTheBlocksOfGgufToVerifyThem) {
  const Workplace place;
  const fs::path file = small_gguf(place, 2.0f);
  std::string bytes = read_file(file);
  bytes.replace(bytes.size() - 96 + 34, 2, std::string("\x00\x7C", 2));  // an infinite scale for the second row
  Workplace::overwrite(file, bytes);
  expect_damage(file, "tensor 'blocks': non-finite value at element 32");
}

TEST(InspectTool, DescribesAndVerifiesAModelStore) {
  const Workplace place;
  const fs::path store = place.path() / "m.h5";
  expect_exit(run_program("adze-import", {demo_model().string(), "-o", store.string(), "--copy", "-q"}), 0);
  const Json json = json_of(store);
  EXPECT_EQ(json["kind"], "model store");
  EXPECT_EQ(json["properties"]["layers"], 6);
  EXPECT_EQ(json["properties"]["weights"], "copied into the store");
  expect_whole(store);
  flip(store, fs::file_size(store) / 2);
  expect_exit(look(store), 65, {"m.h5: its hash is"});
}

TEST(InspectTool, NoticesThatAStoresCheckpointChanged) {
  const Workplace place;
  const fs::path model = place.model();
  const fs::path store = place.path() / "m.h5";
  expect_exit(run_program("adze-import", {model.string(), "-o", store.string(), "-q"}), 0);
  EXPECT_EQ(json_of(store)["properties"]["weights"], "by reference");
  expect_whole(store);
  const auto time = fs::last_write_time(model / "model.safetensors");
  flip(model / "model.safetensors", fs::file_size(model / "model.safetensors") - 1);
  fs::last_write_time(model / "model.safetensors", time);  // as a failing disk would do it
  expect_damage(store, "its content has hash");
}

TEST(InspectTool, DescribesAndVerifiesACompressedModel) {
  const Workplace place;
  expect_exit(compress(place.recipe(rtn_recipe()), demo_model(), place.out()), 0);
  const Json json = json_of(place.out());
  EXPECT_EQ(json["kind"], "compressed model");
  EXPECT_EQ(json["properties"]["model"], "demo-llama");
  EXPECT_EQ(json["properties"]["calibration_windows"], 8);
  EXPECT_EQ(json["properties"]["solved_tensors"], 42);
  EXPECT_GT(json["properties"]["worst_relative_loss"], 0.0);
  EXPECT_EQ(json["types"].size(), 3U);
  EXPECT_EQ(json["types"][2]["type"], "gguf/q4_k");
  EXPECT_EQ(json["types"][2]["tensors"], 42);
  EXPECT_EQ(json["types"][2]["bits_per_weight"], 4.5);
  expect_whole(place.out());
  expect_whole(fs::path(place.out()) / "store");
  expect_whole(fs::path(place.out()) / "model.gguf");
  flip(fs::path(place.out()) / "model.gguf", 5000);
  expect_damage(place.out(), "model.gguf: missing, or not the");
  fs::remove(fs::path(place.out()) / "recipe.yaml");
  EXPECT_EQ(Json::parse(look(place.out(), {"--verify", "--json"}).out)["damage"].size(), 2U);
}

TEST(InspectTool, NoticesADamagedBlock) {
  const Workplace place;
  expect_exit(compress(place.recipe(rtn_recipe()), demo_model(), place.out()), 0);
  const fs::path block = fs::path(place.out()) / "store/block-0003.h5";
  flip(block, fs::file_size(block) / 2);
  expect_exit(look(place.out()), 65, {"block-0003.h5: its hash is"});
}

TEST(InspectTool, ManifestsMayNotPointElsewhere) {
  const Workplace place;
  expect_exit(compress(place.recipe(rtn_recipe()), demo_model(), place.out()), 0);
  const fs::path manifest = fs::path(place.out()) / "manifest.json";
  const std::string text = read_file(manifest);
  Workplace::overwrite(manifest, replaced(text, "\"model.gguf\"", "\"../model.gguf\""));
  expect_exit(look(place.out()), 65, {"the manifest lists '../model.gguf', which lies outside its folder"});
  Workplace::overwrite(manifest, replaced(text, "\"xxh3\"", "\"md5\""));
  expect_exit(look(place.out()), 65, {"the manifest's list of files is malformed"});
}

TEST(InspectTool, DescribesAnUnfinishedRun) {
  const Workplace place;
  ProgramOptions options;
  options.interruption = {SIGKILL, when_exists(fs::path(place.out()) / "store/block-0001.h5.xxh3")};
  const ProgramResult killed = compress(place.recipe(small_recipe()), demo_model(), place.out(), {}, options);
  ASSERT_EQ(killed.exit_code, -SIGKILL);
  const Json json = json_of(place.out(), {"--verify"});
  EXPECT_EQ(json["kind"], "unfinished run of adze-compress");
  EXPECT_GE(json["properties"]["blocks_stored"], 2);
  EXPECT_EQ(json["damage"], Json::array());
  flip(fs::path(place.out()) / "store/block-0000.h5", 3000);
  expect_damage(place.out(), "block-0000.h5: its hash is");
}

TEST(InspectTool, DescribesAndVerifiesStatistics) {
  const Workplace place;
  expect_exit(run_program("adze-calibrate", {demo_model().string(), "--set", bundled_text("code.yaml"), "--windows",
                                             "2", "--tokens", "64", "-o", place.out(), "-q"}),
              0);
  const Json json = json_of(place.out());
  EXPECT_EQ(json["kind"], "statistics");
  EXPECT_EQ(json["properties"]["finished"], true);
  EXPECT_EQ(json["properties"]["tokens"], 128);
  EXPECT_EQ(json["statistics"].size(), 25U);
  expect_whole(place.out());
  const fs::path out = place.out();
  fs::remove(out / "block-0002.h5");
  const Json unfinished = json_of(place.out());
  EXPECT_EQ(unfinished["properties"]["finished"], false);
  EXPECT_EQ(unfinished["properties"]["parts_measured"], "6 of 7");
  flip(out / "block-0001.h5", 3000);
  expect_damage(place.out(), "block-0001.h5: its hash is");
}

}  // namespace
}  // namespace adze::testing
