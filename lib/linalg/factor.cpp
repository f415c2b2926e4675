#include "linalg/factor.h"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>

#include "linalg/gemm.h"

namespace adze {

std::optional<std::size_t> reverse_cholesky(MatrixD& h) {
  assert(h.rows() == h.cols());
  use_single_threaded_blas();
  const std::size_t n = h.rows();
  // Reversing the whole buffer reverses both axes: J H J. Its row-major lower factor is LAPACK's column-major upper.
  std::reverse(h.values().begin(), h.values().end());
  const auto order = static_cast<lapack_int>(n);
  const lapack_int info = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', order, h.data(), order);
  if (info != 0) return n - static_cast<std::size_t>(std::abs(info));
  std::reverse(h.values().begin(), h.values().end());
  for (std::size_t r = 0; r < n; ++r) {
    std::fill_n(h.row(r).begin(), r, 0.0);
    if (!std::isfinite(h(r, r))) return r;
  }
  return std::nullopt;
}

void solve_transposed_upper(ConstViewF r, ViewF y) {
  assert(r.rows() == r.cols() && r.rows() == y.rows());
  use_single_threaded_blas();
  cblas_strsm(CblasRowMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, static_cast<int>(y.rows()),
              static_cast<int>(y.cols()), 1.0f, r.data(), static_cast<int>(r.stride()), y.data(),
              static_cast<int>(y.stride()));
}

void solve_normal_right(ConstViewF r, ViewF y) {
  assert(r.rows() == r.cols() && r.rows() == y.cols());
  use_single_threaded_blas();
  for (const CBLAS_TRANSPOSE transpose : {CblasTrans, CblasNoTrans})
    cblas_strsm(CblasRowMajor, CblasRight, CblasUpper, transpose, CblasNonUnit, static_cast<int>(y.rows()),
                static_cast<int>(y.cols()), 1.0f, r.data(), static_cast<int>(r.stride()), y.data(),
                static_cast<int>(y.stride()));
}

void multiply_nn(ConstViewD a, ConstViewD b, ViewD c) {
  assert(a.cols() == b.rows() && c.rows() == a.rows() && c.cols() == b.cols());
  use_single_threaded_blas();
  if (c.rows() == 0 || c.cols() == 0) return;
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(c.rows()), static_cast<int>(c.cols()),
              static_cast<int>(a.cols()), 1.0, a.data(), static_cast<int>(a.stride()), b.data(),
              static_cast<int>(b.stride()), 0.0, c.data(), static_cast<int>(c.stride()));
}

}  // namespace adze
