// The experts of a block in operators of the standard: each gets the rows of its tokens, none where there are none, so
// that time grows with the experts that are chosen. Internal to export/onnx.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "export/onnx/onnx_graph.h"
#include "model/architecture.h"
#include "model/tensors.h"

namespace adze {

/// "mlp", or "mlp/experts.3": what nodes of an FFN are called by. expert: or LinearSlot::kNoExpert.
std::string ffn_name(std::int32_t expert);

/// What a mixture makes of y [B, S, H] (model/mixture.h), the shared expert included; its nodes lie under `name`.
/// router(slot, x): x [T, H] times that router's weights. ffn(expert, x): what an expert makes of rows, or, of
/// LinearSlot::kNoExpert, the shared one.
std::string add_mixture(OnnxGraph& graph, const Architecture& architecture, const std::string& name,
                        const std::string& y,
                        const std::function<std::string(LinearSlot slot, const std::string& x)>& router,
                        const std::function<std::string(std::int32_t expert, const std::string& x)>& ffn);

}  // namespace adze
