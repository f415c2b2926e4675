#include "calibrate/block_pass.h"

#include "calibrate/calibrate_testing.h"

namespace adze {
namespace {

using testing::expect_error;
using testing::expect_same;
using testing::random_matrix;
using testing::random_model;
using testing::small_architecture;
using testing::ThreadCount;

/// Window by window with the forward pass alone: the input of one stage of `block` for hidden states x.
MatrixF stage_input(const Forward& forward, const BlockWeights& block, Stage stage, ConstViewF x) {
  const Architecture& a = forward.architecture();
  Workspace work;
  MatrixF states(x.shape());
  for (std::size_t t = 0; t < x.rows(); ++t) std::ranges::copy(x.row(t), states.row(t).begin());
  MatrixF normed(x.shape());
  forward.stage_input_qkv(block, states, normed);
  if (stage == Stage::qkv) return normed;
  MatrixF mix(x.rows(), a.q_width());
  forward.attention_mix(block, normed, mix, work);
  if (stage == Stage::o) return mix;
  forward.add_attention(block, mix, states, work);
  forward.stage_input_mlp(block, states, normed);
  if (stage == Stage::gate_up) return normed;
  MatrixF inner(x.rows(), a.ffn);
  forward.mlp_hidden(block, normed, inner, work);
  return inner;
}

InputStatistics direct(const Forward& forward, const BlockWeights& block, Stage stage, const MatrixF& hidden,
                       std::size_t tokens, std::size_t slice) {
  std::optional<InputStatistics> statistics;
  for (std::size_t first = 0; first < hidden.rows(); first += tokens) {
    const MatrixF input = stage_input(forward, block, stage, hidden.view().row_range(first, tokens));
    if (!statistics) statistics.emplace(input.cols());
    statistics->add(input, slice);
  }
  return *statistics;
}

struct Case {
  std::size_t windows;
  std::size_t tokens;
};
/// One window; several; more windows than fit one batch of 4096 tokens; windows longer than a slice of 512.
constexpr Case kCases[] = {{1, 16}, {5, 20}, {70, 64}, {2, 600}};

TEST(BlockPass, MeasuresTheInputsThatTheForwardPassSees) {
  const auto model = random_model(small_architecture());
  const BlockWeights block = model.block(0);
  for (const auto& [windows, tokens] : kCases) {
    const Forward forward(model.architecture(), tokens);
    const MatrixF hidden = random_matrix({windows * tokens, model.architecture().hidden}, "hidden");
    MatrixF states = hidden;
    BlockPass pass(forward, states, tokens);
    for (const Stage stage : kStages)
      expect_same(pass.measure(stage, block),
                  direct(forward, block, stage, hidden, tokens, std::min<std::size_t>(tokens, 512)),
                  fmt::format("{} windows of {}, {}", windows, tokens, name_of(stage)));
  }
}

TEST(BlockPass, FinishLeavesTheStatesOfRunBlock) {
  const auto model = random_model(small_architecture());
  const BlockWeights block = model.block(1);
  for (const auto& [windows, tokens] : kCases) {
    const Forward forward(model.architecture(), tokens);
    MatrixF passed = random_matrix({windows * tokens, model.architecture().hidden}, "hidden");
    MatrixF run = passed;
    BlockPass pass(forward, passed, tokens);
    for (const Stage stage : kStages) pass.measure(stage, block);
    pass.finish(block);
    run_block(forward, block, tokens, run);
    EXPECT_TRUE(passed == run) << windows << " windows of " << tokens;
  }
}

TEST(BlockPass, StagesSeeTheWeightsPutInPlaceBeforeThem) {
  const auto model = random_model(small_architecture());
  const auto other = random_model(small_architecture(), DType::f32, "compressed");
  const Forward forward(model.architecture(), 20);
  const MatrixF hidden = random_matrix({60, model.architecture().hidden}, "hidden");
  const BlockWeights original = model.block(0);
  const BlockWeights replacement = other.block(0);
  BlockWeights current = original;
  MatrixF states = hidden;
  BlockPass pass(forward, states, 20);
  for (const Stage stage : kStages) {
    const InputStatistics measured = pass.measure(stage, current);
    expect_same(measured, direct(forward, current, stage, hidden, 20, 20), std::string(name_of(stage)));
    if (stage != Stage::qkv) {
      EXPECT_FALSE(measured.second_moment == direct(forward, original, stage, hidden, 20, 20).second_moment)
          << name_of(stage) << " does not see what was replaced";
    }
    for (const LinearInfo& info : linears_of(stage)) current[info.slot].weight = replacement[info.slot].weight;
  }
  pass.finish(current);
  MatrixF run = hidden;
  run_block(forward, current, 20, run);
  EXPECT_TRUE(states == run);
}

TEST(BlockPass, DoesNotDependOnTheNumberOfThreads) {
  const auto model = random_model(small_architecture());
  const Forward forward(model.architecture(), 32);
  const BlockWeights block = model.block(0);
  const MatrixF hidden = random_matrix({32 * 140, model.architecture().hidden}, "hidden");  // two batches
  MatrixF states[2] = {hidden, hidden};
  std::vector<InputStatistics> measured[2];
  for (int run = 0; run < 2; ++run) {
    const ThreadCount threads(run == 0 ? 1 : 4);
    BlockPass pass(forward, states[run], 32);
    for (const Stage stage : kStages) measured[run].push_back(pass.measure(stage, block));
    pass.finish(block);
  }
  EXPECT_TRUE(states[0] == states[1]);
  for (std::size_t s = 0; s < kStages.size(); ++s)
    expect_same(measured[0][s], measured[1][s], std::string(name_of(kStages[s])));
}

TEST(BlockPass, StagesOutOfTurnAreABug) {
  const auto model = random_model(small_architecture());
  const Forward forward(model.architecture(), 8);
  const BlockWeights block = model.block(0);
  MatrixF states = random_matrix({8, model.architecture().hidden}, "hidden");
  BlockPass pass(forward, states, 8);
  expect_error(ErrorKind::internal, "step 1 of a block's pass is called when step 0 is due",
               [&] { pass.measure(Stage::o, block); });
  pass.measure(Stage::qkv, block);
  expect_error(ErrorKind::internal, "step 0", [&] { pass.measure(Stage::qkv, block); });
  expect_error(ErrorKind::internal, "step 4", [&] { pass.finish(block); });
}

TEST(BlockPass, StatesMustBeWholeWindows) {
  const auto model = random_model(small_architecture());
  const Forward forward(model.architecture(), 8);
  MatrixF states(20, model.architecture().hidden);
  expect_error(ErrorKind::internal, "20 hidden states are not windows of 8", [&] { BlockPass(forward, states, 8); });
  expect_error(ErrorKind::internal, "20 hidden states are not windows of 0", [&] { BlockPass(forward, states, 0); });
}

TEST(MeasureHeadInput, IsTheFinalNormOfEveryStateAndLeavesThemAlone) {
  const auto model = random_model(small_architecture());
  const Forward forward(model.architecture(), 600);
  for (const auto& [windows, tokens] : kCases) {
    const MatrixF hidden = random_matrix({windows * tokens, model.architecture().hidden}, "hidden");
    MatrixF normed(hidden.shape());
    forward.final_norm(model.final_norm(), hidden, normed);
    InputStatistics expected(hidden.cols());
    for (std::size_t first = 0; first < hidden.rows(); first += tokens)
      expected.add(normed.view().row_range(first, tokens), std::min<std::size_t>(tokens, 512));
    const MatrixF before = hidden;
    expect_same(measure_head_input(forward, model.final_norm(), tokens, hidden), expected);
    EXPECT_TRUE(hidden == before);
  }
}

TEST(EmbedWindows, ReadsTheRowsOfTheTable) {
  const auto model = random_model(small_architecture());
  const TensorPtr embedding = model.embedding();
  const MatrixF table = embedding->decode();
  const MatrixF hidden = embed_windows(model.architecture(), *embedding, std::vector<std::int32_t>{3, 49, 3});
  for (const auto& [row, id] : {std::pair{0, 3}, {1, 49}, {2, 3}})
    EXPECT_TRUE(std::ranges::equal(hidden.row(static_cast<std::size_t>(row)), table.row(static_cast<std::size_t>(id))));
}

}  // namespace
}  // namespace adze
