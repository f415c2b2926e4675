#include "linalg/eigen.h"

#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "linalg/gemm.h"

namespace adze {
namespace {

lapack_int order(std::size_t n) { return static_cast<lapack_int>(n); }

void require_success(lapack_int info, const char* routine) {
  if (info != 0) fail(ErrorKind::bad_data, "{} failed ({}): a matrix has values that are not finite", routine, info);
}

/// LAPACK's ascending columns are ascending rows here; ours descend.
SymmetricEigen descending(std::vector<double> values, MatrixD vectors) {
  std::ranges::reverse(values);
  for (std::size_t r = 0; r < vectors.rows() / 2; ++r)
    std::ranges::swap_ranges(vectors.row(r), vectors.row(vectors.rows() - 1 - r));
  return {std::move(values), std::move(vectors)};
}

/// g Z diag(values^-1/2) Z^T, Z the eigenvectors of g^T g.
MatrixD inverse_root_product(const MatrixD& g, const SymmetricEigen& eigen) {
  MatrixD scaled = eigen.vectors;
  for (std::size_t i = 0; i < scaled.rows(); ++i)
    for (double& value : scaled.row(i)) value /= std::sqrt(eigen.values[i]);
  return product_nn(g, product_tn(eigen.vectors, scaled));
}

/// P <- 1.5 P - 0.5 P (P^T P): errors of orthogonality are squared.
void newton_schulz(MatrixD& p) {
  MatrixD step = product_tn(p, p);
  for (std::size_t r = 0; r < step.rows(); ++r)
    for (std::size_t c = 0; c < step.cols(); ++c) step(r, c) = (r == c ? 1.5 : 0.0) - 0.5 * step(r, c);
  p = product_nn(p, step);
}

/// An orthonormal basis of the span of the rows, k <= n of them, by QR; where they depend on each other, of more.
void orthonormalize_rows(MatrixD& rows) {
  use_single_threaded_blas();
  if (rows.rows() == 0) return;
  std::vector<double> reflectors(rows.rows());  // column-major, rows are columns
  require_success(LAPACKE_dgeqrf(LAPACK_COL_MAJOR, order(rows.cols()), order(rows.rows()), rows.data(),
                                 order(rows.cols()), reflectors.data()),
                  "dgeqrf");
  require_success(LAPACKE_dorgqr(LAPACK_COL_MAJOR, order(rows.cols()), order(rows.rows()), order(rows.rows()),
                                 rows.data(), order(rows.cols()), reflectors.data()),
                  "dorgqr");
}

}  // namespace

SymmetricEigen symmetric_eigen(MatrixD a) {
  assert(a.rows() == a.cols());
  use_single_threaded_blas();
  const std::size_t n = a.rows();
  std::vector<double> values(n);
  if (n == 0) return {};
  double work_size = 0;
  lapack_int int_size = 0;
  require_success(LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'U', order(n), a.data(), order(n), values.data(),
                                      &work_size, -1, &int_size, -1),
                  "dsyevd");
  std::vector<double> work(static_cast<std::size_t>(work_size));
  std::vector<lapack_int> ints(static_cast<std::size_t>(int_size));
  require_success(LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'U', order(n), a.data(), order(n), values.data(),
                                      work.data(), order(work.size()), ints.data(), order(ints.size())),
                  "dsyevd");
  return descending(std::move(values), std::move(a));
}

std::vector<double> symmetric_eigenvalues(MatrixD a) {
  assert(a.rows() == a.cols());
  use_single_threaded_blas();
  const std::size_t n = a.rows();
  std::vector<double> values(n);
  if (n == 0) return values;
  require_success(LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'N', 'U', order(n), a.data(), order(n), values.data()), "dsyevd");
  std::ranges::reverse(values);
  return values;
}

SymmetricEigen leading_eigen(MatrixD a, std::size_t count) {
  assert(a.rows() == a.cols() && count <= a.rows());
  use_single_threaded_blas();
  const std::size_t n = a.rows();
  if (count == 0) return {{}, MatrixD(0, n)};
  std::vector<double> values(n);
  MatrixD vectors(count, n);
  std::vector<lapack_int> support(2 * count);
  lapack_int found = 0;
  require_success(
      LAPACKE_dsyevr(LAPACK_COL_MAJOR, 'V', 'I', 'U', order(n), a.data(), order(n), 0, 0, order(n - count + 1),
                     order(n), 0, &found, values.data(), vectors.data(), order(n), support.data()),
      "dsyevr");
  values.resize(count);
  return descending(std::move(values), std::move(vectors));
}

