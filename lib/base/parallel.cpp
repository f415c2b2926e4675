#include "base/parallel.h"

#include <memory>
#include <mutex>
#include <thread>

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

namespace adze {
namespace {

std::mutex g_mutex;
std::unique_ptr<tbb::global_control> g_limit;
int g_threads = 0;

int core_count() {
  const unsigned cores = std::thread::hardware_concurrency();
  return cores == 0 ? 1 : static_cast<int>(cores);
}

}  // namespace

void set_thread_count(int threads) {
  const std::lock_guard lock(g_mutex);
  g_threads = threads > 0 ? threads : core_count();
  g_limit.reset();
  g_limit = std::make_unique<tbb::global_control>(tbb::global_control::max_allowed_parallelism,
                                                  static_cast<std::size_t>(g_threads));
}

int thread_count() {
  const std::lock_guard lock(g_mutex);
  return g_threads > 0 ? g_threads : core_count();
}

void parallel_for(std::size_t count, const std::function<void(std::size_t)>& body) {
  // Isolated: a thread that waits for a loop inside a loop's body would else begin another iteration of the outer one,
  // and hold the scratch memory of both.
  tbb::this_task_arena::isolate([&] {
    tbb::parallel_for(
        tbb::blocked_range<std::size_t>(0, count, 1),
        [&](const tbb::blocked_range<std::size_t>& range) {
          for (std::size_t i = range.begin(); i != range.end(); ++i) body(i);
        },
        tbb::simple_partitioner());
  });
}

}  // namespace adze
