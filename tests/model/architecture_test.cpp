#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/architecture.h"
#include "model/rope_config.h"

namespace adze {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

Json llama_config() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", 256},
          {"intermediate_size", 768},
          {"num_hidden_layers", 6},
          {"num_attention_heads", 4},
          {"vocab_size", 4096}};
}

Json with(Json config, const std::string& key, const Json& value) {
  config[key] = value;
  return config;
}

std::string error_of(const Json& config) {
  try {
    parse_architecture(config, "config.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    return error.message();
  }
  return "no error";
}

TEST(Architecture, FillsWhatConfigLeavesOut) {
  const Architecture a = parse_architecture(llama_config(), "config.json");
  EXPECT_EQ(a.family, "LlamaForCausalLM");
  EXPECT_EQ(a.kv_heads, 4u);
  EXPECT_EQ(a.head_dim, 64u);
  EXPECT_EQ(a.max_positions, 2048u);
  EXPECT_EQ(a.norm_eps, 1e-6);
  EXPECT_EQ(a.rope.theta, 10000.0);
  EXPECT_EQ(a.rope.kind, RopeKind::none);
  EXPECT_FALSE(a.tied || a.tied_stated || a.qkv_bias || a.o_bias || a.mlp_bias);
  EXPECT_EQ(a.sliding_window, 0u);
  EXPECT_FALSE(a.bos_id.has_value());
}

TEST(Architecture, ReadsEverySetting) {
  Json config = llama_config();
  config.update({{"num_key_value_heads", 2},
                 {"head_dim", 32},
                 {"max_position_embeddings", 512},
                 {"rms_norm_eps", 1e-5},
                 {"rope_theta", 500000},
                 {"tie_word_embeddings", true},
                 {"attention_bias", true},
                 {"mlp_bias", true},
                 {"bos_token_id", 7},
                 {"eos_token_id", {8, 9}}});
  const Architecture a = parse_architecture(config, "config.json");
  EXPECT_EQ(a.kv_heads, 2u);
  EXPECT_EQ(a.q_width(), 128u);
  EXPECT_EQ(a.kv_width(), 64u);
  EXPECT_EQ(a.max_positions, 512u);
  EXPECT_EQ(a.norm_eps, 1e-5);
  EXPECT_EQ(a.rope.theta, 500000.0);
  EXPECT_TRUE(a.tied && a.tied_stated && a.qkv_bias && a.o_bias && a.mlp_bias);
  EXPECT_EQ(a.bos_id, 7);
  EXPECT_EQ(a.eos_ids, (std::vector<std::int32_t>{8, 9}));
}

TEST(Architecture, NullCountsAsAbsent) {
  Json config = llama_config();
  config.update({{"head_dim", nullptr}, {"rope_scaling", nullptr}, {"bos_token_id", nullptr}});
  EXPECT_EQ(parse_architecture(config, "c"), parse_architecture(llama_config(), "c"));
}

TEST(Architecture, KnowsAFamilyByModelTypeToo) {
  Json config = llama_config();
  config.erase("architectures");
  config["model_type"] = "mistral";
  EXPECT_EQ(parse_architecture(config, "c").family, "MistralForCausalLM");
  config["model_type"] = "lama";
  EXPECT_THAT(error_of(config), AllOf(HasSubstr("lama"), HasSubstr("did you mean 'llama'")));
}

TEST(Architecture, NamesAnUnknownClassAndTheNearestKnownOnes) {
  const std::string message = error_of(with(llama_config(), "architectures", {"LlamaForCausalML"}));
  EXPECT_THAT(message, AllOf(HasSubstr("config.json"), HasSubstr("'LlamaForCausalML'"),
                             HasSubstr("did you mean 'LlamaForCausalLM'"), HasSubstr("MistralForCausalLM")));
  EXPECT_THAT(error_of(with(llama_config(), "architectures", "LlamaForCausalLM")), HasSubstr("list of one class"));
}

TEST(Architecture, SaysWhatToDoWithAModelOfTextAndImages) {
  const Json config = {{"architectures", {"Qwen2VLForConditionalGeneration"}}, {"text_config", llama_config()}};
  EXPECT_THAT(error_of(config), AllOf(HasSubstr("'Qwen2VLForConditionalGeneration' is of text and more"),
                                      HasSubstr("the language model of Gemma3ForConditionalGeneration"),
                                      HasSubstr("save this one's as a checkpoint of its own")));
}

TEST(Architecture, MistralHasASlidingWindow) {
  const Json mistral = with(llama_config(), "architectures", {"MistralForCausalLM"});
  EXPECT_EQ(parse_architecture(mistral, "c").sliding_window, 4096u);  // the default of its class
  EXPECT_EQ(parse_architecture(with(mistral, "sliding_window", nullptr), "c").sliding_window, 0u);
  EXPECT_EQ(parse_architecture(with(mistral, "sliding_window", 100), "c").sliding_window, 100u);
  EXPECT_EQ(parse_architecture(with(llama_config(), "sliding_window", 100), "c").sliding_window, 0u);
  const Json full = with(mistral, "layer_types", {"full_attention", "full_attention"});
  EXPECT_EQ(parse_architecture(with(full, "sliding_window", 100), "c").sliding_window, 0u);
  EXPECT_THAT(error_of(with(mistral, "layer_types", {"full_attention", "sliding_attention"})),
              HasSubstr("has 2 names for 6 layers"));
  const char *const one = "full_attention", *const other = "sliding_attention";
  const Architecture mixed =
      parse_architecture(with(mistral, "layer_types", {one, other, one, other, one, other}), "c");
  EXPECT_EQ(mixed.full_attention, (std::vector<bool>{true, false, true, false, true, false}));
  EXPECT_TRUE(mixed.sees_all(2));
  EXPECT_FALSE(mixed.sees_all(3));
}

TEST(Architecture, AcceptsAllSpellingsOfRope) {
  const Json scaling = {
      {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 8192}};
  RopeSpec expected{500000.0, RopeKind::llama3, 8.0, 1.0, 4.0, 8192};
  Json old = with(llama_config(), "rope_theta", 500000.0);
  old["rope_scaling"] = with(scaling, "type", "llama3");
  EXPECT_EQ(parse_architecture(old, "c").rope, expected);
  old["rope_scaling"] = with(scaling, "rope_type", "llama3");
  EXPECT_EQ(parse_architecture(old, "c").rope, expected);
  Json recent = llama_config();
  recent["rope_parameters"] = with(with(scaling, "rope_type", "llama3"), "rope_theta", 500000.0);
  EXPECT_EQ(parse_architecture(recent, "c").rope, expected);
  recent["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 7000.0}};
  EXPECT_EQ(parse_architecture(recent, "c").rope, RopeSpec{.theta = 7000.0});
  const Json linear = with(llama_config(), "rope_scaling", {{"type", "linear"}, {"factor", 2}});
  EXPECT_EQ(parse_architecture(linear, "c").rope.kind, RopeKind::linear);
  EXPECT_EQ(parse_architecture(linear, "c").rope.factor, 2.0);
}

/// Half as many as a head of llama_config() has elements.
Json longrope() {
  const std::size_t pairs = parse_architecture(llama_config(), "c").head_dim / 2;
  std::vector<double> factors(pairs, 1.5);
  factors.back() = 3;
  return {{"rope_type", "longrope"}, {"short_factor", factors}, {"long_factor", factors}};
}

TEST(Architecture, ReadsLongRopeOfOneSetOfFactorsAndWritesItAgain) {
  const Json config = with(llama_config(), "rope_scaling", longrope());
  const Architecture a = parse_architecture(config, "c");
  EXPECT_EQ(a.rope.kind, RopeKind::longrope);
  EXPECT_EQ(a.rope.divisors.size(), a.head_dim / 2);
  EXPECT_EQ(a.rope.divisors.back(), 3.0);
  const Json again = Json::parse(rope_scaling(a).dump());
  EXPECT_EQ(parse_architecture(with(config, "rope_scaling", again), "c"), a);
  EXPECT_EQ(again.at("attention_factor"), 1.0);
}

TEST(Architecture, ReadsLongRopeThatChangesWithTheContext) {
  Json scaling = longrope();
  scaling["long_factor"][0] = 2;
  Json config = with(llama_config(), "rope_scaling", scaling);
  config.update({{"max_position_embeddings", 131072}, {"original_max_position_embeddings", 4096}});
  const Architecture a = parse_architecture(config, "c");
  EXPECT_EQ(a.rope.long_divisors.front(), 2.0);
  EXPECT_EQ(a.rope.original_max_positions, 4096u);
  EXPECT_DOUBLE_EQ(a.rope.attention_factor, std::sqrt(1 + std::log(32.0) / std::log(4096.0)));
  const Json again = Json::parse(rope_scaling(a).dump());
  Json later = with(config, "rope_scaling", again);
  EXPECT_EQ(parse_architecture(later, "c"), a);
  later.erase("original_max_position_embeddings");
  EXPECT_EQ(parse_architecture(later, "c"), a);
}

TEST(Architecture, RefusesHostileLongRope) {
  const auto scaled = [](const char* key, const Json& value) {
    return error_of(with(llama_config(), "rope_scaling", with(longrope(), key, value)));
  };
  Json other = longrope().at("long_factor");
  other.push_back(2);
  EXPECT_THAT(scaled("long_factor", other), HasSubstr("RoPE factors for long contexts"));
  EXPECT_THAT(scaled("attention_factor", 0), HasSubstr("attention_factor must be above 0"));
  EXPECT_THAT(scaled("original_max_position_embeddings", 0), HasSubstr("must be above 0"));
  EXPECT_THAT(scaled("short_factor", "1"), HasSubstr("'short_factor' must be a list of numbers"));
  other = longrope();
  for (const char* const key : {"short_factor", "long_factor"}) other[key] = {1.0};
  EXPECT_THAT(error_of(with(llama_config(), "rope_scaling", other)), HasSubstr("1 RoPE factors for"));
  for (const char* const key : {"short_factor", "long_factor"}) {
    other[key] = longrope().at(key);
    other[key][1] = 0;
  }
  EXPECT_THAT(error_of(with(llama_config(), "rope_scaling", other)), HasSubstr("RoPE factor must be above 0"));
}

TEST(Architecture, RefusesRopeItCannotCompute) {
  const auto scaled = [](const Json& scaling) { return error_of(with(llama_config(), "rope_scaling", scaling)); };
  EXPECT_THAT(scaled({{"rope_type", "dynamic"}, {"factor", 4}}), AllOf(HasSubstr("'dynamic'"), HasSubstr("llama3")));
  EXPECT_THAT(scaled({{"rope_type", "linear"}}), HasSubstr("'factor' is missing"));
  EXPECT_THAT(scaled({{"rope_type", "linear"}, {"factor", 0}}), HasSubstr("RoPE factor"));
  EXPECT_THAT(scaled({{"rope_type", "llama3"}, {"factor", 8}}), HasSubstr("'low_freq_factor' is missing"));
  EXPECT_THAT(scaled({{"rope_type", "llama3"},
                      {"factor", 8},
                      {"low_freq_factor", 4},
                      {"high_freq_factor", 4},
                      {"original_max_position_embeddings", 8192}}),
              HasSubstr("high_freq_factor must be above 4"));
  EXPECT_THAT(scaled("llama3"), HasSubstr("expected a JSON object"));
}

/// Of heads of 64.
TEST(Architecture, CountsTheElementsOfAHeadThatAreRotated) {
  const auto rotated = [](const Json& part) {
    return parse_architecture(with(llama_config(), "partial_rotary_factor", part), "c").rotary_dim;
  };
  EXPECT_EQ(rotated(0.75), 48u);
  EXPECT_EQ(rotated(0.5), 32u);
  EXPECT_EQ(rotated(0.66), 42u);  // 42.24
  EXPECT_EQ(rotated(1), 0u);
  EXPECT_EQ(rotated(nullptr), 0u);
  const Architecture a = parse_architecture(with(llama_config(), "partial_rotary_factor", 0.75), "c");
  EXPECT_EQ(a.rotated(), 48u);
  EXPECT_EQ(parse_architecture(llama_config(), "c").rotated(), 64u);
  Json recent = llama_config();
  recent["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 7000.0}, {"partial_rotary_factor", 0.75}};
  EXPECT_EQ(parse_architecture(recent, "c").rotary_dim, 48u);
}

TEST(Architecture, RefusesPartsOfAHeadThatAreNone) {
  const auto refused = [](const Json& part) { return error_of(with(llama_config(), "partial_rotary_factor", part)); };
  EXPECT_THAT(refused(0.52), HasSubstr("rotates 33 of 64 elements of a head, which is odd"));
  EXPECT_THAT(refused(0.01), HasSubstr("leaves none of the 64 elements"));
  EXPECT_THAT(refused(0), HasSubstr("partial_rotary_factor must be above 0"));
  EXPECT_THAT(refused(1.5), HasSubstr("partial_rotary_factor must be above 0 and"));
  EXPECT_THAT(refused("half"), HasSubstr("'partial_rotary_factor' must be a number"));
  Json two = with(llama_config(), "architectures", {"Gemma3ForCausalLM"});
  two["rope_parameters"] = {{"full_attention", {{"rope_theta", 1e6}, {"partial_rotary_factor", 0.5}}},
                            {"sliding_attention", {{"rope_theta", 1e4}}}};
  EXPECT_THAT(error_of(two), HasSubstr("partial_rotary_factor 0.5 is not supported, only 1 as elsewhere"));
}

TEST(Architecture, HasAsManyRopeFactorsAsPairsThatAreRotated) {
  Json scaling = longrope();
  for (const char* const key : {"short_factor", "long_factor"}) scaling[key] = std::vector<double>(24, 1.5);
  Json config = with(llama_config(), "rope_scaling", scaling);
  EXPECT_THAT(error_of(config), HasSubstr("24 RoPE factors for 32 pairs of a head"));
  config["partial_rotary_factor"] = 0.75;
  EXPECT_EQ(parse_architecture(config, "c").rope.divisors.size(), 24u);
}

/// Every number of pairs of every size of head is read as it was meant.
TEST(Architecture, SaysThePartThatIsRotatedSoThatItIsReadAgain) {
  Json config = llama_config();
  for (std::size_t head_dim = 2; head_dim <= 256; head_dim += 2)
    for (std::size_t rotated = 2; rotated <= head_dim; rotated += 2) {
      Architecture a;
      a.head_dim = head_dim;
      a.rotary_dim = rotated;
      config["head_dim"] = head_dim;
      config["partial_rotary_factor"] = partial_rotary_factor(a);
      ASSERT_EQ(parse_architecture(config, "c").rotated(), rotated) << head_dim;
    }
}

/// Those of the configuration classes of Transformers.
TEST(Architecture, HasTheEpsilonAndThetaOfTheFamilyWhereConfigIsSilent) {
  struct Defaults {
    const char* hf_class;
    double eps, theta;
  };
  for (const Defaults& family : {Defaults{"LlamaForCausalLM", 1e-6, 1e4}, Defaults{"MistralForCausalLM", 1e-6, 1e4},
                                 Defaults{"Qwen2ForCausalLM", 1e-6, 1e4}, Defaults{"Qwen3ForCausalLM", 1e-6, 1e4},
                                 Defaults{"GemmaForCausalLM", 1e-6, 1e4}, Defaults{"Gemma2ForCausalLM", 1e-6, 1e4},
                                 Defaults{"Gemma3ForCausalLM", 1e-6, 1e6}, Defaults{"Phi3ForCausalLM", 1e-5, 1e4},
                                 Defaults{"Olmo2ForCausalLM", 1e-5, 1e4}, Defaults{"MixtralForCausalLM", 1e-5, 1e6},
                                 Defaults{"Qwen2MoeForCausalLM", 1e-6, 1e4}, Defaults{"Qwen3MoeForCausalLM", 1e-6, 1e4},
                                 Defaults{"OlmoeForCausalLM", 1e-5, 1e4}}) {
    Json config = with(llama_config(), "architectures", {family.hf_class});
    config.update({{"num_experts", 4},
                   {"num_local_experts", 4},
                   {"num_experts_per_tok", 2},
                   {"moe_intermediate_size", 64},
                   {"shared_expert_intermediate_size", 64}});
    const Architecture a = parse_architecture(config, "c");
    EXPECT_EQ(a.norm_eps, family.eps) << family.hf_class;
    EXPECT_EQ(a.rope.theta, family.theta) << family.hf_class;
    config["rms_norm_eps"] = 1e-3;
    EXPECT_EQ(parse_architecture(config, "c").norm_eps, 1e-3) << family.hf_class;
  }
}

TEST(Architecture, RefusesAnotherActivation) {
  EXPECT_THAT(error_of(with(llama_config(), "hidden_act", "gelu")), HasSubstr("'gelu'"));
  EXPECT_NO_THROW(parse_architecture(with(llama_config(), "hidden_act", "silu"), "c"));
}

struct HostileCase {
  const char* key;
  Json value;
  const char* message;
};

TEST(Architecture, RefusesHostileValues) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<HostileCase> cases = {
      {"hidden_size", 0, "hidden_size is 0"},
      {"hidden_size", -256, "'hidden_size' must be a non-negative integer, not -256"},
      {"hidden_size", 256.0, "'hidden_size' must be a non-negative integer"},
      {"hidden_size", "256", "'hidden_size' must be a non-negative integer"},
      {"hidden_size", nullptr, "'hidden_size' is missing"},
      {"hidden_size", 255, "hidden_size 255 is not a multiple of num_attention_heads 4"},
      {"intermediate_size", UINT64_MAX, "intermediate_size is 18446744073709551615"},
      {"num_hidden_layers", 1000000000, "num_hidden_layers is 1000000000"},
      {"num_attention_heads", 0, "num_attention_heads"},
      {"num_key_value_heads", 0, "num_key_value_heads is 0"},
      {"num_key_value_heads", 3, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"},
      {"head_dim", 33, "head_dim 33 is odd"},
      {"head_dim", 0, "head_dim is 0"},
      {"vocab_size", 0, "vocab_size is 0"},
      {"max_position_embeddings", 0, "max_position_embeddings is 0"},
      {"rms_norm_eps", nan, "rms_norm_eps must be above 0"},
      {"rms_norm_eps", 0, "rms_norm_eps must be above 0"},
      {"rms_norm_eps", "x", "'rms_norm_eps' must be a number"},
      {"rope_theta", -1, "rope_theta must be above 1"},
      {"rope_theta", nan, "rope_theta must be above 1"},
      {"tie_word_embeddings", 1, "'tie_word_embeddings' must be true or false"},
      {"bos_token_id", 4096, "token id 4096 is outside the vocabulary of 4096"},
      {"eos_token_id", {1, -1}, "'eos_token_id' must be a non-negative integer"},
      {"architectures", Json::array(), "'architectures' must be a list of one class name"},
      {"hidden_act", 3, "'hidden_act' must be a string"},
      {"layer_types", Json::array(), "'layer_types' must be a list of names"},
      {"layer_types", {"sliding_attention"}, "'layer_types' must be an attention that the family has"},
      {"layer_types", {"linear_attention"}, "'layer_types' must be an attention that the family has"},
  };
  for (const HostileCase& hostile : cases)
    EXPECT_THAT(error_of(with(llama_config(), hostile.key, hostile.value)), HasSubstr(hostile.message)) << hostile.key;
  EXPECT_THAT(error_of(Json::array()), HasSubstr("expected a JSON object"));
}

TEST(Architecture, RefusesHeadsThatAreTooWideTogether) {
  Json config = llama_config();
  config.update({{"num_attention_heads", 65536}, {"head_dim", 16384}});
  EXPECT_THAT(error_of(config), HasSubstr("65536 heads of 16384"));
}

TEST(Families, HaveDistinctNames) {
  for (const FamilyInfo& a : families()) {
    EXPECT_EQ(&family_of(a.hf_class), &a);
    for (const FamilyInfo& b : families()) EXPECT_TRUE(&a == &b || a.model_type != b.model_type);
  }
}

}  // namespace
}  // namespace adze
