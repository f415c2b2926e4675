// Mixtures of experts: what is read of their settings, which linears and stages they have, where tokens are sent; that
// the pass follows every setting, and that comparing it with the plain reference would show the usual mistakes.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/safetensors_folder.h"
#include "model/logits.h"
#include "model/memory_source.h"
#include "model/mixture.h"
#include "model/plain_reference.h"
#include "model/random_checkpoint.h"

namespace adze {
namespace {

using namespace testing;
using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr std::uint64_t kSeed = 21;
constexpr std::size_t kTokens = 100;
constexpr double kRelativeTolerance = 2e-4;  // of the range of the logits, as in families_test.cpp
constexpr double kVisible = 1e-2;            // of a log-probability

Architecture architecture_of(std::string_view family) {
  return parse_architecture(family_case(family).config, "config.json");
}

struct ExpertSizes {
  std::string_view family;
  std::size_t experts, per_token, expert_ffn, shared_ffn;
  bool renormalised;
};

TEST(Mixtures, AreReadFromTheKeysOfTheirFamily) {
  const ExpertSizes expected[] = {{"llama", 0, 0, 0, 0, false},       {"mixtral", 8, 2, 96, 0, true},
                                  {"qwen3_moe", 8, 2, 32, 0, true},   {"olmoe", 6, 3, 32, 0, false},
                                  {"qwen2_moe", 6, 2, 32, 96, false}, {"qwen3", 0, 0, 0, 0, false}};
  for (const ExpertSizes& sizes : expected) {
    SCOPED_TRACE(sizes.family);
    const Architecture a = architecture_of(sizes.family);
    EXPECT_EQ(a.experts, sizes.experts);
    EXPECT_EQ(a.experts_per_token, sizes.per_token);
    EXPECT_EQ(a.expert_ffn, sizes.expert_ffn);
    EXPECT_EQ(a.shared_ffn, sizes.shared_ffn);
    EXPECT_EQ(a.renormalised, sizes.renormalised);
  }
}

/// One linear of block 1, and what it is called and measures.
struct NamedLinear {
  std::string_view family;
  LinearSlot slot;
  std::string_view module, gguf;
  Shape shape;
};

std::vector<NamedLinear> named_linears() {
  const auto expert = [](LinearSlot::Kind kind, std::size_t index) { return LinearSlot(kind, index); };
  return {
      {"mixtral", LinearSlot::router, "block_sparse_moe.gate", "ffn_gate_inp", {8, 64}},
      {"mixtral", expert(LinearSlot::gate, 0), "block_sparse_moe.experts.0.w1", "ffn_gate_exps", {96, 64}},
      {"mixtral", expert(LinearSlot::up, 3), "block_sparse_moe.experts.3.w3", "ffn_up_exps", {96, 64}},
      {"mixtral", expert(LinearSlot::down, 7), "block_sparse_moe.experts.7.w2", "ffn_down_exps", {64, 96}},
      {"qwen3_moe", LinearSlot::router, "mlp.gate", "ffn_gate_inp", {8, 64}},
      {"qwen3_moe", expert(LinearSlot::gate, 7), "mlp.experts.7.gate_proj", "ffn_gate_exps", {32, 64}},
      {"olmoe", LinearSlot::router, "mlp.gate", "ffn_gate_inp", {6, 64}},
      {"olmoe", expert(LinearSlot::up, 5), "mlp.experts.5.up_proj", "ffn_up_exps", {32, 64}},
      {"olmoe", LinearSlot::k, "self_attn.k_proj", "attn_k", {64, 64}},
      {"qwen2_moe", LinearSlot::router, "mlp.gate", "ffn_gate_inp", {6, 64}},
      {"qwen2_moe", expert(LinearSlot::down, 2), "mlp.experts.2.down_proj", "ffn_down_exps", {64, 32}},
      {"qwen2_moe", LinearSlot::shared_router, "mlp.shared_expert_gate", "ffn_gate_inp_shexp", {1, 64}},
      {"qwen2_moe", LinearSlot::gate, "mlp.shared_expert.gate_proj", "ffn_gate_shexp", {96, 64}},
      {"qwen2_moe", LinearSlot::up, "mlp.shared_expert.up_proj", "ffn_up_shexp", {96, 64}},
      {"qwen2_moe", LinearSlot::down, "mlp.shared_expert.down_proj", "ffn_down_shexp", {64, 96}},
  };
}

TEST(Mixtures, CallTheirLinearsAsTheirFamilyDoes) {
  for (const NamedLinear& named : named_linears()) {
    SCOPED_TRACE(named.module);
    const Architecture a = architecture_of(named.family);
    const std::string module = "layers.1." + std::string(named.module);
    EXPECT_EQ(module_name(a, 1, named.slot), module);
    EXPECT_EQ(shape_of(a, named.slot), named.shape);
    const std::vector<TensorSpec> specs = expected_tensors(a);
    const auto spec = std::ranges::find(specs, "model." + module + ".weight", &TensorSpec::hf_name);
    ASSERT_NE(spec, specs.end());
    EXPECT_EQ(spec->module, module);
    EXPECT_EQ(spec->gguf_name, "blk.1." + std::string(named.gguf) + ".weight");
    EXPECT_EQ(spec->shape, (std::vector<std::uint64_t>{named.shape.rows, named.shape.cols}));
    EXPECT_TRUE(spec->slot == named.slot);
    EXPECT_EQ(spec->block, std::size_t{1});
  }
}

TEST(Mixtures, HaveEveryLinearInExactlyOneStage) {
  for (const FamilyCase& family : mixture_cases()) {
    SCOPED_TRACE(family.name);
    const Architecture a = architecture_of(family.name);
    std::set<LinearSlot> seen;
    for (const Stage stage : stages_of(a)) {
      const std::vector<LinearInfo> linears = linears_of(a, stage);
      EXPECT_FALSE(linears.empty());
      for (const LinearInfo& info : linears) {
        EXPECT_TRUE(info.stage == stage) << info.module;
        EXPECT_EQ(info.shape.cols, linears.front().shape.cols) << info.module << ": a stage has one input";
        EXPECT_TRUE(seen.insert(info.slot).second) << info.module;
      }
    }
    for (const LinearInfo& info : block_linears(a)) EXPECT_TRUE(seen.contains(info.slot)) << info.module;
    const std::size_t shared = a.shared_ffn > 0 ? 4 : 0;
    EXPECT_EQ(seen.size(), 4 + 1 + shared + 3 * a.experts);
    EXPECT_EQ(block_linears(a).size(), seen.size());
  }
}

/// A case's checkpoint, a text, and what the reference makes of it.
struct Prepared {
  explicit Prepared(const FamilyCase& family)
      : folder(write_random_checkpoint(temporary / family.name, family.config, kSeed)),
        ids(random_ids(kTokens, family.config.at("vocab_size").get<std::uint64_t>())),
        logits(reference_logits(folder, ids)) {}

