#include "pipeline/listed_step.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "linalg/gemm.h"
#include "model/listing.h"

namespace adze {
namespace {

MatrixD decoded(const CompressedTensor& tensor) {
  const MatrixF single = tensor.decode();
  MatrixD values(single.shape());
  std::ranges::copy(single.values(), values.values().begin());
  return values;
}

/// What is known of the inputs of a matrix; empty: nothing.
struct FedInputs {
  MatrixD second_moment;  ///< [in x in]
  MatrixF cross;          ///< [in x in]; empty: they have not drifted, or nobody asks
};

/// before, now: the matrix whose outputs they are, [in x ...], as it was and as it is. Inputs of its own are white.
FedInputs inputs_from(const CompressedTensor& before, const CompressedTensor& now, bool drift) {
  const MatrixD seen = decoded(now);
  FedInputs inputs{gram(seen), {}};
  if (!drift || &before == &now) return inputs;
  MatrixD away = decoded(before);
  for (std::size_t i = 0; i < away.values().size(); ++i) away.values()[i] -= seen.values()[i];
  const MatrixD cross = product_nt(away, seen);
  inputs.cross = MatrixF(cross.shape());
  std::ranges::transform(cross.values(), inputs.cross.values().begin(), [](double v) { return static_cast<float>(v); });
  return inputs;
}

/// White: what is known of inputs of which nothing is known. For solvers that would else say that they lack them.
FedInputs white_inputs(std::size_t inputs) {
  FedInputs white{MatrixD(inputs, inputs), {}};
  for (std::size_t j = 0; j < inputs; ++j) white.second_moment(j, j) = 1;
  return white;
}

class ListedBlock {
 public:
  ListedBlock(const Recipe& recipe, const CompressionPlan& plan, std::size_t block, const BlockWeights& original,
              bool from_weights, SolutionStore* store)
      : recipe_(recipe),
        plan_(plan),
        original_(original),
        from_weights_(from_weights),
        store_(store),
        specs_(tensors_of_block(plan.architecture, block)),
        outcome_{original, {}} {}

  BlockOutcome run() {
    std::vector<std::optional<std::size_t>> feeders(specs_.size());
    if (from_weights_) feeders = feeders_of(specs_);
    for (const bool is_fed : {false, true})  // what feeds others comes before them
      for (std::size_t i = 0; i < specs_.size(); ++i)
        if (specs_[i].is_matrix() && feeders[i].has_value() == is_fed) solve(i, feeders[i]);
    return std::move(outcome_);
  }

 private:
  void solve(std::size_t i, std::optional<std::size_t> feeder) {
    const ModulePlan& module = *plan_.find(specs_[i].module);
    const FedInputs inputs = module.scheme && from_weights_ ? inputs_of(module, feeder) : FedInputs();
    const Moments moments{inputs.second_moment, inputs.cross, {}};
    outcome_.weights.listed[i].tensor =
        solve_modules(plan_, {&module}, {original_.listed[i].tensor}, moments, outcome_.tensors, store_).front();
  }

  FedInputs inputs_of(const ModulePlan& module, std::optional<std::size_t> feeder) const {
    if (!feeder) {
      const bool needed = plan_.schemes[*module.scheme].solver->needs_inputs();
      return needed ? white_inputs(static_cast<std::size_t>(module.spec.shape[1])) : FedInputs();
    }
    const bool drift = has_option(recipe_.schemes[*module.scheme], "shift");
    return inputs_from(*original_.listed[*feeder].tensor, *outcome_.weights.listed[*feeder].tensor, drift);
  }

  const Recipe& recipe_;
  const CompressionPlan& plan_;
  const BlockWeights& original_;
  bool from_weights_;
  SolutionStore* store_;
  std::vector<TensorSpec> specs_;
  BlockOutcome outcome_;
};

}  // namespace

BlockOutcome compress_listed(const Recipe& recipe, const CompressionPlan& plan, std::size_t block,
                             const BlockWeights& original, bool from_weights, SolutionStore* store) {
  return ListedBlock(recipe, plan, block, original, from_weights, store).run();
}

}  // namespace adze
