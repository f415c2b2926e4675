// Solvers: given weights, the second moment H of their input and a grid, find the stored tensor of least proxy loss.
//
// Life cycle: the registry row's configure() reads the scheme's options once and gives an immutable Solver. solve() is
// called once per group of tensors that share an input (a stage) and a grid, from one thread, and uses all threads
// itself; it must not keep anything between calls. Rows are independent given H, so results depend on neither the
// number of threads nor on how rows are cut.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/matrix.h"
#include "grid/compressed_tensor.h"
#include "grid/grid.h"
#include "grid/sparse/pattern.h"
#include "recipe/reader.h"

namespace adze {

/// What a solve did, for the report; nothing that a reader should know is left out.
struct SolveReport {
  double loss = 0;              ///< J(What) with the undamped H, against the target: W, or W shifted (gptq/shift.h)
  double relative_loss = 0;     ///< J / tr(W H W^T), W the target
  double damping = 0;           ///< used, as a fraction of mean(diag H)
  std::size_t dead_inputs = 0;  ///< inputs that are always zero on the calibration set
  std::string fallback;         ///< what was done instead of what was asked, and why; empty: nothing
};

struct Solution {
  std::shared_ptr<const CompressedTensor> tensor;
  SolveReport report;
};

/// How a matrix shares a factor with that of the neighbouring block.
struct BlockSharing {
  bool paired = false;
  std::string owner;  ///< module of the neighbour that stores the shared factor; empty: this one does
};

/// The same matrices of the neighbouring block, for solvers that pair blocks.
struct Partner {
  std::vector<ConstViewF> weights;    ///< of the shapes of Problem::weights
  ConstViewD hessian;                 ///< of its own inputs
  std::vector<BlockSharing> sharing;  ///< of each matrix of the problem
};

struct Problem {
  std::vector<ConstViewF> weights;   ///< [out x in] each, the same `in`
  ConstViewD hessian;                ///< [in x in], symmetric PSD, not damped; empty shape: the identity
  std::shared_ptr<const Grid> grid;  ///< of floats (grid/float_grid.h) where a scheme only prunes
  /// What is to be zero; nothing: weights are quantized only.
  std::optional<SparsityPattern> pattern = {};
  /// How far the inputs x have drifted from those of the original model, x_reference: sum (x_reference - x) x^T,
  /// [in x in]; empty: not measured.
  ConstViewF cross = {};
  /// The same for the states s that the outputs will be added to: sum (s_reference - s) x^T, [out x in] for each
  /// tensor; empty: the outputs are not added to the states.
  std::vector<ConstViewF> residual = {};
  /// How the outputs are read (calibrate/readers.h): an error e of a token's outputs weighs e^T M e, M [out x out] for
  /// each tensor; an empty shape: not known; empty: of none.
  std::vector<ConstViewD> readers = {};
  const Partner* partner = nullptr;  ///< nullptr: there is none

  std::size_t inputs() const { return weights.front().cols(); }
  bool has_hessian() const { return hessian.rows() > 0; }
};

/// What one matrix of a scheme is to become, as far as it is known before it is solved.
struct Target {
  Shape shape;
  const Grid& grid;  ///< as in Problem
  const SparsityPattern* pattern = nullptr;
  BlockSharing sharing = {};
};

/// Bytes that a solver holds beside problem, codes and results; for the memory plan.
struct SolverScratch {
  std::uint64_t factoring = 0;  ///< before the first tensor, while it prepares H
  std::uint64_t solving = 0;    ///< while it solves a tensor
};

struct ProblemSize {
  std::size_t inputs = 0;
  std::uint64_t weights = 0;  ///< of all tensors
  std::uint64_t largest = 0;  ///< weights of the largest tensor
  bool has_hessian = false;
  bool has_cross = false;
};

class Solver {
 public:
  virtual ~Solver() = default;
  /// Every option with its value, in a fixed order: part of what makes two runs the same run.
  virtual std::string description() const = 0;
  /// True when solve() makes use of Problem::cross and Problem::residual.
  virtual bool wants_reference() const { return false; }
  /// True when solve() makes use of Problem::readers.
  virtual bool wants_readers() const { return false; }
  /// True when solve() makes use of Problem::partner, which is known where statistics are given beforehand.
  virtual bool pairs_blocks() const { return false; }
  /// False when solve() does all it can do without H: then inputs are merely weighed equally.
  virtual bool needs_inputs() const { return true; }
  /// CompressedTensor::format() of what solve() makes; it, and so the bytes, depend on the target alone. Codes of the
  /// grid, with a mask where there is a pattern, unless a solver says otherwise.
  virtual std::string format(const Target& target) const;
  /// Nothing when it can be made, else the reason and the nearest choice that can.
  virtual std::optional<std::string> cannot_make(const Target& target) const;
  /// What a user should know of a matrix beside its format; empty: nothing.
  virtual std::string remark(const Target&) const { return ""; }
  /// True when rows depend on each other, so that matrices are not given in slices of rows.
  virtual bool couples_rows() const { return false; }
  /// True when a stored row is read without the others, as an embedding table's rows are.
  virtual bool stores_rows_apart() const { return !couples_rows(); }
  virtual SolverScratch scratch(const ProblemSize& size) const = 0;
  /// Floating-point operations beyond a few products of W and H, where a solver takes many: the pre-flight warns.
  virtual double extra_operations(const ProblemSize&) const { return 0; }
  /// One solution per entry of problem.weights. Throws bad_data for non-finite weights or H.
  virtual std::vector<Solution> solve(const Problem& problem) const = 0;
};

/// Sparsity patterns that a solver makes, as bits, one per PatternKind.
using PatternSet = unsigned;
constexpr PatternSet pattern_bit(PatternKind kind) { return 1u << static_cast<unsigned>(kind); }
constexpr PatternSet kAnyPattern = 15;

struct SolverInfo {
  std::string_view name;
  std::string_view summary;
  PatternSet patterns = 0;     ///< none: a scheme with this solver must not have a sparsity
  bool needs_pattern = false;  ///< else a grid alone will do, which such a scheme needs then
  bool factors = false;        ///< it stores factors, alone or beside codes
  bool grid_optional = false;  ///< a scheme without a grid stores floats
  /// Reads the options it knows from a scheme's map; problems go to the map's Diagnostics.
  std::unique_ptr<Solver> (*configure)(MapReader& options);
};

std::span<const SolverInfo> solvers();
/// nullptr when there is none of that name.
const SolverInfo* find_solver(std::string_view name);

}  // namespace adze
