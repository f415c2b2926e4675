// Parallel loops. What a loop computes must not depend on how many threads run it: iterations write disjoint places,
// and sums over iterations are taken in index order by the caller.
#pragma once

#include <cstddef>
#include <functional>

namespace adze {

/// Limits the threads of all later loops; 0 means one per core. Call it once, early.
void set_thread_count(int threads);
int thread_count();

/// Calls body(i) for i in [0, count), in any order, on the worker threads. The first exception is rethrown here.
void parallel_for(std::size_t count, const std::function<void(std::size_t)>& body);

}  // namespace adze
