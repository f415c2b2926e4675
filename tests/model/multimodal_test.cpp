// Models of text and images: the language model alone, from config.json and under either kind of names; what is missing
// or contradicts itself is named.
#include "model/multimodal.h"

#include <filesystem>
#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/safetensors_folder.h"
#include "model/logits.h"
#include "model/memory_source.h"
#include "model/plain_reference.h"
#include "model/random_checkpoint.h"
#include "model/unfused_source.h"

namespace adze {
namespace {

using namespace testing;
using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr std::uint64_t kSeed = 20;

/// As Gemma 3 of 4 billion parameters is published: most settings are left to the configuration class.
Json published_gemma3() {
  return {{"architectures", Json::array({"Gemma3ForConditionalGeneration"})},
          {"model_type", "gemma3"},
          {"boi_token_index", 255999},
          {"eoi_token_index", 256000},
          {"eos_token_id", {1, 106}},
          {"image_token_index", 262144},
          {"initializer_range", 0.02},
          {"mm_tokens_per_image", 256},
          {"text_config",
           {{"hidden_size", 2560},
            {"intermediate_size", 10240},
            {"model_type", "gemma3_text"},
            {"num_hidden_layers", 34},
            {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}},
            {"sliding_window", 1024}}},
          {"torch_dtype", "bfloat16"},
          {"transformers_version", "4.50.0.dev0"},
          {"vision_config", {{"hidden_size", 1152}, {"model_type", "siglip_vision_model"}}}};
}

Architecture parsed(const Json& config) { return parse_architecture(config, "config.json"); }

TEST(LanguageModel, HasWhatTheConfigurationClassSaysWhereTextConfigIsSilent) {
  const Architecture a = parsed(published_gemma3());
  EXPECT_EQ(a.family, "Gemma3ForCausalLM");
  EXPECT_EQ(a.vocab, 262208u);
  EXPECT_EQ(a.hidden, 2560u);
  EXPECT_EQ(a.heads, 8u);
  EXPECT_EQ(a.kv_heads, 4u);
  EXPECT_EQ(a.head_dim, 256u);
  EXPECT_EQ(a.layers, 34u);
  EXPECT_EQ(a.max_positions, 131072u);
  EXPECT_EQ(a.norm_eps, 1e-6);
  EXPECT_EQ(a.sliding_window, 1024u);
  EXPECT_EQ(a.rope.theta, 1e6);
  EXPECT_EQ(a.rope.kind, RopeKind::linear);
  EXPECT_EQ(a.rope.factor, 8.0);
  ASSERT_TRUE(a.sliding_rope);
  EXPECT_EQ(*a.sliding_rope, RopeSpec{.theta = 1e4});
  EXPECT_TRUE(a.sees_all(5));
  EXPECT_FALSE(a.sees_all(4));
  EXPECT_EQ(a.score_scalar, 0);        // 256, the size of a head
  EXPECT_EQ(a.embedding_scale, 50.5);  // the root of 2560, 50.596, in bfloat16
  EXPECT_EQ(a.eos_ids, (std::vector<std::int32_t>{1, 106}));
  EXPECT_TRUE(a.tied && !a.tied_stated);
}

TEST(LanguageModel, HasAConfigOfItsOwnThatSaysTheSame) {
  for (const bool by_class : {true, false}) {
    Json config = published_gemma3();
    if (!by_class) config.erase("architectures");
    const Json text = Json::parse(unfused_config(config.dump(), "config.json"));
    EXPECT_EQ(text["architectures"], Json::array({"Gemma3ForCausalLM"}));
    EXPECT_EQ(text["model_type"], "gemma3_text");
    EXPECT_EQ(text["torch_dtype"], "bfloat16");
    EXPECT_EQ(text["num_attention_heads"], 8);
    for (const char* const key : {"text_config", "vision_config", "image_token_index"})
      EXPECT_FALSE(text.contains(key)) << key;
    EXPECT_EQ(parsed(text), parsed(config));
  }
}

TEST(LanguageModel, MayBeOfSeveralFamilies) {
  // As LLaVA 1.5 is published.
  const Json llava = {{"architectures", Json::array({"LlavaForConditionalGeneration"})},
                      {"model_type", "llava"},
                      {"text_config",
                       {{"architectures", Json::array({"LlamaForCausalLM"})},
                        {"max_position_embeddings", 4096},
                        {"model_type", "llama"},
                        {"rms_norm_eps", 1e-05},
                        {"torch_dtype", "float16"},
                        {"vocab_size", 32064}}},
                      {"torch_dtype", "float16"}};
  const Architecture a = parsed(llava);
  EXPECT_EQ(a.family, "LlamaForCausalLM");
  EXPECT_EQ(a.hidden, 4096u);
  EXPECT_EQ(a.ffn, 11008u);
  EXPECT_EQ(a.head_dim, 128u);
  EXPECT_EQ(a.vocab, 32064u);
  Json mistral = {{"architectures", Json::array({"Mistral3ForConditionalGeneration"})},
                  {"text_config",
                   {{"model_type", "mistral"},
                    {"hidden_size", 5120},
                    {"intermediate_size", 32768},
                    {"num_hidden_layers", 40},
                    {"num_attention_heads", 32},
                    {"head_dim", 128},
                    {"vocab_size", 131072},
                    {"sliding_window", nullptr}}}};
  EXPECT_EQ(parsed(mistral).family, "MistralForCausalLM");
  EXPECT_EQ(parsed(mistral).kv_heads, 8u);
  mistral["text_config"]["model_type"] = "phi3";  // fused and wrapped
  mistral["text_config"]["num_key_value_heads"] = 8;
  EXPECT_EQ(Json::parse(unfused_config(mistral.dump(), "c"))["architectures"], Json::array({"MistralForCausalLM"}));
}

TEST(LanguageModel, TakesTheWordOfTheTensorsWhereTwoSettingsContradictEachOther) {
  Json config = published_gemma3();
  config["tie_word_embeddings"] = true;
  EXPECT_TRUE(parsed(config).tied_stated);
  config["text_config"]["tie_word_embeddings"] = true;
  EXPECT_TRUE(parsed(config).tied_stated);
  config["text_config"]["tie_word_embeddings"] = false;
  EXPECT_FALSE(parsed(config).tied_stated);
}

TEST(LanguageModel, IsRefusedWhereItsConfigIsMissingOrUnknown) {
  Json config = published_gemma3();
  config["text_config"]["model_type"] = "gemma9_text";
  expect_error(ErrorKind::bad_data, "text_config: model_type 'gemma9_text' is not supported", [&] { parsed(config); });
  for (const Json& text : {Json(nullptr), Json("gemma3_text")}) {
    config["text_config"] = text;
    expect_error(ErrorKind::bad_data, "has no 'text_config' that is an object", [&] { parsed(config); });
  }
  config.erase("text_config");
  expect_error(ErrorKind::bad_data, "has no 'text_config' that is an object", [&] { parsed(config); });
}

/// The same values as of the checkpoint of text, which lie where they lay.
TEST(LanguageModel, IsReadUnderEitherKindOfNames) {
  const TempFolder folder;
  const fs::path text = write_random_checkpoint(folder / "text", family_case("gemma3").config, kSeed);
  const std::vector<std::int32_t> ids = random_ids(40, 4096);
  const auto meant = open_checkpoint_model(text);
  for (const TowerNames names : {TowerNames::older, TowerNames::newer}) {
    const fs::path whole = wrap_checkpoint(text, folder / (names == TowerNames::older ? "older" : "newer"),
                                           "Gemma3ForConditionalGeneration", names);
    const auto read = open_checkpoint_model(whole);
    EXPECT_EQ(read->architecture(), meant->architecture());
    EXPECT_EQ(largest_difference(logits_of(*read, ids), logits_of(*meant, ids)), 0);
    const std::shared_ptr<const TensorSource> stored = open_checkpoint_folder(whole);
    const auto source = language_source(stored);
    EXPECT_EQ(source->tensors().size() + 3, stored->tensors().size());
    const TensorInfo* const norm = source->find("model.layers.3.self_attn.q_norm.weight");
    ASSERT_NE(norm, nullptr);
    EXPECT_EQ(source->place(*norm)->file, whole / "model.safetensors");
    EXPECT_EQ(language_source(source), source) << "there is nothing left to rename";
  }
}

/// Under a head of its own.
TEST(LanguageModel, IsReadWithItsHead) {
  const TempFolder folder;
  const fs::path text = write_random_checkpoint(folder / "text", family_case("mistral").config, kSeed);
  const std::vector<std::int32_t> ids = random_ids(40, 4096);
  const MatrixF meant = logits_of(*open_checkpoint_model(text), ids);
  for (const TowerNames names : {TowerNames::older, TowerNames::newer}) {
    const fs::path whole = wrap_checkpoint(text, folder / (names == TowerNames::older ? "older" : "newer"),
                                           "Mistral3ForConditionalGeneration", names);
    EXPECT_EQ(largest_difference(logits_of(*open_checkpoint_model(whole), ids), meant), 0);
  }
}

MemorySource source_of(const std::vector<std::string>& names) {
  MemorySource source;
  for (const std::string& name : names) source.put(name, DType::f32, {2}, std::vector<float>{1, 2});
  return source;
}

std::vector<std::string> names_of(const TensorSource& source) {
  std::vector<std::string> names;
  for (const TensorInfo& tensor : source.tensors()) names.push_back(tensor.name);
  return names;
}

TEST(LanguageSource, LeavesTowersOutAndKeepsWhatItDoesNotKnow) {
  const auto source = language_source(std::make_shared<MemorySource>(
      source_of({"language_model.lm_head.weight", "language_model.model.norm.weight", "image_newline", "other.weight",
                 "vision_tower.a", "multi_modal_projector.linear_1.bias", "vision_towers.a"})));
  EXPECT_EQ(names_of(*source),
            (std::vector<std::string>{"lm_head.weight", "model.norm.weight", "other.weight", "vision_towers.a"}));
}

TEST(LanguageSource, HandsBackACheckpointOfText) {
  const auto plain = std::make_shared<MemorySource>(source_of({"lm_head.weight", "model.norm.weight"}));
  EXPECT_EQ(language_source(plain), plain);
  EXPECT_TRUE(left_out_parts(*plain).empty());
}

TEST(LanguageSource, IsRefusedWhereTheLanguageModelIsMissingOrThereTwice) {
  const auto refused = [](const std::vector<std::string>& names, std::string_view words) {
    expect_error(ErrorKind::bad_data, words,
                 [&] { language_source(std::make_shared<MemorySource>(source_of(names))); });
  };
  refused(
      {"vision_tower.a", "vision_tower.b", "multi_modal_projector.c"},
      "the language model is missing: there are 1 tensor of multi_modal_projector and 2 tensors of vision_tower and "
      "nothing else");
  refused({"model.vision_tower.a"}, "the language model is missing");
  refused({"language_model.model.norm.weight", "model.language_model.norm.weight"},
          "'model.norm.weight' is there twice, under two names");
  refused({"language_model.model.norm.weight", "model.norm.weight"},
          "'model.norm.weight' is there twice, under two names");
}

/// Half of a sharded checkpoint, say.
TEST(LanguageModel, IsRefusedWhereTensorsOfItAreMissing) {
  const TempFolder folder;
  const fs::path text = write_random_checkpoint(folder / "text", family_case("gemma3").config, kSeed);
  Json config = family_case("gemma3").config;
  config["num_hidden_layers"] = 8;
  const fs::path longer = copy_checkpoint(text, folder / "longer", config);
  const fs::path whole = wrap_checkpoint(longer, folder / "whole", "Gemma3ForConditionalGeneration", TowerNames::older);
  expect_error(ErrorKind::bad_data, "tensor 'model.layers.7.input_layernorm.weight' is missing",
               [&] { open_checkpoint_model(whole); });
}

}  // namespace
}  // namespace adze
