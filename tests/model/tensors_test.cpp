#include <algorithm>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/memory_source.h"
#include "model/tensors.h"

namespace adze {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::MemorySource;
using testing::random_source;
using testing::small_architecture;

std::map<std::string, TensorSpec> by_module(const Architecture& a) {
  std::map<std::string, TensorSpec> all;
  for (const TensorSpec& spec : expected_tensors(a)) all[spec.hf_name] = spec;
  return all;
}

std::string error_of(const Architecture& a, const MemorySource& source) {
  try {
    validate_tensors(resolve_tying(a, source), source);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    return error.message();
  }
  return "no error";
}

/// llama.cpp's `llama` rotates whole heads alone, `phi3` has its matrices fused and rows of q and k as they are.
TEST(Tensors, AreThoseOfPhi3InGgufWhereHeadsAreRotatedInPart) {
  Architecture a = small_architecture();
  a.rotary_dim = 4;
  const auto specs = by_module(a);
  const auto rows = [&](const char* linear) { return specs.at(std::string("model.layers.1.") + linear).gguf_rows; };
  EXPECT_EQ(rows("self_attn.q_proj.weight"), (GgufRows{0, 64}));
  EXPECT_EQ(rows("self_attn.k_proj.weight"), (GgufRows{32, 64}));
  EXPECT_EQ(rows("self_attn.v_proj.weight"), (GgufRows{48, 64}));
  EXPECT_EQ(rows("mlp.gate_proj.weight"), (GgufRows{0, 80}));
  EXPECT_EQ(rows("mlp.up_proj.weight"), (GgufRows{40, 80}));
  EXPECT_EQ(rows("mlp.down_proj.weight"), GgufRows());
  const TensorSpec& k = specs.at("model.layers.1.self_attn.k_proj.weight");
  EXPECT_EQ(k.gguf_name, "blk.1.attn_qkv.weight");
  EXPECT_EQ(k.permuted_heads, 0u);
  EXPECT_EQ(gguf_stack_in_words(k), "q, k and v");
  const TensorSpec& gate = specs.at("model.layers.1.mlp.gate_proj.weight");
  EXPECT_EQ(gate.gguf_name, "blk.1.ffn_up.weight");
  EXPECT_EQ(gguf_stack_in_words(gate), "gate and up");
  EXPECT_TRUE(gate.shares_gguf_tensor());
}

TEST(Tensors, HaveTheirThreeNamesShapeRoleAndStage) {
  Architecture a = small_architecture();
  a.qkv_bias = true;
  const auto specs = by_module(a);
  const TensorSpec& q = specs.at("model.layers.1.self_attn.q_proj.weight");
  EXPECT_EQ(q.module, "layers.1.self_attn.q_proj");
  EXPECT_EQ(q.gguf_name, "blk.1.attn_q.weight");
  EXPECT_EQ(q.shape, (std::vector<std::uint64_t>{32, 24}));
  EXPECT_EQ(q.role, TensorRole::linear);
  EXPECT_EQ(q.stage(), Stage::qkv);
  EXPECT_EQ(q.block, 1u);
  EXPECT_EQ(q.permuted_heads, 4u);
  const TensorSpec& bias = specs.at("model.layers.0.self_attn.k_proj.bias");
  EXPECT_EQ(bias.gguf_name, "blk.0.attn_k.bias");
  EXPECT_EQ(bias.shape, (std::vector<std::uint64_t>{16}));
  EXPECT_EQ(bias.role, TensorRole::bias);
  EXPECT_EQ(bias.permuted_heads, 2u);
  EXPECT_EQ(specs.at("model.layers.0.self_attn.v_proj.weight").permuted_heads, 0u);
  const TensorSpec& down = specs.at("model.layers.0.mlp.down_proj.weight");
  EXPECT_EQ(down.gguf_name, "blk.0.ffn_down.weight");
  EXPECT_EQ(down.shape, (std::vector<std::uint64_t>{24, 40}));
  EXPECT_EQ(down.stage(), Stage::down);
  const TensorSpec& norm = specs.at("model.layers.0.post_attention_layernorm.weight");
  EXPECT_EQ(norm.gguf_name, "blk.0.ffn_norm.weight");
  EXPECT_FALSE(norm.stage().has_value());
  EXPECT_EQ(specs.at("lm_head.weight").gguf_name, "output.weight");
  EXPECT_EQ(specs.at("lm_head.weight").role, TensorRole::head);
  EXPECT_EQ(specs.at("model.embed_tokens.weight").gguf_name, "token_embd.weight");
  EXPECT_EQ(specs.at("model.norm.weight").module, "norm");
  EXPECT_EQ(specs.size(), 2u * (2 + 7 + 3) + 3);
}

TEST(Tensors, OfATiedModelHaveNoHead) {
  Architecture a = small_architecture();
  a.tied = true;
  EXPECT_FALSE(by_module(a).contains("lm_head.weight"));
}

TEST(Tensors, EveryLinearIsInExactlyOneStage) {
  const Architecture a = small_architecture();
  const std::vector<LinearInfo> all = block_linears(a);
  ASSERT_EQ(all.size(), 7u);
  EXPECT_TRUE(std::ranges::is_sorted(all, {}, &LinearInfo::slot));
  std::set<std::string> seen;
  std::size_t next = 0;
  for (const Stage stage : stages_of(a))
    for (const LinearInfo& info : linears_of(a, stage)) {
      EXPECT_EQ(info.stage, stage);
      EXPECT_EQ(stage_of(info.slot), stage);
      ASSERT_LT(next, all.size());
      EXPECT_EQ(info.slot, all[next++].slot) << "stages follow the order of computation";
      EXPECT_TRUE(seen.insert(info.module).second);
      EXPECT_EQ(info_of(a, info.slot).slot, info.slot);
      EXPECT_EQ(info_of(a, info.slot).module, info.module);
    }
  EXPECT_EQ(seen.size(), all.size());
  EXPECT_EQ(linears_of(a, Stage::qkv).size(), 3u);
  EXPECT_EQ(linears_of(a, Stage::gate_up).size(), 2u);
  EXPECT_EQ(module_name(a, 3, LinearSlot::down), "layers.3.mlp.down_proj");
  EXPECT_EQ(name_of(Stage::gate_up), "gate_up");
  EXPECT_EQ(name_of(TensorRole::head), "head");
  EXPECT_EQ(shape_of(a, LinearSlot::o), (Shape{24, 32}));
}

TEST(ValidateTensors, AcceptsACompleteModelAndKnownLeftovers) {
  const Architecture a = small_architecture();
  MemorySource source = random_source(a);
  source.put("model.layers.0.self_attn.rotary_emb.inv_freq", DType::f32, {4}, std::vector<float>(4));
  EXPECT_EQ(error_of(a, source), "no error");
}

TEST(ValidateTensors, NamesWhatIsMissingSurplusMisshapenOrOfAWrongType) {
  const Architecture a = small_architecture();
  MemorySource source = random_source(a);
  source.remove("model.layers.1.mlp.up_proj.weight");
  source.put("model.layers.0.self_attn.k_proj.weight", DType::f32, {24, 16}, std::vector<float>(24 * 16));
  source.put("model.layers.2.mlp.up_proj.weight", DType::f32, {40, 24}, std::vector<float>(40 * 24));
  EXPECT_THAT(error_of(a, source),
              AllOf(HasSubstr("memory: "),
                    HasSubstr("'model.layers.1.mlp.up_proj.weight' is missing; did you mean "
                              "'model.layers.2.mlp.up_proj.weight'?"),
                    HasSubstr("'model.layers.0.self_attn.k_proj.weight' has shape [24, 16], but config.json asks for "
                              "[16, 24]"),
                    HasSubstr("'model.layers.2.mlp.up_proj.weight' [40, 24] is not part of LlamaForCausalLM with 2")));
}

TEST(ValidateTensors, CountsTheProblemsItDoesNotShow) {
  EXPECT_THAT(error_of(small_architecture(), MemorySource()), HasSubstr("; and 12 more"));
}

TEST(Tying, FollowsTheTensorsWhenConfigIsSilent) {
  Architecture a = small_architecture();
  MemorySource source = random_source(a);
  EXPECT_FALSE(resolve_tying(a, source).tied);
  source.remove("lm_head.weight");
  EXPECT_TRUE(resolve_tying(a, source).tied);
  EXPECT_EQ(error_of(a, source), "no error");
}

TEST(Tying, AMissingHeadOfAModelStatedUntiedIsAnError) {
  Architecture a = small_architecture();
  a.tied_stated = true;
  MemorySource source = random_source(a);
  EXPECT_EQ(error_of(a, source), "no error");
  source.remove("lm_head.weight");
  EXPECT_THAT(error_of(a, source), HasSubstr("'lm_head.weight' is missing"));
}

TEST(Tying, ATiedModelMayRepeatItsTableButNotContradictIt) {
  Architecture a = small_architecture();
  MemorySource source = random_source(a);
  a.tied = a.tied_stated = true;
  std::vector<float> table = source.values("model.embed_tokens.weight");
  source.put("lm_head.weight", DType::f32, {50, 24}, table);
  EXPECT_EQ(error_of(a, source), "no error");
  table[17] += 1.0f;
  source.put("lm_head.weight", DType::f32, {50, 24}, table);
  EXPECT_THAT(error_of(a, source), AllOf(HasSubstr("tie_word_embeddings is true"), HasSubstr("at byte ")));
  source.put("lm_head.weight", DType::bf16, {50, 24}, table);
  EXPECT_THAT(error_of(a, source), AllOf(HasSubstr("bf16"), HasSubstr("f32")));
}

}  // namespace
}  // namespace adze
