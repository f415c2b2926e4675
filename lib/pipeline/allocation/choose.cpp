// The choice: knapsack, judgements of whole models, exchanges.
#include <algorithm>
#include <cmath>
#include <set>

#include "allocate/exchanges.h"
#include "base/error.h"
#include "pipeline/allocation/allocation.h"
#include "pipeline/allocation/assembled_model.h"
#include "pipeline/allocation/options.h"

namespace adze {
namespace {

struct Judgement {
  std::string key;  ///< of the model: formats and solutions of all its matrices
  JudgedChoice summary;
  std::vector<double> window_kl;
};

/// Mean difference of paired windows, in standard errors.
double paired_change(const std::vector<double>& now, const std::vector<double>& before) {
  const auto count = static_cast<double>(now.size());
  double mean = 0, squares = 0;
  for (std::size_t w = 0; w < now.size(); ++w) mean += (now[w] - before[w]) / count;
  for (std::size_t w = 0; w < now.size(); ++w) squares += std::pow(now[w] - before[w] - mean, 2);
  if (now.size() < 2) return 0;  // nothing says how far windows differ
  const double error = std::sqrt(squares / (count - 1) / count);
  return error > 0 ? mean / error : (mean < 0 ? -1e9 : 1e9);
}

class Chooser {
 public:
  Chooser(const PreparedAllocation& prepared, SolutionStore& store, Progress& progress)
      : prepared_(prepared), store_(store), progress_(progress) {}

  AllocationResult run() {
    result_.modules = measure_options(prepared_, store_, progress_);
    make_tables();
    const std::size_t left = evaluations_possible();
    result_.front = front(units_);
    result_.allocation = prepared_.budget ? within_budget() : smallest_for_kl(left);
    if (left > 0 && prepared_.budget) judge_and_improve(left);
    take(result_.allocation.choice);
    result_.tied = prepared_.weights->architecture().tied;
    result_.cost = planned_bytes(prepared_, result_.modules);
    result_.multiplications = prepared_.fixed_multiplications + result_.allocation.work;
    result_.allocation.loss += prepared_.base_loss;
    result_.allocation.bound += prepared_.base_loss;
    for (FrontPoint& point : result_.front.points) point.loss += prepared_.base_loss;
    return std::move(result_);
  }

 private:
  void make_tables() {
    for (const std::vector<std::size_t>& members : prepared_.units) {
      AllocationUnit& unit = units_.emplace_back(result_.modules[members.front()].options.size());
      for (const std::size_t m : members)
        for (std::size_t o = 0; o < unit.size(); ++o) {
          const ModuleOption& option = result_.modules[m].options[o];
          unit[o].cost += option.cost;
          unit[o].loss += option.predicted;
          unit[o].work += option.multiplications;
        }
    }
  }

  std::size_t evaluations_possible() {
    if (prepared_.request.evaluations > 0 && store_.unkept() > 0) {
      progress_.warn(
          fmt::format("{} solutions are beyond the bound on disk: no whole model can be judged", store_.unkept()));
      return 0;
    }
    return prepared_.request.evaluations;
  }

  /// Options of a file are priced one by one; what parts of a split file take besides is taken off the budget.
  Allocation within_budget() {
    std::uint64_t budget = *prepared_.budget - prepared_.fixed;
    for (;;) {
      Allocation found =
          prepared_.multiplications
              ? allocate_within(units_, budget, *prepared_.multiplications - prepared_.fixed_multiplications)
              : allocate(units_, budget);
      take(found.choice);
      const std::uint64_t bytes = planned_bytes(prepared_, result_.modules);
      if (bytes <= *prepared_.budget) return found;
      if (budget == 0)
        fail(ErrorKind::bad_recipe,
             "{}: a budget of {} bytes is too small: the smallest choice takes {} with its headers",
             prepared_.recipe->origin, *prepared_.budget, bytes);
      budget -= std::min(budget, bytes - *prepared_.budget);
    }
  }

  void take(const std::vector<std::size_t>& choice) {
    for (std::size_t u = 0; u < units_.size(); ++u)
      for (const std::size_t m : prepared_.units[u]) result_.modules[m].chosen = choice[u];
  }

  /// KL of the whole model with that choice. Known choices cost no run.
  const Judgement& judge(const std::vector<std::size_t>& choice) {
    take(choice);
    Judgement found;
    found.summary.predicted = prepared_.base_loss;
    std::string solutions = settled_formats();
    for (const ModuleChoice& module : result_.modules) {
      solutions += module.option().format + module.option().solution + ";";
      found.summary.predicted += module.option().predicted;
      found.summary.cost += module.option().cost;
    }
    found.summary.cost += prepared_.fixed;
    found.key = number_key(prepared_, "whole " + solutions);
    for (const Judgement& known : judgements_)
      if (known.key == found.key) return known;
    recall_or_run(found);
    result_.judgements.push_back(found.summary);
    judgements_.push_back(std::move(found));
    return judgements_.back();
  }

