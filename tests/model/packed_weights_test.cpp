// Packed checkpoints of others: group indices, zero points, settings, and what is refused.
#include "model/packed/packed_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/safetensors_writer.h"

namespace adze {
namespace {

using namespace testing;
using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr std::size_t kHidden = 32, kVocab = 8;

/// A model of one block, 32 wide, whose linears are packed by hand, every code 5 of 4 bits, scale 0.5 (f16 0x3800).
class HandMade {
 public:
  explicit HandMade(Json quantization) {
    config = {{"model_type", "llama"},  {"hidden_size", kHidden},     {"intermediate_size", kHidden},
              {"num_hidden_layers", 1}, {"num_attention_heads", 2},   {"num_key_value_heads", 2},
              {"vocab_size", kVocab},   {"rms_norm_eps", 1e-5},       {"max_position_embeddings", 64},
              {"hidden_act", "silu"},   {"tie_word_embeddings", true}};
    config["quantization_config"] = std::move(quantization);
    put("model.embed_tokens.weight", SafetensorsType::f16, {kVocab, kHidden},
        std::string(2 * kVocab * kHidden, '\x3C'));
    for (const char* norm : {"model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"})
      put(std::string(norm) + ".weight", SafetensorsType::f16, {kHidden}, std::string(2 * kHidden, '\x3C'));
    for (const LinearInfo& info : block_linears(parse_architecture(config, "config.json")))
      put_gptq("model." + module_name(0, info));
  }

  void put_gptq(const std::string& base) {
    put(base + ".qweight", SafetensorsType::i32, {kHidden / 8, kHidden},
        std::string(kHidden / 8 * kHidden * 4, '\x55'));
    put(base + ".qzeros", SafetensorsType::i32, {2, kHidden / 8}, std::string(2 * kHidden / 8 * 4, '\x77'));
    put(base + ".scales", SafetensorsType::f16, {2, kHidden}, repeated(std::string("\x00\x38", 2), 2 * kHidden));
    std::string index;
    for (std::uint32_t k = 0; k < kHidden; ++k) index += raw(k / 16);
    put(base + ".g_idx", SafetensorsType::i32, {kHidden}, index);
  }
  void put(const std::string& name, SafetensorsType type, std::vector<std::uint64_t> shape, std::string bytes) {
    tensors[name] = {{name, type, std::move(shape)}, std::move(bytes)};
  }
  static std::string repeated(const std::string& text, std::size_t times) {
    std::string all;
    for (std::size_t i = 0; i < times; ++i) all += text;
    return all;
  }

  const fs::path& write() const {
    std::string text = config.dump();
    if (!quantization_text.empty()) {
      const std::string now = config["quantization_config"].dump();
      text.replace(text.find(now), now.size(), quantization_text);
    }
    folder.put("config.json", text);
    std::vector<SafetensorsItem> items;
    for (const auto& [name, tensor] : tensors) items.push_back({tensor.first, std::as_bytes(std::span(tensor.second))});
    write_safetensors(folder / "model.safetensors", items);
    return folder.path();
  }

