// Test helpers: models to rotate, and the options to do it with.
#pragma once

#include <memory>

#include "model/memory_source.h"
#include "transform/rotation.h"

namespace adze::testing {

inline constexpr RotationOptions kResidual{true, false, 4};
inline constexpr RotationOptions kHeads{false, true, 4};
inline constexpr RotationOptions kBoth{true, true, 4};

/// Grouped queries, all biases, heads wider together than the residual stream.
inline Architecture biased_architecture(bool tied = false) {
  Architecture a = small_architecture();
  a.head_dim = 20;
  a.qkv_bias = a.o_bias = a.mlp_bias = true;
  a.tied = a.tied_stated = tied;
  return a;
}

inline std::shared_ptr<const ModelWeights> shared_model(const Architecture& architecture) {
  return std::make_shared<const CheckpointWeights>(random_model(architecture));
}

inline TransformedWeights rotated(const std::shared_ptr<const ModelWeights>& model, const RotationOptions& options) {
  return {model, {std::make_shared<Rotation>(model->architecture(), options)}};
}

inline std::shared_ptr<const ModelWeights> demo_model() {
  return open_checkpoint_model(ADZE_SOURCE_DIR "/tests/models/demo-llama");
}

}  // namespace adze::testing
