// What compression did to every matrix, and how far from the least that is possible: the proxy loss of a compressed
// matrix against the original one, under the second moment H of its inputs (a folder of `adze calibrate`), beside the
// rate-distortion bound (metrics/rate_distortion.h). No text is read.
//
// H is damped as GPTQ damps it, in the loss and in the bound alike: fewer tokens than inputs leave directions of which
// H knows nothing. Refused: models whose matrices or norms are not the original's in shape or scale, as transforms
// leave them. Their inputs are others than those that were measured.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/matrix.h"
#include "base/progress.h"
#include "calibrate/statistics_folder.h"
#include "model/weights.h"

namespace adze {

inline constexpr double kLayerDamping = 0.01;  ///< of the mean diagonal of H

/// A matrix beside one bound.
struct LimitGap {
  double limit = 0;        ///< bits per weight: the least that its loss takes
  double loss_factor = 0;  ///< its loss over the least one at its own bits
};

/// One matrix of one compressed model.
struct LayerResult {
  std::string module;  ///< "layers.3.self_attn.q_proj", "lm_head"
  std::string format;
  Shape shape;
  std::uint64_t bytes = 0;
  double loss = 0;    ///< J = tr((W - What) H (W - What)^T)
  double energy = 0;  ///< tr(W H W^T): the loss of storing nothing
  /// Bounds of rows of independent weights, and of rows with the covariance that this matrix' rows have. Nothing where
  /// nothing was lost.
  std::optional<LimitGap> independent, structured;
  double shrinkage = 0;  ///< of that covariance (metrics/rate_distortion.h)

  double bits() const { return 8.0 * static_cast<double>(bytes) / static_cast<double>(shape.count()); }
  double relative_loss() const { return energy > 0 ? loss / energy : 0; }
  /// Zeros would have been nearer.
  bool worse_than_nothing() const { return loss > energy; }
};

/// All matrices of several models: [model][matrix], blocks in order, then the head. Throws bad_data when statistics or
/// a model are not of the original's shape. Costs about (4/3) n^3 operations for each input of n features, and (16/3)
/// n^3 for each matrix; blocks are loaded one at a time.
std::vector<std::vector<LayerResult>> judge_layers(const ModelWeights& original,
                                                   std::span<const ModelWeights* const> models,
                                                   const StatisticsFolder& statistics, Progress& progress);

/// The matrices taken together: bits, limits and gaps are means over weights, nothing of exact ones counting.
struct LayerTotals {
  std::uint64_t weights = 0, bytes = 0;
  std::uint64_t inexact_weights = 0, inexact_bytes = 0;  ///< of matrices that lost anything
  double limit = 0, structured_limit = 0;                ///< bits per weight of the inexact ones

  double bits() const { return mean_bits(bytes, weights); }
  double inexact_bits() const { return mean_bits(inexact_bytes, inexact_weights); }

 private:
  static double mean_bits(std::uint64_t bytes, std::uint64_t weights) {
    return weights == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
  }
};
LayerTotals total_of(std::span<const LayerResult> layers);

/// An array, one object a matrix: matrix, format, rows, cols, bytes, bits_per_weight, loss, relative_loss, limit_bits,
/// bits_above_limit, loss_factor and the same three with `structured_` in front (null where nothing was lost),
/// shrinkage, worse_than_nothing.
nlohmann::ordered_json to_json(std::span<const LayerResult> layers);

}  // namespace adze
