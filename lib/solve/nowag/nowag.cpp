#include "solve/nowag/nowag.h"

#include "solve/masks/mask_rules.h"
#include "solve/masks/masked_solver.h"

namespace adze {
namespace {

Mask choose(ConstViewF weights, const SparsityPattern& pattern, const InputKnowledge& inputs) {
  return choose_mask(nowag_scores(weights, inputs.moments), pattern, Competition::matrix);
}

}  // namespace

std::unique_ptr<Solver> configure_nowag(MapReader& options) {
  return make_masked_solver({"nowag-p", "", &choose, {}, false}, read_masked_steps(options, {}));
}

}  // namespace adze
