// Greedy elimination of one row's weights, exactly as Optimal Brain Surgeon has it (the pruning part of OBQ,
// specification 3.2 to 3.5): with M = H_d^-1 over the columns that are left, the column of least w_j^2 / M_jj goes, the
// others make up for it, w -= (w_j / M_jj) M_j, and M -= M_j^T M_j / M_jj. What remains is an order and losses: whoever
// wants the weights of a prefix solves them once by least squares, which gives the same (specification 3.2).
//
// One row of n columns takes n^3 / 6 multiply-adds at most, nearly all in one BLAS routine: M is downdated 64 removals
// at a time and holds only columns that may still go; diagonal and weights alone are up to date after each. All of it
// is in double, for a downdate subtracts numbers that can be 1 / damping times larger than what is left. Single
// precision would be 1.6 times faster; on rows of 512 correlated columns (damping 1e-4) it gave the losses of the first
// half to 2e-8, but those of the whole row only to 5e-5, and swapped places in the order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/matrix.h"

namespace adze {

/// What goes, first to last.
struct Elimination {
  std::vector<std::uint32_t> order;  ///< columns, or groups of them (group g: columns g * group_cols and on)
  std::vector<double> loss;          ///< what the k-th removal adds to d H_d d^T; their sum is the loss of them all
};

struct EliminationRule {
  std::size_t group_cols = 1;  ///< columns that go together; 1 .. 64, divides the number of columns
  /// n of every m neighbours stay: a column may not go once m - n of its m have. m = 0: no such rule. It needs
  /// group_cols = 1, 0 < n < m, and m divides the number of columns.
  std::size_t n = 0;
  std::size_t m = 0;
  std::size_t most = 0;  ///< removals (of groups); 0: until nothing may go
};

/// What a row needs while it is worked on. Kept by a thread from row to row: rows of the same length and rule then
/// allocate nothing but their result. Holds nothing that one row leaves to the next.
struct EliminationScratch {
  /// Bytes for rows of `cols` columns; for the memory plan.
  static std::uint64_t bytes(std::size_t cols, std::size_t group_cols);

  /// Room for rows of `cols` columns.
  void resize(std::size_t cols, std::size_t group_cols);

  // Columns lie at positions, which change as others go; a group lies at neighbouring ones, in order.
  MatrixD stored;                       ///< M without the pending downdates, lower triangle, [cols x stride]
  MatrixD pending;                      ///< downdates v not yet taken off: M = stored - sum v^T v, [kPending x stride]
  MatrixD blocks;                       ///< per position its row of M's diagonal block, up to date, [cols x group_cols]
  std::vector<double> weights;          ///< w, up to date
  std::vector<double> floor;            ///< the least that a diagonal entry is taken for
  std::vector<double> bar;              ///< 0: may go; infinity: gone, or must stay
  std::vector<std::uint32_t> column;    ///< by position
  std::vector<std::uint32_t> position;  ///< by column
  std::vector<std::uint32_t> zeros;     ///< by column / m: columns gone
  std::vector<double> coefficients;     ///< of the pending downdates, kPending
  struct Move {
    std::size_t from, to;  ///< positions
  };
  std::vector<Move> moves;

  static constexpr std::size_t kPending = 64;  ///< downdates that wait; at least the columns of a group
};

/// inverse: H_d^-1 [n x n], shared by all rows. weights: the row, n entries, finite. Ties go to the first column. A
/// diagonal entry of M below 1e-12 of its start is noise and counts as that, so that nothing overflows.
Elimination eliminate(ConstViewD inverse, std::span<const float> weights, const EliminationRule& rule,
                      EliminationScratch& scratch);

}  // namespace adze
