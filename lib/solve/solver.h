// Solvers: given weights, the second moment H of their input and a grid, find the stored tensor of least proxy loss.
//
// Life cycle: the registry row's configure() reads the scheme's options once and gives an immutable Solver. solve() is
// called once per group of tensors that share an input (a stage) and a grid, from one thread, and uses all threads
// itself; it must not keep anything between calls. Rows are independent given H, so results depend on neither the
// number of threads nor on how rows are cut.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/matrix.h"
#include "grid/compressed_tensor.h"
#include "grid/grid.h"
#include "recipe/reader.h"

namespace adze {

/// What a solve did, for the report; nothing that a reader should know is left out.
struct SolveReport {
  double loss = 0;              ///< J(What) with the undamped H
  double relative_loss = 0;     ///< J / tr(W H W^T)
  double damping = 0;           ///< used, as a fraction of mean(diag H)
  std::size_t dead_inputs = 0;  ///< inputs that are always zero on the calibration set
  std::string fallback;         ///< what was done instead of what was asked, and why; empty: nothing
};

struct Solution {
  std::shared_ptr<const CompressedTensor> tensor;
  SolveReport report;
};

struct Problem {
  std::vector<ConstViewF> weights;  ///< [out x in] each, the same `in`
  ConstViewD hessian;               ///< [in x in], symmetric PSD, not damped; empty shape: the identity
  std::shared_ptr<const Grid> grid;

  std::size_t inputs() const { return weights.front().cols(); }
  bool has_hessian() const { return hessian.rows() > 0; }
};

class Solver {
 public:
  virtual ~Solver() = default;
  /// Every option with its value, in a fixed order: part of what makes two runs the same run.
  virtual std::string description() const = 0;
  /// One solution per entry of problem.weights. Throws bad_data for non-finite weights or H.
  virtual std::vector<Solution> solve(const Problem& problem) const = 0;
};

struct SolverInfo {
  std::string_view name;
  std::string_view summary;
  /// Reads the options it knows from a scheme's map; problems go to the map's Diagnostics.
  std::unique_ptr<Solver> (*configure)(MapReader& options);
};

std::span<const SolverInfo> solvers();
/// nullptr when there is none of that name.
const SolverInfo* find_solver(std::string_view name);

}  // namespace adze
