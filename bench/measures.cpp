// How well sensitivity measures predict: against the KL of the model with one matrix exchanged at a time, and by the KL
// of the whole model that the plan of each measure makes.
//
//   tau        Kendall's tau between predictions and KL by exchange, over all options of all matrices
//   matrices   the same among matrices in one scheme, mean over schemes: the order that decides
//   plan       measured KL of the plan in the recipe's budget, every matrix solved by itself
//
//   adze-measures RECIPE MODEL STATISTICS WORK [WINDOWS]
#include <cstdio>
#include <cstdlib>
#include <map>

#include "base/error.h"
#include "metrics/rank_correlation.h"
#include "pipeline/allocation/allocation.h"

namespace {

using namespace adze;

struct Predictions {
  std::vector<double> all;
  std::map<std::string, std::vector<double>> by_scheme;
};

Predictions predictions_of(const AllocationResult& result) {
  Predictions found;
  for (const ModuleChoice& module : result.modules) {
    if (!module.chooses || !module.block) continue;
    for (const ModuleOption& option : module.options) {
      found.all.push_back(option.predicted);
      found.by_scheme[option.scheme].push_back(option.predicted);
    }
  }
  return found;
}

double mean_tau(const Predictions& a, const Predictions& b) {
  double sum = 0;
  for (const auto& [scheme, values] : a.by_scheme) sum += kendall_tau(values, b.by_scheme.at(scheme));
  return sum / static_cast<double>(a.by_scheme.size());
}

int compare(const char* recipe_path, const char* model_path, const char* statistics, const char* work,
            std::size_t windows) {
  const Recipe recipe = load_recipe(recipe_path);
  const OpenedModel model = open_model(model_path);
  SolutionStore store(work);
  const auto allocated = [&](const MeasureInfo& measure) {
    PreparedAllocation prepared = prepare_allocation(recipe, model, {statistics, &measure, windows, 1});
    make_model(prepared, std::filesystem::path(work) / SolutionStore::kModels, silent_progress());
    return allocate_modules(prepared, store, silent_progress());
  };
  const Predictions exchanged = predictions_of(allocated(*find_measure("swap")));
  std::printf("%-14s %7s %9s %10s\n", "measure", "tau", "matrices", "plan");
  for (const MeasureInfo& measure : measures()) {
    const AllocationResult result = allocated(measure);
    const Predictions found = predictions_of(result);
    std::printf("%-14s %7.3f %9.3f %10.6f\n", std::string(measure.name).c_str(), kendall_tau(found.all, exchanged.all),
                mean_tau(found, exchanged), result.judged ? result.judged->measured : 0.0);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 && argc != 6) {
    std::fputs("usage: adze-measures RECIPE MODEL STATISTICS WORK [WINDOWS]\n", stderr);
    return 64;
  }
  try {
    return compare(argv[1], argv[2], argv[3], argv[4], argc == 6 ? std::strtoul(argv[5], nullptr, 10) : 8);
  } catch (const adze::Error& error) {
    std::fprintf(stderr, "adze-measures: %s\n", error.message().c_str());
    return 65;
  }
}
