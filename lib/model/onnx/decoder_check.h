// Whether a graph that adze wrote computes what config.json says: its values are followed from ids to logits through
// the nodes that the architecture's parts have, whether attributes of operators or constants state their settings.
#pragma once

#include "model/architecture.h"
#include "model/onnx/onnx_file.h"

namespace adze {

/// Reads no weight but RoPE's tables. Throws bad_data: a part that is missing, that the architecture has not, or that
/// says something else of heads, scores, windows, epsilon, RoPE, positions, activation or caps; other versions of
/// operators than adze writes.
void check_decoder(const OnnxFile& file, const Architecture& architecture);

}  // namespace adze
