// Measures that look at one block, with the original's states before it, and no further.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"
#include "linalg/eigen.h"
#include "linalg/gemm.h"
#include "sensitivity/measure.h"

namespace adze {
namespace {

using States = std::span<const MatrixF>;  // per window, [tokens x hidden]

double squared_norm(std::span<const float> row) {
  return std::transform_reduce(row.begin(), row.end(), 0.0, std::plus{}, [](float v) { return double{v} * v; });
}

double dot(std::span<const float> a, std::span<const float> b) {
  return std::transform_reduce(a.begin(), a.end(), b.begin(), 0.0, std::plus{},
                               [](float x, float y) { return double{x} * y; });
}

/// Mean over all tokens of f(row of a, row of b).
template <typename Function>
double mean_over_tokens(States a, States b, Function&& f) {
  double sum = 0;
  std::size_t tokens = 0;
  for (std::size_t w = 0; w < a.size(); ++w)
    for (std::size_t t = 0; t < a[w].rows(); ++t, ++tokens) sum += f(a[w].row(t), b[w].row(t));
  return sum / static_cast<double>(tokens);
}

/// One number of the block for all its matrices.
class BlockMeasure : public SensitivityMeasure {
 public:
  bool runs_model() const override { return true; }
  std::vector<double> coefficients(const BlockView& block, std::span<const MeasuredModule> modules) const final {
    return std::vector<double>(modules.size(), std::max(0.0, of_block(block)));
  }

 private:
  virtual double of_block(const BlockView& block) const = 0;
};

/// ||f_hat(X) - f(X)||^2 / ||f(X) - X||^2 with one matrix exchanged (allocation.md, 3.3).
class BlockOutputMeasure final : public SensitivityMeasure {
 public:
  bool by_option() const override { return true; }
  bool runs_model() const override { return true; }

  std::vector<std::vector<double>> predict_options(const BlockView& block,
                                                   std::span<const MeasuredModule> modules) const override {
    const std::vector<MatrixF> plain = block.judge->states_after(block.weights);
    const double added = squared_distance(block.judge->states(), plain);
    std::vector<std::vector<double>> losses;
    for (const MeasuredModule& module : modules) {
      losses.emplace_back();
      for (const MeasuredOption& option : module.options) {
        const auto changed = block.judge->states_after(with_matrix(block.weights, module.slot, option.tensor));
        losses.back().push_back(added > 0 ? squared_distance(changed, plain) / added : 0);
      }
    }
    return losses;
  }

 private:
  static double squared_distance(States a, States b) {
    return mean_over_tokens(a, b, [](std::span<const float> x, std::span<const float> y) {
      return squared_norm(x) + squared_norm(y) - 2 * dot(x, y);
    });
  }
};

/// LIM, the modification of a block's input: minus the mean cosine of input and output (Dumitru et al. 2024;
/// allocation.md, 3.7), here from 0 to 1: (1 - cos) / 2.
class InputModification final : public BlockMeasure {
  double of_block(const BlockView& block) const override {
    const std::vector<MatrixF> after = block.judge->states_after(block.weights);
    return 0.5 -
           0.5 * mean_over_tokens(block.judge->states(), after, [](std::span<const float> x, std::span<const float> y) {
             const double norms = std::sqrt(squared_norm(x) * squared_norm(y));
             return norms > 0 ? dot(x, y) / norms : 1;
           });
  }
};

/// What the gain of a block is for small changes of its input: ||f(x + e) - f(x)|| / ||e||, e Gaussian of a hundredth
/// of x's norm (CPTQuant's Taylor measure; allocation.md, 3.8).
class SmallChangeGain final : public BlockMeasure {
  double of_block(const BlockView& block) const override {
    constexpr double kPart = 0.01;
    const States before = block.judge->states();
    std::vector<MatrixF> nearby(before.begin(), before.end());
    RandomStream random(0, "tdmpq");
    for (MatrixF& window : nearby)
      for (std::size_t t = 0; t < window.rows(); ++t) {
        const double scale = kPart * std::sqrt(squared_norm(window.row(t)) / static_cast<double>(window.cols()));
        for (float& value : window.row(t)) value += static_cast<float>(scale * random.normal());
      }
    std::vector<MatrixF> moved_after = nearby;
    block.judge->run(block.weights, moved_after);
    const std::vector<MatrixF> after = block.judge->states_after(block.weights);
    const auto distance = [](States a, States b) {
      return mean_over_tokens(a, b, [](std::span<const float> x, std::span<const float> y) {
        double sum = 0;
        for (std::size_t i = 0; i < x.size(); ++i) sum += std::pow(double{x[i]} - y[i], 2);
        return std::sqrt(sum);
      });
    };
    const double step = distance(before, nearby);
    return step > 0 ? distance(after, moved_after) / step : 0;
  }
};

/// 1 - mean canonical correlation of a block's input and output, of 64 principal directions each (CPTQuant;
/// allocation.md, 3.8).
class CanonicalDistance final : public BlockMeasure {
  double of_block(const BlockView& block) const override {
    const std::vector<MatrixF> after = block.judge->states_after(block.weights);
    const Principal input = principal(block.judge->states()), output = principal(after);
    MatrixD cross = product_tn(input.coordinates, output.coordinates);
    for (std::size_t r = 0; r < cross.rows(); ++r)
      for (std::size_t c = 0; c < cross.cols(); ++c) cross(r, c) /= std::sqrt(input.energy[r] * output.energy[c]);
    const std::vector<double> rho = singular_values(std::move(cross)).values;
    return 1 - std::accumulate(rho.begin(), rho.end(), 0.0) / static_cast<double>(rho.size());
  }

