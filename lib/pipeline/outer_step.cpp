#include "pipeline/outer_step.h"

#include <utility>

namespace adze {

bool solves_head(const CompressionPlan& plan, const Architecture& architecture) {
  return plan.find(architecture.tied ? "embed_tokens" : "lm_head")->scheme.has_value();
}

OuterOutcome compress_outer(const CompressionPlan& plan, const ModelWeights& model, ConstViewD head_moment,
                            SolutionStore* store) {
  const bool tied = model.architecture().tied;
  const Moments of_head{head_moment, {}, {}, {}};
  OuterOutcome outcome;
  outcome.made.norm = norm_of(model);
  const auto solve = [&](std::string_view module, TensorPtr original, const Moments& moments) {
    std::vector<TensorPtr> originals;
    originals.push_back(std::move(original));  // the last reference: it goes once it is decoded
    return solve_modules(plan, {plan.find(module)}, std::move(originals), moments, outcome.tensors, store).front();
  };
  outcome.made.embedding = solve("embed_tokens", model.embedding(), tied ? of_head : Moments());
  if (TensorPtr positions = model.positions())
    outcome.made.positions = solve(kPositionsModule, std::move(positions), Moments());
  if (!tied) outcome.made.head = solve("lm_head", model.head(), of_head);
  return outcome;
}

}  // namespace adze
