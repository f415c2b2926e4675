#include "export/onnx/matrix_nodes.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "base/error.h"
#include "export/folder/bit_words.h"
#include "export/folder/folder_format.h"
#include "export/onnx/integer_layout.h"
#include "grid/format.h"
#include "linalg/convert.h"

namespace adze {
namespace {

using Parts = std::vector<ByteArray>;
using WeightDims = std::vector<std::tuple<std::string, OnnxType, std::vector<std::uint64_t>>>;

const std::string kEmbedding = "/model/embed_tokens";

Parts one_part(ByteArray bytes) {
  Parts parts;
  parts.push_back(std::move(bytes));
  return parts;
}

OnnxType onnx_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return OnnxType::f32;
    case DType::f16:
      return OnnxType::f16;
    case DType::bf16:
      return OnnxType::bf16;
    default:
      fail(ErrorKind::internal, "{} is no dtype of weights", name_of(dtype));
  }
}

std::optional<DType> floats_of(const PlannedTensor& tensor) { return dtype_from_name(dense_format(tensor.format)); }

/// The matrix with masks and factors multiplied out, checked against the plan.
TensorPtr dense_of(const TensorValues& values, const std::string& planned) {
  if (values.matrix->format() != planned)
    fail(ErrorKind::internal, "{} in the model, {} planned", values.matrix->format(), planned);
  return densified(values.matrix);
}

Parts bytes_of_parts(IntegerParts parts) {
  Parts all = one_part(std::move(parts.codes));
  all.push_back(copied(std::as_bytes(std::span(parts.scales))));
  if (!parts.zeros.empty()) all.push_back(std::move(parts.zeros));
  return all;
}

/// A value of floats as float32: constant folding does this once where it can.
std::string as_float(DecoderGraph& into, DType dtype, const std::string& name, const std::string& value) {
  if (dtype == DType::f32) return value;
  return into.graph.add("Cast", name + "/Cast", {value}, {{"to", static_cast<std::int64_t>(OnnxType::f32)}});
}

/// Declares weights with one source; their names.
std::vector<std::string> declare(DecoderGraph& into, std::optional<std::size_t> tensor, const WeightDims& all,
                                 decltype(WeightSource::encode) encode) {
  WeightSource source{tensor, into.graph.weights().size(), all.size(), std::move(encode)};
  std::vector<std::string> names;
  for (const auto& [name, type, dims] : all) names.push_back(into.graph.weight(name, type, dims));
  into.sources.push_back(std::move(source));
  return names;
}

/// W^T [in, out] as floats.
std::string add_float_product(DecoderGraph& into, const std::string& name, const PlannedTensor& tensor,
                              std::size_t index, const std::string& x) {
  const DType dtype = *floats_of(tensor);
  const Shape shape = shape_of(tensor);
  const auto names =
      declare(into, index, {{tensor.spec.hf_name, onnx_type(dtype), {shape.cols, shape.rows}}},
              [shape, planned = tensor.format, dtype](const TensorValues& values) {
                const TensorPtr dense = dense_of(values, planned);
                return one_part(transposed_elements(dense->payload(), shape.rows, shape.cols, bytes_of(dtype)));
              });
  return into.graph.add("MatMul", name + "/MatMul", {x, as_float(into, dtype, name, names.front())});
}

/// Weights of blocks: codes in the given shape, scales, zero points.
std::vector<std::string> declare_blocks(DecoderGraph& into, const PlannedTensor& tensor, std::size_t index,
                                        const BlockLayout& layout, std::vector<std::uint64_t> codes_dims) {
  const std::string& weight = tensor.spec.hf_name;
  const std::uint64_t rows = shape_of(tensor).rows;
  WeightDims parts{{weight + "_codes", OnnxType::u8, std::move(codes_dims)},
                   {weight + "_scales", OnnxType::f32, {rows, layout.blocks}}};
  if (!integers_of(tensor)->symmetric)
    parts.emplace_back(weight + "_zeros", OnnxType::u8, std::vector{rows, std::uint64_t{layout.zero_bytes()}});
  return declare(into, index, parts, [planned = tensor.format, layout](const TensorValues& values) {
    const TensorPtr dense = dense_of(values, planned);
    const auto& quantized = dynamic_cast<const QuantizedTensor&>(*dense);
    return bytes_of_parts(block_parts(unpack_sides(quantized), stored_codes(quantized), layout));
  });
}

std::vector<std::uint64_t> product_dims(Shape shape, const BlockLayout& layout) {
  return {shape.rows, layout.blocks, layout.row_bytes() / layout.blocks};
}

