// Fewer blocks: which go, by measures worked out here again, and what is left.
#include "transform/drop_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "evaluate/evaluate.h"
#include "model/forward.h"
#include "model/memory_source.h"
#include "recipe/document.h"
#include "transform/depth_search.h"
#include "transform/fewer_blocks.h"

namespace adze {
namespace {

using testing::random_model;
using testing::small_architecture;

Architecture deep(std::size_t layers) {
  Architecture a = small_architecture();
  a.layers = layers;
  return a;
}

std::shared_ptr<const ModelWeights> model_of(std::size_t layers) {
  return std::make_shared<CheckpointWeights>(random_model(deep(layers)));
}

std::vector<std::int32_t> random_ids(std::size_t count) { return testing::random_ids(count, 50); }

constexpr std::size_t kTokens = 32;

double kl_without(const std::shared_ptr<const ModelWeights>& model, const std::vector<std::size_t>& dropped,
                  const std::vector<std::int32_t>& ids, MergeMode merge = MergeMode::none) {
  const FewerBlocks fewer(model, dropped, merge);
  return evaluate(fewer, model.get(), ids, std::nullopt, parse_protocol("lcpp-32"), silent_progress())
      .reference->kl_mean;
}

/// States before every block and after the last, of one window, by the plain forward pass.
std::vector<MatrixF> states_of(const ModelWeights& model, std::span<const std::int32_t> window) {
  const Forward forward(model.architecture(), window.size());
  Workspace work;
  MatrixF x(window.size(), model.architecture().hidden);
  forward.embed(input_tables(model), window, x);
  std::vector<MatrixF> states{x};
  for (std::size_t b = 0; b < model.architecture().layers; ++b) {
    forward.run_block(model.block(b), x, work);
    states.push_back(x);
  }
  return states;
}

double cosine(std::span<const float> a, std::span<const float> b) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

TEST(FewerBlocks, GroupsWhatIsDroppedWithTheBlockBefore) {
  using Groups = std::vector<std::vector<std::size_t>>;
  EXPECT_EQ(kept_blocks(5, {}), (Groups{{0}, {1}, {2}, {3}, {4}}));
  EXPECT_EQ(kept_blocks(5, {1, 2, 4}), (Groups{{0, 1, 2}, {3, 4}}));
  EXPECT_EQ(kept_blocks(4, {0, 2}), (Groups{{1, 2}, {3}}));
  EXPECT_THROW(kept_blocks(2, {0, 1}), Error);
}

/// Specification allocation.md, 6.1: 1.0, 1.5, 0.7 and 2.0 collapse to 2.2 by the published formula.
TEST(FewerBlocks, CollapsesByTheGoldenValues) {
  class Constant final : public ModelWeights {
   public:
    explicit Constant(const Architecture& a) : architecture_(a) {}
    const Architecture& architecture() const override { return architecture_; }
    TensorPtr embedding() const override { return nullptr; }
    BlockWeights block(std::size_t index) const override {
      constexpr std::array kValues{1.0f, 1.5f, 0.7f, 2.0f};
      BlockWeights block;
      block[NormSlot::before_attention] = {static_cast<float>(index)};
      for (const LinearInfo& info : block_linears(architecture_)) {
        MatrixF matrix(1, 1);
        matrix(0, 0) = kValues[index];
        block[info.slot] = {std::make_shared<DenseTensor>(make_dense(matrix, DType::f32)), {kValues[index]}};
      }
      return block;
    }
    std::vector<float> final_norm() const override { return {}; }
    TensorPtr head() const override { return nullptr; }

   private:
    Architecture architecture_;
  };
  const auto model = std::make_shared<Constant>(deep(4));
  const auto value = [&](MergeMode merge) {
    const BlockWeights block = FewerBlocks(model, {1, 2, 3}, merge).block(0);
    EXPECT_EQ(block[NormSlot::before_attention].front(), 0);  // norms stay
    const float weight = block[LinearSlot::up].weight->decode()(0, 0);
    EXPECT_FLOAT_EQ(block[LinearSlot::up].bias.front(), weight);
    return weight;
  };
  EXPECT_FLOAT_EQ(value(MergeMode::none), 1.0f);
  EXPECT_FLOAT_EQ(value(MergeMode::sum), 2.2f);
  EXPECT_FLOAT_EQ(value(MergeMode::mean), 1.3f);
}

TEST(DepthSearch, MeasuresWhatThePlainForwardPassGives) {
  const auto model = model_of(4);
  const auto ids = random_ids(2 * kTokens);
  const std::vector<double> influence = block_influence(*model, ids, kTokens);
  const std::vector<double> angles = angular_distance(*model, ids, kTokens, 2);
  ASSERT_EQ(influence.size(), 4U);
  ASSERT_EQ(angles.size(), 3U);
  std::vector<double> turned(4), distance(3);
  for (std::size_t w = 0; w < 2; ++w) {
    const auto states = states_of(*model, std::span(ids).subspan(w * kTokens, kTokens));
    for (std::size_t b = 0; b < 4; ++b)
      for (std::size_t t = 0; t < kTokens; ++t)
        turned[b] += (1 - cosine(states[b].row(t), states[b + 1].row(t))) / (2 * kTokens);
    for (std::size_t l = 0; l < 3; ++l)
      distance[l] +=
          std::acos(cosine(states[l].row(kTokens - 1), states[l + 2].row(kTokens - 1))) / std::numbers::pi / 2;
  }
  for (std::size_t b = 0; b < 4; ++b) EXPECT_NEAR(influence[b], turned[b], 1e-6);
  for (std::size_t l = 0; l < 3; ++l) EXPECT_NEAR(angles[l], distance[l], 1e-6);
  const auto least = static_cast<std::size_t>(std::ranges::min_element(distance) - distance.begin());
  EXPECT_EQ(blocks_to_drop(model, ids, kTokens, 2, DepthMeasure::angular, MergeMode::none),
            (std::vector<std::size_t>{least, least + 1}));
  EXPECT_EQ(deepest_blocks(6, 2), (std::vector<std::size_t>{3, 4}));
}

TEST(DepthSearch, DropsTheBlockThatIsMissedLeast) {
  const auto model = model_of(5);
  const auto ids = random_ids(4 * kTokens);
  for (const MergeMode merge : {MergeMode::none, MergeMode::mean}) {
    const auto found = blocks_to_drop(model, ids, kTokens, 1, DepthMeasure::kl, merge);
    ASSERT_EQ(found.size(), 1U);
    for (std::size_t b = 0; b < 5; ++b)
      EXPECT_LE(kl_without(model, found, ids, merge), kl_without(model, {b}, ids, merge)) << b;
  }
}

/// Two of five: no worse than any pair with the best single one.
TEST(DepthSearch, DropsOneAfterTheOther) {
  const auto model = model_of(5);
  const auto ids = random_ids(4 * kTokens);
  const auto one = blocks_to_drop(model, ids, kTokens, 1, DepthMeasure::kl, MergeMode::none);
  const auto two = blocks_to_drop(model, ids, kTokens, 2, DepthMeasure::kl, MergeMode::none);
  ASSERT_EQ(two.size(), 2U);
  EXPECT_LT(two[0], two[1]);
  double best = 1e9;
  for (std::size_t b = 0; b < 5; ++b) {
    if (b == one[0]) continue;
    best = std::min(best, kl_without(model, {std::min(one[0], b), std::max(one[0], b)}, ids));
  }
  EXPECT_LE(kl_without(model, two, ids), best * 1.25);  // stale costs may hide a better one
}

std::shared_ptr<const Transform> configured(const std::string& options, std::size_t layers = 6) {
  static std::vector<std::unique_ptr<Document>> kept;
  kept.push_back(std::make_unique<Document>(Document::parse(options, "options")));
  MapReader reader(kept.back()->root(), "transform", kept.back()->problems());
  auto transform = configure_drop_blocks(reader, deep(layers));
  reader.finish();
  kept.back()->problems().throw_if_any();
  return transform;
}

TEST(DropBlocks, SaysWhatIsLeft) {
  const auto named = configured("{ blocks: \"4, 1\", merge: sum }");
  EXPECT_EQ(named->description(), "drop-blocks blocks=1,4 merge=sum");
  EXPECT_FALSE(named->needs_survey());
  EXPECT_EQ(named->architecture(deep(6)).layers, 4U);
  EXPECT_FALSE(configured("{ count: 2, select: last }")->needs_survey());
  const auto searched = configured("{ count: 2 }");
  EXPECT_TRUE(searched->needs_survey());
  EXPECT_EQ(searched->description(), "drop-blocks count=2 select=kl windows=8 merge=none");
  const auto survey = searched->survey();
  const auto model = model_of(6);
  survey->see_model(model, random_ids(3 * kTokens), kTokens);
  const auto settled = survey->result();
  EXPECT_FALSE(settled->needs_survey());
  EXPECT_EQ(settled->reshaped(model)->architecture().layers, 4U);
}

TEST(DropBlocks, RefusesWhatCannotBe) {
  EXPECT_THROW(configured("{ count: 6 }"), Error);
  EXPECT_THROW(configured("{ count: 0 }"), Error);
  EXPECT_THROW(configured("{}"), Error);
  EXPECT_THROW(configured("{ blocks: \"6\" }"), Error);
  EXPECT_THROW(configured("{ blocks: \"1, 1\" }"), Error);
  EXPECT_THROW(configured("{ blocks: \"one\" }"), Error);
  EXPECT_THROW(configured("{ blocks: \"1\", count: 1 }"), Error);
  EXPECT_THROW(configured("{ count: 1, select: taylor }"), Error);
}

}  // namespace
}  // namespace adze
