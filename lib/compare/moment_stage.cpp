#include "compare/moment_stage.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

#include "base/parallel.h"
#include "base/random.h"

namespace adze {
namespace {

/// Columns that stand for all, ascending.
std::vector<std::size_t> drawn_columns(const InputPlace& place, std::size_t n) {
  std::vector<std::size_t> columns(n);
  std::iota(columns.begin(), columns.end(), std::size_t{0});
  RandomStream random(1, "compare/columns/" + place.name());
  for (std::size_t i = 0; i < kMostColumns; ++i) std::swap(columns[i], columns[i + random.below(n - i)]);
  columns.resize(kMostColumns);
  std::ranges::sort(columns);
  return columns;
}

std::size_t count_rare(const InputStatistics& statistics) {
  const auto tokens = static_cast<double>(statistics.tokens);
  std::size_t rare = 0;
  for (std::size_t j = 0; j < statistics.inputs(); ++j) {
    const double absolute = statistics.abs_sum[j] / tokens;
    const double square = statistics.second_moment(j, j) / tokens;
    rare += square > 0 && absolute * absolute < kRare * square;
  }
  return rare;
}

/// Moments of one input, of all draws and judges. Reading and dividing them is as much work as some distances, and is
/// shared by the threads as these are.
class InputMoments {
 public:
  InputMoments(const MeasuredMoments& moments, const InputPlace& place)
      : sets_(moments.sets()), texts_(moments.texts()) {
    parallel_for(judges(), [&](std::size_t j) {
      if (j < sets_.size())
        sets_[j] = read_set(moments, place, j);
      else
        texts_[j - sets_.size()] = compared(place, moments.text(place, j - sets_.size()).second_moment);
    });
  }

  const ComparedMoment& draw(std::size_t set, std::size_t draw) const { return sets_[set].draws[draw]; }
  /// Judge j of a draw: a set without that draw, or a text.
  const ComparedMoment& judge(std::size_t judge, std::size_t draw) const {
    return judge < sets_.size() ? sets_[judge].held[draw] : *texts_[judge - sets_.size()];
  }
  std::size_t judges() const { return sets_.size() + texts_.size(); }
  const SetAtInput& first(std::size_t set) const { return sets_[set].first; }

 private:
  struct OfSet {
    std::vector<ComparedMoment> draws, held;  ///< held: the set without that draw
    SetAtInput first;                         ///< of the first draw
  };

  static OfSet read_set(const MeasuredMoments& moments, const InputPlace& place, std::size_t set) {
    OfSet of;
    std::vector<MatrixD> draws;
    for (std::size_t r = 0; r < moments.draws(); ++r) {
      InputStatistics statistics = moments.draw(place, set, r);
      if (r == 0) of.first = describe(statistics);
      draws.push_back(std::move(statistics.second_moment));
    }
    for (std::size_t r = 0; r < draws.size(); ++r) of.held.push_back(compared(place, sum_without(draws, r)));
    for (MatrixD& draw : draws) of.draws.push_back(compared(place, std::move(draw)));
    return of;
  }

  /// What MeasuredMoments::held_out() would read again.
  static MatrixD sum_without(std::span<const MatrixD> draws, std::size_t left_out) {
    if (draws.size() == 1) return draws[0];
    const std::size_t first = left_out == 0 ? 1 : 0;
    MatrixD sum = draws[first];
    for (std::size_t r = first + 1; r < draws.size(); ++r)
      if (r != left_out) std::ranges::transform(sum.values(), draws[r].values(), sum.values().begin(), std::plus<>());
    return sum;
  }

  static SetAtInput describe(const InputStatistics& statistics) {
    SetAtInput set;
    set.tokens = statistics.tokens;
    set.rare = count_rare(statistics);
    return set;
  }

