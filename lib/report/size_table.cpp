#include "report/size_table.h"

#include <fmt/format.h>

#include "report/table.h"

namespace adze {

std::string size_table(const SizeByClass& size) {
  Table table({{"tensors", Align::left}, {"bytes"}, {"bytes %"}, {"weights"}, {"bits/weight"}});
  const StoredSize all = size.all();
  const auto add = [&](std::string_view name, const StoredSize& one) {
    const double share = all.bytes == 0 ? 0 : 100 * static_cast<double>(one.bytes) / static_cast<double>(all.bytes);
    table.add_row({std::string(name), fmt::format("{}", one.bytes), fmt::format("{:.1f}", share),
                   fmt::format("{}", one.weights), fmt::format("{:.3f}", one.bits_per_weight())});
  };
  for (const TensorClass c : kTensorClasses)
    if (size[c].weights > 0) add(name_of(c), size[c]);
  add("attention and ffn", size.blocks());
  add("all", all);
  return table.text();
}

std::string latency_in_words(const LatencyResult& latency) {
  return fmt::format(
      "prefill of {} tokens: {:.0f} tokens/s ({:.0f} to {:.0f}, 10 to 90 % of {} runs after {}), {} {} on {} {}, "
      "{}; {:.1f} GFLOP/s, {:.0f} % of SGEMM's {:.1f}\n",
      latency.tokens, latency.tokens_per_second.median, latency.tokens_per_second.low, latency.tokens_per_second.high,
      latency.runs, latency.warmups, latency.windows, latency.windows == 1 ? "window" : "windows", latency.threads,
      latency.threads == 1 ? "thread" : "threads", latency.kernel, latency.operations_per_second / 1e9,
      100 * latency.share(), latency.sgemm_per_second / 1e9);
}

}  // namespace adze
