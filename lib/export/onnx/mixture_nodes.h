// The experts of a block in operators of the standard: rows of tokens are put in the order of the experts that they go to,
// each expert gets its rows, none where there are none, and their products go back to their tokens. So time grows with
// the experts that are chosen; those that are not cost their nodes. Internal to export/onnx.
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

/// Adds x [T, H] times the weights of a router.
using RouterNodes = std::function<std::string(LinearSlot slot, const std::string& x)>;
/// Adds what an expert makes of rows x [n, H], or, of LinearSlot::kNoExpert, the shared one.
using FfnNodes = std::function<std::string(std::int32_t expert, const std::string& x)>;

/// What a mixture makes of y [B, S, H] (model/mixture.h), the shared expert included; its nodes lie under `name`.
std::string add_mixture(OnnxGraph& graph, const Architecture& architecture, const std::string& name,
                        const std::string& y, const RouterNodes& router, const FfnNodes& ffn);

}  // namespace adze