  /// Of matrices that no scheme solves: they are part of a model, too.
  std::string settled_formats() const {
    std::set<std::string_view> solved;
    for (const ModuleChoice& module : result_.modules) solved.insert(module.module);
    std::string formats;
    for (const ModulePlan& module : prepared_.variants.front().modules)
      if (!solved.contains(module.spec.module)) formats += module.spec.module + module.format + ";";
    return formats;
  }

  void recall_or_run(Judgement& found) {
    const std::size_t windows = prepared_.windows.count();
    if (auto known = store_.numbers(found.key); known && known->size() == windows + 2) {
      found.summary.measured = (*known)[windows];
      found.summary.error = (*known)[windows + 1];
      known->resize(windows);
      found.window_kl = std::move(*known);
      return;
    }
    if (!judge_) judge_.emplace(*prepared_.model->weights, prepared_.windows.ids, std::nullopt, protocol_of(prepared_));
    const EvaluationResult result = judge_->judge(AssembledModel(prepared_, result_.modules, store_), Inference::point);
    found.summary.measured = result.reference->kl_mean;
    found.summary.error = result.reference->kl_mean_se;
    found.window_kl = result.reference->window_kl;
    std::vector<double> numbers = found.window_kl;
    numbers.push_back(found.summary.measured);
    numbers.push_back(found.summary.error);
    store_.put_numbers(found.key, numbers);
  }

  /// The choice first, then points of the front on both sides for the fit, then exchanges while runs are left.
  void judge_and_improve(std::size_t evaluations) {
    progress_.start("judging whole models", evaluations);
    Judgement best = judge(result_.allocation.choice);
    progress_.update(1);
    const std::size_t points = std::min<std::size_t>(evaluations - 1, 4);
    for (std::size_t i = 0; i < points; ++i) {
      judge(point_of_the_front(i, points));
      progress_.update(2 + i);
    }
    fit_predictions();
    exchange(evaluations - 1 - points, best);
    progress_.update(evaluations);
    result_.judged = best.summary;
  }

  /// The i-th of `count` choices of the front, evenly from its cheapest to its dearest.
  std::vector<std::size_t> point_of_the_front(std::size_t i, std::size_t count) const {
    const std::vector<FrontPoint>& points = result_.front.points;
    const std::uint64_t least = points.front().cost, most = points.back().cost;
    const std::uint64_t wanted = least + (most - least) / (count + 1) * (i + 1);
    const auto at = std::ranges::lower_bound(points, wanted, {}, &FrontPoint::cost);
    return result_.front.choice(static_cast<std::size_t>(at - points.begin()));
  }

  void fit_predictions() {
    std::vector<std::pair<double, double>> points;
    for (const JudgedChoice& judged : result_.judgements)
      if (judged.predicted > 0 && judged.measured > 0)
        points.emplace_back(std::log(judged.predicted), std::log(judged.measured));
    std::ranges::sort(points);
    if (points.size() < 3 || points.back().first - points.front().first < 0.1) return;
    const auto count = static_cast<double>(points.size());
    double x = 0, y = 0, xx = 0, xy = 0, yy = 0;
    for (const auto& [a, b] : points) {
      x += a / count;
      y += b / count;
    }
    for (const auto& [a, b] : points) {
      xx += (a - x) * (a - x);
      xy += (a - x) * (b - y);
      yy += (b - y) * (b - y);
    }
    const double slope = xy / xx;
    result_.fit = PredictionFit{slope, y - slope * x, yy > 0 ? xy * xy / (xx * yy) : 1, points.size()};
  }

  /// What summed costs may grow by: what the budget has left beside the file, which may take more than its prices.
  Exchanges exchanges() {
    const Allocation& now = result_.allocation;
    take(now.choice);
    const std::uint64_t bytes = planned_bytes(prepared_, result_.modules);
    std::optional<std::uint64_t> work_room;
    if (prepared_.multiplications) work_room = *prepared_.multiplications - prepared_.fixed_multiplications - now.work;
    return {units_, now.choice, *prepared_.budget - std::min(*prepared_.budget, bytes), work_room};
  }