std::string add_block_node(DecoderGraph& into, const std::string& name, Shape shape, const BlockLayout& layout,
                           const std::string& x, std::vector<std::string> weights) {
  weights.insert(weights.begin(), x);
  return into.graph.add("MatMulNBits", name + "/MatMulNBits", weights,
                        {{"K", static_cast<std::int64_t>(shape.cols)},
                         {"N", static_cast<std::int64_t>(shape.rows)},
                         {"bits", std::int64_t{layout.bits}},
                         {"block_size", static_cast<std::int64_t>(layout.block)}});
}

BlockLayout layout_of(const PlannedTensor& tensor) {
  return block_layout(*integers_of(tensor), shape_of(tensor).cols).value();
}

std::string add_block_product(DecoderGraph& into, const std::string& name, const PlannedTensor& tensor,
                              std::size_t index, const std::string& x) {
  const BlockLayout layout = layout_of(tensor);
  const Shape shape = shape_of(tensor);
  return add_block_node(into, name, shape, layout, x,
                        declare_blocks(into, tensor, index, layout, product_dims(shape, layout)));
}

/// Rows of a table of floats.
std::string add_float_rows(DecoderGraph& into, const std::string& name, const PlannedTensor& tensor, std::size_t index,
                           const std::string& ids) {
  const DType dtype = *floats_of(tensor);
  const auto names = declare(into, index, {{tensor.spec.hf_name, onnx_type(dtype), tensor.spec.shape}},
                             [planned = tensor.format](const TensorValues& values) {
                               return one_part(copied(dense_of(values, planned)->payload()));
                             });
  return as_float(into, dtype, name, into.graph.add("Gather", name + "/Gather", {names.front(), ids}));
}

/// Rows of a table of integers.
std::string add_block_rows(DecoderGraph& into, const PlannedTensor& tensor, std::size_t index, const std::string& ids) {
  const BlockLayout layout = layout_of(tensor);
  std::vector<std::string> inputs =
      declare_blocks(into, tensor, index, layout, {shape_of(tensor).rows, layout.row_bytes()});
  inputs.insert(inputs.begin() + 1, ids);
  return into.graph.add("GatherBlockQuantized", kEmbedding + "/GatherBlockQuantized", inputs,
                        {{"bits", std::int64_t{layout.bits}},
                         {"block_size", static_cast<std::int64_t>(layout.block)},
                         {"gather_axis", std::int64_t{0}},
                         {"quantize_axis", std::int64_t{1}}});
}

/// The table of add_block_rows() as a matrix: the same bytes.
std::string add_tied_block_product(DecoderGraph& into, const std::string& name, const PlannedTensor& tensor,
                                   const std::string& x) {
  const BlockLayout layout = layout_of(tensor);
  const Shape shape = shape_of(tensor);
  const std::string& weight = tensor.spec.hf_name;
  std::vector<std::string> weights{
      into.graph.second_view("lm_head.weight_codes", product_dims(shape, layout), weight + "_codes"),
      weight + "_scales"};
  if (!integers_of(tensor)->symmetric) weights.push_back(weight + "_zeros");
  return add_block_node(into, name, shape, layout, x, std::move(weights));
}

std::string add_dequantized_product(DecoderGraph& into, const std::string& name, const PlannedTensor& tensor,
                                    std::size_t index, const std::string& x) {
  const IntegerGridSpec spec = *integers_of(tensor);
  const Shape shape = shape_of(tensor);
  const bool has_groups = spec.scope == ScaleScope::group;
  const std::string& weight = tensor.spec.hf_name;
  const OnnxType codes = dequantize_bits(spec) == 4 ? (spec.symmetric ? OnnxType::i4 : OnnxType::u4)
                                                    : (spec.symmetric ? OnnxType::i8 : OnnxType::u8);
  const std::vector<std::uint64_t> sides = has_groups ? std::vector<std::uint64_t>{shape.cols / spec.group, shape.rows}
                                                      : std::vector<std::uint64_t>{shape.rows};
  WeightDims parts{{weight + "_codes", codes, {shape.cols, shape.rows}}, {weight + "_scales", OnnxType::f32, sides}};
  if (!spec.symmetric) parts.emplace_back(weight + "_zeros", codes, sides);
  const auto names = declare(into, index, parts, [planned = tensor.format](const TensorValues& values) {
    const TensorPtr dense = dense_of(values, planned);
    return bytes_of_parts(dequantize_parts(unpack_integers(dynamic_cast<const QuantizedTensor&>(*dense))));
  });
  const OnnxGraph::Attributes attributes =
      has_groups
          ? OnnxGraph::Attributes{{"axis", std::int64_t{0}}, {"block_size", static_cast<std::int64_t>(spec.group)}}
          : OnnxGraph::Attributes{{"axis", std::int64_t{1}}};
  const std::string values = into.graph.add("DequantizeLinear", name + "/DequantizeLinear", names, attributes);
  return into.graph.add("MatMul", name + "/MatMul", {x, values});
}

bool is_table(const PlannedTensor& tensor) { return tensor.spec.role == TensorRole::embedding; }

