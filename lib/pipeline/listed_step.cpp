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

class ListedBlock {
 public:
  ListedBlock(const Recipe& recipe, const CompressionPlan& plan, std::size_t block, const BlockWeights& original,
              SolutionStore* store)
      : recipe_(recipe),
        plan_(plan),
        original_(original),
        store_(store),
        specs_(tensors_of_block(plan.architecture, block)),
        outcome_{original, {}} {}

  BlockOutcome run(bool from_weights) {
    std::vector<std::optional<std::size_t>> feeders(specs_.size());
    if (from_weights) feeders = feeders_of(specs_);
    for (const bool is_fed : {false, true})  // what feeds others comes before them
      for (std::size_t i = 0; i < specs_.size(); ++i)
        if (specs_[i].is_matrix() && feeders[i].has_value() == is_fed) solve(i, feeders[i]);
    return std::move(outcome_);
  }

 private:
  void solve(std::size_t i, std::optional<std::size_t> feeder) {
    const ModulePlan& module = *plan_.find(specs_[i].module);
    FedInputs inputs;
    if (module.scheme && feeder) {
      const bool drift = has_option(recipe_.schemes[*module.scheme], "shift");
      inputs = inputs_from(*original_.listed[*feeder].tensor, *outcome_.weights.listed[*feeder].tensor, drift);
    }
    const Moments moments{inputs.second_moment, inputs.cross, {}};
    outcome_.weights.listed[i].tensor =
        solve_modules(plan_, {&module}, {original_.listed[i].tensor}, moments, outcome_.tensors, store_).front();
  }

  const Recipe& recipe_;
  const CompressionPlan& plan_;
  const BlockWeights& original_;
  SolutionStore* store_;
  std::vector<TensorSpec> specs_;
  BlockOutcome outcome_;
};

}  // namespace

BlockOutcome compress_listed(const Recipe& recipe, const CompressionPlan& plan, std::size_t block,
                             const BlockWeights& original, bool from_weights, SolutionStore* store) {
  return ListedBlock(recipe, plan, block, original, store).run(from_weights);
}

}  // namespace adze
