// Measures that run the model from the block on, and compare its predictions with the original's.
#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "metrics/proxy_loss.h"
#include "sensitivity/measure.h"

namespace adze {
namespace {

double kl_of(const EvaluationResult& result) { return std::max(0.0, result.reference->kl_mean); }
double nll_of(const EvaluationResult& result) { return std::log(result.perplexity); }

/// KL with each matrix changed alone; 0 where there is nothing to change.
/// change: (module, its weights) -> what takes its place, or nullptr.
template <typename Change>
std::vector<double> kl_of_each(const BlockView& block, std::span<const MeasuredModule> modules, Change&& change) {
  std::vector<BlockWeights> versions;
  std::vector<std::size_t> of;  // whose they are
  for (std::size_t i = 0; i < modules.size(); ++i) {
    TensorPtr changed = change(modules[i], block.weights[modules[i].slot].weight->decode());
    if (changed == nullptr) continue;
    versions.push_back(with_matrix(block.weights, modules[i].slot, std::move(changed)));
    of.push_back(i);
  }
  const std::vector<EvaluationResult> results = block.judge->judge_block(versions);
  std::vector<double> found(modules.size(), 0.0);
  for (std::size_t v = 0; v < results.size(); ++v) found[of[v]] = kl_of(results[v]);
  return found;
}

/// KL per relative loss: Gaussian noise that makes a hundredth of the output's energy is added to the matrix alone, and
/// the KL divided by that hundredth (allocation.md, 3.9; the linearity of KL in the squared error).
class NoiseMeasure final : public SensitivityMeasure {
 public:
  bool runs_model() const override { return true; }

  std::vector<double> coefficients(const BlockView& block, std::span<const MeasuredModule> modules) const override {
    constexpr double kPart = 0.01;
    std::vector<double> coefficients = kl_of_each(block, modules, [&](const MeasuredModule& module, MatrixF weights) {
      return with_noise(weights, block.moment(stage_of(module.slot)), kPart,
                        gaussian_noise(weights.shape(), module.name));
    });
    for (double& coefficient : coefficients) coefficient /= kPart;
    return coefficients;
  }
};

/// KL with one matrix exchanged, for every option (allocation.md, 3.4): what the other measures are compared with.
class SwapMeasure final : public SensitivityMeasure {
 public:
  bool by_option() const override { return true; }
  bool runs_model() const override { return true; }

  std::vector<std::vector<double>> predict_options(const BlockView& block,
                                                   std::span<const MeasuredModule> modules) const override {
    std::vector<std::vector<double>> losses;
    for (const MeasuredModule& module : modules) {
      std::vector<BlockWeights> versions;
      for (const MeasuredOption& option : module.options)
        versions.push_back(with_matrix(block.weights, module.slot, option.tensor));
      losses.emplace_back();
      for (const EvaluationResult& result : block.judge->judge_block(versions)) losses.back().push_back(kl_of(result));
    }
    return losses;
  }
};

/// W + t D as a matrix of floats.
TensorPtr moved(const MatrixF& weights, const MatrixF& direction, double t) {
  MatrixF there(weights.shape());
  for (std::size_t i = 0; i < there.values().size(); ++i)
    there.values()[i] = weights.values()[i] + static_cast<float>(t) * direction.values()[i];
  return std::make_shared<DenseTensor>(make_dense(there, DType::f32));
}

/// (L(W + t D) - 2 L(W) + L(W - t D)) / t^2, L the mean negative log-likelihood of the text; D^T (grad^2 L) D.
class Curvature {
 public:
  Curvature(const BlockView& block, LinearSlot slot)
      : block_(block), slot_(slot), weights_(block.weights[slot].weight->decode()) {
    const std::vector<BlockWeights> itself{block.weights};
    centre_ = nll_of(block.judge->judge_block(itself).front());
  }

  const MatrixF& weights() const { return weights_; }

  double along(const MatrixF& direction, double t) const {
    const std::vector<BlockWeights> sides{with_matrix(block_.weights, slot_, moved(weights_, direction, t)),
                                          with_matrix(block_.weights, slot_, moved(weights_, direction, -t))};
    const std::vector<EvaluationResult> results = block_.judge->judge_block(sides);
    return (nll_of(results[0]) + nll_of(results[1]) - 2 * centre_) / (t * t);
  }

