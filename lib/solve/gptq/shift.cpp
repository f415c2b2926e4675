#include "solve/gptq/shift.h"

#include <algorithm>

#include "base/checked.h"
#include "base/parallel.h"
#include "linalg/factor.h"
#include "linalg/gemm.h"

namespace adze {
namespace {

constexpr std::size_t kTileRows = 256;  // fixed, as everywhere: products have shapes of the problem

}  // namespace

MatrixF shifted_target(const Problem& problem, std::size_t index, const GptqFactor& factor, double strength) {
  const ConstViewF weights = problem.weights[index];
  const std::size_t inputs = weights.cols();
  MatrixF target(weights.shape());
  parallel_for(divide_up(weights.rows(), kTileRows), [&](std::size_t t) {
    const std::size_t first = t * kTileRows;
    const std::size_t rows = std::min(kTileRows, weights.rows() - first);
    MatrixF stored(rows, inputs);  // columns as stored; in `shift` in the factor's order
    multiply_nn(weights.row_range(first, rows), problem.cross, stored);
    MatrixF shift(rows, inputs);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t p = 0; p < inputs; ++p) {
        const std::size_t col = factor.order[p];
        shift(r, p) = stored(r, col) + (problem.residual.empty() ? 0.0f : problem.residual[index](first + r, col));
      }
    solve_normal_right(factor.r, shift);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t p = 0; p < inputs; ++p) {
        const std::size_t col = factor.order[p];
        target(first + r, col) = weights(first + r, col) + static_cast<float>(strength) * shift(r, p);
      }
  });
  return target;
}

}  // namespace adze
