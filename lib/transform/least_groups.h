// Which inputs a linear can do without, and what the others have to become (specification allocation.md, 7.2): with
// What = argmin ||(W - What) X||^2 over What that is zero in the dropped columns P,
//   What_K = W H_{:,K} H_KK^-1,    loss tr(W_P ([H^-1]_PP)^-1 W_P^T).
// Columns are dropped in groups (channels of an FFN one by one, heads as a whole), greedily, each time the group that
// costs least once all others have made up for it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/matrix.h"

namespace adze {

/// Groups of `group` columns that follow each other, in the order they are dropped; of equal ones the first. quotas[q]:
/// how many of the groups [q n, (q + 1) n) go, n = groups / quotas.size(). weights: [out x in]; h: [in x in], positive
/// definite (with_damping). Inverses are kept up lazily, M - V^T V with a row of V per dropped column, so the cost is
/// in^2 times the columns dropped, not in^3. Throws bad_data when h cannot be inverted.
std::vector<std::size_t> least_groups(ConstViewF weights, const MatrixD& h, std::size_t group,
                                      std::span<const std::size_t> quotas);

/// The `count` columns with the least ridge leverage [H (H + ridge mean(diag H) I)^-1]_ii, of which the others say most
/// (MoDeGPT, arXiv 2408.09632, its type I). The weights have no part in it. Throws bad_data as above.
std::vector<std::size_t> least_leverage(const MatrixD& h, double ridge, std::size_t count);

/// W H_{:,K} H_KK^-1, [out x kept]; kept: ascending columns.
MatrixF repaired(ConstViewF weights, ConstViewD h, std::span<const std::size_t> kept);

/// The same for any inputs y = E x that are left: W H E^T (E H E^T)^-1, [out x left], the least-squares solution of
/// What E x = W x. across: H E^T, [in x left]; inner: E H E^T, which is overwritten.
MatrixF repaired(ConstViewF weights, const MatrixD& across, MatrixD& inner);

}  // namespace adze
