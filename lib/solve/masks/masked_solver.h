// What solvers that prune have in common, whatever chooses their mask:
//   targets (shifted) -> mask -> kept weights restored -> rounded -> polished
// A solver of this family says how the mask is chosen and which of the steps it takes; its folder holds no more than
// that and what is its own.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "solve/gptq/factor.h"
#include "solve/polish/polish.h"
#include "solve/solver.h"

namespace adze {

/// How the weights that are left become codes.
enum class Rounding {
  nearest,  ///< to the nearest value
  shared,   ///< GPTQ with the mask: one factor of H for all rows (solve/gptq/feedback.h)
  rows,     ///< GPTQ with a factor for each row's kept columns (solve/rows)
};

struct MaskedOptions {
  double damp = 0.01;    ///< added to diag(H), as a fraction of its mean
  double shift = 0;      ///< how far targets make up for drifted inputs (solve/gptq/shift.h)
  bool restore = false;  ///< kept weights make up for pruned ones before rounding (solve/restore)
  Rounding rounding = Rounding::nearest;
  ScaleRule scale_rule = ScaleRule::search;
  PolishOptions polish = {};
};

/// What is known of the inputs; made once for all tensors of a problem.
struct InputKnowledge {
  GptqFactor factor;           ///< in natural order; R is empty without H
  MatrixF damped;              ///< H as solvers use it (solve/gptq/factor.h); empty without H
  std::vector<float> moments;  ///< diag(H), scaled to mean 1
};

/// H_d^-1 in double, [in x in]. inputs.damped must not be empty.
MatrixD inverse_of(const InputKnowledge& inputs);

/// Chooses the mask of one tensor. weights: the targets, [out x in].
using MaskMaker = std::function<Mask(ConstViewF weights, const SparsityPattern& pattern, const InputKnowledge& inputs)>;

/// Makes codes, and the mask too where the method has no MaskMaker, in a way of its own; false asks for plain rounding
/// instead. Called only where there is an H.
using ValueMaker = std::function<bool(ConstViewF weights, const std::optional<SparsityPattern>& pattern,
                                      const InputKnowledge& inputs, Encoding& encoding)>;

struct MaskedMethod {
  std::string name;
  std::string options;       ///< the method's own, as in Solver::description; empty or ending in a space
  MaskMaker mask = {};       ///< empty: `values` makes the mask; without H it is that of magnitude
  ValueMaker values = {};    ///< empty: kept weights are restored and rounded as the options say
  bool second_order = true;  ///< false: the mask needs diag(H) at most
  bool weighs_input = true;  ///< false: the mask needs not even that
  std::function<double(const ProblemSize&)> extra_operations = {};  ///< as in Solver
  /// Bytes while mask and values are made, beside what the steps take; for the memory plan.
  std::function<std::uint64_t(const ProblemSize&)> extra_scratch = {};
};

std::unique_ptr<Solver> make_masked_solver(MaskedMethod method, const MaskedOptions& options);

/// `damp`, `scale_rule`, `polish`, `refit`, `shift` of a scheme.
MaskedOptions read_masked_options(MapReader& options, MaskedOptions defaults);
/// These, and `restore` and `rounding`: for methods without a ValueMaker.
MaskedOptions read_masked_steps(MapReader& options, MaskedOptions defaults);

/// GPTQ with the encoding's mask, side data fitted as units are reached where grid and pattern allow that. With
/// `chooses` the mask is chosen on the way (enumerate: solve/gptq/mask_choice.h). False when feedback overflowed.
bool round_shared(ConstViewF weights, const InputKnowledge& inputs, ScaleRule rule, Encoding& encoding,
                  std::optional<SparsityPattern> chooses = std::nullopt, bool enumerate = true);
/// The same with a factor for each row (solve/rows).
bool round_by_rows(ConstViewF weights, const InputKnowledge& inputs, ScaleRule rule, Encoding& encoding);

}  // namespace adze
