// What the tests of this folder share: a small random model, token windows for it, and comparisons of statistics.
#pragma once

#include <cmath>
#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/parallel.h"
#include "base/random.h"
#include "calibrate/calibration_set.h"
#include "calibrate/statistics.h"
#include "checkpoint/checkpoint_testing.h"
#include "model/memory_source.h"

namespace adze::testing {

/// The number of threads of one scope.
class ThreadCount {
 public:
  explicit ThreadCount(int threads) { set_thread_count(threads); }
  ~ThreadCount() { set_thread_count(0); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;
};

inline TokenWindows random_windows(std::size_t count, std::size_t tokens, std::size_t vocab, std::uint64_t seed = 1) {
  RandomStream random(seed, "windows");
  TokenWindows windows{tokens, {}};
  for (std::size_t i = 0; i < count * tokens; ++i)
    windows.ids.push_back(static_cast<std::int32_t>(random.below(vocab)));
  return windows;
}

/// Equal to the bit.
inline void expect_same(const InputStatistics& actual, const InputStatistics& expected, const std::string& what = "") {
  EXPECT_EQ(actual.tokens, expected.tokens) << what;
  EXPECT_TRUE(actual.second_moment == expected.second_moment) << what << ": H differs";
  EXPECT_EQ(actual.sum, expected.sum) << what;
  EXPECT_EQ(actual.abs_sum, expected.abs_sum) << what;
  EXPECT_EQ(actual.abs_max, expected.abs_max) << what;
}

/// H to `tolerance` of the geometric mean of the diagonal entries involved, sums to `tolerance` of the sum of
/// magnitudes.
inline void expect_close(const InputStatistics& actual, const InputStatistics& expected, double tolerance) {
  ASSERT_EQ(actual.inputs(), expected.inputs());
  EXPECT_EQ(actual.tokens, expected.tokens);
  EXPECT_EQ(actual.abs_max, expected.abs_max);
  const MatrixD& h = expected.second_moment;
  for (std::size_t i = 0; i < expected.inputs(); ++i) {
    EXPECT_NEAR(actual.sum[i], expected.sum[i], tolerance * expected.abs_sum[i]) << i;
    EXPECT_NEAR(actual.abs_sum[i], expected.abs_sum[i], tolerance * expected.abs_sum[i]) << i;
    for (std::size_t j = 0; j < expected.inputs(); ++j)
      ASSERT_NEAR(actual.second_moment(i, j), h(i, j), tolerance * std::sqrt(h(i, i) * h(j, j))) << i << "," << j;
  }
}

/// Name -> content of all files of a folder.
inline std::map<std::string, std::string> files_of(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    files[entry.path().filename().string()] = read_file(entry.path());
  return files;
}

}  // namespace adze::testing
