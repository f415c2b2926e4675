#include "solve/gqsa/gqsa.h"

#include <array>

#include <fmt/format.h>

#include "solve/masks/mask_rules.h"
#include "solve/masks/masked_solver.h"

namespace adze {
namespace {

constexpr std::array kBalances{Named<Competition>{"matrix", Competition::matrix},
                               Named<Competition>{"row", Competition::row}};

enum class Saliency { inputs, loss };
constexpr std::array kSaliencies{Named<Saliency>{"inputs", Saliency::inputs}, Named<Saliency>{"loss", Saliency::loss}};

MatrixF scores_of(Saliency saliency, ConstViewF weights, const SparsityPattern& pattern, const InputKnowledge& inputs) {
  if (saliency == Saliency::inputs || inputs.damped.empty()) return wanda_scores(weights, inputs.moments);
  return block_scores(weights, inverse_of(inputs), pattern.block_cols());
}

}  // namespace

std::unique_ptr<Solver> configure_gqsa(MapReader& options) {
  const Competition balance = options.optional("balance").one_of<Competition>(kBalances).value_or(Competition::matrix);
  const Saliency saliency = options.optional("saliency").one_of<Saliency>(kSaliencies).value_or(Saliency::inputs);
  MaskedOptions defaults;
  defaults.restore = true;
  defaults.rounding = Rounding::rows;
  defaults.polish = {3, true};
  defaults.shift = 1;
  const std::string words = fmt::format("saliency={} balance={} ", saliency == Saliency::inputs ? "inputs" : "loss",
                                        balance == Competition::row ? "row" : "matrix");
  const auto mask = [=](ConstViewF weights, const SparsityPattern& pattern, const InputKnowledge& inputs) {
    return choose_mask(scores_of(saliency, weights, pattern, inputs), pattern, balance);
  };
  return make_masked_solver({"gqsa", words, mask}, read_masked_steps(options, defaults));
}

}  // namespace adze
