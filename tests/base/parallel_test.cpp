// Parallel loops: every index once, exceptions come back, any number of threads.
#include "base/parallel.h"

#include <atomic>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace adze {
namespace {

class ThreadCount {
 public:
  explicit ThreadCount(int threads) { set_thread_count(threads); }
  ~ThreadCount() { set_thread_count(0); }
};

TEST(ParallelFor, VisitsEveryIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    const ThreadCount limit(threads);
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{1001}}) {
      std::vector<std::atomic<int>> visits(count);
      parallel_for(count, [&](std::size_t i) { ++visits[i]; });
      for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(visits[i], 1) << i;
    }
  }
}

TEST(ParallelFor, AnErrorComesBackWithItsKindAndMessage) {
  for (const int threads : {1, 4}) {
    const ThreadCount limit(threads);
    try {
      parallel_for(1000, [](std::size_t i) {
        if (i == 500) fail(ErrorKind::bad_data, "row {} is bad", i);
      });
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_data);
      EXPECT_EQ(error.message(), "row 500 is bad");
    }
  }
}

TEST(ParallelFor, WorksAgainAfterAnException) {
  EXPECT_THROW(parallel_for(10, [](std::size_t) { throw std::runtime_error("x"); }), std::runtime_error);
  std::atomic<std::size_t> sum = 0;
  parallel_for(10, [&](std::size_t i) { sum += i; });
  EXPECT_EQ(sum, 45u);
}

TEST(ParallelFor, MayBeNested) {
  std::vector<std::atomic<int>> visits(16 * 16);
  parallel_for(16, [&](std::size_t i) { parallel_for(16, [&](std::size_t j) { ++visits[i * 16 + j]; }); });
  for (const auto& visit : visits) ASSERT_EQ(visit, 1);
}

TEST(ThreadCount, IsWhatWasSetAndZeroMeansOnePerCore) {
  set_thread_count(3);
  EXPECT_EQ(thread_count(), 3);
  set_thread_count(0);
  EXPECT_GE(thread_count(), 1);
}

}  // namespace
}  // namespace adze
