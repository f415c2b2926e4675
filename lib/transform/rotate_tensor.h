// Rotates a stored matrix on its input side, its output side, or both, in double, rounded once to f32.
//
// It knows nothing of models: rotation.h says which sides of which matrix turn. Refuses a result beyond f32.
#pragma once

#include <span>

#include "model/weights.h"
#include "transform/hadamard.h"

namespace adze {

/// What happens to W [out x in]: W -> R^T W diag(gain) Q, where Q is `in` repeated along the inputs as often as it fits
/// and R is `out` repeated along the outputs.
struct TensorSides {
  const RandomHadamard* in = nullptr;   ///< null: the identity
  const RandomHadamard* out = nullptr;  ///< null: the identity
  std::span<const float> gain;          ///< [in]; empty: ones
};

/// The rotated matrix in f32, or `weight` itself when there is nothing to do. Throws internal when a rotation or the
/// gains do not fit the shape, bad_data when a value does not fit f32.
TensorPtr rotate_tensor(TensorPtr weight, const TensorSides& sides);

/// b -> b R for a bias [out], rounded once; an empty bias stays empty. Throws like rotate_tensor.
std::vector<float> rotate_bias(std::span<const float> bias, const RandomHadamard& out);

}  // namespace adze
