// What solvers share: checks of a problem, the importance of inputs, and the report of a finished solution.
#pragma once

#include <memory>
#include <vector>

#include "grid/quantized_tensor.h"
#include "solve/polish/polish.h"
#include "solve/solver.h"

namespace adze {

/// Throws bad_data when a weight or an entry of H's diagonal is not finite, or H is all zero.
void check_problem(const Problem& problem);

/// diag(H) as floats, scaled to mean 1; all ones without H.
std::vector<float> input_importance(const Problem& problem);

/// The stored tensor with its losses filled in; other fields of `report` are kept.
Solution finish_solution(const Problem& problem, std::size_t index, std::shared_ptr<const CompressedTensor> tensor,
                         SolveReport report);
Solution finish_solution(const Problem& problem, std::size_t index, const Encoding& encoding, SolveReport report);

/// Inputs that are always zero on the calibration set: H_jj is at most 1e-12 of the largest.
std::size_t dead_inputs(const Problem& problem);

/// The problem with targets that make up for drifted inputs as far as `strength` says (gptq/shift.h); the same problem
/// where there is no drift. `targets` owns the new weights.
Problem shifted_problem(const Problem& problem, double strength, std::vector<MatrixF>& targets, std::string& remarks);

/// Adds to a report's text, parts joined by "; ".
void add_remark(std::string& remarks, std::string_view remark);

/// `scale_rule: search | minmax` of a scheme; search is the default.
ScaleRule read_scale_rule(MapReader& options);
std::string_view name_of(ScaleRule rule);

/// `polish: SWEEPS` and `refit: true | false` of a scheme.
PolishOptions read_polish(MapReader& options, PolishOptions defaults);
std::string description_of(const PolishOptions& options);

}  // namespace adze
