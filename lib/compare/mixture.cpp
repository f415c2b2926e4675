#include "compare/mixture.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/parallel.h"
#include "compare/moment_stage.h"

namespace adze {
namespace {

constexpr std::size_t kStepsForWorst = 60;
constexpr std::size_t kStepsForMean = 12;  // each with one evaluation per set more
constexpr double kNudge = 0.02;
constexpr std::size_t kMostInputs = 8;  // of which moments are in memory
constexpr double kFirstStep = 0.5;

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// All draws of every set at one input, and what each set loses with its own moments.
struct PooledInput {
  std::vector<ComparedMoment> sets;
  std::vector<double> own;
};

PooledInput pool(const MeasuredMoments& moments, const InputPlace& place) {
  PooledInput input;
  for (std::size_t s = 0; s < moments.sets(); ++s) {
    InputStatistics sum = moments.draw(place, s, 0);
    for (std::size_t r = 1; r < moments.draws(); ++r) sum.merge(moments.draw(place, s, r));
    input.sets.push_back(compared(place, std::move(sum.second_moment)));
    input.own.push_back(expected_loss(input.sets.back(), input.sets.back()));
  }
  return input;
}

ComparedMoment mixed(const PooledInput& input, std::span<const double> weights) {
  MatrixD sum(input.sets.front().moment().shape());
  for (std::size_t s = 0; s < weights.size(); ++s)
    for (std::size_t i = 0; i < sum.values().size(); ++i)
      sum.values()[i] += weights[s] * input.sets[s].moment().values()[i];
  return ComparedMoment(std::move(sum));
}

/// Per set: log(1 + regret), mean over inputs.
std::vector<double> regrets(std::span<const PooledInput> inputs, std::span<const double> weights) {
  Matrix<double> at(inputs.size(), weights.size());
  parallel_for(inputs.size(), [&](std::size_t i) {
    const MatrixD errors = error_moment(mixed(inputs[i], weights));
    for (std::size_t s = 0; s < weights.size(); ++s)
      at(i, s) = std::log(expected_loss(errors, inputs[i].sets[s]) / inputs[i].own[s]);
  });
  std::vector<double> result(weights.size());
  for (std::size_t i = 0; i < inputs.size(); ++i)
    for (std::size_t s = 0; s < weights.size(); ++s) result[s] += at(i, s) / static_cast<double>(inputs.size());
  return result;
}

/// Up to kMostInputs of them, evenly spaced.
std::vector<InputPlace> thinned(std::vector<InputPlace> places) {
  std::vector<InputPlace> some;
  const std::size_t count = std::min(kMostInputs, places.size());
  for (std::size_t i = 0; i < count; ++i) some.push_back(places[i * places.size() / count]);
  return some;
}

void normalize(std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= sum;
}

/// How strongly each set's share should grow, up to a factor. For the worst set: by its regret, which falls about in
/// proportion to its own share, so that regret stands for slope. For the mean: the slope itself, by small steps to each
/// set.
std::vector<double> pushes(std::span<const PooledInput> inputs, const std::vector<double>& weights,
                           const std::vector<double>& regret, MixGoal goal) {
  const double mean = mean_of(regret);
  std::vector<double> push(weights.size());
  for (std::size_t s = 0; s < weights.size(); ++s) {
    if (goal == MixGoal::worst) {
      push[s] = regret[s] - mean;
      continue;
    }
    std::vector<double> nudged = weights;
    for (double& weight : nudged) weight *= 1 - kNudge;
    nudged[s] += kNudge;
    push[s] = mean - mean_of(regrets(inputs, nudged));
  }
  return push;
}

double largest_size(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

}  // namespace

MixtureProposal propose_mixture(const MeasuredMoments& moments, MixGoal goal, Progress& progress) {
  const std::vector<InputPlace> places = thinned(moments.inputs());
  std::vector<PooledInput> inputs(places.size());
  parallel_for(places.size(), [&](std::size_t i) { inputs[i] = pool(moments, places[i]); });
  std::vector<double> weights(moments.sets(), 1.0 / static_cast<double>(moments.sets()));
  const std::size_t steps = goal == MixGoal::worst ? kStepsForWorst : kStepsForMean;
  MixtureProposal best;
  progress.start("mixing sets", steps);
  for (std::size_t step = 0; step < steps; ++step) {
    const std::vector<double> regret = regrets(inputs, weights);
    const double worst = std::ranges::max(regret), mean = mean_of(regret);
    if (step == 0) best = {weights, regret, worst, mean, worst, mean};
    if (goal == MixGoal::worst ? worst < best.worst : mean < best.mean)
      best = {weights, regret, worst, mean, best.uniform_worst, best.uniform_mean};
    const std::vector<double> push = pushes(inputs, weights, regret, goal);
    const double size = largest_size(push);
    if (size == 0) break;
    const double rate = kFirstStep / (1 + static_cast<double>(step) / 10) / size;
    for (std::size_t s = 0; s < weights.size(); ++s) weights[s] *= std::exp(rate * push[s]);
    normalize(weights);
    progress.update(step + 1);
  }
  return best;
}

std::vector<std::size_t> mixture_counts(std::span<const double> weights, std::size_t windows) {
  std::vector<std::size_t> counts, order(weights.size());
  std::vector<double> left;
  std::size_t given = 0;
  for (const double weight : weights) {
    const double share = weight * static_cast<double>(windows);
    counts.push_back(static_cast<std::size_t>(share));
    left.push_back(share - static_cast<double>(counts.back()));
    given += counts.back();
  }
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::ranges::greater{}, [&](std::size_t s) { return left[s]; });
  for (std::size_t i = 0; given < windows; ++i, ++given) ++counts[order[i % order.size()]];
  return counts;
}

TokenWindows mixture_windows(std::span<const ComparedSet> sets, std::span<const double> weights, std::size_t draw,
                             std::size_t windows) {
  const std::vector<std::size_t> counts = mixture_counts(weights, windows);
  TokenWindows mixed{sets.front().draws[draw].tokens, {}};
  for (std::size_t turn = 0; mixed.count() < windows; ++turn)
    for (std::size_t s = 0; s < sets.size(); ++s)
      if (turn < counts[s]) {
        const auto window = sets[s].draws[draw].window(turn);
        mixed.ids.insert(mixed.ids.end(), window.begin(), window.end());
      }
  return mixed;
}

}  // namespace adze