  std::vector<OfSet> sets_;
  std::vector<std::optional<ComparedMoment>> texts_;
};

std::vector<MatrixD> expected_regrets(const MeasuredMoments& moments, const InputMoments& of) {
  const std::size_t draws = moments.draws(), judges = of.judges(), sets = moments.sets();
  MatrixD own(draws, judges);
  parallel_for(draws * judges, [&](std::size_t i) {
    const std::size_t r = i / judges, j = i % judges;
    if (r == 0 || j < sets) own(r, j) = expected_loss(of.judge(j, r), of.judge(j, r));  // texts have no draws
  });
  std::vector<MatrixD> regrets(draws, MatrixD(sets, judges));
  parallel_for(draws * sets, [&](std::size_t i) {
    const std::size_t r = i / sets, s = i % sets;
    const MatrixD errors = error_moment(of.draw(s, r));
    for (std::size_t j = 0; j < judges; ++j)
      regrets[r](s, j) = std::log(expected_loss(errors, of.judge(j, r)) / own(j < sets ? r : 0, j));
  });
  return regrets;
}

void compare_pairs(const MeasuredMoments& moments, const InputMoments& of, InputComparison& result) {
  const std::size_t sets = moments.sets();
  std::vector<MomentProfile> profiles(sets);
  parallel_for(sets, [&](std::size_t s) { profiles[s] = profile_of(of.draw(s, 0)); });
  for (std::size_t s = 0; s < sets; ++s) {
    SetAtInput& set = result.sets.emplace_back(of.first(s));
    const MomentProfile& profile = profiles[s];
    set.effective_rank = profile.effective_rank;
    set.stable_rank = profile.stable_rank;
    set.participation = profile.participation;
    set.condition = profile.condition;
    set.dead = profile.dead;
    set.mean_square = of.draw(s, 0).mean_square() / static_cast<double>(set.tokens);
  }
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (std::size_t a = 0; a < sets; ++a)
    for (std::size_t b = a; b < sets; ++b) pairs.emplace_back(a, b);
  parallel_for(pairs.size(), [&](std::size_t i) {
    const auto [a, b] = pairs[i];
    const ComparedMoment& first = of.draw(a, 0);
    if (a == b && moments.draws() == 1) {
      result.captured(a, a) = captured_share(profiles[a], first);
      result.outliers(a, a) = 1;
      return;
    }
    const ComparedMoment& second = of.draw(b, a == b ? 1 : 0);
    const auto [there, back] = distances_between(first, second);
    if (a != b) {
      result.distances(b, a) = back;
      result.correlation(b, a) = correlation_distance(second, first);
      result.captured(b, a) = captured_share(profiles[b], first);
      result.outliers(b, a) = outlier_overlap(second, first);
    }
    result.distances(a, b) = there;
    result.correlation(a, b) = correlation_distance(first, second);
    result.captured(a, b) = captured_share(profiles[a], second);
    result.outliers(a, b) = outlier_overlap(first, second);
  });
}

InputComparison compare_input(const MeasuredMoments& moments, const InputPlace& place) {
  const InputMoments of(moments, place);
  const std::size_t sets = moments.sets();
  InputComparison result;
  result.place = place;
  result.inputs = of.draw(0, 0).inputs();
  result.distances = Matrix<MomentDistance>(sets, sets);
  result.correlation = result.captured = result.outliers = MatrixD(sets, sets);
  compare_pairs(moments, of, result);
  result.log_regret = expected_regrets(moments, of);
  return result;
}

}  // namespace

ComparedMoment compared(const InputPlace& place, MatrixD h) {
  if (h.rows() <= kMostColumns) return ComparedMoment(std::move(h));
  const std::vector<std::size_t> columns = drawn_columns(place, h.rows());
  MatrixD part(columns.size(), columns.size());
  for (std::size_t r = 0; r < columns.size(); ++r)
    for (std::size_t c = 0; c < columns.size(); ++c) part(r, c) = h(columns[r], columns[c]);
  return ComparedMoment(std::move(part));
}

MatrixD MomentStage::mean(MatrixD InputComparison::*measure) const {
  MatrixD sum((inputs.front().*measure).shape());
  for (const InputComparison& input : inputs)
    for (std::size_t i = 0; i < sum.values().size(); ++i)
      sum.values()[i] += (input.*measure).values()[i] / static_cast<double>(inputs.size());
  return sum;
}

MatrixD MomentStage::mean(double MomentDistance::*measure) const {
  MatrixD sum(inputs.front().distances.shape());
  for (const InputComparison& input : inputs)
    for (std::size_t i = 0; i < sum.values().size(); ++i)
      sum.values()[i] += input.distances.values()[i].*measure / static_cast<double>(inputs.size());
  return sum;
}

MomentStage compare_moments(const MeasuredMoments& moments, std::span<const ComparedSet> sets,
                            std::span<const JudgingText> texts, Progress& progress) {
  MomentStage stage;
  const std::vector<InputPlace> places = moments.inputs();
  progress.start("comparing moments", places.size());
  for (const InputPlace& place : places) {
    stage.inputs.push_back(compare_input(moments, place));
    progress.update(stage.inputs.size());
  }
  Mismatch& regret = stage.expected_regret;
  for (const ComparedSet& set : sets) regret.sources.push_back(set.name);
  regret.judges = regret.sources;
  for (const JudgingText& text : texts) regret.judges.push_back("text " + text.name);
  for (std::size_t r = 0; r < moments.draws(); ++r) {
    MatrixD sum(regret.sources.size(), regret.judges.size());
    for (const InputComparison& input : stage.inputs)
      for (std::size_t i = 0; i < sum.values().size(); ++i)
        sum.values()[i] += input.log_regret[r].values()[i] / static_cast<double>(stage.inputs.size());
    regret.draws.push_back(std::move(sum));
  }
  return stage;
}

}  // namespace adze
