// The graph of a decoder-only transformer over one cache: token ids, attention mask and past keys and values in;
// logits and present keys and values out, under the names that onnxruntime-genai looks for. Activations are float32.
//
// Two ways to say it: with onnxruntime's own operators (MatMulNBits, GroupQueryAttention, fused norms), or with those
// of the standard alone. Both have the same inputs and outputs.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "base/byte_array.h"
#include "export/exporter.h"
#include "export/onnx/onnx_graph.h"
#include "export/tensor_walk.h"

namespace adze {

enum class OnnxOperators {
  onnxruntime,  ///< fastest; attention is spelled out where heads, or what is rotated of them, are no multiple of 16,
                ///< which its operator asks for
  standard
};

/// Weights of the side file that are made at once, of one tensor of the plan or, without one, of sizes alone.
struct WeightSource {
  std::optional<std::size_t> tensor;
  std::size_t first = 0, count = 0;  ///< of OnnxGraph::weights()
  /// All bytes of each.
  std::function<std::vector<ByteArray>(const TensorValues&)> encode;
};

struct DecoderGraph {
  OnnxGraph graph;
  std::vector<WeightSource> sources;  ///< in the order of the side file, blocks in order
};

/// True where attention is one operator with a cache of its own, which can grow in place.
bool has_attention_operator(const Architecture& architecture, OnnxOperators operators);

/// Why such a matrix cannot be stored, and what could; nothing where it can.
std::optional<std::string> onnx_refuses(const PlannedTensor& tensor, OnnxOperators operators);
/// What the user should know of one that can.
std::optional<std::string> onnx_remark(const PlannedTensor& tensor, OnnxOperators operators);

/// What a matrix adds to the graph and to the side file, and its weights; places have few digits.
struct OnnxPart {
  std::uint64_t bytes = 0;
  std::vector<OnnxWeight> weights;
};
OnnxPart onnx_part(const PlannedTensor& tensor, const Architecture& architecture, OnnxOperators operators);

DecoderGraph decoder_graph(const ExportPlan& plan, OnnxOperators operators);

}  // namespace adze
