// adze-bench: runs pairs under Google Benchmark and prints their ratios, as a table or as JSON lines.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <string>

#include <nlohmann/json.hpp>

#include "base/matrix.h"
#include "base/parallel.h"
#include "linalg/convert.h"
#include "linalg/gemm.h"
#include "pairs.h"
#include "report/table.h"

namespace adze::bench {
namespace {

struct Group {
  std::string name;
  PairMaker maker;
};

std::vector<Group>& groups() {
  static std::vector<Group> all;
  return all;
}

/// Keeps each benchmark's best time: the least disturbed run.
class BestTimes final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration) continue;
      const double seconds = run.real_accumulated_time / static_cast<double>(run.iterations);
      const auto [at, fresh] = seconds_.try_emplace(run.run_name.function_name, seconds);
      if (!fresh) at->second = std::min(at->second, seconds);
    }
  }
  double seconds(const std::string& name) const { return seconds_.at(name); }

 private:
  std::map<std::string, double> seconds_;
};

void measure(const std::string& name, const std::function<void()>& body) {
  benchmark::RegisterBenchmark(name.c_str(), [&body](benchmark::State& state) {
    for (auto _ : state) body();
  })->UseRealTime()->Repetitions(3)->MinTime(0.2)->Unit(benchmark::kMillisecond);
}

void report(const Pair& pair, const BestTimes& times, bool json, Table& table) {
  const double ours = times.seconds(pair.name);
  const double yardstick = times.seconds(pair.name + "/yardstick");
  const double ratio = ours / yardstick;
  const bool ok = !pair.target || ratio <= *pair.target;
  if (json) {
    nlohmann::ordered_json line{{"name", pair.name},
                                {"ours_s", ours},
                                {"yardstick", pair.yardstick},
                                {"yardstick_s", yardstick},
                                {"ratio", ratio}};
    if (pair.target) {
      line["target"] = *pair.target;
      line["ok"] = ok;
    }
    std::printf("%s\n", line.dump().c_str());
  } else {
    table.add_row({pair.name, fmt::format("{:.4f}", ours), pair.yardstick, fmt::format("{:.4f}", yardstick),
                   fmt::format("{:.2f}", ratio), pair.target ? fmt::format("{:.2f}", *pair.target) : "",
                   pair.target ? (ok ? "yes" : "NO") : ""});
  }
  std::fflush(stdout);
}

std::string group_names() {
  std::set<std::string> names;  // sorted: the order of registration is the linker's
  for (const Group& group : groups()) names.insert(group.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

bool is_group(const std::string& name) {
  return std::ranges::any_of(groups(), [&](const Group& group) { return group.name == name; });
}

int run(const std::set<std::string>& wanted, const std::string& only, bool json) {
  Table table({{"name", Align::left}, {"ours s"}, {"yardstick", Align::left}, {"yardstick s"}, {"ratio"}, {"target"}, {"ok"}});
  for (const Group& group : groups()) {
    if (!wanted.empty() && !wanted.contains(group.name)) continue;
    std::vector<Pair> pairs = group.maker();
    std::erase_if(pairs, [&](const Pair& pair) { return pair.name.find(only) == std::string::npos; });
    if (pairs.empty()) continue;
    for (const Pair& pair : pairs) {
      measure(pair.name, pair.ours);
      measure(pair.name + "/yardstick", pair.yardstick_body);
    }
    BestTimes times;
    benchmark::RunSpecifiedBenchmarks(&times);
    benchmark::ClearRegisteredBenchmarks();
    for (const Pair& pair : pairs) report(pair, times, json, table);
  }
  if (!json) std::printf("%d threads, %s\n\n%s", thread_count(), kernel_name().c_str(), table.text().c_str());
  return 0;
}

}  // namespace

bool add(const std::string& group, PairMaker maker) {
  groups().push_back({group, maker});
  return true;
}

std::function<void()> sgemm(std::size_t m, std::size_t n, std::size_t k) {
  const auto a = std::make_shared<MatrixF>(m, k);
  const auto b = std::make_shared<MatrixF>(n, k);
  const auto c = std::make_shared<MatrixF>(m, n);
  for (std::size_t i = 0; i < a->values().size(); ++i) a->values()[i] = static_cast<float>(i % 13) - 6.0f;
  for (std::size_t i = 0; i < b->values().size(); ++i) b->values()[i] = static_cast<float>(i % 7) - 3.0f;
  return [=] {
    const auto parts = static_cast<std::size_t>(thread_count());
    parallel_for(parts, [&](std::size_t p) {
      const std::size_t first = m * p / parts;
      const std::size_t rows = m * (p + 1) / parts - first;
      multiply_nt(a->view().row_range(first, rows), *b, c->view().row_range(first, rows));
    });
  };
}

}  // namespace adze::bench

int main(int argc, char** argv) {
  std::set<std::string> wanted;
  std::string only;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help") {
      fmt::print("adze-bench [--json] [--only TEXT] [GROUP...]: pairs whose names have TEXT in them; groups are {}\n", adze::bench::group_names());
      return 0;
    }
    if (argument == "--json") {
      json = true;
    } else if (argument == "--only" && i + 1 < argc) {
      only = argv[++i];
    } else if (adze::bench::is_group(argument)) {
      wanted.insert(argument);
    } else {
      fmt::print(stderr, "adze-bench: '{}' is no group; groups are {}\n", argument, adze::bench::group_names());
      return 64;
    }
  }
  adze::set_thread_count(0);
  return adze::bench::run(wanted, only, json);
}
