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

#include "transform/hadamard.h"
#include "transform/transform.h"

namespace adze {

struct RotationOptions {
  bool residual = true;    ///< R1: the residual stream, one rotation of the hidden size
  bool heads = true;       ///< R2: value heads, one rotation of the head size per block, the same for all its heads
  std::uint64_t seed = 0;  ///< with the same seed the same rotations, for any model of these sizes
};

/// The rotations of one model. A matrix that changes becomes f32; one that does not is handed back as it is.
class Rotation final : public Transform {
 public:
  /// Throws bad_recipe for a size that cannot be rotated.
  Rotation(const Architecture& original, const RotationOptions& options);

  std::string description() const override;
  std::string remark() const override;
  /// With R1 not tied, and config.json has to say so (tie_word_embeddings).
  Architecture architecture(const Architecture& before) const override;

  /// Norms are ones with R1.
  BlockWeights block(BlockWeights original, std::size_t index, const BlockInputs* inputs = nullptr) const override;
  TensorPtr embedding(TensorPtr table) const override;
  TensorPtr head(TensorPtr table, std::span<const float> norm) const override;
  /// Ones with R1.
  std::vector<float> final_norm(std::vector<float> norm) const override;

 private:
  std::optional<RandomHadamard> head_rotation(std::size_t block) const;

  Architecture original_;
  RotationOptions options_;
  bool unties_ = false;
  std::optional<RandomHadamard> residual_;
};

/// Options: residual, heads (both true unless given), seed.
std::shared_ptr<const Transform> configure_rotation(MapReader& options, const Architecture& original);

}  // namespace adze
