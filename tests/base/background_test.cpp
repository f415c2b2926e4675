#include "base/background.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

namespace adze {
namespace {

TEST(Background, RunsOneTaskAtATimeInOrder) {
  Background background;
  std::atomic<int> running = 0;
  std::vector<int> order;
  for (int i = 0; i < 20; ++i)
    background.run([&, i] {
      EXPECT_EQ(running++, 0);
      order.push_back(i);
      --running;
    });
  background.wait();
  background.wait();  // none is left
  ASSERT_EQ(order.size(), 20u);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST(Background, LetsTasksWaitThatHoldNoMoreThanItsLimit) {
  Background background(100);
  std::promise<void> may_go_on;
  std::atomic<int> ended = 0;
  background.run([&, gate = may_go_on.get_future()] { gate.wait(), ++ended; }, 250);  // alone, whatever it holds
  std::future<void> rest = std::async(std::launch::async, [&] {
    for (const std::uint64_t bytes : {60, 40, 10}) background.run([&] { ++ended; }, bytes);
  });
  EXPECT_EQ(rest.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  may_go_on.set_value();
  rest.get();
  background.wait();
  EXPECT_EQ(ended, 4);

  std::promise<void> again;
  background.run([&, gate = again.get_future()] { gate.wait(), ++ended; }, 60);
  background.run([&] { ++ended; }, 40);  // does not wait: they hold 100
  EXPECT_EQ(ended, 4);
  again.set_value();
  background.wait();
  EXPECT_EQ(ended, 6);
}

TEST(Background, FreesWhatATaskHeldBeforeItHasRoomForMore) {
  Background background(10);
  const auto held = std::make_shared<int>(1);
  background.run([copy = held] {}, 10);
  background.run([&] { EXPECT_EQ(held.use_count(), 1); }, 10);
  background.wait();
}

TEST(Background, BeginsNothingThatWaitedBehindWhatFailed) {
  Background background(100);
  std::promise<void> may_go_on;
  bool began = false;
  background.run([gate = may_go_on.get_future()] { gate.wait(), throw std::runtime_error("full"); }, 10);
  background.run([&] { began = true; }, 10);
  may_go_on.set_value();
  EXPECT_THROW(background.wait(), std::runtime_error);
  background.run([] {}, 10);
  EXPECT_NO_THROW(background.wait());
  EXPECT_FALSE(began);
}

TEST(Background, HandsOnWhatATaskThrowsOnce) {
  Background background;
  background.run([] { throw std::runtime_error("full"); });
  bool began = false;
  EXPECT_THROW(background.run([&] { began = true; }), std::runtime_error);
  EXPECT_FALSE(began);
  EXPECT_NO_THROW(background.wait());
}

TEST(Background, WaitsWhenItEnds) {
  std::atomic<bool> done = false;
  {
    Background background;
    background.run([&] { done = true; });
  }
  EXPECT_TRUE(done);
}

}  // namespace
}  // namespace adze