  struct Principal {
    MatrixD coordinates;         ///< [tokens x directions], centred
    std::vector<double> energy;  ///< of each direction, with a ridge
  };

  static Principal principal(States states) {
    constexpr std::size_t kDirections = 64;
    constexpr double kRidge = 1e-3;  // of the largest
    std::size_t tokens = 0;
    for (const MatrixF& window : states) tokens += window.rows();
    MatrixD all(tokens, states.front().cols());
    std::size_t row = 0;
    for (const MatrixF& window : states)
      for (std::size_t t = 0; t < window.rows(); ++t, ++row) std::ranges::copy(window.row(t), all.row(row).begin());
    for (std::size_t c = 0; c < all.cols(); ++c) {
      double mean = 0;
      for (std::size_t r = 0; r < tokens; ++r) mean += all(r, c) / static_cast<double>(tokens);
      for (std::size_t r = 0; r < tokens; ++r) all(r, c) -= mean;
    }
    SymmetricEigen eigen = leading_eigen(product_tn(all, all), std::min(kDirections, all.cols()));
    Principal found{product_nt(all, eigen.vectors), std::move(eigen.values)};
    const double ridge = std::max(kRidge * found.energy.front(), 1e-300);
    for (double& energy : found.energy) energy = std::max(energy, 0.0) + ridge;
    return found;
  }
};

/// ZD, the z-score distribution: the share of a block's weights above one standard deviation; the smaller, the more
/// important (Dumitru et al. 2024; allocation.md, 3.7). Here 1 - ZD. Looks at weights alone.
class WeightDistribution final : public BlockMeasure {
 public:
  bool runs_model() const override { return false; }

 private:
  double of_block(const BlockView& block) const override {
    double count = 0, sum = 0, squares = 0;
    std::vector<MatrixF> weights;
    block.weights.for_each_linear([&](const Linear& linear) {
      weights.push_back(linear.weight->decode());
      for (const float w : weights.back().values()) {
        sum += w;
        squares += double{w} * w;
      }
      count += static_cast<double>(weights.back().values().size());
    });
    const double mean = sum / count, deviation = std::sqrt(std::max(0.0, squares / count - mean * mean));
    double above = 0;
    for (const MatrixF& matrix : weights)
      above +=
          static_cast<double>(std::ranges::count_if(matrix.values(), [&](float w) { return w - mean > deviation; }));
    return 1 - above / count;
  }
};

/// 1 - I of a matrix, I = 1 - d^(1/q - 1/p) ||w||_p / ||w||_q its PQ index with p = 0.5, q = 1: the less sparse, the
/// closer to 1 (Diao et al. 2023; allocation.md, 3.10). Looks at weights alone.
class DenseIndex final : public SensitivityMeasure {
 public:
  std::vector<double> coefficients(const BlockView& block, std::span<const MeasuredModule> modules) const override {
    std::vector<double> found;
    for (const MeasuredModule& module : modules) {
      const MatrixF weights = block.weights[module.slot].weight->decode();
      double roots = 0, sizes = 0;
      for (const float w : weights.values()) {
        roots += std::sqrt(std::abs(double{w}));
        sizes += std::abs(double{w});
      }
      const auto count = static_cast<double>(weights.values().size());
      found.push_back(sizes > 0 ? roots * roots / (count * sizes) : 0);
    }
    return found;
  }
};

}  // namespace

std::unique_ptr<SensitivityMeasure> make_block_output_measure() { return std::make_unique<BlockOutputMeasure>(); }
std::unique_ptr<SensitivityMeasure> make_lim_measure() { return std::make_unique<InputModification>(); }
std::unique_ptr<SensitivityMeasure> make_zd_measure() { return std::make_unique<WeightDistribution>(); }
std::unique_ptr<SensitivityMeasure> make_cmpq_measure() { return std::make_unique<CanonicalDistance>(); }
std::unique_ptr<SensitivityMeasure> make_tdmpq_measure() { return std::make_unique<SmallChangeGain>(); }
std::unique_ptr<SensitivityMeasure> make_pq_index_measure() { return std::make_unique<DenseIndex>(); }

}  // namespace adze
