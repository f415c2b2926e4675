#include <lapacke.h>

#include <cstdlib>
#include <vector>

#include "base/parallel.h"
#include "base/random.h"
#include "linalg/gemm.h"
#include "pairs.h"
#include "solve/compot/compot.h"
#include "solve/factors/low_rank.h"

namespace adze::bench {
namespace {

constexpr std::size_t kSize = 4096;
constexpr std::size_t kRank = 1632;   // 80 % of the numbers, in multiples of 32
constexpr std::size_t kAtoms = 2112;  // likewise, with half as many coefficients a row

struct Layer {
  MatrixD weights{kSize, kSize};
  MatrixD hessian{kSize, kSize};
  MatrixD dictionary;  ///< orthonormal columns, whichever
};

std::shared_ptr<Layer> make_layer() {
  auto layer = std::make_shared<Layer>();
  RandomStream random(3, "bench factors");
  for (double& w : layer->weights.values()) w = 0.02 * random.normal();
  for (std::size_t i = 0; i < kSize; ++i)
    for (std::size_t j = 0; j < kSize; ++j) {
      const auto distance = static_cast<double>(i > j ? i - j : j - i);
      layer->hessian(i, j) = 1.0 / (1.0 + 0.5 * distance) + (i == j ? 0.2 : 0.0);
    }
  layer->dictionary = MatrixD(kSize, kAtoms);
  for (std::size_t i = 0; i < kAtoms; ++i) layer->dictionary((7 * i) % kSize, i) = 1;
  return layer;
}

/// On one thread, as LAPACK works.
std::function<void()> alone(std::function<void()> body) {
  return [body] {
    set_thread_count(1);
    body();
    set_thread_count(0);
  };
}

/// LAPACK's eigenvectors of a matrix of that size, and two products in double.
void decompose_plainly(const Layer& layer) {
  MatrixD product(kSize, kSize), moment(kSize, kSize);
  multiply_nn(layer.weights, layer.hessian, product);
  multiply_nt(product, layer.weights, moment);
  std::vector<double> values(kSize);
  const auto n = static_cast<lapack_int>(kSize);
  if (LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'U', n, moment.data(), n, values.data()) != 0) std::abort();
}

std::vector<Pair> make_pairs() {
  const auto layer = make_layer();
  return {
      {"hnorm_svd_4096", "LAPACK dsyevd and two DGEMM 4096x4096x4096, 1 thread", alone([=] {
         const OutputSpectrum spectrum = output_spectrum(layer->weights, layer->hessian, {}, kRank);
         if (leading_factors(layer->weights, spectrum).left.rows() != kSize) std::abort();
       }),
       alone([=] { decompose_plainly(*layer); }), 1.3},
      {"sketched_rank_64_4096", "DGEMM 4096x4096x4096, 1 thread", alone([=] {
         if (sketched_factors(layer->weights, layer->hessian, 64).left.rows() != kSize) std::abort();
       }),
       alone([=] {
         MatrixD product(kSize, kSize);
         multiply_nn(layer->weights, layer->hessian, product);
       }),
       0.6},
      {"compot_iteration_4096", "SGEMM 4096x4096x4096, 1 thread", alone([=] {
         CompotOptions once;
         once.iterations = 1;
         find_dictionary(layer->weights, layer->dictionary, kSize * kAtoms / 2, once);
       }),
       alone([=] {
         static const MatrixF a(kSize, kSize);
         static MatrixF c(kSize, kSize);
         multiply_nn(a, a, c);
       }),
       12},
  };
}

const bool registered = add("factors", &make_pairs);

}  // namespace
}  // namespace adze::bench