 private:
  const BlockView& block_;
  LinearSlot slot_;
  MatrixF weights_;
  double centre_ = 0;
};

/// Half of the curvature along the option's own change (allocation.md, 3.5: Fisher information and Taylor series of a
/// trained model, whose gradient is zero): what the likelihood loses, not below 0.
class TaylorMeasure final : public SensitivityMeasure {
 public:
  bool by_option() const override { return true; }
  bool runs_model() const override { return true; }

  std::vector<std::vector<double>> predict_options(const BlockView& block,
                                                   std::span<const MeasuredModule> modules) const override {
    std::vector<std::vector<double>> losses;
    for (const MeasuredModule& module : modules) {
      const Curvature curvature(block, module.slot);
      losses.emplace_back();
      for (const MeasuredOption& option : module.options) {
        MatrixF change = option.tensor->decode();
        for (std::size_t i = 0; i < change.values().size(); ++i) change.values()[i] -= curvature.weights().values()[i];
        losses.back().push_back(std::max(0.0, 0.5 * curvature.along(change, 1)));
      }
    }
    return losses;
  }
};

/// tr(grad^2 L) / count, by Hutchinson's estimate over Rademacher directions, times ||What - W||^2 (HAWQ-V2, arXiv
/// 1911.03852; allocation.md, 3.6).
class HessianTraceMeasure final : public SensitivityMeasure {
 public:
  bool by_option() const override { return true; }
  bool runs_model() const override { return true; }

  std::vector<std::vector<double>> predict_options(const BlockView& block,
                                                   std::span<const MeasuredModule> modules) const override {
    constexpr int kDraws = 4;
    constexpr double kPart = 0.01;  // of the output's energy that a step makes
    std::vector<std::vector<double>> losses;
    for (const MeasuredModule& module : modules) {
      const Curvature curvature(block, module.slot);
      const MatrixF& weights = curvature.weights();
      const MatrixD h = block.moment(stage_of(module.slot));
      double trace = 0;
      for (int draw = 0; draw < kDraws; ++draw) {
        RandomStream random(static_cast<std::uint64_t>(draw), module.name);
        MatrixF signs(weights.shape());
        for (float& value : signs.values()) value = random.below(2) == 0 ? -1.0f : 1.0f;
        const double seen = output_energy(signs, h);
        const double step = seen > 0 ? std::sqrt(kPart * output_energy(weights, h) / seen) : 0;
        if (step > 0) trace += curvature.along(signs, step) / kDraws;
      }
      losses.emplace_back();
      for (const MeasuredOption& option : module.options) {
        const MatrixF stored = option.tensor->decode();
        double change = 0;
        for (std::size_t i = 0; i < stored.values().size(); ++i)
          change += std::pow(static_cast<double>(stored.values()[i]) - weights.values()[i], 2);
        losses.back().push_back(std::max(0.0, trace) / static_cast<double>(weights.values().size()) * change);
      }
    }
    return losses;
  }
};

/// KL of the model when half of the matrix' weights, the smallest, are zero (CPTQuant's pruning measure, arXiv
/// 2412.03599; allocation.md, 3.8).
class PruningMeasure final : public SensitivityMeasure {
 public:
  bool runs_model() const override { return true; }

  std::vector<double> coefficients(const BlockView& block, std::span<const MeasuredModule> modules) const override {
    return kl_of_each(block, modules, [](const MeasuredModule&, MatrixF weights) {
      std::vector<float> sizes(weights.values().size());
      std::ranges::transform(weights.values(), sizes.begin(), [](float w) { return std::abs(w); });
      const auto middle = sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() / 2);
      std::ranges::nth_element(sizes, middle);
      for (float& value : weights.values())
        if (std::abs(value) < *middle) value = 0;
      return std::make_shared<DenseTensor>(make_dense(weights, DType::f32));
    });
  }
};

}  // namespace

std::unique_ptr<SensitivityMeasure> make_noise_measure() { return std::make_unique<NoiseMeasure>(); }
std::unique_ptr<SensitivityMeasure> make_swap_measure() { return std::make_unique<SwapMeasure>(); }
std::unique_ptr<SensitivityMeasure> make_taylor_measure() { return std::make_unique<TaylorMeasure>(); }
std::unique_ptr<SensitivityMeasure> make_hessian_trace_measure() { return std::make_unique<HessianTraceMeasure>(); }
std::unique_ptr<SensitivityMeasure> make_pmpq_measure() { return std::make_unique<PruningMeasure>(); }

}  // namespace adze
