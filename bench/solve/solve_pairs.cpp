#include "base/checked.h"
#include "base/parallel.h"
#include "base/random.h"
#include "grid/quantized_tensor.h"
#include "metrics/proxy_loss.h"
#include "pairs.h"
#include "solve/gptq/factor.h"
#include "solve/gptq/feedback.h"
#include "solve/gptq/gptq.h"

namespace adze::bench {
namespace {

constexpr std::size_t kSize = 4096;

struct Layer {
  MatrixF weights{kSize, kSize};
  MatrixD hessian{kSize, kSize};
  GptqFactor q4_k;
  GptqFactor int4;
};

/// Gaussian weights and an H whose neighbours are correlated: cheap to make, positive definite.
std::shared_ptr<Layer> make_layer() {
  auto layer = std::make_shared<Layer>();
  RandomStream random(2, "bench solve");
  for (float& w : layer->weights.values()) w = static_cast<float>(0.02 * random.normal());
  for (std::size_t i = 0; i < kSize; ++i)
    for (std::size_t j = 0; j < kSize; ++j) {
      const auto distance = static_cast<double>(i > j ? i - j : j - i);
      layer->hessian(i, j) = 1.0 / (1.0 + 0.5 * distance) + (i == j ? 0.2 : 0.0);
    }
  layer->q4_k = factor_hessian(layer->hessian, {}, 256);
  layer->int4 = factor_hessian(layer->hessian, {}, 128);
  return layer;
}

/// Plain GPTQ, the factor given: scales, codes, packed bytes and J_d; no polish.
void solve_plain(const Layer& layer, const GptqFactor& factor, const std::shared_ptr<const Grid>& grid) {
  Encoding encoding(grid, layer.weights.shape());
  const FeedbackPlan plan(factor, encoding, ScaleRule::search, false);
  parallel_for(divide_up(kSize, kFeedbackRows),
               [&](std::size_t tile) { round_with_feedback(plan, layer.weights, tile * kFeedbackRows, encoding); });
  encoding.finish();
}

/// Rounding to nearest with the grid's scale search; packed bytes.
void round_to_nearest(const Layer& layer, const std::shared_ptr<const Grid>& grid) {
  Encoding encoding(grid, layer.weights.shape());
  encoding.fit_all(layer.weights, std::vector<float>(kSize, 1.0f), ScaleRule::search);
  parallel_for(kSize, [&](std::size_t r) { encoding.round_row(r, layer.weights.row(r)); });
  encoding.finish();
}

std::vector<Pair> make_pairs() {
  const auto layer = make_layer();
  const auto q4_k = grid_from_name("gguf/q4_k");
  const auto int4 = grid_from_name("int4 g128 sym");
  const std::shared_ptr<const Solver> standard = make_gptq({});
  const std::string yardstick = "SGEMM 4096^3, all threads";
  const auto against_sgemm = [&](const char* name, std::function<void()> ours, double target) {
    return Pair{name, yardstick, std::move(ours), sgemm(kSize, kSize, kSize), target};
  };
  return {
      against_sgemm(
          "gptq_int4_g128_4096", [=] { solve_plain(*layer, layer->int4, int4); }, 1.0),
      against_sgemm(
          "gptq_q4_k_4096", [=] { solve_plain(*layer, layer->q4_k, q4_k); }, 2.0),
      against_sgemm(
          "rtn_q4_k_4096", [=] { round_to_nearest(*layer, q4_k); }, 0.15),
      against_sgemm(
          "rtn_int4_g128_4096", [=] { round_to_nearest(*layer, int4); }, 0.2),
      // What a user waits for, without a second stream: factor, feedback, three sweeps of polish, loss and energy.
      against_sgemm(
          "default_q4_k_4096",
          [=] {
            standard->solve({{layer->weights.view()}, layer->hessian.view(), q4_k});
          },
          12.0),
      against_sgemm(
          "loss_4096", [=] { output_energy(layer->weights, layer->hessian); }, 1.3),
  };
}

const bool registered = add("solve", &make_pairs);

}  // namespace
}  // namespace adze::bench
