// Scales that fold into the weights: the function stays, and what AWQ and SmoothQuant choose.
#include "transform/scaling.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "grid/quantized_tensor.h"
#include "metrics/proxy_loss.h"
#include "model/logits.h"
#include "transform/awq.h"
#include "transform/block_inputs.h"
#include "transform/dense_rotation.h"
#include "transform/rotation_testing.h"
#include "transform/smoothquant.h"

namespace adze {
namespace {

using testing::biased_architecture;
using testing::BlockInputsOf;
using testing::largest_difference;
using testing::logits_of;
using testing::make_transform;
using testing::random_values;
using testing::shared_model;
using testing::small_architecture;

const std::vector<std::int32_t> kIds{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};

/// Scales between 1/20 and 20.
std::vector<float> random_scales(std::size_t count, std::string_view key) {
  std::vector<float> scales = random_values(count, key);
  for (float& scale : scales) scale = std::exp(std::clamp(scale, -3.0f, 3.0f));
  return scales;
}

/// Folds the same random scales into every block, and, with `back`, their inverses.
class Scaled final : public ModelWeights {
 public:
  Scaled(std::shared_ptr<const ModelWeights> original, Stage stage, bool back)
      : original_(std::move(original)), stage_(stage), back_(back) {}
  const Architecture& architecture() const override { return original_->architecture(); }
  TensorPtr embedding() const override { return original_->embedding(); }
  BlockWeights block(std::size_t index) const override {
    BlockWeights block = original_->block(index);
    std::vector<float> scales = random_scales(scale_count(architecture(), stage_), "scales");
    scale_inputs(architecture(), stage_, scales, index, block);
    for (float& scale : scales) scale = 1 / scale;
    if (back_) scale_inputs(architecture(), stage_, scales, index, block);
    return block;
  }
  std::vector<float> final_norm() const override { return original_->final_norm(); }
  TensorPtr head() const override { return original_->head(); }

