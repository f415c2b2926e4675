// Many versions judged at once: the numbers of evaluate(), and the states between blocks.
#include "evaluate/reference_judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "model/memory_source.h"

namespace adze {
namespace {

using testing::random_ids;
using testing::random_model;
using testing::small_architecture;

/// The original with one block taken from another model.
class WithBlock final : public ModelWeights {
 public:
  WithBlock(const ModelWeights& original, std::size_t index, BlockWeights block)
      : original_(original), index_(index), block_(std::move(block)) {}

  const Architecture& architecture() const override { return original_.architecture(); }
  TensorPtr embedding() const override { return original_.embedding(); }
  BlockWeights block(std::size_t index) const override { return index == index_ ? block_ : original_.block(index); }
  std::vector<float> final_norm() const override { return original_.final_norm(); }
  TensorPtr head() const override { return original_.head(); }

 private:
  const ModelWeights& original_;
  std::size_t index_;
  BlockWeights block_;
};

Architecture deep_architecture() {
  Architecture deep = small_architecture();
  deep.layers = 3;
  return deep;
}

TEST(ReferenceJudge, GivesWhatEvaluateGivesToTheBit) {
  const auto original = random_model(deep_architecture());
  const auto other = random_model(deep_architecture(), DType::f32, "other");
  const auto rounded = random_model(deep_architecture(), DType::bf16);
  const auto ids = random_ids(200, 50);
  const Protocol protocol = parse_protocol("lcpp-32");
  const auto evaluated = [&](const ModelWeights& version) {
    return to_json(evaluate(version, &original, ids, 1, protocol, silent_progress())).dump();
  };
  const auto point_values = [&](const ModelWeights& version) {
    return to_json(summarize(score_text(version, &original, ids, 1, protocol, silent_progress()), Inference::point))
        .dump();
  };
  ReferenceJudge judge(original, ids, 1, protocol);
  EXPECT_EQ(to_json(judge.judge(other)).dump(), evaluated(other));
  for (std::size_t b = 0; b < 3; ++b, judge.advance()) {
    EXPECT_EQ(judge.block(), b);
    std::vector<BlockWeights> versions;  // more than are held together
    for (std::size_t i = 0; i < ReferenceJudge::kAtOnce + 1; ++i)
      versions.push_back((i % 2 == 0 ? rounded : other).block(b));
    const std::vector<EvaluationResult> results = judge.judge_block(versions);
    ASSERT_EQ(results.size(), versions.size());
    for (std::size_t i = 0; i < versions.size(); ++i)
      EXPECT_EQ(to_json(results[i]).dump(), point_values(WithBlock(original, b, versions[i]))) << b << " " << i;
  }
  EXPECT_EQ(judge.block(), 3U);
  judge.rewind();
  const std::vector<BlockWeights> itself{original.block(0)};
  EXPECT_EQ(judge.judge_block(itself).front().reference->kl_max, 0.0);
}

TEST(ReferenceJudge, HoldsTheStatesBetweenBlocks) {
  const auto original = random_model(deep_architecture());
  ReferenceJudge judge(original, random_ids(64, 50), 1, parse_protocol("lcpp-32"));
  const std::vector<MatrixF> after = judge.states_after(original.block(0));
  EXPECT_FALSE(std::ranges::equal(after[0].values(), judge.states()[0].values()));
  judge.advance();
  ASSERT_EQ(judge.states().size(), 2U);
  for (std::size_t w = 0; w < 2; ++w) EXPECT_TRUE(std::ranges::equal(after[w].values(), judge.states()[w].values()));
}

TEST(ReferenceJudge, RefusesAnotherVocabulary) {
  const auto original = random_model(small_architecture());
  Architecture larger = small_architecture();
  larger.vocab += 8;
  const auto other = random_model(larger);
  ReferenceJudge judge(original, random_ids(64, 50), 1, parse_protocol("lcpp-32"));
  EXPECT_THROW(judge.judge(other), Error);
}

}  // namespace
}  // namespace adze
