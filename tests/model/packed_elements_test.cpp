// compressed-tensors checkpoints of others: plain int8 and fp8 with scales of every kind, small floats, what is
// refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <functional>
#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/safetensors_writer.h"
#include "grid/minifloat/minifloat.h"
#include "model/packed/packed_weights.h"

namespace adze {
namespace {

using namespace testing;
using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr std::size_t kHidden = 32, kVocab = 8;
const std::string kUp = "model.layers.0.mlp.up_proj";

std::string repeated(const std::string& text, std::size_t times) {
  std::string all;
  for (std::size_t i = 0; i < times; ++i) all += text;
  return all;
}
std::string f32(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) bytes += raw(std::bit_cast<std::uint32_t>(value));
  return bytes;
}

/// A model of one block, 32 wide. up_proj is packed by a test; the other linears are f16.
class OneLinear {
 public:
  explicit OneLinear(Json weights, const std::string& format) {
    config = {{"model_type", "llama"},  {"hidden_size", kHidden},     {"intermediate_size", kHidden},
              {"num_hidden_layers", 1}, {"num_attention_heads", 2},   {"num_key_value_heads", 2},
              {"vocab_size", kVocab},   {"rms_norm_eps", 1e-5},       {"max_position_embeddings", 64},
              {"hidden_act", "silu"},   {"tie_word_embeddings", true}};
    config["quantization_config"] = {
        {"quant_method", "compressed-tensors"},
        {"format", format},
        {"config_groups", {{"group_0", {{"targets", {kUp}}, {"weights", std::move(weights)}}}}}};
    const auto ones = [&](const std::string& name, std::vector<std::uint64_t> shape, std::size_t count) {
      put(name, SafetensorsType::f16, std::move(shape), repeated(std::string("\x00\x3C", 2), count));
    };
    ones("model.embed_tokens.weight", {kVocab, kHidden}, kVocab * kHidden);
    for (const char* norm : {"model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"})
      ones(std::string(norm) + ".weight", {kHidden}, kHidden);
    for (const LinearInfo& info : block_linears(parse_architecture(config, "config.json")))
      if ("model." + module_name(0, info) != kUp)
        ones("model." + module_name(0, info) + ".weight", {kHidden, kHidden}, kHidden * kHidden);
  }

  OneLinear& put(const std::string& name, SafetensorsType type, std::vector<std::uint64_t> shape, std::string bytes) {
    tensors[name] = {{name, type, std::move(shape)}, std::move(bytes)};
    return *this;
  }
  OneLinear& up(const std::string& suffix, SafetensorsType type, std::vector<std::uint64_t> shape, std::string bytes) {
    return put(kUp + suffix, type, std::move(shape), std::move(bytes));
  }

  TensorPtr read() const {
    const TempFolder folder;
    folder.put("config.json", config.dump());
    std::vector<SafetensorsItem> items;
    for (const auto& [name, tensor] : tensors) items.push_back({tensor.first, std::as_bytes(std::span(tensor.second))});
    write_safetensors(folder / "model.safetensors", items);
    return PackedWeights(folder.path()).block(0)[LinearSlot::up].weight;
  }

