// Models read from GGUF files that others wrote: what is understood, and what is refused by name.
#include "model/gguf_weights.h"

#include <array>
#include <cstring>
#include <functional>
#include <numeric>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/dtype.h"
#include "checkpoint/checkpoint_testing.h"
#include "model/gguf_testing.h"
#include "model/rope.h"

namespace adze {
namespace {

using namespace testing;
using Parts = GgufParts;
using ::testing::ElementsAre;
using ::testing::SizeIs;

TEST(GgufRowOrder, IsThatOfTheSheet) {
  EXPECT_THAT(gguf_row_order(8, 1), ElementsAre(0, 4, 1, 5, 2, 6, 3, 7));
  EXPECT_THAT(gguf_row_order(8, 2), ElementsAre(0, 2, 1, 3, 4, 6, 5, 7));
  EXPECT_THAT(gguf_row_order(3, 0), ElementsAre(0, 1, 2));
  expect_error(ErrorKind::internal, "9 rows are not 2 heads", [] { gguf_row_order(9, 2); });
  expect_error(ErrorKind::internal, "6 rows are not 2 heads of an even number", [] { gguf_row_order(6, 2); });
}

/// The golden block of the fact sheet, section 5.20; scales 1, 2.25, 5 * 2^-9 and 448.
TEST(GgufWeights, DecodeNvfp4AsTheSheetSays) {
  std::vector<std::byte> block(36);
  for (std::size_t k = 0; k < block.size(); ++k) block[k] = static_cast<std::byte>((37 * k + 11) % 256);
  const std::array<int, 4> scales{0x38, 0x41, 0x05, 0x7E};
  for (std::size_t k = 0; k < 4; ++k) block[k] = static_cast<std::byte>(scales[k]);
  const GgufReadableType& type = *find_readable_gguf_type("NVFP4");
  const TensorPtr tensor = tensor_of_gguf(type, {1, 64}, block, 1.0f);
  EXPECT_EQ(tensor->format(), "nvfp4 / 1");
  const MatrixF decoded = tensor->decode();
  const std::span<const float> x = decoded.values();
  EXPECT_THAT(x.first(4), ElementsAre(-6, 2, -0.5f, -4));
  EXPECT_THAT(x.subspan(32, 4), ElementsAre(-0.05859375f, 0.01953125f, -0.0048828125f, -0.0390625f));
  EXPECT_THAT(x.last(4), ElementsAre(-448, -1344, -2688, 224));
  double sum = 0, weighted = 0;
  for (std::size_t i = 0; i < 64; ++i) {
    sum += double{x[i]};
    weighted += static_cast<double>(i + 1) * double{x[i]};
  }
  EXPECT_EQ(sum, 2469.083984375);
  EXPECT_EQ(weighted, 96719.9111328125);
  EXPECT_EQ(tensor_of_gguf(type, {1, 64}, block, 0x1p-9f)->format(), "nvfp4");
  EXPECT_EQ(tensor_of_gguf(type, {1, 64}, block, 0.75f)->format(), "f32");
  EXPECT_EQ(tensor_of_gguf(type, {1, 64}, block, 0.75f)->decode()(0, 0), -4.5f);
  block[2] = std::byte{0x7F};
  expect_error(ErrorKind::bad_data, "a scale is NaN", [&] { tensor_of_gguf(type, {1, 64}, block, 1.0f); });
}

TEST(GgufWeights, ReadTheModelOfACheckpointBack) {
  const Architecture a = gguf_architecture();
  const TempFolder folder;
  const GgufWeights model(gguf_parts_of(a).write(folder));
  EXPECT_EQ(model.architecture(), a);  // 1e-5 too, although the file has the float next to it
  const CheckpointWeights original = random_model(a);
  EXPECT_EQ(model.embedding()->decode(), original.embedding()->decode());
  EXPECT_EQ(model.head()->decode(), original.head()->decode());
  EXPECT_EQ(model.final_norm(), original.final_norm());
  const BlockWeights block = model.block(1), expected = original.block(1);
  EXPECT_EQ(block[NormSlot::before_attention], expected[NormSlot::before_attention]);
  EXPECT_EQ(block[NormSlot::before_ffn], expected[NormSlot::before_ffn]);
  for (const LinearInfo& info : block_linears(a)) {
    EXPECT_EQ(block[info.slot].weight->decode(), expected[info.slot].weight->decode()) << info.module;
    EXPECT_EQ(block[info.slot].bias, expected[info.slot].bias) << info.module;
  }
  expect_error(ErrorKind::internal, "block 2 of a model with 2", [&] { model.block(2); });
}

TEST(GgufWeights, KnowTheDefaultsOfTheFormat) {
  Architecture a = gguf_architecture();
  a.kv_heads = a.heads;
  a.heads = a.kv_heads = 3;  // 24 / 3 = 8: the head_dim that is derived
  Parts parts = gguf_parts_of(a);
  for (const char* const key : {"attention.head_count_kv", "attention.key_length", "rope.freq_base"})
    parts.drop_key(std::string("llama.") + key);
  const TempFolder folder;
  EXPECT_EQ(GgufWeights(parts.write(folder)).architecture(), a);
}

TEST(GgufWeights, TakeSpecialIdsFromTheTokenizerKeys) {
  Parts parts = gguf_parts_of(gguf_architecture());
  parts.metadata.push_back({"tokenizer.ggml.bos_token_id", std::uint32_t{3}});
  parts.metadata.push_back({"tokenizer.ggml.eos_token_id", std::uint32_t{7}});
  const TempFolder folder;
  const GgufWeights model(parts.write(folder));
  EXPECT_EQ(model.architecture().bos_id, 3);
  EXPECT_THAT(model.architecture().eos_ids, ElementsAre(7));
}

TEST(GgufWeights, IgnoreTrailingDimensionsOfOne) {
  Parts parts = gguf_parts_of(gguf_architecture());
  parts.tensors[parts.index("blk.0.attn_q.bias")].dims.push_back(1);
  parts.tensors[parts.index("output_norm.weight")].dims.push_back(1);
  const TempFolder folder;
  const GgufWeights model(parts.write(folder));
  EXPECT_EQ(model.block(0)[LinearSlot::q].bias, random_model(gguf_architecture()).block(0)[LinearSlot::q].bias);
  EXPECT_THAT(model.final_norm(), SizeIs(24));
}

TEST(GgufWeights, ReadBlocksOfTheGridsInGgufRowOrder) {
  Architecture a = gguf_architecture();
  a.hidden = 256;
  Parts parts = gguf_parts_of(a);
  const std::string name = "blk.0.attn_k.weight";  // 16 rows, 2 heads
  parts.store_as(name, "Q8_0");
  const std::size_t row_bytes = 256 / 32 * 34;
  for (std::size_t row = 0; row < 16; ++row) {  // scale 1, first value = row
    parts.data[parts.index(name)][row * row_bytes + 1] = std::byte{0x3C};
    parts.data[parts.index(name)][row * row_bytes + 2] = static_cast<std::byte>(row);
  }
  parts.store_as("blk.0.ffn_up.weight", "Q4_K");
  parts.store_as("blk.0.ffn_gate.weight", "Q4_0");
  parts.store_as("blk.1.ffn_gate.weight", "F16");
  parts.store_as("blk.1.ffn_up.weight", "BF16");
  const TempFolder folder;
  const GgufWeights model(parts.write(folder));
  const BlockWeights block = model.block(0);
  const MatrixF k = block[LinearSlot::k].weight->decode();
  const std::vector<std::size_t> order = gguf_row_order(16, 2);
  for (std::size_t row = 0; row < 16; ++row) EXPECT_EQ(k(order[row], 0), static_cast<float>(row));
  EXPECT_EQ(block[LinearSlot::k].weight->format(), "gguf/q8_0");
  EXPECT_EQ(block[LinearSlot::up].weight->format(), "gguf/q4_k");
  EXPECT_EQ(block[LinearSlot::gate].weight->format(), "gguf/q4_0");
  EXPECT_EQ(model.block(1)[LinearSlot::gate].weight->format(), "f16");
  EXPECT_EQ(model.block(1)[LinearSlot::up].weight->format(), "bf16");
}

TEST(GgufWeights, ScalesOfNvfp4AreOneFloat) {
  Architecture a = gguf_architecture();
  a.hidden = 256;
  const std::string name = "blk.0.ffn_up.weight", scale = "blk.0.ffn_up.scale";
  const auto with_scale = [&](const std::function<void(Parts&)>& spoil) {
    Parts parts = gguf_parts_of(a);
    parts.store_as(name, "NVFP4");
    const float half = 0.5f;
    parts.add(scale, {1}, std::span(&half, 1));
    spoil(parts);
    const TempFolder folder;
    return GgufWeights(parts.write(folder)).block(0)[LinearSlot::up].weight->format();
  };
  EXPECT_EQ(with_scale([](Parts&) {}), "nvfp4 / 2");
  const auto refuses = [&](std::string_view words, const std::function<void(Parts&)>& spoil) {
    expect_error(ErrorKind::bad_data, words, [&] { with_scale(spoil); });
  };
  refuses("scale' has type NVFP4, scales are floats", [&](Parts& parts) {
    parts.tensors[parts.index(scale)].dims = {64};
    parts.store_as(scale, "NVFP4");
  });
  refuses("scale' is not one positive number", [&](Parts& parts) {
    parts.drop_tensor(scale);
    const std::array<float, 2> two{1, 1};
    parts.add(scale, {2}, two);
  });
  refuses("scale' is not one positive number", [&](Parts& parts) {
    parts.drop_tensor(scale);
    const float negative = -1;
    parts.add(scale, {1}, std::span(&negative, 1));
  });
  refuses("is not part of the architecture", [&](Parts& parts) { parts.store_as(name, "Q8_0"); });
}

/// Divisors in float32, as converters compute them.
std::vector<float> float_divisors(const RopeSpec& rope, std::size_t head_dim) {
  std::vector<float> divisors;
  for (const double d : rope_divisors(rope, head_dim)) divisors.push_back(static_cast<float>(d) * 1.000001f);
  return divisors;
}

TEST(GgufWeights, RecogniseTheDivisorsOfPublishedLlama3Models) {
  Architecture a = gguf_architecture();
  a.head_dim = 64;
  a.rope.theta = 500000;
  a.rope.kind = RopeKind::llama3;
  for (const double factor : {8.0, 32.0}) {  // Llama 3.1 and 3.2
    a.rope.factor = factor;
    Parts parts = gguf_parts_of(a);
    parts.add(std::string(kGgufRopeDivisors), {32}, float_divisors(a.rope, 64));
    const TempFolder folder;
    const RopeSpec rope = GgufWeights(parts.write(folder)).architecture().rope;
    EXPECT_EQ(rope.kind, RopeKind::llama3);
    EXPECT_NEAR(rope.factor, factor, 1e-4);
    EXPECT_EQ(rope.original_max_positions, 8192u);
  }
}

/// What a file says that has these two keys, each only when given.
RopeSpec rope_said(std::optional<float> factor, std::optional<float> older, std::optional<std::string> type = {}) {
  Parts parts = gguf_parts_of(gguf_architecture());
  if (factor) parts.metadata.push_back({"llama.rope.scaling.factor", *factor});
  if (older) parts.metadata.push_back({"llama.rope.scale_linear", *older});
  if (type) parts.metadata.push_back({"llama.rope.scaling.type", *type});
  const TempFolder folder;
  return GgufWeights(parts.write(folder)).architecture().rope;
}

TEST(GgufWeights, ScaleLinearlyWhereOnlyAFactorIsStated) {
  for (const RopeSpec& rope :
       {rope_said(4.f, {}), rope_said({}, 4.f), rope_said(4.f, 2.f), rope_said({}, 4.f, "linear")}) {
    EXPECT_EQ(rope.kind, RopeKind::linear);
    EXPECT_EQ(rope.factor, 4.0);
  }
  for (const RopeSpec& rope :
       {rope_said(1.f, {}), rope_said(0.f, {}), rope_said(0.f, 2.f), rope_said(4.f, 2.f, "none")})
    EXPECT_EQ(rope.kind, RopeKind::none);
}

TEST(GgufWeights, RefuseALinearFactorBesideDivisors) {
  Architecture a = gguf_architecture();
  a.head_dim = 64;
  a.rope.kind = RopeKind::llama3;
  a.rope.factor = 8;
  Parts parts = gguf_parts_of(a);
  parts.add(std::string(kGgufRopeDivisors), {32}, float_divisors(a.rope, 64));
  parts.metadata.push_back({"llama.rope.scaling.factor", 1.0f});
  const TempFolder folder;
  EXPECT_EQ(GgufWeights(parts.write(folder)).architecture().rope.kind, RopeKind::llama3);
  parts.value("llama.rope.scaling.factor") = 2.0f;
  expect_error(ErrorKind::bad_data, "linear factor of 2 and by tensor 'rope_freqs.weight' together",
               [&] { GgufWeights(parts.write(folder)); });
}

TEST(GgufWeights, TakeDivisorsOfNoKnownRuleAsTheyAreButNotUnderTheNameOfOne) {
  Architecture a = gguf_architecture();
  a.head_dim = 64;
  std::vector<float> divisors(32, 1.0f);
  divisors[31] = 8.0f;
  divisors[3] = 2.5f;
  Parts parts = gguf_parts_of(a);
  parts.add(std::string(kGgufRopeDivisors), {32}, divisors);
  const TempFolder folder;
  const RopeSpec rope = GgufWeights(parts.write(folder)).architecture().rope;
  EXPECT_EQ(rope.kind, RopeKind::longrope);
  EXPECT_THAT(rope.divisors, ::testing::ElementsAreArray(divisors));
  parts.metadata.push_back({std::string(kGgufRopeFactor), 8.0f});
  expect_error(ErrorKind::bad_data, "element 3 is 2.5, but the llama3 rule with factor 8, low 1, high 4, context 8192",
               [&] { GgufWeights(parts.write(folder)); });
  parts.drop_tensor(kGgufRopeDivisors);
  parts.add(std::string(kGgufRopeDivisors), {16}, std::span(divisors).first(16));
  expect_error(ErrorKind::bad_data, "has 16 values, heads have 32 pairs", [&] { GgufWeights(parts.write(folder)); });
}

TEST(GgufWeights, RefuseWhatTheForwardPassWouldComputeWrongly) {
  struct Case {
    std::string words;
    std::function<void(Parts&)> spoil;
  };
  const auto set = [](std::string key, GgufValue value) {
    return [=](Parts& parts) {
      parts.drop_key(key);
      parts.metadata.push_back({key, value});
    };
  };
  const std::vector<Case> cases = {
      {"architecture 'mamba' is not supported", set("general.architecture", std::string("mamba"))},
      {"key 'qwen2.embedding_length' is missing", set("general.architecture", std::string("qwen2"))},
      {"Gemma3ForCausalLM has none",  // and no heads, which nothing is divided by
       [=](Parts& p) {
         for (GgufKeyValue& pair : p.metadata)
           if (pair.key.starts_with("llama.")) pair.key = "gemma3" + pair.key.substr(5);
         set("general.architecture", std::string("gemma3"))(p);
         set("gemma3.block_count", std::uint32_t{62})(p);
         set("gemma3.attention.head_count", std::uint32_t{0})(p);
         set("gemma3.attention.head_count_kv", std::uint32_t{1})(p);
       }},
      {"a sliding window, which Olmo2ForCausalLM does not have",
       [=](Parts& p) {
         for (GgufKeyValue& pair : p.metadata)
           if (pair.key.starts_with("llama.")) pair.key = "olmo2" + pair.key.substr(5);
         set("general.architecture", std::string("olmo2"))(p);
         set("olmo2.attention.sliding_window", std::uint32_t{16})(p);
       }},
      {"biases of q, k and v: true",
       [=](Parts& p) {
         for (GgufKeyValue& pair : p.metadata)
           if (pair.key.starts_with("llama.")) pair.key = "qwen3" + pair.key.substr(5);
         set("general.architecture", std::string("qwen3"))(p);
       }},
      {"key 'general.architecture' is missing", [](Parts& p) { p.drop_key("general.architecture"); }},
      {"key 'llama.block_count' is missing", [](Parts& p) { p.drop_key("llama.block_count"); }},
      {"llama.block_count", set("llama.block_count", std::uint64_t{2})},
      {"num_experts_per_tok is 0, not within 1 to the 8 experts", set("llama.expert_count", std::uint32_t{8})},
      {"tensor 'blk.0.ffn_gate_inp.weight' is missing; tensor 'blk.0.ffn_gate_exps.weight' is missing",
       [=](Parts& p) {
         set("llama.expert_count", std::uint32_t{8})(p);
         set("llama.expert_used_count", std::uint32_t{2})(p);
       }},
      {"architecture 'gemma' with experts is not supported",
       [=](Parts& p) {
         set("general.architecture", std::string("gemma"))(p);
         set("gemma.expert_count", std::uint32_t{8})(p);
       }},
      {"architecture 'qwen3moe' without experts is not supported",
       set("general.architecture", std::string("qwen3moe"))},
      {"RoPE scaling 'longrope' is not supported", set("llama.rope.scaling.type", std::string("longrope"))},
      {"llama.rope.dimension_count is 4, but heads have 8", set("llama.rope.dimension_count", std::uint32_t{4})},
      {"llama.attention.value_length is 16", set("llama.attention.value_length", std::uint32_t{16})},
      {"num_attention_heads is 0", set("llama.attention.head_count", std::uint32_t{0})},
      {"special token id 50 is outside", set("tokenizer.ggml.eos_token_id", std::uint32_t{50})},
      {"no tensor 'token_embd.weight'", [](Parts& p) { p.drop_tensor("token_embd.weight"); }},
      {"tensor 'blk.1.ffn_up.weight' is missing", [](Parts& p) { p.drop_tensor("blk.1.ffn_up.weight"); }},
      {"tensor 'blk.1.attn_q.bias' is missing", [](Parts& p) { p.drop_tensor("blk.1.attn_q.bias"); }},
      {"tensor 'blk.0.extra.weight' is not part of the architecture",
       [](Parts& p) { p.add("blk.0.extra.weight", {1}, std::vector<float>(1)); }},
      {"tensor 'blk.0.ffn_up.weight' has shape [24, 40], but the metadata ask for [40, 24]",
       [](Parts& p) { std::ranges::reverse(p.tensors[p.index("blk.0.ffn_up.weight")].dims); }},
      {"tensor 'blk.0.ffn_up.weight' has type I32, which is not supported; known: F32, F16, BF16, Q4_0, ",
       [](Parts& p) { p.store_as("blk.0.ffn_up.weight", "I32"); }},
      {"tensor 'blk.0.attn_norm.weight' is a vector of type Q8_0; norms and biases are F32, F16 or BF16",
       [](Parts& p) {
         p.tensors[p.index("blk.0.attn_norm.weight")].dims = {32};
         p.store_as("blk.0.attn_norm.weight", "Q8_0");
         for (const char* const name : {"llama.embedding_length"}) p.value(name) = std::uint32_t{32};
       }},
  };
  for (const Case& c : cases) {
    Parts parts = gguf_parts_of(gguf_architecture());
    c.spoil(parts);
    const TempFolder folder;
    const std::filesystem::path path = parts.write(folder);
    expect_error(ErrorKind::bad_data, c.words, [&] { GgufWeights model(path); });
  }
}

TEST(GgufWeights, ShowOnlyTheFirstOfManyProblems) {
  Parts parts = gguf_parts_of(gguf_architecture());
  for (const LinearInfo& info : block_linears(gguf_architecture()))
    for (const char* const block : {"blk.0.", "blk.1."}) parts.drop_tensor(block + info.gguf + ".weight");
  const TempFolder folder;
  expect_error(ErrorKind::bad_data, "; and 6 more", [&] { GgufWeights(parts.write(folder)); });
}

TEST(GgufWeights, RefuseValuesThatAreNotFinite) {
  Parts parts = gguf_parts_of(gguf_architecture());
  const float bad = NAN;
  std::memcpy(parts.data[parts.index("blk.0.ffn_up.weight")].data() + 4 * 100, &bad, 4);
  const TempFolder folder;
  const GgufWeights model(parts.write(folder));
  EXPECT_NO_THROW(model.block(1));
  expect_error(ErrorKind::bad_data, "tensor 'blk.0.ffn_up.weight': non-finite value nan at element 100",
               [&] { model.block(0); });
}

TEST(GgufWeights, SayWhenThereIsNoFile) {
  expect_error(ErrorKind::missing_input, "nowhere.gguf", [] { GgufWeights("nowhere.gguf"); });
}

}  // namespace
}  // namespace adze
