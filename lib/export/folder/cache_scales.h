// Scales of a runtime's cache of keys and values in 8-bit floats (E4M3): of each block one for keys as they are cached,
// after RoPE, and one for values, beside its attention's projections: model.layers.0.self_attn.k_scale and v_scale.
//
//   scale = largest |key| on the calibration windows / 448        the largest number that the type has
// so that nothing that was seen saturates; 1 where all were zero.
#pragma once

#include <optional>

#include "checkpoint/safetensors_writer.h"
#include "export/exporter.h"

namespace adze {

/// The tensor of the scale of what a projection fills; nothing of other tensors, and where the plan asks for no scales.
std::optional<SafetensorsSpec> cache_scale_part(const ExportPlan& plan, const PlannedTensor& tensor);

/// Its value. tensor: the projection of keys or values. Throws bad_data where maxima are not known or not finite.
float cache_scale(const TensorSpec& tensor, const std::optional<CacheMaxima>& maxima);

/// Compares the scales of a folder that was written with the maxima that they must be of, one pair a block. Throws
/// internal, naming the tensor. Notes which were all zero.
void verify_cache_scales(const std::filesystem::path& folder, const ModelWeights& model, Progress& progress);

}  // namespace adze
