#include "linalg/gemm.h"

#include <cblas.h>

#include <algorithm>
#include <mutex>

#include "base/checked.h"
#include "base/parallel.h"
#include "linalg/mirror.h"

/// Of OpenBLAS, declared in no header of its own; builds of it without threads lack it.
extern "C" __attribute__((weak)) int blas_thread_shutdown_();

namespace adze {
namespace {

template <typename T>
int as_int(T value) {
  return static_cast<int>(value);
}

constexpr std::size_t kTileRows = 256;   // of large products
constexpr std::size_t kStripCols = 128;  // of products of triangles, which skip what is zero strip by strip

template <typename T, typename Gemm>
void gemm(Gemm run, CBLAS_TRANSPOSE transpose_a, CBLAS_TRANSPOSE transpose_b, MatrixView<const T> a,
          MatrixView<const T> b, MatrixView<T> c, std::size_t inner, bool accumulate) {
  use_single_threaded_blas();
  if (c.rows() == 0 || c.cols() == 0) return;
  run(CblasRowMajor, transpose_a, transpose_b, as_int(c.rows()), as_int(c.cols()), as_int(inner), T{1}, a.data(),
      as_int(a.stride()), b.data(), as_int(b.stride()), accumulate ? T{1} : T{0}, c.data(), as_int(c.stride()));
}

/// Calls body(first, count) for the tiles of `rows` rows, on all threads.
template <typename Body>
void for_tiles(std::size_t rows, const Body& body) {
  parallel_for(divide_up(rows, kTileRows),
               [&](std::size_t t) { body(t * kTileRows, std::min(kTileRows, rows - t * kTileRows)); });
}

}  // namespace

void use_single_threaded_blas() {
  static std::once_flag once;
  std::call_once(once, [] {
    openblas_set_num_threads(1);
    if (blas_thread_shutdown_ != nullptr) blas_thread_shutdown_();
  });
}

void multiply_nt(ConstViewF a, ConstViewF b, ViewF c, bool accumulate) {
  assert(a.cols() == b.cols() && c.rows() == a.rows() && c.cols() == b.rows());
  gemm<float>(cblas_sgemm, CblasNoTrans, CblasTrans, a, b, c, a.cols(), accumulate);
}

void multiply_nn(ConstViewF a, ConstViewF b, ViewF c, bool accumulate) {
  assert(a.cols() == b.rows() && c.rows() == a.rows() && c.cols() == b.cols());
  gemm<float>(cblas_sgemm, CblasNoTrans, CblasNoTrans, a, b, c, a.cols(), accumulate);
}

void multiply_tn(ConstViewF a, ConstViewF b, ViewF c, bool accumulate) {
  assert(a.rows() == b.rows() && c.rows() == a.cols() && c.cols() == b.cols());
  gemm<float>(cblas_sgemm, CblasTrans, CblasNoTrans, a, b, c, a.rows(), accumulate);
}

void multiply_nt(ConstViewD a, ConstViewD b, ViewD c, bool accumulate) {
  assert(a.cols() == b.cols() && c.rows() == a.rows() && c.cols() == b.rows());
  gemm<double>(cblas_dgemm, CblasNoTrans, CblasTrans, a, b, c, a.cols(), accumulate);
}

void multiply_nn(ConstViewD a, ConstViewD b, ViewD c, bool accumulate) {
  assert(a.cols() == b.rows() && c.rows() == a.rows() && c.cols() == b.cols());
  gemm<double>(cblas_dgemm, CblasNoTrans, CblasNoTrans, a, b, c, a.cols(), accumulate);
}

void multiply_tn(ConstViewD a, ConstViewD b, ViewD c, bool accumulate) {
  assert(a.rows() == b.rows() && c.rows() == a.cols() && c.cols() == b.cols());
  gemm<double>(cblas_dgemm, CblasTrans, CblasNoTrans, a, b, c, a.rows(), accumulate);
}

MatrixD product_nn(ConstViewD a, ConstViewD b) {
  MatrixD c(a.rows(), b.cols());
  for_tiles(c.rows(), [&](std::size_t first, std::size_t count) {
    multiply_nn(a.row_range(first, count), b, c.view().row_range(first, count));
  });
  return c;
}

MatrixD product_nt(ConstViewD a, ConstViewD b) {
  MatrixD c(a.rows(), b.rows());
  for_tiles(c.rows(), [&](std::size_t first, std::size_t count) {
    multiply_nt(a.row_range(first, count), b, c.view().row_range(first, count));
  });
  return c;
}

MatrixD product_tn(ConstViewD a, ConstViewD b) {
  MatrixD c(a.cols(), b.cols());
  for_tiles(c.rows(), [&](std::size_t first, std::size_t count) {
    multiply_tn(a.col_range(first, count), b, c.view().row_range(first, count));
  });
  return c;
}

MatrixD gram(ConstViewD a) {
  MatrixD c(a.rows(), a.rows());
  for_tiles(c.rows(), [&](std::size_t first, std::size_t count) {
    const std::size_t cols = first + count;  // the lower triangle, whole tiles of it
    multiply_nt(a.row_range(first, count), a.row_range(0, cols), c.view().row_range(first, count).col_range(0, cols));
  });
  mirror_lower(c);
  return c;
}

MatrixD gram_of_upper(ConstViewD t) {
  assert(t.rows() == t.cols());
  const std::size_t n = t.rows();
  MatrixD c(n, n);
  parallel_for(divide_up(n, kStripCols), [&](std::size_t strip) {
    const std::size_t first = strip * kStripCols, count = std::min(kStripCols, n - first);
    const ConstViewD above = t.row_range(0, first + count);  // below, the strip's columns are zero
    multiply_tn(above.col_range(first, n - first), above.col_range(first, count),
                c.view().row_range(first, n - first).col_range(first, count));
  });
  mirror_lower(c);
  return c;
}

double inner_product(ConstViewD a, ConstViewD b) {
  assert(a.shape() == b.shape());
  use_single_threaded_blas();
  double sum = 0;
  for (std::size_t r = 0; r < a.rows(); ++r)
    sum += cblas_ddot(as_int(a.cols()), a.row(r).data(), 1, b.row(r).data(), 1);
  return sum;
}

}  // namespace adze
