#include "solve/wanda/wanda.h"

#include "solve/masks/mask_rules.h"
#include "solve/masks/masked_solver.h"

namespace adze {
namespace {

Mask choose(ConstViewF weights, const SparsityPattern& pattern, const InputKnowledge& inputs) {
  return choose_mask(wanda_scores(weights, inputs.moments), pattern, Competition::row);
}

}  // namespace

std::unique_ptr<Solver> configure_wanda(MapReader& options) {
  return make_masked_solver({"wanda", "", &choose, {}, false}, read_masked_steps(options, {}));
}

}  // namespace adze
