// A rotated model computes what the original one does.
#include <iostream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "model/logits.h"
#include "transform/dense_rotation.h"
#include "transform/rotation_testing.h"

namespace adze {
namespace {

using testing::biased_architecture;
using testing::demo_model;
using testing::kBoth;
using testing::kHeads;
using testing::kResidual;
using testing::largest_difference;
using testing::logits_of;
using testing::random_matrix;
using testing::rotated;
using testing::shared_model;
using testing::small_architecture;

constexpr double kLogitTolerance = 1e-5;  // of the largest logit; float32 sums in another basis differ by about 1e-6

std::vector<std::int32_t> demo_ids() {
  const std::string path = ADZE_SOURCE_DIR "/tests/model/golden/demo_llama_logits.json";
  return parse_json(read_file(path), path).at("ids");
}

/// max |difference| of the logits over max |logit|
double logit_difference(const std::shared_ptr<const ModelWeights>& model, const RotationOptions& options,
                        const std::vector<std::int32_t>& ids) {
  const MatrixF before = logits_of(*model, ids);
  const MatrixF after = logits_of(rotated(model, options), ids);
  return largest_difference(before, after) / largest_difference(before, MatrixF(before.shape()));
}

TEST(RotatedLogits, AreThoseOfTheDemoModel) {
  const auto model = demo_model();
  ASSERT_NE(model->architecture().heads, model->architecture().kv_heads);
  for (const RotationOptions& options : {kResidual, kHeads, kBoth}) {
    const double difference = logit_difference(model, options, demo_ids());
    EXPECT_LT(difference, kLogitTolerance) << options.residual << options.heads;
    EXPECT_GT(difference, 0.0);  // rounding: it is not the same model
    std::cout << "residual " << options.residual << ", heads " << options.heads << ": largest difference " << difference
              << " of the largest logit\n";
  }
}

TEST(RotatedLogits, AreTheSameWithBiasesGroupsAndAWindow) {
  Architecture windowed = biased_architecture();
  windowed.sliding_window = 3;
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < 40; ++i) ids.push_back(i * 7 % 50);
  for (const Architecture& architecture : {biased_architecture(), biased_architecture(true), windowed}) {
    const auto model = shared_model(architecture);
    for (const RotationOptions& options : {kResidual, kHeads, kBoth}) {
      const double difference = logit_difference(model, options, ids);
      EXPECT_LT(difference, kLogitTolerance) << options.residual << options.heads << architecture.tied;
      EXPECT_GT(difference, 0.0);
    }
  }
}

TEST(RotatedBlock, GivesTheRotatedStatesWhereItsFfnIsNarrower) {
  const auto model = shared_model(small_architecture());
  const Architecture& a = model->architecture();
  BlockWeights block = model->block(0);
  const auto narrow = [&](LinearSlot slot, Shape shape) {
    block[slot].weight =
        std::make_shared<const DenseTensor>(make_dense(random_matrix(shape, "narrow", 0.2), DType::f32));
  };
  narrow(LinearSlot::gate, {10, a.hidden});
  narrow(LinearSlot::up, {10, a.hidden});
  narrow(LinearSlot::down, {a.hidden, 10});
  const RandomHadamard residual(a.hidden, kBoth.seed, "rotation.residual");
  MatrixF x = random_matrix({6, a.hidden}, "x"), turned = x;
  residual.rotate_rows(turned.view());
  Workspace work;
  const Forward forward(a, 6);
  forward.run_block(block, x, work);
  forward.run_block(Rotation(a, kBoth).block(block, 0), turned, work);
  EXPECT_GT(largest_difference(x, turned), 0.5);
  residual.rotate_rows_back(turned.view());
  EXPECT_LT(largest_difference(x, turned), 1e-5);
}

}  // namespace
}  // namespace adze
