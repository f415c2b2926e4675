// One right factor for two layers whose inputs have the same features: min over R [r x n] and L_i [m_i x r] of
//   sum_i tr((W_i - L_i R) H_i (W_i - L_i R)^T) / tr(W_i H_i W_i^T).
// It starts at the leading directions of the stacked weights in H_1 + H_2 (Basis Sharing, ICLR 2025), the answer where
// both H are the same; then R and the L_i take turns, each exact in every layer's own H (GeoPair, 2026; specification:
// low-rank, section 7).
#pragma once

#include <array>
#include <cstddef>

#include "base/matrix.h"

namespace adze {

struct SharingLayer {
  MatrixD weights;  ///< [m x n]
  MatrixD h;        ///< [n x n], symmetric PSD
};

struct SharedRight {
  MatrixD right;                      ///< [r x n], fewer rows where the weights have less rank
  std::array<double, 2> losses = {};  ///< relative, of each layer with its best left factor
  double first_loss = 0;              ///< their sum before the first turn
};

/// The best R of up to `sweeps` turns, in double; stops where a turn gains less than 1e-4 of the loss.
SharedRight shared_right(std::array<SharingLayer, 2> layers, std::size_t rank, int sweeps);

}  // namespace adze
