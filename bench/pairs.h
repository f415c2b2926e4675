// A benchmark pairs our time with a yardstick of this machine, measured in the same run: the ratio means the same on
// every machine, a time alone does not.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace adze::bench {

struct Pair {
  std::string name;
  std::string yardstick;                    ///< what it is compared with, in words, threads included
  std::function<void()> ours;               ///< once; what is measured
  std::function<void()> yardstick_body;     ///< likewise
  std::optional<double> target = {};        ///< ours / yardstick that we want at most, where we want one
};

/// Makes the pairs of one *_bench.cpp; data is made here, outside the measurement.
using PairMaker = std::vector<Pair> (*)();

/// static const bool registered = bench::add(&make_pairs);
bool add(const std::string& group, PairMaker maker);

/// [m x k] x [k x n] in single precision by OpenBLAS, rows shared among all threads.
std::function<void()> sgemm(std::size_t m, std::size_t n, std::size_t k);

}  // namespace adze::bench
