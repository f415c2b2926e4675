#include "compare/regret_stage.h"

#include <cmath>
#include <map>

#include "base/error.h"
#include "metrics/proxy_loss.h"
#include "pipeline/block_step.h"

namespace adze {
namespace {

/// Solved matrices of one stage, by what they were calibrated on.
using Solved = std::vector<TensorPtr>;

class StageRegret {
 public:
  StageRegret(const MeasuredMoments& moments, const CompressionPlan& plan, const BlockWeights& original,
              InputPlace place, Stage stage)
      : moments_(moments), plan_(plan), original_(original), place_(std::move(place)), stage_(stage) {}

  /// One entry per matrix that a scheme solves.
  std::vector<MatrixRegret> run() {
    const std::size_t sets = moments_.sets(), draws = moments_.draws();
    for (const LinearInfo& info : linears_of(plan_.architecture, stage_))
      if (plan_.find(module_name(place_.part, info))->scheme) slots_.push_back(info.slot);
    if (slots_.empty()) return {};
    for (const LinearSlot slot : slots_) weights_.push_back(original_[slot].weight->decode());
    std::vector<Solved> by_draw;
    for (std::size_t s = 0; s < sets; ++s)
      for (std::size_t r = 0; r < draws; ++r) by_draw.push_back(solve(moments_.draw(place_, s, r)));
    std::vector<MatrixRegret> regrets;
    for (const LinearSlot slot : slots_)
      regrets.push_back(
          {module_name(plan_.architecture, place_.part, slot), std::vector<MatrixD>(draws, MatrixD(sets, judges()))});
    for (std::size_t r = 0; r < draws; ++r)
      for (std::size_t j = 0; j < judges(); ++j) judge(r, j, by_draw, regrets);
    return regrets;
  }

 private:
  std::size_t judges() const { return moments_.sets() + moments_.texts(); }

  Solved solve(const InputStatistics& inputs) const {
    BlockOutcome outcome{original_, {}};
    Moments moments;
    moments.hessian = inputs.second_moment.view();
    solve_stage(plan_, place_.part, stage_, original_, inputs, moments, outcome);
    Solved solved;
    for (const LinearSlot slot : slots_) solved.push_back(outcome.weights[slot].weight);
    return solved;
  }

  void judge(std::size_t draw, std::size_t judge, const std::vector<Solved>& by_draw,
             std::vector<MatrixRegret>& regrets) const {
    const std::size_t sets = moments_.sets();
    const InputStatistics inputs =
        judge < sets ? moments_.held_out(place_, judge, draw) : moments_.text(place_, judge - sets);
    const Solved own = solve(inputs);
    for (std::size_t m = 0; m < slots_.size(); ++m) {
      const double least = loss(m, *own[m], inputs);
      for (std::size_t s = 0; s < sets; ++s) {
        const double lost = loss(m, *by_draw[s * moments_.draws() + draw][m], inputs);
        // Nothing lost on either side is no regret: floats, or a matrix of zeros.
        regrets[m].log_regret[draw](s, judge) = lost == least ? 0 : std::log(lost / least);
      }
    }
  }

  double loss(std::size_t matrix, const CompressedTensor& solved, const InputStatistics& inputs) const {
    return proxy_loss(weights_[matrix], solved.decode(), inputs.second_moment);
  }

  const MeasuredMoments& moments_;
  const CompressionPlan& plan_;
  const BlockWeights& original_;
  InputPlace place_;
  Stage stage_;
  std::vector<LinearSlot> slots_;
  std::vector<MatrixF> weights_;
};

}  // namespace

RegretStage compare_regret(const MeasuredMoments& moments, std::span<const ComparedSet> sets,
                           std::span<const JudgingText> texts, const CompressionPlan& plan, const ModelWeights& weights,
                           Progress& progress) {
  if (!plan.transforms.empty())
    fail(ErrorKind::bad_recipe,
         "the recipe transforms the model, whose inputs are others then: compare layer by layer "
         "with a recipe without `transform`, or leave stage 2 out");
  if (const ResolvedScheme* pairing = plan.pairing_scheme())
    fail(ErrorKind::bad_recipe, "the solver of scheme '{}' pairs blocks, which this comparison does not",
         pairing->name);
  const std::vector<InputPlace> places = moments.inputs();
  std::map<std::string, Stage> stages;
  for (const Stage stage : stages_of(plan.architecture)) stages.emplace(name_of(stage), stage);
  RegretStage result;
  progress.start("comparing layers", places.size());
  std::optional<std::size_t> loaded;
  BlockWeights original;
  for (std::size_t p = 0; p < places.size(); ++p) {
    const auto stage = stages.find(places[p].input);
    if (stage == stages.end()) continue;  // the head
    if (loaded != places[p].part) original = weights.block(places[p].part);
    loaded = places[p].part;
    for (MatrixRegret& regret : StageRegret(moments, plan, original, places[p], stage->second).run())
      result.matrices.push_back(std::move(regret));
    progress.update(p + 1);
  }
  if (result.matrices.empty()) fail(ErrorKind::bad_recipe, "the recipe solves no matrix of the blocks compared");
  for (const ComparedSet& set : sets) result.regret.sources.push_back(set.name);
  result.regret.judges = result.regret.sources;
  for (const JudgingText& text : texts) result.regret.judges.push_back("text " + text.name);
  for (std::size_t r = 0; r < moments.draws(); ++r) {
    MatrixD sum(result.regret.sources.size(), result.regret.judges.size());
    for (const MatrixRegret& matrix : result.matrices)
      for (std::size_t i = 0; i < sum.values().size(); ++i)
        sum.values()[i] += matrix.log_regret[r].values()[i] / static_cast<double>(result.matrices.size());
    result.regret.draws.push_back(std::move(sum));
  }
  return result;
}

}  // namespace adze
