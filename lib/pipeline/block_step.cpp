#include "pipeline/block_step.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>

#include "base/error.h"

namespace adze {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

TensorPtr convert(const CompressedTensor& original, const ModulePlan& module) {
  return with_context(module.spec.module, [&]() -> TensorPtr {
    return std::make_shared<DenseTensor>(make_dense(original.decode(), *dtype_from_name(module.format)));
  });
}

std::string names_of(const std::vector<const ModulePlan*>& modules, const std::vector<std::size_t>& members) {
  std::string names;
  for (const std::size_t i : members) names += (names.empty() ? "" : ", ") + modules[i]->spec.module;
  return names;
}

}  // namespace

std::vector<TensorPtr> solve_modules(const CompressionPlan& plan, const std::vector<const ModulePlan*>& modules,
                                     const std::vector<TensorPtr>& originals, const InputStatistics* statistics,
                                     std::vector<TensorRecord>& records) {
  std::vector<TensorPtr> results = originals;
  std::map<std::size_t, std::vector<std::size_t>> by_scheme;  // members share H and scheme: one factorisation
  for (std::size_t i = 0; i < modules.size(); ++i) {
    if (modules[i]->scheme) {
      by_scheme[*modules[i]->scheme].push_back(i);
    } else if (modules[i]->format != originals[i]->format()) {
      results[i] = convert(*originals[i], *modules[i]);
    }
  }
  for (const auto& [scheme_index, members] : by_scheme) {
    const ResolvedScheme& scheme = plan.schemes[scheme_index];
    const Clock::time_point start = Clock::now();
    std::vector<MatrixF> weights;
    for (const std::size_t i : members) weights.push_back(originals[i]->decode());
    Problem problem;
    problem.weights.assign(weights.begin(), weights.end());
    problem.grid = scheme.grid;
    if (statistics != nullptr) problem.hessian = statistics->second_moment;
    const std::vector<Solution> solutions =
        with_context(names_of(modules, members), [&] { return scheme.solver->solve(problem); });
    const double seconds = seconds_since(start) / static_cast<double>(members.size());
    for (std::size_t m = 0; m < members.size(); ++m) {
      const TensorPtr& tensor = solutions[m].tensor;
      results[members[m]] = tensor;
      records.push_back(
          {modules[members[m]]->spec.module, tensor->format(), tensor->bytes(), solutions[m].report, seconds});
    }
  }
  return results;
}

BlockOutcome compress_block(const BlockJob& job, std::size_t block, const BlockWeights& original, HiddenStates& states,
                            const std::function<void()>& stage_done) {
  BlockOutcome outcome{original, {}};
  const bool compressed_inputs = job.propagate == PropagateMode::compressed;
  const bool sees_itself = compressed_inputs && job.stages == StageMode::staged;
  // Measured once, with the block's own weights untouched: the pass must not move the states that go on.
  std::optional<HiddenStates> copy;
  if (compressed_inputs && !sees_itself) copy = states.detached(job.scratch_states);
  BlockPass pass(job.forward, copy ? *copy : states);
  const BlockWeights& seen = sees_itself ? outcome.weights : original;
  for (const Stage stage : kStages) {
    std::vector<const ModulePlan*> modules;
    std::vector<TensorPtr> originals;
    for (const LinearInfo& info : linears_of(stage)) {
      modules.push_back(job.plan.find(module_name(block, info.slot)));
      originals.push_back(original[info.slot].weight);
    }
    InputStatistics statistics;
    if (std::ranges::any_of(modules, [](const ModulePlan* module) { return module->scheme.has_value(); })) {
      statistics = with_context(fmt::format("block {}, input of {}", block, name_of(stage)),
                                [&] { return pass.measure(stage, seen); });
    } else {
      pass.pass_by(stage, seen);
    }
    const std::vector<TensorPtr> solved =
        solve_modules(job.plan, modules, originals, &statistics, outcome.tensors);
    for (std::size_t i = 0; i < solved.size(); ++i) outcome.weights[linears_of(stage)[i].slot].weight = solved[i];
    stage_done();
  }
  if (copy) {
    run_block(job.forward, outcome.weights, states);
  } else {
    pass.finish(seen);
  }
  return outcome;
}

}  // namespace adze
