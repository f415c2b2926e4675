// Stage 2: layer-local regret. Every matrix of a few blocks is solved with each draw's moments and judged with others'
// (specification evaluation.md, 10.3):
//
//   1 + regret(A -> B) = tr(dW_A H_B dW_A^T) / tr(dW_B H_B dW_B^T)
//
// H_B is the judge's without the draw in question, and dW_B is solved with just that: nothing is judged by what it was
// calibrated on but the judge's own solution, so that the diagonal says what a finite draw costs. Solved with the
// original model's inputs, as a recipe's schemes say; a solver without calibration has no regret at all.
#pragma once

#include <string>
#include <vector>

#include "compare/measured_moments.h"
#include "compare/mismatch.h"
#include "pipeline/plan.h"

namespace adze {

struct MatrixRegret {
  std::string module;
  std::vector<MatrixD> log_regret;  ///< per draw [sets x (sets + texts)]
};

struct RegretStage {
  std::vector<MatrixRegret> matrices;
  Mismatch regret;  ///< log(1 + regret), mean over matrices (geometric)
};

/// plan: of the recipe for this model. Throws bad_recipe where transforms change the model or solvers pair blocks.
RegretStage compare_regret(const MeasuredMoments& moments, std::span<const ComparedSet> sets,
                           std::span<const JudgingText> texts, const CompressionPlan& plan, const ModelWeights& weights,
                           Progress& progress);

}  // namespace adze
