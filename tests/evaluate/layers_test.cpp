// What every matrix lost against sums worked out by hand, and what such a judgement refuses.
#include "evaluate/layers.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "calibrate/calibrate.h"
#include "checkpoint/checkpoint_testing.h"
#include "linalg/eigen.h"
#include "metrics/proxy_loss.h"
#include "model/memory_source.h"

namespace adze {
namespace {

using testing::expect_error;
using testing::random_ids;
using testing::random_model;
using testing::random_source;
using testing::small_architecture;
using testing::TempFolder;

/// A small model, its statistics, and the same rounded to bf16.
class LayersTest : public ::testing::Test {
 protected:
  LayersTest() { calibrate(original_, "small", {32, random_ids(256, 50)}, {folder_ / "stats"}, silent_progress()); }

  StatisticsFolder statistics() const { return StatisticsFolder(folder_ / "stats"); }
  std::vector<LayerResult> judge(const ModelWeights& model) const {
    const ModelWeights* const models[] = {&model};
    return judge_layers(original_, models, statistics(), silent_progress()).front();
  }
  /// The original with one tensor replaced.
  static CheckpointWeights with(const std::string& name, std::vector<std::uint64_t> shape, auto&& change) {
    const auto source = std::make_shared<testing::MemorySource>(random_source(small_architecture()));
    std::vector<float> values = source->values(name);
    for (float& value : values) value = change(value);
    source->put(name, DType::f32, std::move(shape), values);
    return {small_architecture(), source};
  }

  TempFolder folder_;
  CheckpointWeights original_ = random_model(small_architecture());
  CheckpointWeights rounded_ = random_model(small_architecture(), DType::bf16);
};

TEST_F(LayersTest, GivesEveryMatrixItsLossAndItsLimit) {
  const std::vector<LayerResult> layers = judge(rounded_);
  const std::size_t linears = block_linears(original_.architecture()).size();
  ASSERT_EQ(linears, 7U);
  ASSERT_EQ(layers.size(), 2 * linears + 1);
  EXPECT_EQ(layers.back().module, "lm_head");
  const LayerResult& down = layers[linears + 6];
  EXPECT_EQ(down.module, "layers.1.mlp.down_proj");
  EXPECT_EQ(down.format, "bf16");
  EXPECT_DOUBLE_EQ(down.bits(), 16);
  const MatrixF w = original_.block(1)[LinearSlot::down].weight->decode();
  const MatrixD h = with_damping(statistics().block_input(1, Stage::down).second_moment, 0.01);
  EXPECT_DOUBLE_EQ(down.loss, proxy_loss(w, rounded_.block(1)[LinearSlot::down].weight->decode(), h));
  EXPECT_DOUBLE_EQ(down.energy, output_energy(w, h));
  // The bound by its definition: all components are above the water that bf16 leaves.
  double logs = 0, count = 0;
  for (std::size_t r = 0; r < w.rows(); ++r) {
    double square = 0;
    for (const float value : w.row(r)) square += static_cast<double>(value) * value;
    for (const double eigenvalue : symmetric_eigenvalues(h)) {
      logs += 0.5 * std::log2(square / static_cast<double>(w.cols()) * eigenvalue);
      ++count;
    }
  }
  const double limit = logs / count - 0.5 * std::log2(down.loss / count);
  EXPECT_NEAR(down.independent->limit, limit, 1e-9);
  EXPECT_GT(limit, 5);
  EXPECT_LT(limit, 12);
  EXPECT_NEAR(down.independent->loss_factor, std::exp2(2 * (16 - limit)), 1e-6 * std::exp2(2 * (16 - limit)));
  EXPECT_GT(down.shrinkage, 0.5);  // random rows have no structure
  EXPECT_NEAR(down.structured->limit, limit, 0.1);
}

TEST_F(LayersTest, SeesTheSameInSeveralModelsAtOnceWithAnyThreads) {
  const CheckpointWeights other = random_model(small_architecture(), DType::f16);
  const ModelWeights* const models[] = {&rounded_, &other};
  const auto both = judge_layers(original_, models, statistics(), silent_progress());
  set_thread_count(1);
  const std::vector<LayerResult> alone[] = {judge(rounded_), judge(other)};
  set_thread_count(0);
  for (std::size_t m = 0; m < 2; ++m)
    EXPECT_EQ(to_json(std::span<const LayerResult>(both[m])).dump(),
              to_json(std::span<const LayerResult>(alone[m])).dump());
  EXPECT_LT(both[1][0].loss, both[0][0].loss);
}

TEST_F(LayersTest, OfTheModelItselfHasNoLimits) {
  const std::vector<LayerResult> layers = judge(original_);
  for (const LayerResult& layer : layers) {
    EXPECT_EQ(layer.loss, 0);
    EXPECT_FALSE(layer.independent || layer.structured || layer.worse_than_nothing());
  }
  const auto json = to_json(std::span<const LayerResult>(layers)).at(0);
  EXPECT_TRUE(json.at("limit_bits").is_null());
  EXPECT_TRUE(json.at("structured_loss_factor").is_null());
  EXPECT_EQ(total_of(layers).inexact_weights, 0u);
  EXPECT_DOUBLE_EQ(total_of(layers).bits(), 32);
}

TEST_F(LayersTest, SaysWhereZerosWouldHaveBeenNearer) {
  const auto turned = with("model.layers.0.mlp.up_proj.weight", {40, 24}, [](float value) { return -value; });
  const std::vector<LayerResult> layers = judge(turned);
  const LayerResult& up = layers[5];
  EXPECT_EQ(up.module, "layers.0.mlp.up_proj");
  EXPECT_TRUE(up.worse_than_nothing());
  EXPECT_NEAR(up.relative_loss(), 4, 1e-9);
  EXPECT_EQ(up.independent->limit, 0);
  const LayerTotals totals = total_of(layers);
  EXPECT_EQ(totals.inexact_weights, 40u * 24u);
  EXPECT_DOUBLE_EQ(totals.inexact_bits(), 32);
  EXPECT_EQ(totals.limit, 0);
}

TEST_F(LayersTest, RefusesModelsWhoseInputsAreOthers) {
  const auto scaled =
      with("model.layers.1.post_attention_layernorm.weight", {24}, [](float value) { return 2 * value; });
  expect_error(ErrorKind::bad_data, "block 1: its norm is not the original's", [&] { judge(scaled); });
  const auto ended = with("model.norm.weight", {24}, [](float) { return 1.0f; });
  expect_error(ErrorKind::bad_data, "head: its norm", [&] { judge(ended); });
  Architecture narrow = small_architecture();
  narrow.ffn = 32;
  expect_error(ErrorKind::bad_data, "layers.0.mlp.gate_proj is [32 x 24], the original's [40 x 24]",
               [&] { judge(random_model(narrow)); });
  Architecture deep = small_architecture();
  deep.layers = 3;
  expect_error(ErrorKind::bad_data, "a model of 3 blocks", [&] { judge(random_model(deep)); });
  const auto other = random_model(deep);
  const ModelWeights* const models[] = {&other};
  expect_error(ErrorKind::bad_data, "statistics of another model",
               [&] { judge_layers(other, models, statistics(), silent_progress()); });
}

}  // namespace
}  // namespace adze
