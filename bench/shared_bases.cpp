// What neighbouring blocks could share: for every pair of blocks and every linear that reads a norm, the loss of
// factors of their own and of factors with one right factor for both, at equal numbers, in float64 before any rounding.
//
//   own        What_i = L_i R_i, the best of its rank for each (solver svd)
//   shared     R from the stacked weights in H_1 + H_2 (Basis Sharing, ICLR 2025), each L_i fitted in its own H_i
//   alternate  the same with R and L_i in turns, each exact for its own H_i (GeoPair's problem; low-rank.md, section 7)
//
// and the three with right factors stored pivoted, [I T], so of more rank.
//
//   adze-shared-bases MODEL STATISTICS
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "calibrate/statistics_folder.h"
#include "pipeline/open_model.h"
#include "solve/factors/low_rank.h"
#include "solve/factors/shared_right.h"

namespace {

using namespace adze;

constexpr std::array<LinearSlot, 5> kSlots{LinearSlot::q, LinearSlot::k, LinearSlot::v, LinearSlot::gate,
                                           LinearSlot::up};
constexpr int kSweeps = 20;

double own_loss(const SharingLayer& layer, std::size_t rank) {
  const std::size_t most = std::min(layer.weights.rows(), layer.weights.cols());
  const std::vector<double> energy = output_spectrum(layer.weights, layer.h, moment_root(layer.h), most).energy;
  return tail(energy, rank) / tail(energy, 0);
}

struct Losses {
  double own = 0, shared = 0, alternate = 0;
};

/// The largest r with r sides - r^2 (pivoted) or r sides numbers within the budget.
std::size_t rank_for(double budget, double sides, bool pivoted) {
  return static_cast<std::size_t>(pivoted ? (sides - std::sqrt(sides * sides - 4 * budget)) / 2 : budget / sides);
}

/// Sums of the two layers' relative losses.
Losses losses_of(const std::array<SharingLayer, 2>& pair, double keep, bool pivoted) {
  const auto m = static_cast<double>(pair[0].weights.rows()), n = static_cast<double>(pair[0].weights.cols());
  const std::size_t own = rank_for(keep * m * n, m + n, pivoted);
  const std::size_t rank = std::min(rank_for(2 * keep * m * n, n + 2 * m, pivoted), pair[0].weights.cols());
  const SharedRight found = shared_right(pair, rank, kSweeps);
  return {own_loss(pair[0], own) + own_loss(pair[1], own), found.first_loss, found.losses[0] + found.losses[1]};
}

int compare(const char* path, const char* folder) {
  const OpenedModel model = open_model(path);
  const StatisticsFolder statistics(folder);
  std::printf("%-6s %-8s %-6s %9s %9s %9s   relative loss, mean over blocks\n", "keep", "form", "linear", "own",
              "shared", "alternate");
  for (const auto& [keep, pivoted] : {std::pair{0.8, false}, {0.8, true}, {0.6, false}, {0.6, true}}) {
    for (const LinearSlot slot : kSlots) {
      Losses sums;
      std::size_t layers = 0;
      for (std::size_t block = 0; block + 1 < model.architecture().layers; block += 2) {
        std::array<SharingLayer, 2> pair;
        for (std::size_t i = 0; i < 2; ++i)
          pair[i] = {to_double(model.weights->block(block + i)[slot].weight->decode()),
                     statistics.block_input(block + i, stage_of(slot)).second_moment};
        const Losses one = losses_of(pair, keep, pivoted);
        sums = {sums.own + one.own, sums.shared + one.shared, sums.alternate + one.alternate};
        layers += 2;
      }
      const auto mean = [&](double sum) { return sum / static_cast<double>(layers); };
      const std::string module = module_name(model.architecture(), 0, slot);
      const std::size_t dot = module.rfind('.') + 1;
      std::printf("%-6.2f %-8s %-6s %9.5f %9.5f %9.5f\n", keep, pivoted ? "pivoted" : "plain",
                  module.substr(dot, module.rfind('_') - dot).c_str(), mean(sums.own), mean(sums.shared),
                  mean(sums.alternate));
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: adze-shared-bases MODEL STATISTICS\n", stderr);
    return 64;
  }
  try {
    return compare(argv[1], argv[2]);
  } catch (const adze::Error& error) {
    std::fprintf(stderr, "adze-shared-bases: %s\n", error.message().c_str());
    return 65;
  }
}
