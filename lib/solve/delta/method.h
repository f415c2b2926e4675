// Ways to store a delta D: signs and dropped entries (solve/delta/delta.h), or any solver with D as its weights. Each
// says the format, so the bytes, before it sees weights, and returns stored tensors with their losses.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grid/delta/sign_tensor.h"
#include "solve/solver.h"

namespace adze {

/// Deltas that share an input, as Problem.
struct DeltaProblem {
  std::vector<std::string> modules;  ///< of each, "layers.0.mlp.up_proj"
  std::vector<ConstViewF> deltas;    ///< [out x in] each
  ConstViewD hessian;                ///< [in x in]; empty shape: the identity
};

class DeltaMethod {
 public:
  virtual ~DeltaMethod() = default;
  /// Every option with its value, in a fixed order.
  virtual std::string description() const = 0;
  virtual std::string format(const std::string& module, Shape shape) const = 0;
  /// Nothing when a matrix of that shape can be stored, else the reason and the nearest choice that can.
  virtual std::optional<std::string> cannot_make(Shape) const { return std::nullopt; }
  /// With which probability entries are dropped at random; 0 where none are.
  virtual double drop_probability() const { return 0; }
  /// One solution per delta; relative losses are of tr(D H D^T).
  virtual std::vector<Solution> solve(const DeltaProblem& problem) const = 0;
};

/// best: scales of least loss, else the mean of |D|.
std::unique_ptr<DeltaMethod> sign_delta_method(SignScope scope, bool best);
/// Masks are named by modules. best: the factor of least loss, else 1 / (1 - p). Throws bad_recipe for a probability or
/// seed that DropMask does not take.
std::unique_ptr<DeltaMethod> drop_delta_method(double probability, std::uint64_t seed, bool best);
/// grid: the solver's, of floats where it needs none.
std::unique_ptr<DeltaMethod> solver_delta_method(std::shared_ptr<const Solver> solver,
                                                 std::shared_ptr<const Grid> grid);

}  // namespace adze