  /// Tries those whose predicted change is least, and keeps what is better by two standard errors of paired windows.
  void exchange(std::size_t runs, Judgement& best) {
    bool goes_on = runs > 0;
    while (goes_on) {
      Exchanges candidates = exchanges();
      goes_on = false;
      while (runs > 0 && !goes_on) {
        const std::optional<Exchange> tried = candidates.next();
        if (!tried) return;
        std::vector<std::size_t> choice = result_.allocation.choice;
        choice[tried->up] = tried->up_option;
        choice[tried->down] = tried->down_option;
        take(choice);
        if (planned_bytes(prepared_, result_.modules) > *prepared_.budget) continue;
        --runs;
        const Judgement judgement = judge(choice);
        if (paired_change(judgement.window_kl, best.window_kl) > -2) continue;
        best = judgement;
        ++result_.swaps;
        result_.allocation.choice = std::move(choice);
        total_again();
        goes_on = true;
      }
    }
  }

  void total_again() {
    Allocation& allocation = result_.allocation;
    allocation.cost = allocation.work = 0;
    allocation.loss = 0;
    for (std::size_t u = 0; u < units_.size(); ++u) {
      const AllocationOption& option = units_[u][allocation.choice[u]];
      allocation.cost += option.cost;
      allocation.work += option.work;
      allocation.loss += option.loss;
    }
  }

  /// Predictions are corrected by what was measured until the smallest is found that keeps the limit.
  Allocation smallest_for_kl(std::size_t evaluations) {
    const double base = prepared_.base_loss, limit = *prepared_.recipe->budget->kl - base;
    if (limit <= 0)
      fail(ErrorKind::bad_recipe, "{}: the transforms alone cost a KL of {:.4g}, the limit is {}",
           prepared_.recipe->origin, base, *prepared_.recipe->budget->kl);
    if (evaluations == 0) return allocate_for_loss(units_, limit);
    double wanted = evaluations == 1 ? least_loss() : std::max(limit, least_loss());
    std::optional<Allocation> best;
    progress_.start("judging whole models", evaluations);
    for (std::size_t run = 0; run < evaluations; ++run) {
      Allocation tried = allocate_for_loss(units_, wanted);
      const std::size_t known = judgements_.size();
      const JudgedChoice judged = judge(tried.choice).summary;
      progress_.update(run + 1);
      const double measured = judged.measured - base;
      if (measured <= limit && (!best || tried.cost < best->cost)) {
        best = std::move(tried);
        result_.judged = judged;
      }
      const bool is_known = judgements_.size() == known;
      if (is_known && (best || wanted <= least_loss())) break;  // the same choice again
      wanted *= std::clamp(limit / std::max(measured, 1e-3 * limit), 0.25, 4.0);
      if (measured > limit) wanted = std::min(wanted, std::nextafter(predicted_loss(), 0.0));
      wanted = std::max(wanted, least_loss());
      if (run + 2 >= evaluations && !best) wanted = least_loss();
    }
    progress_.update(evaluations);
    if (!best)
      fail(ErrorKind::bad_recipe, "{}: no choice was measured with a KL of at most {}; the best has {:.4g}",
           prepared_.recipe->origin, limit + base,
           std::ranges::min(result_.judgements, {}, &JudgedChoice::measured).measured);
    fit_predictions();
    return *best;
  }

  /// Of the choice that was taken last, summed as the knapsack sums.
  double predicted_loss() const {
    double sum = 0;
    for (std::size_t u = 0; u < units_.size(); ++u)
      sum += units_[u][result_.modules[prepared_.units[u].front()].chosen].loss;
    return sum;
  }

  double least_loss() const {
    double sum = 0;
    for (const AllocationUnit& unit : units_) sum += std::ranges::min(unit, {}, &AllocationOption::loss).loss;
    return sum;
  }

  const PreparedAllocation& prepared_;
  SolutionStore& store_;
  Progress& progress_;
  std::vector<AllocationUnit> units_;
  std::optional<ReferenceJudge> judge_;
  std::vector<Judgement> judgements_;
  AllocationResult result_;
};

}  // namespace

double PredictionFit::expected(double predicted) const {
  return predicted > 0 ? std::exp(intercept + slope * std::log(predicted)) : 0;
}

AllocationResult allocate_modules(const PreparedAllocation& prepared, SolutionStore& store, Progress& progress) {
  return Chooser(prepared, store, progress).run();
}

bool is_better(const Recipe& recipe, const AllocationResult& result, const AllocationResult& than) {
  if (recipe.budget->kl && result.cost != than.cost) return result.cost < than.cost;
  if (result.judged && than.judged) return result.judged->measured < than.judged->measured;
  return result.allocation.loss < than.allocation.loss;
}

}  // namespace adze