  Json config;
  std::map<std::string, std::pair<SafetensorsSpec, std::string>> tensors;
};

Json fp8(const char* strategy) { return {{"num_bits", 8}, {"type", "float"}, {"strategy", strategy}}; }
Json int8(const char* strategy) { return {{"num_bits", 8}, {"type", "int"}, {"strategy", strategy}}; }

/// Every element 1.5 (0x3C) but the last of a row, -448 (0xFE).
std::string fp8_codes() { return repeated(std::string(kHidden - 1, '\x3C') + "\xFE", kHidden); }

TEST(PackedElements, Fp8WithOneScaleForTheMatrix) {
  OneLinear made(fp8("tensor"), "float-quantized");
  made.up(".weight", SafetensorsType::f8_e4m3, {kHidden, kHidden}, fp8_codes())
      .up(".weight_scale", SafetensorsType::bf16, {1}, std::string("\x00\x3F", 2))  // 0.5
      .up(".input_scale", SafetensorsType::f32, {1}, f32({0.1f}));
  const TensorPtr up = made.read();
  EXPECT_EQ(up->format(), "fp8");
  const MatrixF values = up->decode();
  EXPECT_EQ(values(3, 0), 0.75f);
  EXPECT_EQ(values(31, 31), -224.0f);
}

TEST(PackedElements, Fp8InBlocks) {
  for (const Json& structure : {Json{24, 16}, Json("24x16")}) {  // the last blocks have eight rows
    Json weights = fp8("block");
    weights["block_structure"] = structure;
    OneLinear made(weights, "float-quantized");
    made.up(".weight", SafetensorsType::f8_e4m3, {kHidden, kHidden}, fp8_codes())
        .up(".weight_scale", SafetensorsType::f32, {2, 2}, f32({1, 2, 3, 4}));
    const TensorPtr up = made.read();
    EXPECT_EQ(up->format(), "fp8 g16");
    const MatrixF values = up->decode();
    EXPECT_EQ(values(23, 15), 1.5f);
    EXPECT_EQ(values(23, 16), 3.0f);
    EXPECT_EQ(values(24, 15), 4.5f);
    EXPECT_EQ(values(24, 16), 6.0f);
  }
}

TEST(PackedElements, Int8OfEveryStrategy) {
  const std::string codes = repeated(std::string("\x80\xFF\x00\x7F", 4), kHidden * kHidden / 4);  // -128, -1, 0, 127
  OneLinear channel(int8("channel"), "int-quantized");
  channel.up(".weight", SafetensorsType::i8, {kHidden, kHidden}, codes)
      .up(".weight_scale", SafetensorsType::f16, {kHidden, 1}, repeated(std::string("\x00\x38", 2), kHidden));
  EXPECT_EQ(channel.read()->format(), "int8 channel sym");
  EXPECT_EQ(channel.read()->decode()(5, 0), -64.0f);
  EXPECT_EQ(channel.read()->decode()(5, 7), 63.5f);

  Json weights = int8("group");
  weights["group_size"] = 16;
  weights["symmetric"] = false;
  OneLinear group(weights, "naive-quantized");
  group.up(".weight", SafetensorsType::i8, {kHidden, kHidden}, codes)
      .up(".weight_scale", SafetensorsType::f16, {kHidden, 2}, repeated(std::string("\x00\x38", 2), 2 * kHidden))
      .up(".weight_zero_point", SafetensorsType::i8, {kHidden, 2}, repeated("\xFE", 2 * kHidden));  // -2
  EXPECT_EQ(group.read()->format(), "int8 g16 asym");
  EXPECT_EQ(group.read()->decode()(5, 1), 0.5f);

  OneLinear tensor(int8("tensor"), "int-quantized");
  tensor.up(".weight", SafetensorsType::i8, {kHidden, kHidden}, codes)
      .up(".weight_scale", SafetensorsType::f16, {1}, std::string("\x00\x38", 2));
  EXPECT_EQ(tensor.read()->decode()(5, 1), -0.5f);
}

OneLinear nvfp4(float divisor) {
  OneLinear made({{"num_bits", 4}, {"type", "float"}, {"strategy", "tensor_group"}, {"group_size", 16}},
                 "nvfp4-pack-quantized");
  made.up(".weight_packed", SafetensorsType::u8, {kHidden, kHidden / 2},
          repeated("\xA1\x87", kHidden * kHidden / 4))                                             // 0.5, -1, 6, -0
      .up(".weight_scale", SafetensorsType::f8_e4m3, {kHidden, 2}, repeated("\x40", 2 * kHidden))  // 2
      .up(".weight_global_scale", SafetensorsType::f32, {1}, f32({divisor}));
  return made;
}

TEST(PackedElements, Nvfp4HasTheDivisorThatTheFileSays) {
  const TensorPtr up = nvfp4(8.0f).read();
  EXPECT_EQ(up->format(), "nvfp4 / 8");
  const MatrixF values = up->decode();
  EXPECT_EQ(values(2, 0), 0.125f);
  EXPECT_EQ(values(2, 1), -0.25f);
  EXPECT_EQ(values(2, 2), 1.5f);
  EXPECT_EQ(values(2, 3), 0.0f);
  EXPECT_EQ(nvfp4(kNvfp4Divisor).read()->format(), "nvfp4");
}

TEST(PackedElements, ScalesOfACacheAreTheRuntimes) {
  OneLinear made = nvfp4(8.0f);
  made.put("model.layers.0.self_attn.k_scale", SafetensorsType::f32, {1}, f32({0.1f}));
  EXPECT_NO_THROW(made.read());
  made.put("model.layers.0.self_attn.k_shift", SafetensorsType::f32, {1}, f32({0.1f}));
  expect_error(ErrorKind::bad_data, "k_shift' is not part of the architecture", [&] { made.read(); });
}

OneLinear sparse_24() {
  OneLinear made(int8("channel"), "dense");
  made.config["quantization_config"].erase("config_groups");
  made.config["quantization_config"]["sparsity_config"] = {{"format", "sparse-24-bitmask"},
                                                           {"sparsity_structure", "2:4"}};
  // Columns 0 and 3 of the first four, 1 and 2 of the next: 1001, 0110 from the lowest bit; values 1 and 2 in turns.
  made.up(".bitmask", SafetensorsType::u8, {kHidden, kHidden / 8}, repeated("\x69", kHidden * kHidden / 8))
      .up(".compressed", SafetensorsType::f16, {kHidden, kHidden / 2},
          repeated(std::string("\x00\x3C\x00\x40", 4), kHidden * kHidden / 4))
      .up(".shape", SafetensorsType::i64, {2, 1}, raw(std::uint64_t{kHidden}) + raw(std::uint64_t{kHidden}));
  return made;
}

TEST(PackedElements, TwoOfFourKeepTheirMask) {
  const TensorPtr up = sparse_24().read();
  EXPECT_EQ(up->format(), "f16, 2:4");
  const MatrixF values = up->decode();
  const std::array<float, 8> row{1, 0, 0, 2, 0, 1, 2, 0};
  for (std::size_t c = 0; c < kHidden; ++c) EXPECT_EQ(values(7, c), row[c % 8]) << c;
  const auto refuses = [](std::string_view words, const std::function<void(OneLinear&)>& spoil) {
    OneLinear made = sparse_24();
    spoil(made);
    expect_error(ErrorKind::bad_data, words, [&] { made.read(); });
  };
  refuses("row 0, columns from 0 on: 3 of four are kept", [](OneLinear& made) {
    made.up(".bitmask", SafetensorsType::u8, {kHidden, kHidden / 8}, repeated("\x6B", kHidden * kHidden / 8));
  });
  refuses("shape says 32 x 16", [](OneLinear& made) {
    made.up(".shape", SafetensorsType::i64, {2, 1}, raw(std::uint64_t{kHidden}) + raw(std::uint64_t{kHidden / 2}));
  });
  refuses("compressed' is F16 [32, 8]", [](OneLinear& made) {
    made.up(".compressed", SafetensorsType::f16, {kHidden, kHidden / 4}, std::string(kHidden * kHidden / 2, 'x'));
  });
  refuses("format 'marlin-24' is not supported",
          [](OneLinear& made) { made.config["quantization_config"]["sparsity_config"]["format"] = "marlin-24"; });
}

TEST(PackedElements, RefuseWhatCannotBe) {
  for (const float divisor : {0.0f, -1.0f, NAN, INFINITY})
    expect_error(ErrorKind::bad_data, "weight_global_scale is", [&] { nvfp4(divisor).read(); });
  OneLinear negative = nvfp4(8.0f);
  negative.up(".weight_scale", SafetensorsType::f8_e4m3, {kHidden, 2}, repeated("\xC0", 2 * kHidden));
  expect_error(ErrorKind::bad_data, "a scale is NaN or negative", [&] { negative.read(); });
  OneLinear narrow = nvfp4(8.0f);
  narrow.up(".weight_packed", SafetensorsType::u8, {kHidden, kHidden / 4}, std::string(kHidden * kHidden / 4, 'a'));
  expect_error(ErrorKind::bad_data, "weight_packed' is U8 [32, 8]", [&] { narrow.read(); });

  OneLinear nan(fp8("tensor"), "float-quantized");
  nan.up(".weight", SafetensorsType::f8_e4m3, {kHidden, kHidden}, std::string(kHidden * kHidden, '\x7F'))
      .up(".weight_scale", SafetensorsType::f32, {1}, f32({1}));
  expect_error(ErrorKind::bad_data, "an E4M3 value is NaN", [&] { nan.read(); });
  nan.up(".weight_scale", SafetensorsType::f32, {1}, f32({INFINITY}));
  expect_error(ErrorKind::bad_data, "a scale is inf", [&] { nan.read(); });

  OneLinear huge(fp8("tensor"), "float-quantized");
  huge.up(".weight", SafetensorsType::f8_e4m3, {kHidden, kHidden}, fp8_codes())
      .up(".weight_scale", SafetensorsType::f32, {1}, f32({3e38f}));
  expect_error(ErrorKind::bad_data, "non-finite value inf at element 0", [&] { huge.read(); });
  expect_error(ErrorKind::bad_data, "non-finite value inf at element 2", [&] { nvfp4(1e-38f).read(); });

  Json asymmetric = int8("channel");
  asymmetric["symmetric"] = false;
  OneLinear without(asymmetric, "int-quantized");
  without.up(".weight", SafetensorsType::i8, {kHidden, kHidden}, std::string(kHidden * kHidden, 'x'))
      .up(".weight_scale", SafetensorsType::f16, {kHidden, 1}, repeated(std::string("\x00\x38", 2), kHidden));
  expect_error(ErrorKind::bad_data, "weight_zero_point is missing", [&] { without.read(); });
  expect_error(ErrorKind::bad_data, "strategy 'tensor_group' is not supported",
               [&] { OneLinear(fp8("tensor_group"), "float-quantized").read(); });
  Json thin = fp8("block");
  thin["block_structure"] = {128, 1};
  OneLinear columns(thin, "float-quantized");
  columns.up(".weight", SafetensorsType::f8_e4m3, {kHidden, kHidden}, fp8_codes())
      .up(".weight_scale", SafetensorsType::f32, {1, kHidden}, f32(std::vector<float>(kHidden, 1.0f)));
  expect_error(ErrorKind::bad_data, "group: 1 is not between", [&] { columns.read(); });

  Json uneven = fp8("block");
  uneven["block_structure"] = {16, 24};
  OneLinear blocks(uneven, "float-quantized");
  blocks.up(".weight", SafetensorsType::f8_e4m3, {kHidden, kHidden}, fp8_codes())
      .up(".weight_scale", SafetensorsType::f32, {2, 2}, f32({1, 2, 3, 4}));
  expect_error(ErrorKind::bad_data, "do not divide into blocks of 24", [&] { blocks.read(); });
  for (const Json& structure : {Json{16}, Json{0, 16}, Json{1.5, 16}, Json{-1, 16}, Json(""), Json("16"), Json("0x16"),
                                Json("16x16x16"), Json("16x"), Json("x16"), Json("-1x16"), Json("16 x 16")}) {
    Json weights = fp8("block");
    weights["block_structure"] = structure;
    expect_error(ErrorKind::bad_data, "block_structure is not", [&] { OneLinear(weights, "float-quantized").read(); });
  }
  expect_error(ErrorKind::bad_data, "strategy 'token' is not supported",
               [&] { OneLinear(int8("token"), "int-quantized").read(); });
  expect_error(ErrorKind::bad_data, "format 'marlin-24' with weights of type 'int' is not supported",
               [&] { OneLinear(int8("channel"), "marlin-24").read(); });
  expect_error(ErrorKind::bad_data, "strategy 'group' without a group_size",
               [&] { OneLinear(int8("group"), "int-quantized").read(); });
}

}  // namespace
}  // namespace adze
