#include "sensitivity/measure.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "metrics/proxy_loss.h"

namespace adze {
namespace {

/// J or its part, as it is.
class PlainMeasure final : public SensitivityMeasure {
 public:
  explicit PlainMeasure(LossBase base) : base_(base) {}

  LossBase base() const override { return base_; }
  std::vector<double> coefficients(const BlockView&, std::span<const MeasuredModule> modules) const override {
    return std::vector<double>(modules.size(), 1.0);
  }

 private:
  LossBase base_;
};

template <LossBase base>
std::unique_ptr<SensitivityMeasure> make_plain() {
  return std::make_unique<PlainMeasure>(base);
}

constexpr std::array kMeasures{
    MeasureInfo{"kl", "relative loss times the KL that noise in the matrix costs, per relative loss", true, true,
                &make_noise_measure},
    MeasureInfo{"swap", "KL of the model with this one matrix exchanged: a run for every option", true, true,
                &make_swap_measure},
    MeasureInfo{"relative", "J / tr(W H W^T)", false, true, &make_plain<LossBase::relative_loss>},
    MeasureInfo{"loss", "J", false, true, &make_plain<LossBase::loss>},
    MeasureInfo{"block-output", "error of what the block adds, with this one matrix exchanged", false, false,
                &make_block_output_measure},
    MeasureInfo{"taylor", "curvature of the text's likelihood along each option's change, by forward differences", true,
                true, &make_taylor_measure},
    MeasureInfo{"hessian-trace", "mean curvature of the likelihood times squared change of weights (HAWQ-V2)", false,
                false, &make_hessian_trace_measure},
    MeasureInfo{"lim", "relative loss times how far the block turns its input (LIM)", false, false, &make_lim_measure},
    MeasureInfo{"zd", "relative loss, less where many weights lie above one deviation (ZD)", false, false,
                &make_zd_measure},
    MeasureInfo{"cmpq", "relative loss times what the block's output has not in common with its input (CMPQ)", false,
                false, &make_cmpq_measure},
    MeasureInfo{"pmpq", "relative loss times the KL of pruning half of the matrix (PMPQ)", false, false,
                &make_pmpq_measure},
    MeasureInfo{"tdmpq", "relative loss times the block's gain for small changes (TDMPQ)", false, false,
                &make_tdmpq_measure},
    MeasureInfo{"pq-index", "relative loss, less where weights are sparse (PQ index)", false, false,
                &make_pq_index_measure},
};

}  // namespace

std::vector<double> SensitivityMeasure::coefficients(const BlockView&, std::span<const MeasuredModule>) const {
  fail(ErrorKind::internal, "a measure of options was asked for coefficients");
}

std::vector<std::vector<double>> SensitivityMeasure::predict_options(const BlockView&,
                                                                     std::span<const MeasuredModule>) const {
  fail(ErrorKind::internal, "a measure of matrices was asked for their options");
}

std::span<const MeasureInfo> measures() { return kMeasures; }

const MeasureInfo* find_measure(std::string_view name) {
  const auto at = std::ranges::find(kMeasures, name, &MeasureInfo::name);
  return at == kMeasures.end() ? nullptr : &*at;
}

BlockWeights with_matrix(const BlockWeights& block, LinearSlot slot, TensorPtr matrix) {
  BlockWeights changed = block;
  changed[slot].weight = std::move(matrix);
  return changed;
}

TensorPtr with_noise(const MatrixF& weights, const MatrixD& h, double part, MatrixF noise) {
  const double energy = output_energy(weights, h), drawn = output_energy(noise, h);
  if (!(energy > 0 && drawn > 0)) return nullptr;
  const auto scale = static_cast<float>(std::sqrt(part * energy / drawn));
  for (std::size_t i = 0; i < noise.values().size(); ++i)
    noise.values()[i] = weights.values()[i] + scale * noise.values()[i];
  return std::make_shared<DenseTensor>(make_dense(noise, DType::f32));
}

MatrixF gaussian_noise(Shape shape, std::string_view name, std::uint64_t draw) {
  RandomStream random(draw, name);
  MatrixF noise(shape);
  for (float& value : noise.values()) value = static_cast<float>(random.normal());
  return noise;
}

}  // namespace adze
