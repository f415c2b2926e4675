// OBR, Optimal Brain Restoration (arXiv 2509.11177; specification, section 7): pruning and quantization in one solve.
// The mask is Wanda's. What is pruned is made up for by what is kept, in closed form; then kept weights are rounded,
// and what that loses is made up for as well:
//   form rows (default)   GPTQ on H_KK of each row's kept columns, then polish (section 7.4)
//   form shared           GPTQ with the factor of the whole H, then polish: cheaper
//   form released-rtn     as published: the first half of the columns is rounded, the rest moved once to make up for
//   form released-gptq    it, and rounded to nearest, or by GPTQ
#pragma once

#include <memory>

#include "solve/solver.h"

namespace adze {

/// Options: form, mask (wanda, magnitude, nowag-p), split (0.5: of the columns that the released forms round first),
/// damp, scale_rule, polish, refit, shift. Polish and shift are on by default but in the released forms.
std::unique_ptr<Solver> configure_obr(MapReader& options);

}  // namespace adze
