// Checkpoints that store several matrices of a block as one, below each other (Phi-3: q, k and v; gate and up; mixtures
// as Transformers 5 has them in memory: all experts), seen as the family that has them apart (FamilyInfo::read_as).
// Rows are contiguous, so that each part lies in the file as it is; GPT-2 is another matter (model/gpt2_source.h), and
// so are models of text and images (model/multimodal.h). Everything after reads, compresses and exports that family,
// which runtimes know as well.
#pragma once

#include <memory>
#include <string>

#include "checkpoint/tensor_source.h"
#include "model/architecture.h"

namespace adze {

/// config.json of such a family as that of the family it is read as, of text and images as that of its language model;
/// any other text as it is. Throws bad_data, naming `origin`, for a text that is no JSON object.
std::string unfused_config(const std::string& config, const std::string& origin);

/// The checkpoint's tensors under the names of the architecture, fused ones apart, those of towers left out. A source
/// without fused tensors is handed back. Throws bad_data for a fused tensor of another height than its parts have
/// together.
std::shared_ptr<const TensorSource> unfused_source(const Architecture& architecture,
                                                   std::shared_ptr<const TensorSource> source);

}  // namespace adze
