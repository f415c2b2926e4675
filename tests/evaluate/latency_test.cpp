// Speed itself cannot be tested; what is counted and reported can.
#include "evaluate/latency.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "linalg/convert.h"
#include "model/memory_source.h"

namespace adze {
namespace {

using testing::random_model;
using testing::small_architecture;

TEST(PrefillOperations, AreTwoAWeightAndTokenAndTheTriangleOfAttention) {
  Architecture a = small_architecture();
  // A block has 24 x 32 twice (q, o), 24 x 16 twice (k, v), 24 x 40 three times; 32 numbers a query.
  const double weights = 2 * 24 * 32 + 2 * 24 * 16 + 3 * 24 * 40, head = 24 * 50;
  EXPECT_DOUBLE_EQ(prefill_operations(a, 1), 2 * (2 * (weights + 2 * 32) + head));
  EXPECT_DOUBLE_EQ(prefill_operations(a, 4), 2 * (2 * (4 * weights + 10 * 2 * 32) + head));
  a.sliding_window = 2;
  EXPECT_DOUBLE_EQ(prefill_operations(a, 4), 2 * (2 * (4 * weights + 7 * 2 * 32) + head));
}

TEST(MeasurePrefill, ReportsWhatWasRunAndARangeAroundItsMedian) {
  const auto model = random_model(small_architecture(), DType::bf16);
  const LatencyResult result = measure_prefill(model, {512, 1, 5}, silent_progress());
  EXPECT_EQ(result.tokens, 64u);  // the model has no more positions
  EXPECT_EQ(result.threads, thread_count());
  EXPECT_EQ(result.windows, static_cast<std::size_t>(result.threads));
  EXPECT_EQ(result.kernel, kernel_name());
  EXPECT_GT(result.tokens_per_second.low, 0);
  EXPECT_LE(result.tokens_per_second.low, result.tokens_per_second.median);
  EXPECT_LE(result.tokens_per_second.median, result.tokens_per_second.high);
  const double per_token = result.operations / static_cast<double>(result.windows * result.tokens);
  EXPECT_NEAR(result.operations_per_second / result.tokens_per_second.median, per_token, 1e-9 * per_token);
  EXPECT_GT(result.sgemm_per_second, 0);
  EXPECT_GT(result.share(), 0);
  const auto json = to_json(result);
  EXPECT_EQ(json.at("runs"), 5);
  EXPECT_EQ(json.at("tokens_per_second_10_90").size(), 2u);
  EXPECT_DOUBLE_EQ(json.at("share_of_sgemm").get<double>(), result.share());
}

}  // namespace
}  // namespace adze
