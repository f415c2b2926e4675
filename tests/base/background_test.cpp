#include "base/background.h"

#include <algorithm>
#include <atomic>
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
