// How fast adze's own forward pass reads a prompt from a model as it is stored, and which share of this machine's
// matrix products that is, measured in the same run. Weights are decoded as they are used, and computed in float: that
// is no runtime's speed, but it shows what decoding a format costs.
//
// Times are no part of any other result: they are measured only when they are asked for.
#pragma once

#include <cstddef>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/progress.h"
#include "model/weights.h"

namespace adze {

struct LatencyOptions {
  std::size_t tokens = 512;  ///< per window; fewer where the model has fewer positions
  std::size_t warmups = 2;
  std::size_t runs = 7;
};

/// Over the runs: median, 10 % and 90 % percentile.
struct Spread {
  double median = 0;
  double low = 0;
  double high = 0;
};

struct LatencyResult {
  std::size_t tokens = 0;   ///< per window
  std::size_t windows = 0;  ///< side by side, one a thread
  int threads = 0;
  std::string kernel;  ///< kernel_name()
  std::size_t warmups = 0, runs = 0;
  Spread tokens_per_second;          ///< all windows together
  double operations = 0;             ///< floating-point, of all windows' matrix products and attention
  double operations_per_second = 0;  ///< at the median
  double sgemm_per_second = 0;       ///< of [tokens x hidden] x [hidden x ffn] on as many threads, at the median
  double share() const { return sgemm_per_second > 0 ? operations_per_second / sgemm_per_second : 0; }
};

/// Operations of one window from its embedding to the logits of its last token: two a weight and token, and causal
/// attention.
double prefill_operations(const Architecture& architecture, std::size_t tokens);

/// Holds all blocks in memory as they are stored. runs > 0.
LatencyResult measure_prefill(const ModelWeights& model, const LatencyOptions& options, Progress& progress);

nlohmann::ordered_json to_json(const LatencyResult& result);

}  // namespace adze
