// How a matrix is stored in an ONNX file and multiplied there. Internal to export/onnx.
#pragma once

#include <string>

#include "export/onnx/decoder_graph.h"
#include "grid/integer/integer.h"

namespace adze {

/// Adds the weights of `tensor` (number `index` of the plan) and the nodes of y = x W^T under `name`; returns y.
std::string add_product(DecoderGraph& into, OnnxOperators operators, const std::string& name,
                        const PlannedTensor& tensor, std::size_t index, const std::string& x);

/// The rows of an embedding table that ids name, as float32.
std::string add_embedding(DecoderGraph& into, const PlannedTensor& tensor, std::size_t index, const std::string& ids);

/// y = x E^T with the table of add_embedding().
std::string add_tied_product(DecoderGraph& into, const std::string& name, const PlannedTensor& embedding,
                             const std::string& x);

/// The rows of a table of positions, as float32.
std::string add_positions_table(DecoderGraph& into, const PlannedTensor& tensor, std::size_t index,
                                const std::string& rows);

/// A norm or a bias, as float32. offset: of norms, which a graph has with what the family adds to them.
std::string add_vector(DecoderGraph& into, const PlannedTensor& tensor, std::size_t index, float offset);

}  // namespace adze
