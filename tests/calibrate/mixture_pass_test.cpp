// Blocks with experts: which tokens each is measured with, and that what is measured is what the forward pass gives it.
#include "calibrate/block_pass.h"

#include <numeric>

#include "calibrate/calibrate_testing.h"

namespace adze {
namespace {

using testing::expect_close;
using testing::expect_same;
using testing::mixture_architecture;
using testing::random_matrix;
using testing::random_model;
using testing::TempFolder;
using testing::ThreadCount;

TEST(ExpertTokens, AreThoseThatAreRoutedWhereTheyAreEnough) {
  std::vector<std::uint32_t> routed(12);
  std::iota(routed.begin(), routed.end(), 5U);
  const ExpertTokens tokens = tokens_of_expert(routed, 100, 3, ExpertInputs::routed);
  EXPECT_EQ(tokens.rows, routed);
  EXPECT_EQ(tokens.borrowed, 0U);
}

TEST(ExpertTokens, OthersAtEvenDistancesJoinThemWhereTheyAreFew) {
  const ExpertTokens tokens = tokens_of_expert({3, 4, 50}, 100, 1, ExpertInputs::routed);
  EXPECT_EQ(tokens.borrowed, 4U);  // of the 97 others, each 97 / 4th: 0, 24, 48, 72
  EXPECT_EQ(tokens.rows, (std::vector<std::uint32_t>{0, 3, 4, 26, 50, 51, 75}));
}

TEST(ExpertTokens, AreAllOfALayerThatHasFewItself) {
  const ExpertTokens tokens = tokens_of_expert({1, 2}, 5, 8, ExpertInputs::routed);
  EXPECT_EQ(tokens.rows, (std::vector<std::uint32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(tokens.borrowed, 3U);
  const ExpertTokens none = tokens_of_expert({}, 5, 8, ExpertInputs::routed);
  EXPECT_EQ(none.rows.size(), 5U);
  EXPECT_EQ(none.borrowed, 5U);
}

TEST(ExpertTokens, AreAllWhereThatIsAskedFor) {
  const ExpertTokens tokens = tokens_of_expert({1}, 4, 1, ExpertInputs::all);
  EXPECT_EQ(tokens.rows, (std::vector<std::uint32_t>{0, 1, 2, 3}));
  EXPECT_EQ(tokens.borrowed, 0U);
}

constexpr std::size_t kTokens = 64;

struct Place {
  explicit Place(std::size_t count)
      : model(random_model(mixture_architecture())),
        block(model.block(0)),
        forward(model.architecture(), kTokens),
        hidden(random_matrix({count * kTokens, model.architecture().hidden}, "hidden")),
        windows(count) {}

  const Architecture& architecture() const { return model.architecture(); }

  /// Window by window: inputs of the experts, [all tokens x hidden], and where they go.
  MatrixF normed(std::vector<std::vector<std::uint32_t>>& routed) const {
    MatrixF all(hidden.shape());
    routed.assign(architecture().experts, {});
    Workspace work;
    for (std::size_t w = 0; w < windows; ++w) {
      MatrixF x(kTokens, hidden.cols()), input(kTokens, hidden.cols()), mix(kTokens, architecture().q_width());
      for (std::size_t t = 0; t < kTokens; ++t) std::ranges::copy(hidden.row(w * kTokens + t), x.row(t).begin());
      forward.stage_input_qkv(block, x, input);
      forward.attention_mix(block, input, mix, work);
      forward.add_attention(block, mix, x, work);
      forward.stage_input_mlp(block, x, input);
      const Routing routing = forward.route(block, input, work);
      for (std::size_t e = 0; e < routing.size(); ++e)
        for (const RoutedToken& token : routing[e])
          routed[e].push_back(static_cast<std::uint32_t>(w * kTokens + token.row));
      for (std::size_t t = 0; t < kTokens; ++t) std::ranges::copy(input.row(t), all.row(w * kTokens + t).begin());
    }
    return all;
  }

  CheckpointWeights model;
  BlockWeights block;
  Forward forward;
  MatrixF hidden;
  std::size_t windows;
};

MatrixF rows_of(const MatrixF& all, std::span<const std::uint32_t> rows) {
  MatrixF chosen(rows.size(), all.cols());
  for (std::size_t i = 0; i < rows.size(); ++i) std::ranges::copy(all.row(rows[i]), chosen.row(i).begin());
  return chosen;
}

InputStatistics plain(const MatrixF& inputs) {
  InputStatistics statistics(inputs.cols());
  statistics.add(inputs, 512);
  return statistics;
}

TEST(MixturePass, ExpertsAreMeasuredWithTheTokensThatAreSentThere) {
  const Place place(40);
  const Architecture& a = place.architecture();
  std::vector<std::vector<std::uint32_t>> routed;
  const MatrixF normed = place.normed(routed);
  HiddenStates states(place.hidden, kTokens);
  BlockPass pass(place.forward, states);
  std::size_t sent = 0;
  for (const Stage stage : stages_of(a)) {
    const InputStatistics measured = pass.measure(stage, place.block);
    if (stage == Stage::gate_up) expect_close(measured, plain(normed), 1e-5);
    if (!stage.is_expert()) continue;
    const auto expert = static_cast<std::size_t>(stage.expert);
    const ExpertTokens tokens =
        tokens_of_expert(routed[expert], normed.rows(), std::max(a.hidden, a.expert_ffn), ExpertInputs::routed);
    MatrixF inputs = rows_of(normed, tokens.rows);
    if (stage.kind == Stage::down) {
      MatrixF hidden(inputs.rows(), a.expert_ffn);
      Workspace work;
      for (std::size_t first = 0; first < inputs.rows(); first += 512) {
        const std::size_t count = std::min<std::size_t>(512, inputs.rows() - first);
        place.forward.expert_hidden(place.block, expert, inputs.view().row_range(first, count),
                                    hidden.view().row_range(first, count), work);
      }
      inputs = hidden;
    } else {
      sent += measured.tokens - measured.borrowed;
    }
    EXPECT_EQ(measured.borrowed, tokens.borrowed) << name_of(stage);
    expect_close(measured, plain(inputs), 1e-5);
  }
  EXPECT_EQ(sent, a.experts_per_token * normed.rows());
}

TEST(MixturePass, EveryTokenGoesToEveryExpertWhereThatIsAskedFor) {
  const Place place(20);
  HiddenStates states(place.hidden, kTokens);
  BlockPass pass(place.forward, states, ExpertInputs::all);
  InputStatistics common;
  for (const Stage stage : stages_of(place.architecture())) {
    const InputStatistics measured = pass.measure(stage, place.block);
    if (stage == Stage::gate_up) common = measured;
    if (stage.is_expert() && stage.kind == Stage::gate_up) expect_close(measured, common, 1e-5);
  }
}

TEST(MixturePass, AllStagesTogetherGiveTheSameBitsAndTheStatesOfRunBlock) {
  const Place place(70);
  HiddenStates apart(place.hidden, kTokens), together(place.hidden, kTokens), run(place.hidden, kTokens),
      by(place.hidden, kTokens);
  BlockPass one_by_one(place.forward, apart), at_once(place.forward, together), skipping(place.forward, by);
  std::vector<Stage> stages;
  at_once.measure_all(place.block, [&](Stage stage, const InputStatistics& statistics) {
    stages.push_back(stage);
    skipping.pass_by(stage, place.block);
    expect_same(statistics, one_by_one.measure(stage, place.block), name_of(stage));
  });
  EXPECT_EQ(stages, stages_of(place.architecture()));
  one_by_one.finish(place.block);
  skipping.finish(place.block);
  run_block(place.forward, place.block, run);
  EXPECT_TRUE(together.values() == apart.values());
  EXPECT_TRUE(by.values() == apart.values());
  EXPECT_TRUE(run.values() == apart.values());
}

/// A pass that another one goes beside, with states a little off: by brute force over the same tokens.
TEST(MixturePass, CrossMomentsAreOfTheSameTokensInBothPasses) {
  const Place place(12);
  const Architecture& a = place.architecture();
  Place away(12);
  for (std::size_t i = 0; i < away.hidden.values().size(); ++i)
    away.hidden.values()[i] += 0.05f * static_cast<float>(i % 7);
  std::vector<std::vector<std::uint32_t>> routed, elsewhere;
  const MatrixF here = place.normed(routed), there = away.normed(elsewhere);
  EXPECT_NE(routed, elsewhere);  // routers of the two do not agree everywhere
  HiddenStates states(place.hidden, kTokens), others(away.hidden, kTokens);
  BlockPass pass(place.forward, states), reference(place.forward, others);
  for (const Stage stage : stages_of(a)) {
    const ReferencedStatistics measured = pass.measure_against(reference, place.block, stage, place.block);
    if (!stage.is_expert() || stage.kind != Stage::gate_up) continue;
    EXPECT_EQ(measured.residual.rows(), 0U);
    const ExpertTokens tokens = tokens_of_expert(routed[static_cast<std::size_t>(stage.expert)], here.rows(),
                                                 std::max(a.hidden, a.expert_ffn), ExpertInputs::routed);
    double largest = 0, difference = 0;
    for (std::size_t i = 0; i < a.hidden; ++i)
      for (std::size_t j = 0; j < a.hidden; ++j) {
        double sum = 0;
        for (const std::uint32_t t : tokens.rows) sum += (double{there(t, i)} - here(t, i)) * here(t, j);
        largest = std::max(largest, std::fabs(sum));
        difference = std::max(difference, std::fabs(sum - measured.cross(i, j)));
      }
    EXPECT_GT(largest, 1);
    EXPECT_LT(difference, 1e-4 * largest) << name_of(stage);
  }
}

std::vector<InputStatistics> measured_with(int threads, std::size_t windows_held, const std::filesystem::path* folder) {
  const ThreadCount scope(threads);
  const Place place(140);
  HiddenStates states({140, kTokens, place.architecture().hidden, windows_held, folder != nullptr});
  std::vector<std::int32_t> ids(140 * kTokens);
  for (std::size_t t = 0; t < ids.size(); ++t) ids[t] = static_cast<std::int32_t>(t * 7 % 50);
  if (folder != nullptr) states.begin(*folder / "states-0.f32");
  embed_windows(place.forward, input_tables(place.model), ids, states);
  if (folder != nullptr) {
    states.save();
    states.begin(*folder / "states-1.f32");
  }
  std::vector<InputStatistics> measured;
  BlockPass pass(place.forward, states);
  for (const Stage stage : stages_of(place.architecture())) measured.push_back(pass.measure(stage, place.block));
  pass.finish(place.block);
  return measured;
}

TEST(MixturePass, NeitherThreadsNorBatchesNorWhereStatesLieChangeABit) {
  const TempFolder folder;
  const std::vector<InputStatistics> meant = measured_with(1, 64, nullptr);
  const std::filesystem::path path = folder.path();
  for (const auto& other :
       {measured_with(2, 8, nullptr), measured_with(5, 1000, nullptr), measured_with(2, 16, &path)}) {
    ASSERT_EQ(other.size(), meant.size());
    for (std::size_t s = 0; s < meant.size(); ++s) expect_same(other[s], meant[s], fmt::format("stage {}", s));
  }
}

}  // namespace
}  // namespace adze
