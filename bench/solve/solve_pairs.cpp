#include "base/parallel.h"
#include "base/random.h"
#include "grid/float_grid.h"
#include "grid/quantized_tensor.h"
#include "linalg/inverse.h"
#include "metrics/proxy_loss.h"
#include "pairs.h"
#include "solve/gptq/factor.h"
#include "solve/gptq/feedback.h"
#include "solve/gptq/gptq.h"
#include "solve/obq/elimination.h"

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
  round_with_feedback(plan, layer.weights, encoding);
  encoding.finish();
}

/// SparseGPT to floats: the factor, mask and values in one pass, packed bytes.
void prune_in_one_pass(const Layer& layer, const SparsityPattern& pattern) {
  GptqOptions options;
  options.order = ColumnOrder::natural;
  const GptqFactor factor = factor_hessian(layer.hessian, options, kSize);
  Encoding encoding(make_float_grid(DType::f16), layer.weights.shape());
  encoding.prune(pattern, Mask(layer.weights.shape()));
  encoding.fit_all(layer.weights, factor.importance, ScaleRule::minmax);
  const FeedbackPlan plan(factor, encoding, ScaleRule::minmax, true, pattern);
  round_with_feedback(plan, layer.weights, encoding);
  encoding.finish();
}

constexpr std::size_t kRowCols = 2048;
constexpr std::size_t kRows = 8;

/// Rows for exact greedy pruning, and the inverse of their damped H.
struct Rows {
  MatrixF weights{kRows, kRowCols};
  MatrixD inverse{kRowCols, kRowCols};
};

std::shared_ptr<Rows> make_rows(const Layer& layer) {
  auto rows = std::make_shared<Rows>();
  for (std::size_t i = 0; i < kRowCols; ++i)
    for (std::size_t j = 0; j < kRowCols; ++j) rows->inverse(i, j) = layer.hessian(i, j);
  if (!invert(rows->inverse)) std::abort();
  for (std::size_t r = 0; r < kRows; ++r)
    std::copy_n(layer.weights.row(r).begin(), kRowCols, rows->weights.row(r).begin());
  return rows;
}

void eliminate_rows(const Rows& rows) {
  EliminationRule rule;
  rule.most = kRowCols / 2;
  EliminationScratch scratch;
  for (std::size_t r = 0; r < kRows; ++r) eliminate(rows.inverse, rows.weights.row(r), rule, scratch);
}

/// The same for one row in plain loops: all of M is downdated after every removal.
void eliminate_plainly(const Rows& rows) {
  MatrixD m = rows.inverse;
  std::vector<double> w(rows.weights.row(0).begin(), rows.weights.row(0).end());
  std::vector<bool> left(kRowCols, true);
  for (std::size_t k = 0; k < kRowCols / 2; ++k) {
    std::size_t p = kRowCols;
    for (std::size_t j = 0; j < kRowCols; ++j)
      if (left[j] && (p == kRowCols || w[j] * w[j] * m(p, p) < w[p] * w[p] * m(j, j))) p = j;
    left[p] = false;
    const double pull = w[p] / m(p, p);
    for (std::size_t j = 0; j < kRowCols; ++j) w[j] -= pull * m(p, j);
    const std::vector<double> row(m.row(p).begin(), m.row(p).end());
    for (std::size_t i = 0; i < kRowCols; ++i) {
      const double factor = row[i] / row[p];
      for (std::size_t j = 0; j < kRowCols; ++j) m(i, j) -= factor * row[j];
    }
  }
  if (w[0] == 12345) std::abort();  // so that nothing is left out
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
  const auto rows = make_rows(*layer);
  const auto half = SparsityPattern::unstructured(0.5);
  const auto two_of_four = SparsityPattern::n_of_m(2, 4);
  const std::string yardstick = "SGEMM 4096^3, all threads";
  const auto against_sgemm = [&](const char* name, std::function<void()> ours, std::optional<double> target) {
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
      against_sgemm(
          "sparsegpt_50_4096", [=] { prune_in_one_pass(*layer, half); }, 2.5),
      against_sgemm(
          "sparsegpt_2of4_4096", [=] { prune_in_one_pass(*layer, two_of_four); }, 2.5),
      {"obq_8_rows_2048", "one row, all of M downdated each time, 1 thread", [=] { eliminate_rows(*rows); },
       [=] { eliminate_plainly(*rows); }, 1.0},
      // What a user waits for, without a second stream: factor, feedback, three sweeps of polish, loss and energy.
      against_sgemm(
          "default_q4_k_4096",
          [=] {
            standard->solve({{layer->weights.view()}, layer->hessian.view(), q4_k});
          },
          std::nullopt),
      against_sgemm(
          "loss_4096", [=] { output_energy(layer->weights, layer->hessian); }, std::nullopt),
  };
}

const bool registered = add("solve", &make_pairs);

}  // namespace
}  // namespace adze::bench
