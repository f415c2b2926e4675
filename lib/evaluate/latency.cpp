#include "evaluate/latency.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "base/random.h"
#include "evaluate/bootstrap.h"
#include "linalg/convert.h"
#include "linalg/gemm.h"
#include "model/forward.h"

namespace adze {
namespace {

using Clock = std::chrono::steady_clock;

/// Seconds of each run after the warm-ups, ascending.
std::vector<double> times_of(const std::function<void()>& body, const LatencyOptions& options,
                             const std::function<void()>& run_done) {
  std::vector<double> seconds;
  for (std::size_t run = 0; run < options.warmups + options.runs; ++run) {
    const auto start = Clock::now();
    body();
    if (run >= options.warmups) seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    run_done();
  }
  std::ranges::sort(seconds);
  return seconds;
}

/// `amount` per second: of short times the high rates.
Spread rate_of(double amount, const std::vector<double>& seconds) {
  return {amount / percentile(seconds, 0.5), amount / percentile(seconds, 0.9), amount / percentile(seconds, 0.1)};
}

/// The whole model in memory, and windows to read.
class Prefill {
 public:
  Prefill(const ModelWeights& model, std::size_t tokens, std::size_t windows)
      : forward_(model.architecture(), tokens),
        tables_(input_tables(model)),
        norm_(norm_of(model)),
        head_(model.head()),
        windows_(windows) {
    for (std::size_t b = 0; b < model.architecture().layers; ++b) blocks_.push_back(model.block(b));
    RandomStream random(0, "prefill");
    for (Window& window : windows_) {
      for (std::size_t t = 0; t < tokens; ++t)
        window.ids.push_back(static_cast<std::int32_t>(random.below(model.architecture().vocab)));
      window.x = MatrixF(tokens, model.architecture().hidden);
      window.logits = MatrixF(1, model.architecture().vocab);
    }
  }

  void run() {
    parallel_for(windows_.size(), [&](std::size_t w) {
      Window& window = windows_[w];
      forward_.embed(tables_, window.ids, window.x);
      for (const BlockWeights& block : blocks_) forward_.run_block(block, window.x, window.work);
      const ViewF last = window.x.view().row_range(window.x.rows() - 1, 1);
      forward_.final_norm(norm_, last, last);
      forward_.logits(*head_, last, window.logits, window.work);
    });
  }

 private:
  struct Window {
    std::vector<std::int32_t> ids;
    MatrixF x, logits;
    Workspace work;
  };

  Forward forward_;
  InputTables tables_;
  Norm norm_;
  TensorPtr head_;
  std::vector<BlockWeights> blocks_;
  std::vector<Window> windows_;
};

MatrixF filled(Shape shape) {
  MatrixF matrix(shape);
  RandomStream random(0, "sgemm");
  for (float& value : matrix.values()) value = static_cast<float>(random.uniform() - 0.5);
  return matrix;
}

/// Products of the shape of an FFN's on every thread, for about as many operations as the pass takes.
double measure_sgemm(const Architecture& a, std::size_t tokens, std::size_t threads, double operations,
                     const LatencyOptions& options, const std::function<void()>& run_done) {
  const double one = 2.0 * static_cast<double>(tokens) * static_cast<double>(a.hidden) * static_cast<double>(a.ffn);
  const auto repeats =
      static_cast<std::size_t>(std::clamp(std::ceil(operations / (one * static_cast<double>(threads))), 1.0, 1e6));
  const MatrixF x = filled({tokens, a.hidden}), weights = filled({a.ffn, a.hidden});
  std::vector<MatrixF> products(threads, MatrixF(tokens, a.ffn));
  const auto body = [&] {
    parallel_for(threads, [&](std::size_t t) {
      for (std::size_t i = 0; i < repeats; ++i) multiply_nt(x, weights, products[t]);
    });
  };
  return rate_of(one * static_cast<double>(repeats * threads), times_of(body, options, run_done)).median;
}

/// Of the tokens, those that a linear sees: an expert only those that are sent there.
double share_of_tokens(const Architecture& architecture, LinearSlot slot) {
  if (!slot.is_expert()) return 1;
  return static_cast<double>(architecture.experts_per_token) / static_cast<double>(architecture.experts);
}

}  // namespace

double prefill_operations(const Architecture& architecture, std::size_t tokens) {
  double weights = 0;
  for (const LinearInfo& linear : block_linears(architecture))
    weights += static_cast<double>(linear.shape.count()) * share_of_tokens(architecture, linear.slot);
  // Pairs of a query and a key that it sees, each with one product of scores and one of values.
  const auto pairs_within = [&](std::size_t window) {
    double pairs = 0;
    for (std::size_t t = 0; t < tokens; ++t) pairs += static_cast<double>(std::min(t + 1, window));
    return pairs;
  };
  const double all = pairs_within(tokens);
  const double windowed = architecture.sliding_window > 0 ? pairs_within(architecture.sliding_window) : all;
  double pairs = 0;
  for (std::size_t layer = 0; layer < architecture.layers; ++layer)
    pairs += architecture.sees_all(layer) ? all : windowed;
  const double attention = 2 * pairs * static_cast<double>(architecture.q_width());
  return 2 * (static_cast<double>(architecture.layers) * weights * static_cast<double>(tokens) + attention +
              static_cast<double>(architecture.hidden) * static_cast<double>(architecture.vocab));
}

LatencyResult measure_prefill(const ModelWeights& model, const LatencyOptions& options, Progress& progress) {
  assert(options.runs > 0);
  const Architecture& a = model.architecture();
  LatencyResult result;
  result.tokens = std::min(options.tokens, a.max_positions);
  result.threads = thread_count();
  result.windows = static_cast<std::size_t>(result.threads);
  result.kernel = kernel_name();
  result.warmups = options.warmups;
  result.runs = options.runs;
  const auto windows = static_cast<double>(result.windows);
  result.operations = windows * prefill_operations(a, result.tokens);
  std::uint64_t done = 0;
  progress.start("measuring prefill", 2 * (options.warmups + options.runs));
  const auto run_done = [&] { progress.update(++done); };
  Prefill prefill(model, result.tokens, result.windows);
  const std::vector<double> seconds = times_of([&] { prefill.run(); }, options, run_done);
  result.tokens_per_second = rate_of(windows * static_cast<double>(result.tokens), seconds);
  result.operations_per_second = rate_of(result.operations, seconds).median;
  result.sgemm_per_second = measure_sgemm(a, result.tokens, result.windows, result.operations, options, run_done);
  return result;
}

nlohmann::ordered_json to_json(const LatencyResult& result) {
  return {{"tokens", result.tokens},
          {"windows", result.windows},
          {"threads", result.threads},
          {"kernel", result.kernel},
          {"warmups", result.warmups},
          {"runs", result.runs},
          {"tokens_per_second", result.tokens_per_second.median},
          {"tokens_per_second_10_90", {result.tokens_per_second.low, result.tokens_per_second.high}},
          {"operations_per_second", result.operations_per_second},
          {"sgemm_operations_per_second", result.sgemm_per_second},
          {"share_of_sgemm", result.share()}};
}

}  // namespace adze
