// Measures against the runs of the model that they stand for, and against values worked out by hand.
#include "sensitivity/measure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "metrics/proxy_loss.h"
#include "model/memory_source.h"

namespace adze {
namespace {

using testing::random_ids;
using testing::random_matrix;
using testing::random_model;
using testing::small_architecture;

/// A small model at a block, with inputs that all weigh the same.
class Place {
 public:
  explicit Place(std::size_t index = 0)
      : model_(random_model(small_architecture())),
        block_(model_.block(index)),
        judge_(model_, random_ids(256, 50), 1, parse_protocol("lcpp-64")),
        view_{index, block_, [this](Stage stage) { return identity(stage); }, &judge_} {
    while (judge_.block() < index) judge_.advance();
  }

  const BlockView& view() const { return view_; }
  BlockWeights& block() { return block_; }
  ReferenceJudge& judge() { return judge_; }

  MatrixF weights(LinearSlot slot) const { return block_[slot].weight->decode(); }

  /// W plus noise of a size; its report as a solver gives it.
  MeasuredOption noisy(LinearSlot slot, double size, std::string_view name = "option") const {
    const MatrixF w = weights(slot);
    MatrixF changed = random_matrix(w.shape(), name, size);
    for (std::size_t i = 0; i < w.values().size(); ++i) changed.values()[i] += w.values()[i];
    const MatrixD h = identity(stage_of(slot));
    const double loss = proxy_loss(w, changed, h);
    return {std::make_shared<DenseTensor>(make_dense(changed, DType::f32)), loss, loss / output_energy(w, h)};
  }

  double nll(LinearSlot slot, const TensorPtr& tensor) {
    const std::vector<BlockWeights> one{with_matrix(block_, slot, tensor)};
    return std::log(judge_.judge_block(one).front().perplexity);
  }

  double kl(LinearSlot slot, const TensorPtr& tensor) {
    const std::vector<BlockWeights> one{with_matrix(block_, slot, tensor)};
    return judge_.judge_block(one).front().reference->kl_mean;
  }

 private:
  MatrixD identity(Stage stage) const {
    const std::size_t inputs = block_[linears_of(model_.architecture(), stage).front().slot].weight->shape().cols;
    MatrixD h(inputs, inputs);
    for (std::size_t i = 0; i < inputs; ++i) h(i, i) = 1;
    return h;
  }

