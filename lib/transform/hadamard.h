// Randomised Hadamard rotations: x -> x Q with Q = diag(signs) H / sqrt(n), H a Hadamard matrix of order n and random
// signs. Q is orthogonal, spreads any one large value over all n places, and costs O(n log n) for a vector.
//
// H = C (x) W: W the Walsh matrix of order 2^k, C the core, a Hadamard matrix of order 1, 12, 20, 28, 36 or 60 made by
// Paley's constructions. Refuses other lengths: they have no such matrix, or none that is known here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/matrix.h"

namespace adze {

/// Whether vectors of length n can be rotated.
bool has_hadamard(std::size_t n);
/// The lengths that can be, for messages: "a power of two, or 12, 20, 28, 36 or 60 times one".
std::string hadamard_lengths();

/// The core of that order, entries +1 and -1, C C^T = order I. Throws internal for an order that is none.
MatrixD hadamard_core(std::size_t order);

/// One rotation, fixed by its length and (seed, name). Immutable: share it among threads.
///
/// All arithmetic is in double. Every element is the same sums in the same order however the vectors lie in memory, so
/// results do not depend on the layout or on threads.
class RandomHadamard {
 public:
  /// Signs come from RandomStream(seed, name). Throws bad_recipe when has_hadamard(n) is false.
  RandomHadamard(std::size_t n, std::uint64_t seed, std::string_view name);

  std::size_t size() const { return scaled_signs_.size(); }

  /// `values` is a stack of row-major matrices A of [n x width]; each becomes Q^T A. With width 1 that is x -> x Q for
  /// each n values. Throws internal when values.size() is no multiple of n * width.
  void apply(std::span<double> values, std::size_t width = 1) const;
  /// The inverse: A -> Q A, or x -> x Q^T.
  void apply_transposed(std::span<double> values, std::size_t width = 1) const;

  /// rows: [any x n, or a multiple of it]; each n consecutive values x of a row become x Q, in parallel over rows.
  /// Floats are rounded once, at the end. Throws internal when the columns are no multiple of n.
  void rotate_rows(ViewF rows) const;
  void rotate_rows(ViewD rows) const;
  /// The inverse: x -> x Q^T.
  void rotate_rows_back(ViewF rows) const;
  void rotate_rows_back(ViewD rows) const;

 private:
  void check_stack(std::size_t count, std::size_t width) const;
  void scale(double* matrix, std::size_t width) const;
  void multiply_by_hadamard(double* matrix, std::size_t width, bool transposed) const;
  void multiply_by_core(double* matrix, std::size_t width, bool transposed) const;

  std::vector<double> scaled_signs_;  ///< [n], +-1 / sqrt(n)
  MatrixD core_;                      ///< [m x m]; n / m is a power of two
};

}  // namespace adze
