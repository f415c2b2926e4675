#include "transform/awq.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "base/parallel.h"
#include "grid/quantized_tensor.h"
#include "metrics/proxy_loss.h"
#include "transform/scaling.h"

namespace adze {
namespace {

constexpr std::size_t kRatios = 20;  // 0, 1/20 ... 19/20
constexpr double kLeastScale = 1e-4;

/// What rounding W diag(s) to nearest makes of W.
MatrixF rounded(ConstViewF weights, std::span<const float> scales, std::span<const float> importance,
                const std::shared_ptr<const Grid>& grid) {
  MatrixF scaled(weights.shape());
  for (std::size_t r = 0; r < weights.rows(); ++r)
    for (std::size_t c = 0; c < weights.cols(); ++c) scaled(r, c) = weights(r, c) * scales[c];
  Encoding encoding(grid, weights.shape());
  encoding.fit_all(scaled, importance, ScaleRule::search);
  parallel_for(weights.rows(), [&](std::size_t r) {
    encoding.round_row(r, scaled.row(r));
    for (std::size_t c = 0; c < weights.cols(); ++c) scaled(r, c) = encoding.value(r, c) / scales[c];
  });
  return scaled;
}

/// Mean |x_j| of each scale's inputs: value channels are read by all query heads of their group.
std::vector<double> input_sizes(const Architecture& a, Stage stage, const InputStatistics& inputs) {
  const auto tokens = static_cast<double>(std::max<std::uint64_t>(inputs.tokens, 1));
  std::vector<double> sizes(scale_count(a, stage));
  const std::size_t group = stage == Stage::o ? a.heads / a.kv_heads : 1;
  for (std::size_t c = 0; c < inputs.inputs(); ++c) {
    const std::size_t at = group == 1 ? c : c / a.head_dim / group * a.head_dim + c % a.head_dim;
    sizes[at] += inputs.abs_sum[c] / tokens / static_cast<double>(group);
  }
  return sizes;
}

class Awq final : public Transform {
 public:
  Awq(const Architecture& architecture, std::vector<Stage> stages, std::optional<double> ratio)
      : architecture_(architecture), stages_(std::move(stages)), ratio_(ratio) {}

  std::string description() const override {
    return fmt::format("awq inputs={} ratio={}", names_of(stages_), ratio_ ? fmt::format("{}", *ratio_) : "searched");
  }
  bool needs_inputs() const override { return true; }

  BlockWeights block(BlockWeights block, std::size_t index, const BlockInputs* inputs) const override {
    for (const Stage stage : stages_) {
      Architecture narrowed = architecture_;
      if (!narrowed.is_mixture()) narrowed.ffn = block[LinearSlot::down].weight->shape().cols;
      const std::vector<double> sizes = input_sizes(narrowed, stage, (*inputs)[stage]);
      const double ratio = ratio_ ? *ratio_ : best_ratio(narrowed, stage, sizes, block, *inputs);
      if (ratio > 0) scale_inputs(narrowed, stage, awq_scales(sizes, ratio), index, block);
    }
    return block;
  }

 private:
  static double best_ratio(const Architecture& a, Stage stage, std::span<const double> sizes, const BlockWeights& block,
                           const BlockInputs& inputs) {
    std::array<double, kRatios> losses{};
    const MatrixD& h = inputs[stage].second_moment;
    for (const LinearInfo& info : readers_of(a, stage)) {
      const auto grid = inputs.grid(info.slot);
      if (!grid || grid->cannot_hold(h.cols())) continue;
      const MatrixF weights = block[info.slot].weight->decode();
      for (std::size_t i = 0; i < kRatios; ++i) {
        const std::vector<float> scales = column_scales(a, stage, awq_scales(sizes, ratio_of(i)));
        std::vector<float> importance(h.cols());
        for (std::size_t c = 0; c < h.cols(); ++c)
          importance[c] = static_cast<float>(h(c, c) / (static_cast<double>(scales[c]) * scales[c]));
        losses[i] += proxy_loss(weights, rounded(weights, scales, importance, grid), h);
      }
    }
    return ratio_of(static_cast<std::size_t>(std::ranges::min_element(losses) - losses.begin()));
  }
  static double ratio_of(std::size_t i) { return static_cast<double>(i) / static_cast<double>(kRatios); }

  Architecture architecture_;
  std::vector<Stage> stages_;
  std::optional<double> ratio_;
};

}  // namespace

std::vector<float> awq_scales(std::span<const double> sizes, double ratio) {
  const double mean = std::accumulate(sizes.begin(), sizes.end(), 0.0) / static_cast<double>(sizes.size());
  std::vector<double> scales;
  for (const double size : sizes)
    scales.push_back(mean > 0 ? std::clamp(std::pow(size / mean, ratio), kLeastScale, 1 / kLeastScale) : 1.0);
  const auto [least, most] = std::ranges::minmax(scales);
  const double unit = std::sqrt(least * most);
  std::vector<float> normalised;
  for (const double scale : scales) normalised.push_back(static_cast<float>(scale / unit));
  return normalised;
}

std::shared_ptr<const Transform> configure_awq(MapReader& options, const Architecture& original) {
  std::vector<Stage> stages = read_stages(options, scalable_stages(original, kScaledStages), "no norm precedes it");
  const std::optional<double> ratio = options.optional("ratio").real(0, 1);
  return std::make_shared<Awq>(original, std::move(stages), ratio);
}

}  // namespace adze
