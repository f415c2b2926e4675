// Tensor trains (matrix product operators; CompactifAI, arXiv 2401.14109). Rows and columns are cut into digits, the
// matrix into cores by one truncated SVD after the other (TT-SVD: specification, section 17), which is best for weights
// alone where there are two cores. H does not factor over digits; so the cores are then fitted one at a time, the
// others fixed, by conjugate gradients on J, which is a parabola in each: J never grows.
#pragma once

#include <memory>
#include <vector>

#include "grid/factors/train_tensor.h"
#include "solve/solver.h"

namespace adze {

/// Digits as equal as divisors of `size` allow, the smaller ones first; fewer large ones where it has few divisors.
std::vector<std::size_t> digits_of(std::size_t size, std::size_t count);

/// Cores in double, laid out as TrainTensor stores them.
using TrainCores = std::vector<MatrixD>;

/// TT-SVD of weights, truncated to the bonds of `train`.
TrainCores train_by_svd(ConstViewD weights, const TrainShape& train);

/// The matrix that cores stand for.
MatrixD contract(const TrainShape& train, const TrainCores& cores);

/// Lowers tr((W - What) H (W - What)^T), `sweeps` times through all cores; h empty: the identity.
void fit_cores(ConstViewD weights, ConstViewD h, const TrainShape& train, int sweeps, TrainCores& cores);

/// Options: keep, cores, sweeps, shift.
std::unique_ptr<Solver> configure_mpo(MapReader& options);

}  // namespace adze