  TempFolder folder;
  Json config;
  std::string quantization_text;  ///< instead of the one in config
  std::map<std::string, std::pair<SafetensorsSpec, std::string>> tensors;
};

Json gptq() { return {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 16}, {"desc_act", false}, {"sym", true}}; }

const std::string kUp = "model.layers.0.mlp.up_proj";

TensorPtr up_of(const HandMade& made) { return PackedWeights(made.write()).block(0)[LinearSlot::up].weight; }

TEST(PackedWeights, GptqOfTheFirstFormat) {
  const HandMade made(gptq());
  const TensorPtr up = up_of(made);
  EXPECT_EQ(up->format(), "int4 g16 sym");
  EXPECT_THAT(up->decode().values(), ::testing::Each(0.5f * (5 - 8)));  // stored zero points are one less
}

TEST(PackedWeights, GptqOfTheSecondFormat) {
  HandMade made(gptq());
  made.config["quantization_config"]["checkpoint_format"] = "gptq_v2";
  const TensorPtr up = up_of(made);
  EXPECT_EQ(up->format(), "int4 g16 asym");  // 7 is not the middle, whatever `sym` says
  EXPECT_THAT(up->decode().values(), ::testing::Each(0.5f * (5 - 7)));
}

TEST(PackedWeights, ActivationOrderBecomesFloats) {
  HandMade made(gptq());
  std::string index, scales;
  for (std::uint32_t k = 0; k < kHidden; ++k) index += raw(k % 2);
  scales =
      HandMade::repeated(std::string("\x00\x38", 2), kHidden) + HandMade::repeated(std::string("\x00\x3C", 2), kHidden);
  made.put(kUp + ".g_idx", SafetensorsType::i32, {kHidden}, index);
  made.put(kUp + ".scales", SafetensorsType::f16, {2, kHidden}, scales);
  const TensorPtr up = up_of(made);
  EXPECT_EQ(up->format(), "f32");
  const MatrixF values = up->decode();
  for (std::size_t c = 0; c < kHidden; ++c) EXPECT_EQ(values(3, c), (c % 2 == 0 ? 0.5f : 1.0f) * (5 - 8));
}

TEST(PackedWeights, ModulesThatStayFloatsAndThoseOfOtherWidths) {
  HandMade made(gptq());
  const std::string down = "model.layers.0.mlp.down_proj";
  made.config["quantization_config"]["dynamic"] = {{"-:.*\\.up_proj$", Json::object()},
                                                   {"+:.*\\.mlp\\.down_proj", {{"bits", 8}, {"group_size", -1}}}};
  for (const char* suffix : {".qweight", ".qzeros", ".scales", ".g_idx"}) made.tensors.erase(kUp + suffix);
  made.put(kUp + ".weight", SafetensorsType::f16, {kHidden, kHidden}, std::string(2 * kHidden * kHidden, '\x3C'));
  made.put(down + ".qweight", SafetensorsType::i32, {kHidden / 4, kHidden}, std::string(kHidden * kHidden, '\x05'));
  made.put(down + ".qzeros", SafetensorsType::i32, {1, kHidden / 4}, std::string(kHidden, '\x7F'));
  made.put(down + ".scales", SafetensorsType::f16, {1, kHidden},
           HandMade::repeated(std::string("\x00\x38", 2), kHidden));
  made.put(down + ".g_idx", SafetensorsType::i32, {kHidden}, std::string(4 * kHidden, '\0'));
  const PackedWeights model(made.write());
  EXPECT_EQ(model.block(0)[LinearSlot::up].weight->format(), "f16");
  EXPECT_EQ(model.block(0)[LinearSlot::down].weight->format(), "int8 channel sym");
  EXPECT_THAT(model.block(0)[LinearSlot::down].weight->decode().values(), ::testing::Each(0.5f * (5 - 128)));
}

/// The first pattern of the file counts, not of the alphabet.
TEST(PackedWeights, OverlappingPatternsAreTriedInOrder) {
  HandMade made(gptq());
  made.quantization_text =
      R"({"quant_method":"gptq","bits":4,"group_size":16,"sym":true,"dynamic":{"+:model.*":{"sym":true},"+:.*":{"bits":8}}})";
  EXPECT_EQ(up_of(made)->format(), "int4 g16 sym");
}

TEST(PackedWeights, SeenAsASourceOfFloats) {
  const HandMade made(gptq());
  const PackedSource source(std::make_shared<const PackedWeights>(made.write()));
  const TensorInfo* const up = source.find(kUp + ".weight");
  ASSERT_NE(up, nullptr);
  EXPECT_EQ(up->dtype, DType::f32);
  EXPECT_EQ(up->bytes, 4 * kHidden * kHidden);
  float value = 0;
  source.read(*up, 4 * (5 * kHidden + 7), std::as_writable_bytes(std::span(&value, 1)));
  EXPECT_EQ(value, -1.5f);
  const TensorInfo* const norm = source.find("model.norm.weight");
  EXPECT_EQ(norm->dtype, DType::f16);  // as it is
  std::uint16_t half = 0;
  source.read(*norm, 4, std::as_writable_bytes(std::span(&half, 1)));
  EXPECT_EQ(half, 0x3C3C);
  EXPECT_THROW(source.read(*up, up->bytes - 2, std::as_writable_bytes(std::span(&value, 1))), Error);
}

void refuses(const HandMade& made, std::string_view words) {
  expect_error(ErrorKind::bad_data, words, [&] {
    const PackedWeights model(made.write());
    model.block(0);
  });
}

TEST(PackedWeights, RefuseWhatCannotBe) {
  const auto changed = [](const std::function<void(HandMade&)>& change, std::string_view words) {
    SCOPED_TRACE(words);
    HandMade made(gptq());
    change(made);
    refuses(made, words);
  };
  const auto quantization = [](const char* key, Json value) {
    return [=](HandMade& made) { made.config["quantization_config"][key] = value; };
  };
  changed(quantization("bits", 7), "7 bits are not supported");
  changed(quantization("bits", "four"), "bits");
  changed(quantization("bits", 8), "qweight' is I32 [4, 32], the configuration asks for I32 [8, 32]");
  changed(quantization("group_size", 24), "do not divide into groups of 24");
  changed(quantization("group_size", 0), "'group_size' is 0");
  changed(quantization("checkpoint_format", "marlin"), "checkpoint_format 'marlin' is not supported");
  changed(quantization("dynamic", {{"+:(", {{"bits", 8}}}}), "config.json: dynamic '+:(': ");
  changed([](HandMade& made) { made.tensors.erase(kUp + ".scales"); }, "scales' is missing");
  changed([](HandMade& made) { made.tensors.erase(kUp + ".qweight"); },
          "tensor 'model.layers.0.mlp.up_proj.weight' is missing");
  changed([](HandMade& made) { made.put("more", SafetensorsType::u8, {1}, "x"); }, "tensor 'more' is not part of");
  changed(
      [](HandMade& made) { made.put(kUp + ".g_idx", SafetensorsType::i32, {kHidden}, std::string(4 * kHidden, '\2')); },
      "g_idx: input 0 is of group 33686018, there are 2");
  changed(
      [](HandMade& made) {
        made.put(kUp + ".qzeros", SafetensorsType::i32, {2, kHidden / 8}, std::string(kHidden, '\xFF'));
      },
      "a zero point of 15 in format v1, which readers take for 0 or for 16");
  changed(
      [](HandMade& made) {
        made.put(kUp + ".scales", SafetensorsType::f16, {2, kHidden},
                 HandMade::repeated(std::string("\x00\x7C", 2), 2 * kHidden));
      },
      "a scale is not finite");
  changed(
      [](HandMade& made) {
        made.put(kUp + ".scales", SafetensorsType::i8, {2, kHidden}, std::string(2 * kHidden, 'x'));
      },
      "asks for F16, BF16 or F32");
}

TEST(PackedWeights, KnowWhatTheyDoNotKnow) {
  const Json config{{"quantization_config", {{"quant_method", "bitsandbytes"}}}};
  expect_error(ErrorKind::bad_data,
               "config.json: weights are packed by 'bitsandbytes', which is not supported; gptq, awq, "
               "compressed-tensors, mlx are",
               [&] { is_packed_config(config, "config.json"); });
  EXPECT_FALSE(is_packed_config(Json{{"quantization_config", nullptr}}, ""));
  EXPECT_FALSE(is_packed_config(Json::array(), ""));
}

}  // namespace
}  // namespace adze
