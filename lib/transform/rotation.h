// Rotations that fold into the weights of a decoder: the model computes what it did, up to rounding, and needs nothing
// at run time, but its weights and activations have no outlying columns any more, which coarse grids like.
//
// As row vectors: residual stream h' = h Q (R1), and in every block value heads v' = v R (R2). RMS norms commute with Q
// once their gains are ones, so the gains move into the matrices that follow:
//   embedding E' = E Q;  q, k, gate, up, head: W' = W diag(gain) Q;  v: W' = R^T W diag(gain) Q, b' = b R
//   o: W' = Q^T W R, b' = b Q;  down: W' = Q^T W, b' = b Q;  all norms 1
// (without R1, only v and o change). q and k keep their outputs because RoPE does not commute with a rotation, the FFN
// its inside because the gate does not. Placement after QuaRot (arXiv 2404.00456) and SpinQuant (arXiv 2405.16406).
// A table that served as embedding and head becomes two, since the final norm's gain is in the head only.
//
// Refuses hidden sizes and head sizes without a Hadamard matrix (hadamard.h). GQA, biases, windows and blocks with a
// narrower FFN are all right. What is compressed here is decoded: rotate before compressing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/weights.h"
#include "transform/hadamard.h"

namespace adze {

struct RotationOptions {
  bool residual = true;    ///< R1: the residual stream, one rotation of the hidden size
  bool heads = true;       ///< R2: value heads, one rotation of the head size per block, the same for all its heads
  std::uint64_t seed = 0;  ///< with the same seed the same rotations, for any model of these sizes
};

/// The rotations of one model. Immutable: share it among threads. A matrix that changes becomes f32; one that does not
/// is handed back as it is.
class Rotation {
 public:
  /// Throws bad_recipe for a size that cannot be rotated.
  Rotation(const Architecture& original, const RotationOptions& options);

  /// Of the rotated model: with R1 not tied, and config.json has to say so (tie_word_embeddings).
  const Architecture& architecture() const { return architecture_; }

  /// A rotated block: norms are ones with R1. Frees each original matrix as its successor is made, where the caller
  /// gave it away. Throws bad_data, naming the matrix, when a value does not fit f32.
  BlockWeights block(BlockWeights original, std::size_t index) const;
  /// table: [vocab x hidden].
  TensorPtr embedding(TensorPtr table) const;
  /// table: [vocab x hidden], the embedding when tied; norm: the original final norm [hidden].
  TensorPtr head(TensorPtr table, std::span<const float> norm) const;
  /// The final norm of the rotated model: ones with R1.
  std::vector<float> final_norm(std::vector<float> norm) const;

 private:
  std::optional<RandomHadamard> head_rotation(std::size_t block) const;

  Architecture architecture_;
  RotationOptions options_;
  std::optional<RandomHadamard> residual_;
};

/// A model as its rotation makes it, read and rotated block by block, anew at every call.
class RotatedWeights final : public ModelWeights {
 public:
  /// Throws bad_recipe for a size that cannot be rotated.
  RotatedWeights(std::shared_ptr<const ModelWeights> original, const RotationOptions& options);

  const Architecture& architecture() const override { return rotation_.architecture(); }
  TensorPtr embedding() const override;
  BlockWeights block(std::size_t index) const override;
  std::vector<float> final_norm() const override;
  TensorPtr head() const override;

 private:
  std::shared_ptr<const ModelWeights> original_;
  Rotation rotation_;
};

}  // namespace adze
