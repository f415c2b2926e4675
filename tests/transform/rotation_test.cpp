#include "transform/rotation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/parallel.h"
#include "transform/dense_rotation.h"
#include "transform/rotation_testing.h"

namespace adze {
namespace {

using ::testing::AllOf;
using testing::biased_architecture;
using testing::demo_model;
using ::testing::Each;
using ::testing::HasSubstr;
using testing::kBoth;
using testing::kHeads;
using testing::kResidual;
using testing::largest_difference;
using testing::random_source;
using testing::rotated;
using testing::shared_model;
using testing::small_architecture;

std::vector<std::byte> payload_of(const TensorPtr& tensor) {
  return {tensor->payload().begin(), tensor->payload().end()};
}

/// Everything a model hands out, as bytes.
std::vector<std::vector<std::byte>> bytes_of_model(const ModelWeights& model) {
  std::vector<std::vector<std::byte>> bytes{payload_of(model.embedding()), payload_of(model.head())};
  const auto add = [&](std::span<const float> values) {
    const auto view = std::as_bytes(values);
    bytes.emplace_back(view.begin(), view.end());
  };
  add(model.final_norm());
  for (std::size_t b = 0; b < model.architecture().layers; ++b) {
    const BlockWeights block = model.block(b);
    add(block[NormSlot::before_attention]);
    add(block[NormSlot::before_ffn]);
    block.for_each_linear([&](const Linear& linear) {
      bytes.push_back(payload_of(linear.weight));
      add(linear.bias);
    });
  }
  return bytes;
}

TEST(Rotation, MovesGainsOutOfTheNormsWithTheResidualOnly) {
  const auto model = shared_model(small_architecture());
  const auto residual = rotated(model, kResidual), heads = rotated(model, kHeads);
  EXPECT_THAT(residual.final_norm(), Each(1.0f));
  EXPECT_THAT(residual.block(1)[NormSlot::before_attention], Each(1.0f));
  EXPECT_THAT(residual.block(1)[NormSlot::before_ffn], Each(1.0f));
  EXPECT_EQ(heads.final_norm(), model->final_norm());
  EXPECT_EQ(heads.block(1)[NormSlot::before_attention], model->block(1)[NormSlot::before_attention]);
  EXPECT_EQ(heads.block(1)[NormSlot::before_ffn], model->block(1)[NormSlot::before_ffn]);
}

/// Which linears of block 0 have other weights, as a string such as "v o".
std::string changed_linears(const ModelWeights& before, const ModelWeights& after) {
  std::string changed;
  const BlockWeights a = before.block(0), b = after.block(0);
  for (const LinearInfo& info : block_linears(before.architecture()))
    if (largest_difference(a[info.slot].weight->decode(), b[info.slot].weight->decode()) > 0.05)
      changed += fmt::format(" {}", info.module.substr(info.module.find('.') + 1));
  return changed;
}

TEST(Rotation, ChangesTheMatricesItShould) {
  const auto model = shared_model(biased_architecture());
  const auto residual = rotated(model, kResidual), heads = rotated(model, kHeads);
  EXPECT_EQ(changed_linears(*model, residual), " q_proj k_proj v_proj o_proj gate_proj up_proj down_proj");
  EXPECT_EQ(changed_linears(*model, heads), " v_proj o_proj");
  EXPECT_GT(largest_difference(model->embedding()->decode(), residual.embedding()->decode()), 0.05);
  EXPECT_GT(largest_difference(model->head()->decode(), residual.head()->decode()), 0.05);
  EXPECT_EQ(payload_of(model->embedding()), payload_of(heads.embedding()));
  EXPECT_EQ(payload_of(model->head()), payload_of(heads.head()));
  const auto bias = [](const ModelWeights& weights, LinearSlot slot) { return weights.block(0)[slot].bias; };
  for (const LinearSlot slot : {LinearSlot::q, LinearSlot::k, LinearSlot::gate, LinearSlot::up})
    EXPECT_EQ(bias(*model, slot), bias(residual, slot));
  for (const LinearSlot slot : {LinearSlot::o, LinearSlot::down}) {
    EXPECT_NE(bias(*model, slot), bias(residual, slot));
    EXPECT_EQ(bias(*model, slot), bias(heads, slot));
  }
  EXPECT_EQ(bias(*model, LinearSlot::v), bias(residual, LinearSlot::v));
  EXPECT_NE(bias(*model, LinearSlot::v), bias(heads, LinearSlot::v));
}

TEST(Rotation, WithoutEitherChangesNoByte) {
  const auto model = shared_model(biased_architecture(true));
  const auto none = rotated(model, {false, false, 4});
  EXPECT_EQ(bytes_of_model(*model), bytes_of_model(none));
  EXPECT_EQ(model->architecture(), none.architecture());
}

TEST(Rotation, FlattensOutlyingChannels) {
  const Architecture a = small_architecture();
  auto source = std::make_shared<testing::MemorySource>(random_source(a));
  const std::string name = "model.layers.0.mlp.gate_proj.weight";
  std::vector<float> values = source->values(name);
  for (std::size_t r = 0; r < a.ffn; ++r) values[r * a.hidden + 3] *= 50.0f;
  source->put(name, DType::f32, {a.ffn, a.hidden}, values);
  const auto model = std::make_shared<const CheckpointWeights>(a, source);
  const auto peak = [](const ModelWeights& weights) {  // max |w| / rms
    const MatrixF gate = weights.block(0)[LinearSlot::gate].weight->decode();
    double largest = 0, sum = 0;
    for (const double value : gate.values()) {
      largest = std::fmax(largest, std::fabs(value));
      sum += value * value;
    }
    return largest / std::sqrt(sum / static_cast<double>(gate.values().size()));
  };
  EXPECT_LT(peak(rotated(model, kBoth)), peak(*model) / 3);
}

TEST(Rotation, UntiesTheHeadWithTheResidualOnly) {
  const auto tied = shared_model(biased_architecture(true));
  const auto residual = rotated(tied, kResidual), heads = rotated(tied, kHeads);
  Architecture expected = tied->architecture();
  EXPECT_EQ(heads.architecture(), expected);
  EXPECT_EQ(payload_of(heads.head()), payload_of(heads.embedding()));
  expected.tied_stated = false;  // config.json may leave it to the tensors, but not where they say something else
  EXPECT_EQ(Rotation(expected, kHeads).architecture(expected), expected);
  const Architecture left_open = expected;
  expected.tied = false;
  expected.tied_stated = true;
  EXPECT_EQ(residual.architecture(), expected);
  EXPECT_EQ(Rotation(left_open, kResidual).architecture(left_open), expected);
  EXPECT_NE(payload_of(residual.head()), payload_of(residual.embedding()));
  const auto untied = shared_model(biased_architecture());
  EXPECT_EQ(rotated(untied, kBoth).architecture(), untied->architecture());
}

TEST(Rotation, GivesTheSameBytesForTheSameSeedAndOthersForAnother) {
  const auto model = shared_model(biased_architecture());
  RotationOptions other = kBoth;
  other.seed = 5;
  const auto bytes = bytes_of_model(rotated(model, kBoth));
  EXPECT_EQ(bytes, bytes_of_model(rotated(model, kBoth)));
  EXPECT_NE(bytes, bytes_of_model(rotated(model, other)));
  for (RotationOptions options : {kResidual, kHeads}) {
    const auto before = bytes_of_model(rotated(model, options));
    options.seed = 5;
    EXPECT_NE(before, bytes_of_model(rotated(model, options)));
  }
}

TEST(Rotation, TurnsTheHeadsOfEachBlockByItsOwnRotation) {
  const auto model = shared_model(small_architecture());
  const Rotation rotation(model->architecture(), kHeads);
  const BlockWeights block = model->block(0);
  const auto value = [&](std::size_t index) { return payload_of(rotation.block(block, index)[LinearSlot::v].weight); };
  EXPECT_EQ(value(0), value(0));
  EXPECT_NE(value(0), value(1));
}

TEST(Rotation, GivesTheSameBytesForAnyNumberOfThreads) {
  const auto run = [](const std::shared_ptr<const ModelWeights>& model, int threads) {
    set_thread_count(threads);
    const auto bytes = bytes_of_model(rotated(model, kBoth));
    set_thread_count(0);
    return bytes;
  };
  for (const auto& model : {shared_model(biased_architecture(true)), demo_model()})
    EXPECT_EQ(run(model, 1), run(model, 2));
}

TEST(Rotation, FreesEachOriginalMatrixThatWasGivenAway) {
  const auto model = shared_model(small_architecture());
  BlockWeights block = model->block(0);
  std::vector<std::weak_ptr<const CompressedTensor>> originals;
  block.for_each_linear([&](const Linear& linear) { originals.emplace_back(linear.weight); });
  ASSERT_EQ(originals.size(), 7U);
  const BlockWeights rotated = Rotation(model->architecture(), kBoth).block(std::move(block), 0);
  for (const auto& original : originals) EXPECT_TRUE(original.expired());
}

TEST(Rotation, RefusesSizesThatCannotBeRotatedAndSaysWhatToLeaveOut) {
  Architecture hidden = small_architecture(), head = small_architecture();
  hidden.hidden = 44;
  head.head_dim = 22;
  const auto expect_refusal = [](const Architecture& architecture, std::string_view what, std::string_view rotation) {
    try {
      Rotation(architecture, kBoth);
      FAIL() << "no error for " << what;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_recipe);
      EXPECT_THAT(error.message(), AllOf(HasSubstr(std::string(what) + " cannot be rotated"), HasSubstr("power of two"),
                                         HasSubstr("leave out the rotation of " + std::string(rotation))));
    }
  };
  expect_refusal(hidden, "hidden size 44", "the residual stream");
  expect_refusal(head, "head size 22", "heads");
  EXPECT_NO_THROW(Rotation(hidden, kHeads));
  EXPECT_NO_THROW(Rotation(head, kResidual));
}

TEST(Rotation, NamesTheMatrixThatDoesNotFitF32) {
  const auto model = shared_model(small_architecture());
  BlockWeights block = model->block(0);
  MatrixF large = block[LinearSlot::down].weight->decode();
  for (float& value : large.values()) value = 3e38f;
  block[LinearSlot::down].weight = std::make_shared<const DenseTensor>(make_dense(large, DType::f32));
  try {
    Rotation(model->architecture(), kBoth).block(block, 1);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    EXPECT_THAT(error.message(), HasSubstr("layers.1.mlp.down_proj: a rotated value does not fit f32"));
  }
}

}  // namespace
}  // namespace adze
