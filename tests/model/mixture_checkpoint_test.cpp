// Mixtures of experts that must be refused: settings in config.json that are wrong or not supported, and tensors that
// are not those that the settings ask for.
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint_testing.h"
#include "model/memory_source.h"
#include "model/random_checkpoint.h"

namespace adze {
namespace {

using namespace testing;
using Json = nlohmann::json;

/// A case's config.json with other values and without some, of a small vocabulary.
Json config_of(std::string_view family, const Json& changes = Json::object(),
               const std::vector<std::string>& removed = {}) {
  Json config = family_case(family).config;
  config["vocab_size"] = 50;
  config.update(changes);
  for (const std::string& key : removed) config.erase(key);
  return config;
}

struct WrongConfig {
  std::string_view family;
  Json changes;
  std::string_view words;  ///< of the message
  std::vector<std::string> removed = {};
};

std::vector<WrongConfig> wrong_configs() {
  const Json none = Json::object();
  std::vector<WrongConfig> wrong = {
      {"mixtral", {{"num_local_experts", 0}}, "num_local_experts"},
      {"mixtral", {{"num_local_experts", -8}}, "num_local_experts"},
      {"mixtral", {{"num_local_experts", "eight"}}, "num_local_experts"},
      {"mixtral", {{"num_local_experts", 1000000000}}, "1000000000"},
      {"mixtral", none, "num_local_experts", {"num_local_experts"}},
      {"mixtral", {{"intermediate_size", 0}}, "intermediate_size"},
      {"olmoe", {{"num_experts", 1}}, "num_experts_per_tok"},
      {"olmoe", {{"clip_qkv", 8.0}}, "clip_qkv"},
      {"qwen3_moe", {{"num_experts", 4096}, {"num_hidden_layers", 10000}}, "4096"},
      {"qwen3_moe", {{"moe_intermediate_size", 0}}, " 0"},
      {"qwen3_moe", {{"moe_intermediate_size", 1000000000}}, "1000000000"},
      {"qwen3_moe", none, "moe_intermediate_size", {"moe_intermediate_size"}},
      {"qwen2_moe", {{"shared_expert_intermediate_size", 1000000000}}, "1000000000"},
      {"qwen2_moe", none, "shared_expert_intermediate_size", {"shared_expert_intermediate_size"}},
  };
  for (const std::string_view family : {"mixtral", "qwen3_moe", "olmoe", "qwen2_moe"}) {
    wrong.push_back({family, {{"num_experts_per_tok", 0}}, "num_experts_per_tok"});
    wrong.push_back({family, {{"num_experts_per_tok", 9}}, "num_experts_per_tok"});
    wrong.push_back({family, {{"num_experts_per_tok", 2.5}}, "num_experts_per_tok"});
    wrong.push_back({family, none, "num_experts_per_tok", {"num_experts_per_tok"}});
  }
  for (const std::string_view family : {"qwen3_moe", "olmoe", "qwen2_moe"})
    wrong.push_back({family, {{"norm_topk_prob", "yes"}}, "norm_topk_prob"});
  for (const std::string_view family : {"qwen3_moe", "qwen2_moe"}) {
    wrong.push_back({family, {{"mlp_only_layers", Json::array({0})}}, "mlp_only_layers"});
    wrong.push_back({family, {{"mlp_only_layers", 1}}, "mlp_only_layers"});
    wrong.push_back({family, {{"decoder_sparse_step", 2}}, "decoder_sparse_step"});
    wrong.push_back({family, {{"decoder_sparse_step", 0}}, "decoder_sparse_step"});
  }
  return wrong;
}

TEST(MixtureConfig, IsRefusedWhereItIsWrongOrOfAKindThatIsNotSupported) {
  for (const WrongConfig& wrong : wrong_configs()) {
    SCOPED_TRACE(std::string(wrong.family) + " " + wrong.changes.dump());
    const Json config = config_of(wrong.family, wrong.changes, wrong.removed);
    expect_error(ErrorKind::bad_data, wrong.words, [&] { parse_architecture(config, "config.json"); });
    expect_error(ErrorKind::bad_data, "config.json", [&] { parse_architecture(config, "config.json"); });
  }
}

TEST(MixtureConfig, MayLeaveOutOrNullWhatDoesNotMatter) {
  const Json changes[] = {{{"norm_topk_prob", nullptr}}, {{"mlp_only_layers", nullptr}}, {{"clip_qkv", nullptr}}};
  const Architecture expected = parse_architecture(config_of("qwen2_moe"), "c");
  for (const Json& change : changes) EXPECT_EQ(parse_architecture(config_of("qwen2_moe", change), "c"), expected);
  EXPECT_EQ(parse_architecture(config_of("qwen2_moe", Json::object(), {"decoder_sparse_step"}), "c"), expected);
  const Architecture dense = parse_architecture(config_of("llama", {{"num_local_experts", 8}}), "c");
  EXPECT_EQ(dense.experts, 0u) << "Llama has no such key";
}

/// Tensors as one config asks for them, read with another one.
void expect_refused(const Json& made, const Json& read, std::string_view words,
                    const std::function<void(MemorySource&)>& spoil = nullptr) {
  auto source = std::make_shared<MemorySource>(random_source(parse_architecture(made, "config.json")));
  if (spoil) spoil(*source);
  expect_error(ErrorKind::bad_data, words,
               [&] { CheckpointWeights(parse_architecture(read, "config.json"), source).block(2); });
}

TEST(MixtureTensors, AreMissingWhereConfigSaysMoreExperts) {
  const Json eight = config_of("qwen3_moe"), six = config_of("qwen3_moe", {{"num_experts", 6}});
  for (const char* const linear : {"gate_proj", "up_proj", "down_proj"})
    expect_refused(six, eight, fmt::format("'model.layers.0.mlp.experts.6.{}.weight' is missing", linear));
  expect_refused(six, eight, "'model.layers.0.mlp.gate.weight' has shape [6, 64], but config.json asks for [8, 64]");
  expect_refused(config_of("mixtral", {{"num_local_experts", 7}}), config_of("mixtral"),
                 "'model.layers.0.block_sparse_moe.experts.7.w3.weight' is missing");
}

TEST(MixtureTensors, AreTooManyWhereConfigSaysFewerExperts) {
  const Json eight = config_of("mixtral"), six = config_of("mixtral", {{"num_local_experts", 6}});
  for (const char* const linear : {"w1", "w2", "w3"})
    expect_refused(eight, six, fmt::format("'model.layers.0.block_sparse_moe.experts.6.{}.weight' [", linear));
  expect_refused(eight, six, "is not part of MixtralForCausalLM");
  expect_refused(eight, six,
                 "'model.layers.0.block_sparse_moe.gate.weight' has shape [8, 64], but config.json asks for [6, 64]");
}

TEST(MixtureTensors, HaveTheWidthsOfConfig) {
  expect_refused(
      config_of("qwen3_moe"), config_of("qwen3_moe", {{"moe_intermediate_size", 48}}),
      "'model.layers.0.mlp.experts.0.gate_proj.weight' has shape [32, 64], but config.json asks for [48, 64]");
  expect_refused(
      config_of("olmoe"), config_of("olmoe", {{"intermediate_size", 48}}),
      "'model.layers.0.mlp.experts.0.gate_proj.weight' has shape [32, 64], but config.json asks for [48, 64]");
  expect_refused(config_of("qwen2_moe"), config_of("qwen2_moe", {{"shared_expert_intermediate_size", 64}}),
                 "'model.layers.0.mlp.shared_expert.down_proj.weight' has shape [64, 96], but config.json asks for "
                 "[64, 64]");
}

TEST(MixtureTensors, AreNotThoseOfAnotherFamily) {
  expect_refused(config_of("qwen3"), config_of("qwen3_moe"), "'model.layers.0.mlp.gate.weight' is missing");
  expect_refused(config_of("qwen3_moe"), config_of("qwen3"), "'model.layers.0.mlp.gate_proj.weight' is missing");
}

void put(MemorySource& source, const std::string& name, const std::vector<std::uint64_t>& shape) {
  std::size_t elements = 1;
  for (const std::uint64_t size : shape) elements *= size;
  source.put(name, DType::f32, shape, std::vector<float>(elements));
}

/// One thing wrong with the tensors of a case.
struct Spoiled {
  std::string_view family;
  std::string_view words;
  std::function<void(MemorySource&)> spoil;
};

TEST(MixtureTensors, AreRefusedWhereOneIsSpoiled) {
  const std::string router = "model.layers.1.mlp.gate.weight", shared = "model.layers.1.mlp.shared_expert_gate.weight";
  const std::string expert = "model.layers.1.mlp.experts.4.up_proj.weight";
  const std::vector<Spoiled> cases = {
      {"qwen3_moe", "'model.layers.1.mlp.gate.weight' has shape [64, 8], but config.json asks for [8, 64]",
       [&](MemorySource& source) {
         put(source, router, {64, 8});
       }},
      {"olmoe", "'model.layers.1.mlp.gate.weight' has shape [7, 64], but config.json asks for [6, 64]",
       [&](MemorySource& source) {
         put(source, router, {7, 64});
       }},
      {"qwen3_moe", "'model.layers.1.mlp.gate.weight' is missing",
       [&](MemorySource& source) { source.remove(router); }},
      {"qwen3_moe", "'model.layers.1.mlp.gate.bias' [8] is not part of",
       [&](MemorySource& source) { put(source, "model.layers.1.mlp.gate.bias", {8}); }},
      {"qwen2_moe", "'model.layers.1.mlp.shared_expert_gate.weight' has shape [64, 1]",
       [&](MemorySource& source) {
         put(source, shared, {64, 1});
       }},
      {"qwen2_moe", "'model.layers.1.mlp.shared_expert_gate.weight' is missing",
       [&](MemorySource& source) { source.remove(shared); }},
      {"olmoe", "'model.layers.1.mlp.experts.4.up_proj.weight' has shape [64, 32]",
       [&](MemorySource& source) {
         put(source, expert, {64, 32});
       }},
      {"olmoe", "'model.layers.1.mlp.experts.4.up_proj.weight' is missing",
       [&](MemorySource& source) { source.remove(expert); }},
      {"qwen3_moe", "'model.layers.1.mlp.shared_expert.up_proj.weight' [96, 64] is not part of",
       [&](MemorySource& source) {
         put(source, "model.layers.1.mlp.shared_expert.up_proj.weight", {96, 64});
       }},
      {"qwen3_moe", "tensor 'model.layers.2.mlp.gate.weight': non-finite value",
       [&](MemorySource& source) {
         source.put("model.layers.2.mlp.gate.weight", DType::f32, {8, 64}, std::vector<float>(8 * 64, NAN));
       }},
      {"olmoe", "tensor 'model.layers.2.mlp.experts.5.down_proj.weight': non-finite value",
       [&](MemorySource& source) {
         source.put("model.layers.2.mlp.experts.5.down_proj.weight", DType::f32, {64, 32},
                    std::vector<float>(64 * 32, INFINITY));
       }},
  };
  for (const Spoiled& spoiled : cases) {
    SCOPED_TRACE(spoiled.words);
    expect_refused(config_of(spoiled.family), config_of(spoiled.family), spoiled.words, spoiled.spoil);
  }
}

}  // namespace
}  // namespace adze
