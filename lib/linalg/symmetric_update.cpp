#include "linalg/symmetric_update.h"

#include <cblas.h>

#include "linalg/gemm.h"

namespace adze {

void subtract_outer_products(ConstViewD v, ViewD c) {
  assert(c.rows() == c.cols() && v.cols() == c.cols());
  use_single_threaded_blas();
  if (c.rows() == 0 || v.rows() == 0) return;
  cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, static_cast<int>(c.rows()), static_cast<int>(v.rows()), -1.0,
              v.data(), static_cast<int>(v.stride()), 1.0, c.data(), static_cast<int>(c.stride()));
}

void subtract_weighted_rows(std::span<const double> a, ConstViewD v, std::span<double> y) {
  assert(a.size() == v.rows() && y.size() == v.cols());
  use_single_threaded_blas();
  if (a.empty() || y.empty()) return;
  cblas_dgemv(CblasRowMajor, CblasTrans, static_cast<int>(v.rows()), static_cast<int>(v.cols()), -1.0, v.data(),
              static_cast<int>(v.stride()), a.data(), 1, 1.0, y.data(), 1);
}

}  // namespace adze