  CheckpointWeights model_;
  BlockWeights block_;
  ReferenceJudge judge_;
  BlockView view_;
};

std::vector<double> coefficients(const char* name, const BlockView& view, LinearSlot slot) {
  const std::vector<MeasuredModule> modules{{"layers.0.q", slot, {}}};
  return find_measure(name)->make()->coefficients(view, modules);
}

std::vector<double> losses(const char* name, const BlockView& view, LinearSlot slot,
                           std::vector<MeasuredOption> options) {
  const std::vector<MeasuredModule> modules{{"layers.0.q", slot, std::move(options)}};
  return find_measure(name)->make()->predict_options(view, modules).front();
}

TEST(Measures, ExchangeIsTheDivergenceOfTheModelWithThatMatrix) {
  Place place(1);
  const MeasuredOption a = place.noisy(LinearSlot::up, 0.02), b = place.noisy(LinearSlot::up, 0.1);
  const std::vector<double> found = losses("swap", place.view(), LinearSlot::up, {a, b});
  EXPECT_DOUBLE_EQ(found[0], place.kl(LinearSlot::up, a.tensor));
  EXPECT_DOUBLE_EQ(found[1], place.kl(LinearSlot::up, b.tensor));
  EXPECT_GT(found[1], found[0]);
}

/// KL is linear in the squared error, for the same noise; other noise of that size costs as much, more or less.
TEST(Measures, NoisePredictsTheDivergenceOfLessNoiseAndOfOther) {
  Place place;
  for (const LinearSlot slot : {LinearSlot::v, LinearSlot::gate, LinearSlot::down}) {
    const double coefficient = coefficients("kl", place.view(), slot).front();
    const MatrixF w = place.weights(slot);
    const MatrixD h = place.view().moment(stage_of(slot));
    const double less = place.kl(slot, with_noise(w, h, 0.0025, gaussian_noise(w.shape(), "layers.0.q")));
    EXPECT_NEAR(less / (0.0025 * coefficient), 1, 0.15) << static_cast<int>(slot.kind);
    const MeasuredOption other = place.noisy(slot, 0.02, "another draw");
    const double ratio = coefficient * other.relative_loss / place.kl(slot, other.tensor);
    EXPECT_GT(ratio, 0.3) << static_cast<int>(slot.kind);
    EXPECT_LT(ratio, 3) << static_cast<int>(slot.kind);
  }
}

TEST(Measures, NoiseOfAMatrixThatNothingSeesCostsNothing) {
  Place place;
  place.block()[LinearSlot::gate].weight =
      std::make_shared<DenseTensor>(make_dense(MatrixF(place.weights(LinearSlot::gate).shape()), DType::f32));
  EXPECT_EQ(coefficients("kl", place.view(), LinearSlot::gate).front(), 0);
}

TEST(Measures, PlainOnesAreWhatSolversReport) {
  Place place;
  const std::vector<MeasuredModule> two{{"a", LinearSlot::q, {}}, {"b", LinearSlot::k, {}}};
  for (const char* name : {"loss", "relative"})
    EXPECT_THAT(find_measure(name)->make()->coefficients(place.view(), two), ::testing::ElementsAre(1, 1));
  EXPECT_EQ(find_measure("loss")->make()->base(), LossBase::loss);
  EXPECT_EQ(find_measure("relative")->make()->base(), LossBase::relative_loss);
}

/// Half of the second difference of the text's likelihood along the change; not below 0.
TEST(Measures, TheCurvatureIsThatOfTheLikelihood) {
  Place place;
  std::size_t curved = 0;
  for (const LinearSlot slot : {LinearSlot::q, LinearSlot::v, LinearSlot::o, LinearSlot::up, LinearSlot::down}) {
    const MeasuredOption itself = place.noisy(slot, 0), once = place.noisy(slot, 0.1);
    MatrixF back = place.weights(slot);
    const MatrixF there = once.tensor->decode();
    for (std::size_t i = 0; i < back.values().size(); ++i) back.values()[i] = 2 * back.values()[i] - there.values()[i];
    const double expected = 0.5 * (place.nll(slot, once.tensor) - 2 * place.nll(slot, itself.tensor) +
                                   place.nll(slot, std::make_shared<DenseTensor>(make_dense(back, DType::f32))));
    const std::vector<double> found = losses("taylor", place.view(), slot, {itself, once});
    EXPECT_NEAR(found[0], 0, 1e-9);
    EXPECT_NEAR(found[1], std::max(0.0, expected), 1e-6) << static_cast<int>(slot.kind);
    if (found[1] > 1e-5) ++curved;
  }
  EXPECT_GT(curved, 0U);
}

/// Mean curvature times squared change: four times as much for twice the change, whatever its direction.
TEST(Measures, TheTraceWeighsSquaredChanges) {
  Place place;
  std::size_t curved = 0;
  for (const LinearSlot slot : {LinearSlot::q, LinearSlot::v, LinearSlot::o, LinearSlot::up, LinearSlot::down}) {
    const std::vector<double> found = losses("hessian-trace", place.view(), slot,
                                             {place.noisy(slot, 0), place.noisy(slot, 0.05), place.noisy(slot, 0.1)});
    EXPECT_NEAR(found[0], 0, 1e-12);
    EXPECT_NEAR(found[2], 4 * found[1], 1e-3 * found[2]);
    if (found[1] > 0) ++curved;
  }
  EXPECT_GT(curved, 0U);
}

TEST(Measures, TheBlocksOutputIsThatOfItsRun) {
  Place place;
  const MeasuredOption itself = place.noisy(LinearSlot::o, 0), other = place.noisy(LinearSlot::o, 0.2);
  const std::vector<double> found = losses("block-output", place.view(), LinearSlot::o, {itself, other});
  EXPECT_NEAR(found[0], 0, 1e-10);
  const std::vector<MatrixF> plain = place.judge().states_after(place.block());
  const std::vector<MatrixF> changed =
      place.judge().states_after(with_matrix(place.block(), LinearSlot::o, other.tensor));
  double error = 0, added = 0;
  for (std::size_t w = 0; w < plain.size(); ++w)
    for (std::size_t i = 0; i < plain[w].values().size(); ++i) {
      error += std::pow(double{changed[w].values()[i]} - plain[w].values()[i], 2);
      added += std::pow(double{plain[w].values()[i]} - place.judge().states()[w].values()[i], 2);
    }
  EXPECT_NEAR(found[1], error / added, 1e-4 * error / added);
}

/// A block that adds nothing turns nothing and passes changes on as they are.
TEST(Measures, ABlockThatAddsNothing) {
  Place place;
  const double turned = coefficients("lim", place.view(), LinearSlot::q).front();
  const double apart = coefficients("cmpq", place.view(), LinearSlot::q).front();
  EXPECT_GT(turned, 0);
  EXPECT_LT(turned, 1);
  for (const LinearSlot slot : {LinearSlot::o, LinearSlot::down})
    place.block()[slot].weight =
        std::make_shared<DenseTensor>(make_dense(MatrixF(place.weights(slot).shape()), DType::f32));
  EXPECT_NEAR(coefficients("lim", place.view(), LinearSlot::q).front(), 0, 1e-6);
  EXPECT_NEAR(coefficients("tdmpq", place.view(), LinearSlot::q).front(), 1, 1e-6);
  EXPECT_LT(coefficients("cmpq", place.view(), LinearSlot::q).front(), apart);
}

TEST(Measures, PruningHalfIsTheDivergenceOfThatModel) {
  Place place;
  MatrixF half = place.weights(LinearSlot::gate);
  std::vector<float> sizes;
  for (const float w : half.values()) sizes.push_back(std::abs(w));
  std::ranges::sort(sizes);
  for (float& w : half.values())
    if (std::abs(w) < sizes[sizes.size() / 2]) w = 0;
  EXPECT_DOUBLE_EQ(coefficients("pmpq", place.view(), LinearSlot::gate).front(),
                   place.kl(LinearSlot::gate, std::make_shared<DenseTensor>(make_dense(half, DType::f32))));
}

/// Specification allocation.md, section 11: the index of [4, 0, 3, 0, 0] with p = 0.5, q = 1 is 0.602051.
TEST(Measures, TheIndexOfSparseWeightsIsTheGoldenOne) {
  Place place;
  MatrixF weights(1, 5);
  weights(0, 0) = 4;
  weights(0, 2) = -3;
  place.block()[LinearSlot::k].weight = std::make_shared<DenseTensor>(make_dense(weights, DType::f32));
  EXPECT_NEAR(coefficients("pq-index", place.view(), LinearSlot::k).front(), 1 - 0.602051, 1e-6);
}

TEST(Measures, TheShareOfLargeWeightsIsCounted) {
  Place place;
  for (const LinearInfo& info : block_linears(small_architecture())) {  // of ten weights one is far above a deviation
    MatrixF weights(1, 10);
    weights(0, 7) = 1;
    place.block()[info.slot].weight = std::make_shared<DenseTensor>(make_dense(weights, DType::f32));
  }
  EXPECT_NEAR(coefficients("zd", place.view(), LinearSlot::q).front(), 0.9, 1e-12);
}

TEST(Measures, AreFoundByName) {
  EXPECT_EQ(find_measure("kll"), nullptr);
  for (const MeasureInfo& info : measures()) {
    EXPECT_EQ(find_measure(info.name), &info);
    EXPECT_NE(info.make(), nullptr);
  }
}

}  // namespace
}  // namespace adze