 private:
  std::shared_ptr<const ModelWeights> original_;
  Stage stage_;
  bool back_;
};

TEST(ScaleInputs, LeavesTheLogitsAsTheyAre) {
  for (const Architecture& architecture : {small_architecture(), biased_architecture()}) {
    const auto model = shared_model(architecture);
    const MatrixF before = logits_of(*model, kIds);
    const double largest = largest_difference(before, MatrixF(before.shape()));
    for (const Stage stage : stages_of(architecture)) {
      const double difference = largest_difference(logits_of(Scaled(model, stage, false), kIds), before);
      EXPECT_LT(difference / largest, 1e-5) << name_of(stage);
      EXPECT_GT(difference, 0.0) << name_of(stage);
    }
  }
}

TEST(ScaleInputs, BackIsTheIdentity) {
  const auto model = shared_model(biased_architecture());
  for (const Stage stage : stages_of(model->architecture())) {
    const BlockWeights before = model->block(1), after = Scaled(model, stage, true).block(1);
    for (const LinearInfo& info : block_linears(model->architecture())) {
      const MatrixF a = before[info.slot].weight->decode(), b = after[info.slot].weight->decode();
      for (std::size_t i = 0; i < a.values().size(); ++i)
        EXPECT_NEAR(a.values()[i], b.values()[i], 4e-7 * std::fabs(a.values()[i])) << name_of(stage);
    }
  }
}

TEST(ScaleInputs, TouchesTheStageAndWhatFeedsIt) {
  const auto model = shared_model(biased_architecture());
  const BlockWeights before = model->block(0);
  const auto changed = [&](Stage stage) {
    const BlockWeights after = Scaled(model, stage, false).block(0);
    std::string text;
    for (const LinearInfo& info : block_linears(model->architecture())) {
      if (largest_difference(before[info.slot].weight->decode(), after[info.slot].weight->decode()) > 1e-3)
        text += fmt::format(" {}", info.module.substr(info.module.find('.') + 1));
      if (before[info.slot].bias != after[info.slot].bias) text += "+bias";
    }
    if (before[NormSlot::before_attention] != after[NormSlot::before_attention]) text += " input_norm";
    if (before[NormSlot::before_ffn] != after[NormSlot::before_ffn]) text += " post_attention_norm";
    return text;
  };
  EXPECT_EQ(changed(Stage::qkv), " q_proj k_proj v_proj input_norm");
  EXPECT_EQ(changed(Stage::o), " v_proj+bias o_proj");
  EXPECT_EQ(changed(Stage::gate_up), " gate_proj up_proj post_attention_norm");
  EXPECT_EQ(changed(Stage::down), " up_proj+bias down_proj");
}

TEST(AwqScales, ArePowersOfTheSizesWithOneInTheMiddle) {
  const std::vector<double> sizes{1.0, 4.0, 16.0};
  EXPECT_THAT(awq_scales(sizes, 0), ::testing::Each(1.0f));
  EXPECT_THAT(awq_scales(sizes, 0.5), ::testing::Pointwise(::testing::FloatEq(), {0.5f, 1.0f, 2.0f}));
  const std::vector<double> dead{0.0, 0.0};
  EXPECT_THAT(awq_scales(dead, 0.5), ::testing::Each(1.0f));
}

/// Sum over the linears of a stage of the loss of rounding, un-scaled by `scales` of its columns.
double rounding_loss(const Architecture& architecture, const BlockWeights& block, Stage stage, const MatrixD& h,
                     std::span<const float> scales, const std::shared_ptr<const Grid>& grid) {
  double loss = 0;
  for (const LinearInfo& info : linears_of(architecture, stage)) {
    const MatrixF weights = block[info.slot].weight->decode();
    std::vector<float> importance(h.cols());
    for (std::size_t c = 0; c < h.cols(); ++c)
      importance[c] = static_cast<float>(h(c, c) / (static_cast<double>(scales[c]) * scales[c]));
    Encoding encoding(grid, weights.shape());
    encoding.fit_all(weights, importance, ScaleRule::search);
    for (std::size_t r = 0; r < weights.rows(); ++r) encoding.round_row(r, weights.row(r));
    MatrixF difference(weights.shape());
    for (std::size_t r = 0; r < weights.rows(); ++r)
      for (std::size_t c = 0; c < weights.cols(); ++c)
        difference(r, c) = (weights(r, c) - encoding.value(r, c)) / scales[c];
    loss += output_energy(difference, h);
  }
  return loss;
}

TEST(Awq, NeverLosesMoreThanRoundingToNearestAndLessWithOutlyingInputs) {
  const Architecture a = biased_architecture();
  const auto model = shared_model(a);
  const BlockWeights before = model->block(0);
  const auto grid = grid_from_name("int3 g4 sym");
  for (const Stage stage : stages_of(a)) {
    BlockInputsOf made(a, before, "awq");
    const std::size_t n = made.inputs[stage].inputs();
    made.spread_column(stage, 2, 30.0f);
    for (const LinearInfo& info : block_linears(a)) made.inputs.grids[info.slot] = grid;
    const auto awq = make_transform("awq", fmt::format("inputs: [{}]", name_of(stage)), a);
    const BlockWeights after = awq->block(before, 0, &made.inputs);
    std::vector<float> scales(n, 1.0f);
    const MatrixD& h = made.inputs[stage].second_moment;
    const double plain = rounding_loss(a, before, stage, h, scales, grid);
    const LinearSlot slot = linears_of(a, stage).front().slot;
    const MatrixF was = before[slot].weight->decode(), is = after[slot].weight->decode();
    for (std::size_t c = 0; c < n; ++c) scales[c] = is(0, c) / was(0, c);
    const double scaled = rounding_loss(a, after, stage, h, scales, grid);
    EXPECT_LT(scaled, plain) << name_of(stage);
    EXPECT_GT(scales[2], scales[3]) << name_of(stage);
  }
}

TEST(Awq, LeavesAloneWhatIsNotRounded) {
  const Architecture a = small_architecture();
  const BlockWeights before = shared_model(a)->block(0);
  const BlockInputsOf made(a, before, "floats");
  const BlockWeights after = make_transform("awq", "", a)->block(before, 0, &made.inputs);
  for (const LinearInfo& info : block_linears(a)) EXPECT_EQ(before[info.slot].weight, after[info.slot].weight);
}

TEST(SmoothQuant, SplitsTheRangeBetweenInputsAndWeights) {
  const Architecture a = small_architecture();
  const BlockWeights before = shared_model(a)->block(0);
  const BlockInputsOf made(a, before, "smooth");
  const auto column_maximum = [&](const BlockWeights& block, Stage stage, std::size_t c) {
    float most = 0;
    for (const LinearInfo& info : linears_of(a, stage)) {
      const MatrixF weights = block[info.slot].weight->decode();
      for (std::size_t r = 0; r < weights.rows(); ++r) most = std::max(most, std::fabs(weights(r, c)));
    }
    return most;
  };
  for (const double alpha : {0.0, 0.5, 1.0}) {
    const auto smooth = make_transform("smoothquant", fmt::format("alpha: {}", alpha), a);
    const BlockWeights after = smooth->block(before, 0, &made.inputs);
    for (const Stage stage : {Stage::qkv, Stage::gate_up})
      for (std::size_t c = 0; c < a.hidden; ++c) {
        const double x = made.inputs[stage].abs_max[c];
        const double w = column_maximum(before, stage, c);
        const double s = std::pow(x, alpha) / std::pow(w, 1 - alpha);
        EXPECT_NEAR(column_maximum(after, stage, c), w * s, 1e-5 * w * s);
        const auto& norm = stage == Stage::qkv ? before[NormSlot::before_attention] : before[NormSlot::before_ffn];
        const auto& moved = stage == Stage::qkv ? after[NormSlot::before_attention] : after[NormSlot::before_ffn];
        EXPECT_NEAR(moved[c], norm[c] / s, 1e-5 * std::fabs(norm[c] / s));
      }
  }
}

TEST(Transforms, ScalesNeedSomethingBeforeTheInput) {
  using ::testing::HasSubstr;
  const Architecture a = small_architecture();
  EXPECT_THAT(testing::refused("awq", "inputs: [lm_head]", a),
              HasSubstr("nothing before it that could take the scales; inputs are"));
  EXPECT_THAT(testing::refused("smoothquant", "inputs: [qkv, down]", a),
              HasSubstr("'down': no norm precedes it; it can be qkv,gate_up"));
  EXPECT_THAT(testing::refused("smoothquant", "alpha: 2", a), HasSubstr("alpha"));
  EXPECT_THAT(testing::refused("awq", "ratio: -1", a), HasSubstr("ratio"));
  EXPECT_THAT(testing::refused("awq", "ration: 1", a), HasSubstr("did you mean 'ratio'"));
}

}  // namespace
}  // namespace adze
