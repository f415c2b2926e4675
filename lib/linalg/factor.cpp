#include "linalg/factor.h"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/checked.h"
#include "base/parallel.h"
#include "linalg/gemm.h"

namespace adze {

namespace {

constexpr std::size_t kFactorCols = 192;  // a block's columns, not a power of two: such strides share cache sets
constexpr std::size_t kUpdateRows = 512;  // of a tile of the update

/// Reverse Cholesky of one block. Reversing a whole buffer reverses both axes, J H J, whose row-major lower factor is
/// LAPACK's column-major upper one.
std::optional<std::size_t> factor_block(ViewD h) {
  const std::size_t n = h.rows();
  MatrixD reversed(n, n);
  for (std::size_t r = 0; r < n; ++r) std::ranges::reverse_copy(h.row(r), reversed.row(n - 1 - r).begin());
  const auto order = static_cast<lapack_int>(n);
  const lapack_int info = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', order, reversed.data(), order);
  if (info != 0) return n - static_cast<std::size_t>(std::abs(info));
  for (std::size_t r = 0; r < n; ++r) {
    std::ranges::reverse_copy(reversed.row(n - 1 - r), h.row(r).begin());
    std::fill_n(h.row(r).begin(), r, 0.0);
    if (!std::isfinite(h(r, r))) return r;
  }
  return std::nullopt;
}

/// Calls body(first, count) for pieces of [0, size), on all threads.
void for_pieces(std::size_t size, std::size_t piece, const std::function<void(std::size_t, std::size_t)>& body) {
  parallel_for(divide_up(size, piece), [&](std::size_t i) { body(i * piece, std::min(piece, size - i * piece)); });
}

/// Y := Y R^-T for the rows Y above a block's factor R.
void solve_above(ConstViewD r, ViewD y) {
  for_pieces(y.rows(), kFactorCols, [&](std::size_t first, std::size_t count) {
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasUpper, CblasTrans, CblasNonUnit, static_cast<int>(count),
                static_cast<int>(y.cols()), 1.0, r.data(), static_cast<int>(r.stride()), y.row(first).data(),
                static_cast<int>(y.stride()));
  });
}

/// C -= Y Y^T, tiles of the upper triangle.  Y: [n x k], C: [n x n].
void subtract_product(ConstViewD y, ViewD c) {
  const std::size_t down = divide_up(y.rows(), kUpdateRows);
  const std::size_t across = divide_up(y.rows(), kFactorCols);
  parallel_for(down * across, [&](std::size_t tile) {
    const std::size_t row = tile / across * kUpdateRows;
    const std::size_t col = tile % across * kFactorCols;
    const std::size_t cols = std::min(kFactorCols, y.rows() - col);
    if (row >= col + cols) return;
    const std::size_t rows = std::min(kUpdateRows, col + cols - row);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(rows), static_cast<int>(cols),
                static_cast<int>(y.cols()), -1.0, y.row(row).data(), static_cast<int>(y.stride()), y.row(col).data(),
                static_cast<int>(y.stride()), 1.0, c.row(row).subspan(col).data(), static_cast<int>(c.stride()));
  });
}

}  // namespace

std::optional<std::size_t> reverse_cholesky(MatrixD& h) {
  assert(h.rows() == h.cols());
  use_single_threaded_blas();
  for (std::size_t left = divide_up(h.rows(), kFactorCols); left-- > 0;) {
    const std::size_t first = left * kFactorCols;
    const std::size_t count = std::min(kFactorCols, h.rows() - first);
    const ViewD cols = h.view().col_range(first, count);
    if (const auto failed = factor_block(cols.row_range(first, count))) return first + *failed;
    for (std::size_t r = first + count; r < h.rows(); ++r) std::fill_n(cols.row(r).begin(), count, 0.0);
    if (first == 0) break;
    const ViewD above = cols.row_range(0, first);
    solve_above(cols.row_range(first, count), above);
    subtract_product(above, h.view().row_range(0, first).col_range(0, first));
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

}  // namespace adze
