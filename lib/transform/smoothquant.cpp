#include "transform/smoothquant.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "base/error.h"
#include "transform/scaling.h"

namespace adze {
namespace {

constexpr std::array<Stage, 2> kAfterNorms{Stage::qkv, Stage::gate_up};
constexpr double kLeast = 1e-5;  // of scales and of the largest weight

class SmoothQuant final : public Transform {
 public:
  SmoothQuant(const Architecture& architecture, std::vector<Stage> stages, double alpha)
      : architecture_(architecture), stages_(std::move(stages)), alpha_(alpha) {}

  std::string description() const override {
    return fmt::format("smoothquant alpha={} inputs={}", alpha_, names_of(stages_));
  }
  bool needs_inputs() const override { return true; }

  BlockWeights block(BlockWeights block, std::size_t index, const BlockInputs* inputs) const override {
    for (const Stage stage : stages_)
      scale_inputs(architecture_, stage, scales(stage, block, (*inputs)[stage]), index, block);
    return block;
  }

 private:
  std::vector<float> scales(Stage stage, const BlockWeights& block, const InputStatistics& inputs) const {
    std::vector<double> largest(inputs.inputs(), kLeast);
    for (const LinearInfo& info : readers_of(architecture_, stage)) {
      const MatrixF weights = block[info.slot].weight->decode();
      for (std::size_t r = 0; r < weights.rows(); ++r)
        for (std::size_t c = 0; c < weights.cols(); ++c)
          largest[c] = std::max(largest[c], std::fabs(static_cast<double>(weights(r, c))));
    }
    std::vector<float> scales;
    for (std::size_t c = 0; c < largest.size(); ++c) {
      const double range = std::pow(static_cast<double>(inputs.abs_max[c]), alpha_);
      scales.push_back(static_cast<float>(std::max(range / std::pow(largest[c], 1 - alpha_), kLeast)));
    }
    return scales;
  }

  Architecture architecture_;
  std::vector<Stage> stages_;
  double alpha_;
};

}  // namespace

std::shared_ptr<const Transform> configure_smoothquant(MapReader& options, const Architecture& original) {
  const double alpha = options.optional("alpha").real(0, 1).value_or(0.5);
  std::vector<Stage> stages = read_stages(options, scalable_stages(original, kAfterNorms), "no norm precedes it");
  if (stages.empty())
    fail(ErrorKind::bad_recipe, "smoothquant: {} has no norm before attention and FFN that could take the scales",
         original.family);
  return std::make_shared<SmoothQuant>(original, std::move(stages), alpha);
}

}  // namespace adze
