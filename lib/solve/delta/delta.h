// What a fine-tuned matrix differs by from that of its base, D = tuned - base, in a fraction of its bits
// (specification: allocation, section 8.1). Losses are those of D: J = tr((D - Dhat) H (D - Dhat)^T), the error of the
// layer's output.
//
//   signs   BitDelta (Liu et al. 2024): Dhat = a sign(D), one bit a weight, a per matrix or per row. The mean of |D| is
//           best for H = I; for any H the best a has a closed form, so that nothing is trained
//   drop    DARE (Yu et al. 2023): each entry is dropped with probability p, the others grow to make up for it. Which
//           ones follows from a seed, so no index is stored
//
// Low rank and integer deltas need nothing here: the solvers svd and gptq take D as their weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/matrix.h"

namespace adze {

/// tuned - base, of equal shapes.
MatrixF delta_of(ConstViewF tuned, ConstViewF base);

enum class DeltaScope { matrix, row };

/// sign(D) times a scale. A delta of zero counts as positive.
struct SignDelta {
  Shape shape;
  std::vector<std::byte> signs;       ///< a bit a weight, set where negative, lowest first; rows padded to bytes
  std::vector<std::uint16_t> scales;  ///< f16, one of the matrix or one a row

  std::uint64_t bytes() const { return signs.size() + 2 * scales.size(); }
  MatrixF decode() const;
};

/// The scales of BitDelta: the mean of |D|.
SignDelta mean_sign_delta(ConstViewF delta, DeltaScope scope);

/// The scales of least loss, a = tr(D H S^T) / tr(S H S^T), S = sign(D), over the matrix or each row, then rounded to
/// f16: never worse in J than any other f16. h: [in x in], empty: the identity. Where signs alone give no output, a =
/// 0.
SignDelta best_sign_delta(ConstViewF delta, ConstViewD h, DeltaScope scope);

struct DropOptions {
  double probability = 0.9;  ///< 0 <= p < 1
  std::uint64_t seed = 0;
  std::string stream;      ///< name of the random stream: the matrix's, so that no two drop the same places
  bool best_scale = true;  ///< k of least loss instead of 1 / (1 - p)
};

/// What was kept, in f16, row by row.
struct DroppedDelta {
  Shape shape;
  double probability = 0;
  std::uint64_t seed = 0;
  std::string stream;
  float scale = 1;
  std::vector<std::uint16_t> kept;

  /// Values and scale; shape, probability, seed and stream are the file's to keep.
  std::uint64_t bytes() const { return 2 * kept.size() + sizeof scale; }
  /// Throws bad_data when there are not as many kept values as the mask has places.
  MatrixF decode() const;
};

/// A relative output variance above this is no small edit any more.
constexpr double kMostDropVariance = 0.1;

/// E of the loss with k = 1 / (1 - p): p / (1 - p) sum_ij D_ij^2 H_jj, of each row.
std::vector<double> drop_variances(ConstViewF delta, ConstViewD h, double probability);

/// The same of all rows, as a fraction of the fine-tuned layer's output energy tr(W H W^T).
double relative_drop_variance(ConstViewF delta, ConstViewF tuned, ConstViewD h, double probability);

/// k = tr(D H M^T) / tr(M H M^T), M what is kept of D: never worse in J than 1 / (1 - p), but no longer unbiased.
/// Throws bad_recipe for a probability outside [0, 1), and bad_data for entries beyond f16.
DroppedDelta drop_delta(ConstViewF delta, ConstViewD h, const DropOptions& options);

}  // namespace adze
