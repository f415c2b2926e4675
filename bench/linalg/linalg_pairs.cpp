#include <lapacke.h>

#include <cstdlib>

#include "base/random.h"
#include "linalg/factor.h"
#include "linalg/second_moment.h"
#include "pairs.h"

namespace adze::bench {
namespace {

std::vector<Pair> make_pairs() {
  constexpr std::size_t kInputs = 4096;
  constexpr std::size_t kWindow = 512;
  const auto x = std::make_shared<MatrixF>(4 * kWindow, kInputs);
  RandomStream random(1, "bench linalg");
  for (float& v : x->values()) v = static_cast<float>(random.normal());
  const auto h = std::make_shared<MatrixD>(kInputs, kInputs);

  constexpr std::size_t kOrder = 2048;
  const auto spd = std::make_shared<MatrixD>(kOrder, kOrder);
  for (std::size_t i = 0; i < kOrder; ++i) {
    for (std::size_t j = 0; j < kOrder; ++j) (*spd)(i, j) = 1.0 / (1.0 + static_cast<double>(i > j ? i - j : j - i));
    (*spd)(i, i) += 10.0;
  }
  return {
      // SYRK counts T n^2 operations, half of the SGEMM of the same shape.
      {"second_moment_4096", "half an SGEMM 4096x4096x2048, all threads",
       [=] { add_second_moment(*x, kWindow, *h); }, sgemm(kInputs / 2, kInputs, 4 * kWindow), 1 / 0.6},
      {"reverse_cholesky_2048", "LAPACK dpotrf, 1 thread",
       [=] {
         MatrixD copy = *spd;
         if (reverse_cholesky(copy)) std::abort();
       },
       [=] {
         MatrixD copy = *spd;
         const auto n = static_cast<lapack_int>(kOrder);
         if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', n, copy.data(), n) != 0) std::abort();
       },
       2.0},
  };
}

const bool registered = add("linalg", &make_pairs);

}  // namespace
}  // namespace adze::bench