  TempFolder temporary;
  fs::path folder;
  std::vector<std::int32_t> ids;
  MatrixD logits;
};

const Prepared& prepared(const FamilyCase& family) {
  static std::map<std::string, std::unique_ptr<Prepared>> all;
  std::unique_ptr<Prepared>& one = all[family.name];
  if (!one) one = std::make_unique<Prepared>(family);
  return *one;
}

/// A checkpoint's tensors, all of them F32, to be changed.
MemorySource tensors_of(const fs::path& folder) {
  const auto source = open_checkpoint_folder(folder);
  MemorySource all;
  for (const TensorInfo& info : source->tensors()) {
    std::vector<float> values(info.bytes / sizeof(float));
    source->read(info, 0, std::as_writable_bytes(std::span(values)));
    all.put(info.name, info.dtype, info.shape, values);
  }
  return all;
}

class Mixture : public ::testing::TestWithParam<FamilyCase> {
 protected:
  const Prepared& reference() const { return prepared(GetParam()); }
};

TEST_P(Mixture, HaveTestModelsThatUseEveryExpert) {
  const ReferenceRouting routing = reference_routing(reference().folder, reference().ids);
  EXPECT_EQ(routing.tokens.size(), architecture_of(GetParam().name).experts);
  for (const std::size_t tokens : routing.tokens) EXPECT_GT(tokens, kTokens / 10);
}

TEST_P(Mixture, HandsOutTheWeightsOfItsExperts) {
  const auto model = open_checkpoint_model(reference().folder);
  const BlockWeights block = model->block(1);
  const MemorySource stored = tensors_of(reference().folder);
  for (const NamedLinear& named : named_linears()) {
    if (named.family != GetParam().name) continue;
    SCOPED_TRACE(named.module);
    ASSERT_NE(block[named.slot].weight, nullptr);
    EXPECT_EQ(block[named.slot].weight->shape(), named.shape);
    const std::vector<float> expected = stored.values("model.layers.1." + std::string(named.module) + ".weight");
    EXPECT_TRUE(std::ranges::equal(block[named.slot].weight->decode().values(), expected));
  }
  if (model->architecture().shared_ffn > 0) return;
  for (const LinearSlot slot : {LinearSlot::shared_router, LinearSlot::gate, LinearSlot::up, LinearSlot::down})
    EXPECT_EQ(block[slot].weight, nullptr) << "there is no shared expert";
}

/// Our pass over the case's weights with other settings against the reference with them.
double difference_under(const Prepared& reference, const Json& config) {
  const TempFolder altered;
  copy_checkpoint(reference.folder, altered.path(), config);
  const MatrixD expected = reference_logits(altered.path(), reference.ids);
  const MatrixF ours = logits_of(*open_checkpoint_model(altered.path()), reference.ids);
  return largest_difference(ours, expected) / range_of(expected);
}

TEST_P(Mixture, TakesAsManyExpertsPerTokenAsConfigSays) {
  for (const std::size_t count : {std::size_t{1}, architecture_of(GetParam().name).experts}) {
    Json config = GetParam().config;
    config["num_experts_per_tok"] = count;
    EXPECT_LT(difference_under(reference(), config), kRelativeTolerance) << count;
  }
}

TEST_P(Mixture, DividesWeightsByTheirSumWhereConfigSaysSo) {
  for (const bool divides : {false, true}) {
    Json config = GetParam().config;
    config["norm_topk_prob"] = divides;  // no key of Mixtral, which always does
    EXPECT_LT(difference_under(reference(), config), kRelativeTolerance) << divides;
  }
}

void exchange(MemorySource& tensors, const std::string& first, const std::string& second) {
  const std::vector<std::uint64_t> shape = tensors.find(first)->shape;
  const std::vector<float> values = tensors.values(first);
  tensors.put(first, DType::f32, shape, tensors.values(second));
  tensors.put(second, DType::f32, shape, values);
}

void reverse_rows(MemorySource& tensors, const std::string& name) {
  const std::vector<std::uint64_t> shape = tensors.find(name)->shape;
  const std::vector<float> values = tensors.values(name);
  std::vector<float> reversed;
  for (std::size_t row = shape[0]; row-- > 0;)
    reversed.insert(reversed.end(), values.begin() + static_cast<std::ptrdiff_t>(row * shape[1]),
                    values.begin() + static_cast<std::ptrdiff_t>((row + 1) * shape[1]));
  tensors.put(name, DType::f32, shape, reversed);
}

/// The last expert of a block becomes the first, and so on, as do rows of its router.
void reverse_experts(const Architecture& a, std::size_t block, MemorySource& tensors) {
  const auto name = [&](LinearSlot slot) { return "model." + module_name(a, block, slot) + ".weight"; };
  reverse_rows(tensors, name(LinearSlot::router));
  for (std::size_t e = 0; e < a.experts / 2; ++e)
    for (const LinearSlot::Kind kind : {LinearSlot::gate, LinearSlot::up, LinearSlot::down})
      exchange(tensors, name(LinearSlot(kind, e)), name(LinearSlot(kind, a.experts - 1 - e)));
}

TEST_P(Mixture, IsTheSameWithItsExpertsInAnotherOrder) {
  auto tensors = std::make_shared<MemorySource>(tensors_of(reference().folder));
  const Architecture a = read_architecture(reference().folder);
  for (std::size_t block = 0; block < a.layers; ++block) reverse_experts(a, block, *tensors);
  const MatrixF reversed = logits_of(CheckpointWeights(a, tensors), reference().ids);
  const MatrixF original = logits_of(*open_checkpoint_model(reference().folder), reference().ids);
  EXPECT_LT(largest_difference(reversed, original), 1e-5 * range_of(original));
}

struct NamedMistake {
  Mistake mistake;
  const char* what;
  bool of_shared_expert = false;
};
constexpr NamedMistake kMistakes[] = {
    {Mistake::other_normalisation, "the other normalisation of weights"},
    {Mistake::one_expert_more, "one expert more"},
    {Mistake::one_expert_fewer, "one expert fewer"},
    {Mistake::experts_swapped, "two experts swapped"},
    {Mistake::router_reversed, "rows of the router reversed"},
    {Mistake::gate_up_swapped, "gate and up swapped"},
    {Mistake::no_sigmoid, "no sigmoid", true},
    {Mistake::no_shared_gate, "no gate of the shared expert", true},
    {Mistake::no_shared_expert, "no shared expert", true},
};

TEST_P(Mixture, DiffersVisiblyFromWhatMistakesWouldGive) {
  const MatrixF logits = logits_of(*open_checkpoint_model(reference().folder), reference().ids);
  const MatrixD ours = log_probabilities(logits);
  EXPECT_LT(largest_difference(logits, reference().logits), kRelativeTolerance * range_of(reference().logits));
  for (const NamedMistake& named : kMistakes) {
    if (named.of_shared_expert && architecture_of(GetParam().name).shared_ffn == 0) continue;
    const MatrixD mistaken = log_probabilities(reference_logits(reference().folder, reference().ids, named.mistake));
    const double worst = largest_difference(ours, mistaken);
    std::printf("%s, %s: %.2g\n", GetParam().name.c_str(), named.what, worst);
    EXPECT_GT(worst, kVisible) << named.what;
    EXPECT_TRUE(std::isfinite(worst)) << named.what;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Mixture, ::testing::ValuesIn(mixture_cases()),
                         [](const auto& case_info) { return case_info.param.name; });

/// Four experts.
Architecture router_of(std::size_t per_token, bool renormalised) {
  Architecture a = architecture_of("olmoe");
  a.experts = 4;
  a.experts_per_token = per_token;
  a.renormalised = renormalised;
  return a;
}

/// The weight with which one token goes to each expert, 0 where it does not go, of these router's logits.
std::vector<double> weights_of(const Architecture& a, const std::vector<double>& logits) {
  MatrixF row(1, logits.size());
  std::ranges::transform(logits, row.values().begin(), [](double logit) { return static_cast<float>(logit); });
  const Routing routing = route_tokens(a, row);
  EXPECT_EQ(routing.size(), logits.size());
  std::vector<double> weights;
  for (const auto& tokens : routing) weights.push_back(tokens.empty() ? 0 : tokens.front().weight);
  return weights;
}

void expect_weights(const Architecture& a, const std::vector<double>& logits, const std::vector<double>& expected) {
  const std::vector<double> weights = weights_of(a, logits);
  ASSERT_EQ(weights.size(), expected.size());
  for (std::size_t e = 0; e < expected.size(); ++e) EXPECT_NEAR(weights[e], expected[e], 1e-6) << e;
}

TEST(Routing, GivesTheExpertsOfTheLargestScoresTheirShares) {
  const std::vector<double> logits = {std::log(3.0), std::log(1.0), std::log(4.0), std::log(2.0)};  // of 10
  expect_weights(router_of(1, false), logits, {0, 0, 0.4, 0});
  expect_weights(router_of(2, false), logits, {0.3, 0, 0.4, 0});
  expect_weights(router_of(2, true), logits, {3.0 / 7, 0, 4.0 / 7, 0});
  expect_weights(router_of(1, true), logits, {0, 0, 1, 0});
  expect_weights(router_of(4, false), logits, {0.3, 0.1, 0.4, 0.2});
  expect_weights(router_of(4, true), logits, {0.3, 0.1, 0.4, 0.2});
}

TEST(Routing, DoesNotOverflow) {
  expect_weights(router_of(2, true), {300, -300, 200, 299}, {0.7310586, 0, 0, 0.2689414});
  expect_weights(router_of(2, false), {-1000, -1001, -2000, -3000}, {0.7310586, 0.2689414, 0, 0});
}

TEST(Routing, TakesTheFirstOfEqualScores) {
  expect_weights(router_of(2, false), {0, 0, 0, 0}, {0.25, 0.25, 0, 0});
  expect_weights(router_of(3, true), {1, 0, 0, 0}, {0.5761169, 0.2119416, 0.2119416, 0});
}

TEST(Routing, KeepsTokensInTheirOrder) {
  MatrixF logits(3, 4);
  logits(0, 1) = logits(1, 3) = logits(2, 1) = 5;
  const Routing routing = route_tokens(router_of(1, true), logits);
  ASSERT_EQ(routing[1].size(), 2u);
  EXPECT_EQ(routing[1][0].row, 0u);
  EXPECT_EQ(routing[1][1].row, 2u);
  ASSERT_EQ(routing[3].size(), 1u);
  EXPECT_EQ(routing[3][0].row, 1u);
  EXPECT_TRUE(routing[0].empty() && routing[2].empty());
}

}  // namespace
}  // namespace adze