SymmetricEigen sketched_eigen(std::size_t n, std::size_t count, const std::function<MatrixD(const MatrixD&)>& times,
                              int iterations) {
  assert(count <= n);
  MatrixD basis(std::min(n, 2 * count), n);
  RandomStream random(0, "sketched_eigen");
  for (double& value : basis.values()) value = random.normal();
  for (int i = 0; i <= iterations; ++i) {
    basis = times(basis);
    orthonormalize_rows(basis);
  }
  const SymmetricEigen within = symmetric_eigen(product_nt(times(basis), basis));
  SymmetricEigen found{{within.values.begin(), within.values.begin() + static_cast<std::ptrdiff_t>(count)}, {}};
  found.vectors = product_nn(within.vectors.view().row_range(0, count), basis);
  return found;
}

std::vector<double> pencil_eigenvalues(MatrixD a, MatrixD b) {
  assert(a.rows() == a.cols() && a.shape() == b.shape());
  use_single_threaded_blas();
  const lapack_int n = order(a.rows());
  if (n == 0) return {};
  // dsygvd in its parts: without vectors it asks for so little memory that the reduction to tridiagonal form, most of
  // the work, is not blocked.
  require_success(LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'U', n, b.data(), n), "dpotrf");
  require_success(LAPACKE_dsygst(LAPACK_COL_MAJOR, 1, 'U', n, a.data(), n, b.data(), n), "dsygst");
  return symmetric_eigenvalues(std::move(a));
}

MatrixD polar_factor(const MatrixD& g) {
  assert(g.rows() >= g.cols());
  constexpr double kWorstCondition = 1e7;
  const SymmetricEigen eigen = symmetric_eigen(product_tn(g, g));
  if (g.cols() == 0) return g;
  if (!(eigen.values.back() * kWorstCondition * kWorstCondition > eigen.values.front())) {
    const SingularValues svd = singular_values(g);
    return product_nn(svd.u, svd.vt);
  }
  MatrixD p = inverse_root_product(g, eigen);
  newton_schulz(p);
  newton_schulz(p);
  return p;
}

SingularValues singular_values(MatrixD a) {
  use_single_threaded_blas();
  const std::size_t k = std::min(a.rows(), a.cols());
  SingularValues svd{MatrixD(a.rows(), k), std::vector<double>(k), MatrixD(k, a.cols())};
  if (k == 0) return svd;
  // Column-major, the buffer is a^T = v diag u^T: LAPACK's U is our vt, its VT our u.
  require_success(LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', order(a.cols()), order(a.rows()), a.data(), order(a.cols()),
                                 svd.values.data(), svd.vt.data(), order(a.cols()), svd.u.data(), order(k)),
                  "dgesdd");
  return svd;
}

std::vector<std::size_t> pivot_columns(const MatrixD& a) {
  assert(a.rows() <= a.cols());
  use_single_threaded_blas();
  MatrixD columns(a.cols(), a.rows());  // column-major a
  for (std::size_t r = 0; r < a.rows(); ++r)
    for (std::size_t c = 0; c < a.cols(); ++c) columns(c, r) = a(r, c);
  std::vector<lapack_int> pivots(a.cols());
  std::vector<double> reflectors(a.rows());
  if (a.rows() > 0)
    require_success(LAPACKE_dgeqp3(LAPACK_COL_MAJOR, order(a.rows()), order(a.cols()), columns.data(), order(a.rows()),
                                   pivots.data(), reflectors.data()),
                    "dgeqp3");
  else
    std::iota(pivots.begin(), pivots.end(), 1);
  std::vector<std::size_t> columns_in_order;
  for (const lapack_int pivot : pivots) columns_in_order.push_back(static_cast<std::size_t>(pivot - 1));
  std::ranges::sort(columns_in_order.begin() + static_cast<std::ptrdiff_t>(a.rows()), columns_in_order.end());
  return columns_in_order;
}

}  // namespace adze
