// GPTQ (Frantar et al. 2022) in its feedback form: columns are rounded one after the other, and each rounding takes the
// errors made so far into account, weighted by the reverse Cholesky factor of the damped H (specification, section 2).
// The same recursion is Babai's nearest-plane method and LDLQ.
#pragma once

#include <memory>

#include "solve/polish/polish.h"
#include "solve/solver.h"

namespace adze {

/// Which column is rounded first.
enum class ColumnOrder {
  natural,     ///< as stored
  activation,  ///< largest H_jj first ("act-order"); needs scales that are fixed before
  group,       ///< whole scale units by their largest H_jj, inside a unit by H_jj: groups stay contiguous
};

struct GptqOptions {
  double damp = 0.01;  ///< added to diag(H), as a fraction of its mean
  ColumnOrder order =
      ColumnOrder::group;      ///< mean KL on the demo model, Q4_K: 0.00224 against 0.00238 in natural order
  bool static_scales = false;  ///< fix all scales from the original weights, before the first rounding
  ScaleRule scale_rule = ScaleRule::search;
  PolishOptions polish = {3, true};  ///< after the last column
  double shift = 1;  ///< how far the target makes up for drifted inputs (solve/gptq/shift.h): 0 not, 1 fully
};

std::unique_ptr<Solver> make_gptq(const GptqOptions& options);

/// Options: damp, order (natural, activation, group), static_scales, scale_rule (search, minmax), polish, refit,
/// shift.
std::unique_ptr<Solver> configure_gptq(MapReader& options);

}  // namespace adze
