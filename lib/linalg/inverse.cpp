#include "linalg/inverse.h"

#include <lapacke.h>

#include <vector>

#include "base/error.h"
#include "linalg/gemm.h"

namespace adze {

// LAPACK's column-major upper triangle is the row-major lower one.
bool cholesky(MatrixD& h) {
  assert(h.rows() == h.cols());
  use_single_threaded_blas();
  const auto n = static_cast<lapack_int>(h.rows());
  return LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', n, h.data(), n) == 0;
}

bool invert(MatrixD& h) {
  if (!cholesky(h)) return false;
  const auto n = static_cast<lapack_int>(h.rows());
  if (LAPACKE_dpotri_work(LAPACK_COL_MAJOR, 'U', n, h.data(), n) != 0) return false;
  for (std::size_t r = 0; r < h.rows(); ++r)
    for (std::size_t c = r + 1; c < h.cols(); ++c) h(r, c) = h(c, r);
  return true;
}

bool solve_right(MatrixD& h, MatrixD& y) {
  assert(y.cols() == h.rows());
  if (!cholesky(h)) return false;
  const auto n = static_cast<lapack_int>(h.rows());
  // Rows of y are LAPACK's right-hand sides, and H is symmetric: Y H^-1 = (H^-1 Y^T)^T.
  return y.rows() == 0 || LAPACKE_dpotrs_work(LAPACK_COL_MAJOR, 'U', n, static_cast<lapack_int>(y.rows()), h.data(), n,
                                              y.data(), n) == 0;
}

bool solve_general(MatrixD& a, MatrixD& y) {
  assert(a.rows() == a.cols() && y.cols() == a.rows());
  use_single_threaded_blas();
  const auto n = static_cast<lapack_int>(a.rows());
  std::vector<lapack_int> pivots(a.rows());
  if (a.rows() == 0) return true;
  if (LAPACKE_dgetrf_work(LAPACK_COL_MAJOR, n, n, a.data(), n, pivots.data()) != 0) return false;
  // Column-major, what was factored is A^T.
  return y.rows() == 0 || LAPACKE_dgetrs_work(LAPACK_COL_MAJOR, 'T', n, static_cast<lapack_int>(y.rows()), a.data(), n,
                                              pivots.data(), y.data(), n) == 0;
}

void invert_upper(MatrixD& r) {
  assert(r.rows() == r.cols());
  use_single_threaded_blas();
  const auto n = static_cast<lapack_int>(r.rows());
  // Row-major upper is column-major lower.
  if (LAPACKE_dtrtri_work(LAPACK_COL_MAJOR, 'L', 'N', n, r.data(), n) != 0)
    fail(ErrorKind::internal, "the inverse of a triangle with a zero on its diagonal");
}

void solve_lower(const MatrixD& l, std::span<double> b) {
  assert(l.rows() == b.size());
  for (std::size_t i = 0; i < b.size(); ++i) {
    double sum = b[i];
    for (std::size_t k = 0; k < i; ++k) sum -= l(i, k) * b[k];
    b[i] = sum / l(i, i);
  }
}

}  // namespace adze