std::optional<std::string> refuses_table(const PlannedTensor& tensor, OnnxOperators operators) {
  const std::string& module = tensor.spec.module;
  if (operators == OnnxOperators::standard)
    return fmt::format(
        "{}: the standard has no lookup in a table of integers; give it store: f16 or bf16, or export onnx", module);
  const std::size_t cols = shape_of(tensor).cols;
  const auto layout = block_layout(*integers_of(tensor), cols);
  if (layout && layout->blocks * layout->block == cols) return std::nullopt;
  return fmt::format(
      "{}: a table of integers has scales for 16, 32, 64, 128 or 256 columns, which divide its {}; take group: 32, or "
      "give it store: f16 or bf16",
      module, cols);
}

}  // namespace

std::optional<std::string> onnx_refuses(const PlannedTensor& tensor, OnnxOperators operators) {
  const std::string& module = tensor.spec.module;
  if (floats_of(tensor)) return std::nullopt;
  const auto spec = integers_of(tensor);
  if (!spec)
    return fmt::format(
        "{}: ONNX holds integers with scales, not {}; take an integer grid such as int4, or export gguf or safetensors",
        module, tensor.format);
  if (spec->scope == ScaleScope::tensor)
    return fmt::format("{}: ONNX has a scale for each group or channel, not one for the matrix; take scope: channel",
                       module);
  if (is_table(tensor)) return refuses_table(tensor, operators);
  if (operators == OnnxOperators::onnxruntime && !block_layout(*spec, shape_of(tensor).cols))
    return fmt::format(
        "{}: MatMulNBits has blocks of 16, 32, 64, 128 or 256 columns, and {} are no multiple of 16; take group: 32, "
        "or export onnx-qdq",
        module, spec->group);
  return std::nullopt;
}

std::optional<std::string> onnx_remark(const PlannedTensor& tensor, OnnxOperators operators) {
  const std::string& module = tensor.spec.module;
  if (is_composed(tensor.format))
    return fmt::format("{}: {} is multiplied out and rounded to {}", module, tensor.format,
                       dense_format(tensor.format));
  if (dense_format(tensor.format) != tensor.format)
    return fmt::format("{}: the zeros of {} are stored as codes", module, tensor.format);
  const auto spec = integers_of(tensor);
  if (!spec) return std::nullopt;
  const auto layout = block_layout(*spec, shape_of(tensor).cols);
  const bool has_blocks = operators == OnnxOperators::onnxruntime && layout;
  const int bits = has_blocks ? layout->bits : dequantize_bits(*spec);
  if (bits != spec->bits) return fmt::format("{}: {} bits are stored in {}", module, spec->bits, bits);
  if (has_blocks && (spec->scope != ScaleScope::group || spec->group != layout->block))
    return fmt::format("{}: scales are repeated for each {} columns", module, layout->block);
  return std::nullopt;
}

std::string add_product(DecoderGraph& into, OnnxOperators operators, const std::string& name,
                        const PlannedTensor& tensor, std::size_t index, const std::string& x) {
  if (floats_of(tensor)) return add_float_product(into, name, tensor, index, x);
  return operators == OnnxOperators::onnxruntime ? add_block_product(into, name, tensor, index, x)
                                                 : add_dequantized_product(into, name, tensor, index, x);
}

std::string add_embedding(DecoderGraph& into, const PlannedTensor& tensor, std::size_t index, const std::string& ids) {
  return floats_of(tensor) ? add_float_rows(into, kEmbedding, tensor, index, ids)
                           : add_block_rows(into, tensor, index, ids);
}

std::string add_positions_table(DecoderGraph& into, const PlannedTensor& tensor, std::size_t index,
                                const std::string& rows) {
  return add_float_rows(into, "/model/" + tensor.spec.module, tensor, index, rows);
}

std::string add_tied_product(DecoderGraph& into, const std::string& name, const PlannedTensor& embedding,
                             const std::string& x) {
  if (!floats_of(embedding)) return add_tied_block_product(into, name, embedding, x);
  const std::string table = as_float(into, *floats_of(embedding), name, embedding.spec.hf_name);
  const std::string turned_table =
      into.graph.add("Transpose", name + "/Transpose", {table}, {{"perm", std::vector<std::int64_t>{1, 0}}});
  return into.graph.add("MatMul", name + "/MatMul", {x, turned_table});
}

std::string add_vector(DecoderGraph& into, const PlannedTensor& tensor, std::size_t index, float offset) {
  return declare(into, index, {{tensor.spec.hf_name, OnnxType::f32, tensor.spec.shape}},
                 [offset](const TensorValues& values) {
                   std::vector<float> stored = values.vector;
                   for (float& value : stored) value += offset;
                   return one_part(copied(std::as_bytes(std::span(stored))));
                 })
      .front();
}

}  // namespace adze
