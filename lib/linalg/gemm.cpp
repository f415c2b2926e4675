#include "linalg/gemm.h"

#include <cblas.h>

#include <mutex>

namespace adze {
namespace {

template <typename T>
int as_int(T value) {
  return static_cast<int>(value);
}

void gemm(CBLAS_TRANSPOSE transpose_a, CBLAS_TRANSPOSE transpose_b, ConstViewF a, ConstViewF b, ViewF c,
          std::size_t inner, bool accumulate) {
  use_single_threaded_blas();
  if (c.rows() == 0 || c.cols() == 0) return;
  cblas_sgemm(CblasRowMajor, transpose_a, transpose_b, as_int(c.rows()), as_int(c.cols()), as_int(inner), 1.0f,
              a.data(), as_int(a.stride()), b.data(), as_int(b.stride()), accumulate ? 1.0f : 0.0f, c.data(),
              as_int(c.stride()));
}

}  // namespace

void use_single_threaded_blas() {
  static std::once_flag once;
  std::call_once(once, [] { openblas_set_num_threads(1); });
}

void multiply_nt(ConstViewF a, ConstViewF b, ViewF c, bool accumulate) {
  assert(a.cols() == b.cols() && c.rows() == a.rows() && c.cols() == b.rows());
  gemm(CblasNoTrans, CblasTrans, a, b, c, a.cols(), accumulate);
}

void multiply_nn(ConstViewF a, ConstViewF b, ViewF c, bool accumulate) {
  assert(a.cols() == b.rows() && c.rows() == a.rows() && c.cols() == b.cols());
  gemm(CblasNoTrans, CblasNoTrans, a, b, c, a.cols(), accumulate);
}

void multiply_tn(ConstViewF a, ConstViewF b, ViewF c, bool accumulate) {
  assert(a.rows() == b.rows() && c.rows() == a.cols() && c.cols() == b.cols());
  gemm(CblasTrans, CblasNoTrans, a, b, c, a.rows(), accumulate);
}

}  // namespace adze
