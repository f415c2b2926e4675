#include "calibrate/block_pass.h"

#include "calibrate/calibrate_testing.h"

namespace adze {
namespace {

using testing::expect_error;
using testing::expect_same;
using testing::random_matrix;
using testing::random_model;
using testing::small_architecture;
using testing::TempFolder;
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

/// Statistics of windows' inputs, put one after the other and cut into slices of 512 tokens at most: whole windows, or
/// parts of one.
InputStatistics summed(const std::vector<MatrixF>& inputs) {
  const std::size_t tokens = inputs.front().rows();
  const std::size_t together = std::max<std::size_t>(512 / tokens, 1);
  InputStatistics statistics(inputs.front().cols());
  for (std::size_t first = 0; first < inputs.size(); first += together) {
    const std::size_t count = std::min(together, inputs.size() - first);
    MatrixF slice(count * tokens, inputs.front().cols());
    for (std::size_t w = 0; w < count; ++w)
      std::ranges::copy(inputs[first + w].values(), slice.row(w * tokens).begin());
    statistics.add(slice, 512);
  }
  return statistics;
}

InputStatistics direct(const Forward& forward, const BlockWeights& block, Stage stage, const MatrixF& hidden,
                       std::size_t tokens) {
  std::vector<MatrixF> inputs;
  for (std::size_t first = 0; first < hidden.rows(); first += tokens)
    inputs.push_back(stage_input(forward, block, stage, hidden.view().row_range(first, tokens)));
  return summed(inputs);
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
    HiddenStates states(hidden, tokens);
    BlockPass pass(forward, states);
    for (const Stage stage : stages_of(model.architecture()))
      expect_same(pass.measure(stage, block), direct(forward, block, stage, hidden, tokens),
                  fmt::format("{} windows of {}, {}", windows, tokens, name_of(stage)));
  }
}

TEST(BlockPass, FinishLeavesTheStatesOfRunBlock) {
  const auto model = random_model(small_architecture());
  const BlockWeights block = model.block(1);
  for (const auto& [windows, tokens] : kCases) {
    const Forward forward(model.architecture(), tokens);
    const MatrixF hidden = random_matrix({windows * tokens, model.architecture().hidden}, "hidden");
    HiddenStates passed(hidden, tokens);
    HiddenStates run(hidden, tokens);
    BlockPass pass(forward, passed);
    for (const Stage stage : stages_of(model.architecture())) pass.measure(stage, block);
    pass.finish(block);
    run_block(forward, block, run);
    EXPECT_TRUE(passed.values() == run.values()) << windows << " windows of " << tokens;
  }
}

TEST(BlockPass, AllStagesTogetherGiveTheSameBits) {
  const auto model = random_model(small_architecture());
  const BlockWeights block = model.block(1);
  for (const auto& [windows, tokens] : kCases) {
    const Forward forward(model.architecture(), tokens);
    const MatrixF hidden = random_matrix({windows * tokens, model.architecture().hidden}, "hidden");
    HiddenStates apart(hidden, tokens), together(hidden, tokens);
    BlockPass one_by_one(forward, apart), at_once(forward, together);
    const std::string what = fmt::format("{} windows of {}, ", windows, tokens);
    std::vector<Stage> stages;
    at_once.measure_all(block, [&](Stage stage, const InputStatistics& statistics) {
      stages.push_back(stage);
      expect_same(statistics, one_by_one.measure(stage, block), what + name_of(stage));
    });
    EXPECT_EQ(stages, stages_of(model.architecture()));
    one_by_one.finish(block);
    EXPECT_TRUE(together.values() == apart.values()) << windows << " windows of " << tokens;
    EXPECT_EQ(at_once.cache(), one_by_one.cache());
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
  HiddenStates states(hidden, 20);
  BlockPass pass(forward, states);
  for (const Stage stage : stages_of(model.architecture())) {
    const InputStatistics measured = pass.measure(stage, current);
    expect_same(measured, direct(forward, current, stage, hidden, 20), name_of(stage));
    if (stage != Stage::qkv) {
      EXPECT_FALSE(measured.second_moment == direct(forward, original, stage, hidden, 20).second_moment)
          << name_of(stage) << " does not see what was replaced";
    }
    for (const LinearInfo& info : linears_of(model.architecture(), stage))
      current[info.slot].weight = replacement[info.slot].weight;
  }
  pass.finish(current);
  HiddenStates run(hidden, 20);
  run_block(forward, current, run);
  EXPECT_TRUE(states.values() == run.values());
}

/// y = W x + b in double.
std::vector<double> plain_linear(const Linear& layer, std::span<const float> x) {
  const MatrixF weights = layer.weight->decode();
  std::vector<double> y(weights.rows());
  for (std::size_t r = 0; r < weights.rows(); ++r) {
    y[r] = layer.bias.empty() ? 0 : layer.bias[r];
    for (std::size_t c = 0; c < x.size(); ++c) y[r] += double{weights(r, c)} * double{x[c]};
  }
  return y;
}

/// The largest |key| after RoPE and |value| of windows, from the formulas alone.
CacheMaxima plain_maxima(const Architecture& a, const BlockWeights& block, const MatrixF& hidden, std::size_t tokens) {
  double keys = 0, values = 0;
  for (std::size_t t = 0; t < hidden.rows(); ++t) {
    double squares = 0;
    for (const float x : hidden.row(t)) squares += double{x} * double{x};
    std::vector<float> normed(a.hidden);
    for (std::size_t c = 0; c < a.hidden; ++c)
      normed[c] = static_cast<float>(hidden(t, c) / std::sqrt(squares / static_cast<double>(a.hidden) + a.norm_eps) *
                                     block[NormSlot::before_attention][c]);
    for (const double v : plain_linear(block[LinearSlot::v], normed)) values = std::max(values, std::fabs(v));
    const std::vector<double> k = plain_linear(block[LinearSlot::k], normed);
    const std::size_t half = a.head_dim / 2;
    for (std::size_t head = 0; head < a.kv_heads; ++head)
      for (std::size_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(t % tokens) *
                             std::pow(a.rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(a.head_dim));
        const double x = k[head * a.head_dim + i], y = k[head * a.head_dim + half + i];
        keys = std::max({keys, std::fabs(x * std::cos(angle) - y * std::sin(angle)),
                         std::fabs(y * std::cos(angle) + x * std::sin(angle))});
      }
  }
  return {static_cast<float>(keys), static_cast<float>(values)};
}

TEST(BlockPass, KnowsTheLargestKeysAfterRopeAndValues) {
  const auto model = random_model(small_architecture());
  const BlockWeights block = model.block(0);
  for (const auto& [windows, tokens] : kCases) {
    const Forward forward(model.architecture(), tokens);
    const MatrixF hidden = random_matrix({windows * tokens, model.architecture().hidden}, "hidden");
    HiddenStates passed(hidden, tokens), skipped(hidden, tokens), run(hidden, tokens);
    BlockPass pass(forward, passed), by(forward, skipped);
    for (const Stage stage : stages_of(model.architecture())) {
      pass.measure(stage, block);
      by.pass_by(stage, block);
    }
    pass.finish(block);
    by.finish(block);
    const CacheMaxima meant = plain_maxima(model.architecture(), block, hidden, tokens);
    EXPECT_NEAR(pass.cache().keys, meant.keys, 1e-4 * meant.keys);
    EXPECT_NEAR(pass.cache().values, meant.values, 1e-4 * meant.values);
    EXPECT_EQ(by.cache(), pass.cache());
    EXPECT_EQ(run_block(forward, block, run), pass.cache());
  }
}

/// Everything that comes of three blocks over 140 windows of 32 tokens: what was measured, and the states at the end.
struct Outcome {
  std::vector<InputStatistics> measured;
  MatrixF states;
};

Outcome run_three_blocks(int threads, std::size_t windows_held, const std::filesystem::path* folder) {
  const ThreadCount scope(threads);
  const auto model = random_model(small_architecture());
  const Forward forward(model.architecture(), 32);
  HiddenStates states({140, 32, model.architecture().hidden, windows_held, folder != nullptr});
  std::vector<std::int32_t> ids(140 * 32);
  for (std::size_t t = 0; t < ids.size(); ++t) ids[t] = static_cast<std::int32_t>(t * 7 % 50);
  const auto begin = [&](std::size_t block) {
    if (folder != nullptr) states.begin(*folder / fmt::format("states-{}.f32", block));
  };
  const auto save = [&] {
    if (folder != nullptr) states.save();
  };
  begin(0);
  embed_windows(forward, input_tables(model), ids, states);
  save();
  Outcome outcome;
  for (const std::size_t b : {std::size_t{0}, std::size_t{1}}) {
    begin(b + 1);
    BlockPass pass(forward, states);
    for (const Stage stage : stages_of(model.architecture()))
      outcome.measured.push_back(pass.measure(stage, model.block(b)));
    pass.finish(model.block(b));
    save();
  }
  begin(3);
  run_block(forward, model.block(0), states);
  save();
  outcome.measured.push_back(measure_head_input(forward, norm_of(model), states));
  outcome.states = states.values();
  return outcome;
}

TEST(BlockPass, GivesTheSameBitsInMemoryAndOnDiskForAnyBatchAndAnyNumberOfThreads) {
  const Outcome expected = run_three_blocks(1, 144, nullptr);
  for (const int threads : {1, 2, 5})
    for (const bool on_disk : {false, true})
      for (const std::size_t held : {1, 16, 33, 200}) {
        const TempFolder folder;
        const std::string what = fmt::format("{} threads, {} windows{}", threads, held, on_disk ? ", on disk" : "");
        const Outcome outcome = run_three_blocks(threads, held, on_disk ? &folder.path() : nullptr);
        EXPECT_TRUE(outcome.states == expected.states) << what;
        ASSERT_EQ(outcome.measured.size(), expected.measured.size());
        for (std::size_t i = 0; i < outcome.measured.size(); ++i)
          expect_same(outcome.measured[i], expected.measured[i], what);
      }
}

TEST(BlockPass, StagesOutOfTurnAreABug) {
  const auto model = random_model(small_architecture());
  const Forward forward(model.architecture(), 8);
  const BlockWeights block = model.block(0);
  HiddenStates states(random_matrix({8, model.architecture().hidden}, "hidden"), 8);
  BlockPass pass(forward, states);
  expect_error(ErrorKind::internal, "stage o of a block's pass is called when step 0 of 4 is due",
               [&] { pass.measure(Stage::o, block); });
  pass.measure(Stage::qkv, block);
  expect_error(ErrorKind::internal, "stage qkv of a block's pass is called when step 1 of 4 is due",
               [&] { pass.measure(Stage::qkv, block); });
  expect_error(ErrorKind::internal, "a block's pass is finished when step 1 of 4 is due", [&] { pass.finish(block); });
}

TEST(MeasureHeadInput, IsTheFinalNormOfEveryStateAndLeavesThemAlone) {
  const auto model = random_model(small_architecture());
  const Forward forward(model.architecture(), 600);
  for (const auto& [windows, tokens] : kCases) {
    const MatrixF hidden = random_matrix({windows * tokens, model.architecture().hidden}, "hidden");
    MatrixF normed(hidden.shape());
    forward.final_norm(norm_of(model), hidden, normed);
    std::vector<MatrixF> inputs;
    for (std::size_t first = 0; first < hidden.rows(); first += tokens) {
      inputs.emplace_back(tokens, hidden.cols());
      std::copy_n(normed.row(first).data(), inputs.back().shape().count(), inputs.back().data());
    }
    HiddenStates states(hidden, tokens);
    expect_same(measure_head_input(forward, norm_of(model), states), summed(inputs));
    EXPECT_TRUE(states.values() == hidden);
  }
}

TEST(EmbedWindows, ReadsTheRowsOfTheTable) {
  const auto model = random_model(small_architecture());
  const TensorPtr embedding = model.embedding();
  const MatrixF table = embedding->decode();
  HiddenStates states({3, 1, model.architecture().hidden, 1, false});
  const Forward forward(model.architecture(), 1);
  embed_windows(forward, {embedding, nullptr}, std::vector<std::int32_t>{3, 49, 3}, states);
  const MatrixF hidden = states.values();
  for (const auto& [row, id] : {std::pair{0, 3}, {1, 49}, {2, 3}})
    EXPECT_TRUE(std::ranges::equal(hidden.row(static_cast<std::size_t>(row)), table.row(static_cast<std::size_t>(id))));
}

}  // namespace
}  // namespace adze
