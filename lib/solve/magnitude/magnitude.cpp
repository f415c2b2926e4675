#include "solve/magnitude/magnitude.h"

#include "solve/masks/mask_rules.h"
#include "solve/masks/masked_solver.h"

namespace adze {
namespace {

Mask choose(ConstViewF weights, const SparsityPattern& pattern, const InputKnowledge&) {
  return choose_mask(magnitude_scores(weights), pattern, Competition::matrix);
}

}  // namespace

std::unique_ptr<Solver> configure_magnitude(MapReader& options) {
  return make_masked_solver({"magnitude", "", &choose, {}, false, false}, read_masked_steps(options, {}));
}

}  // namespace adze
