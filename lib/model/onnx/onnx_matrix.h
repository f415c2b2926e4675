// Weights of an ONNX graph's products as stored tensors. Internal to model/onnx.
#pragma once

#include <string>

#include "model/onnx/onnx_file.h"
#include "model/weights.h"

namespace adze {

/// What MatMulNBits multiplies by: [N x K].
TensorPtr block_matrix(const OnnxFile& file, const OnnxNode& node, Shape shape);
/// The table that GatherBlockQuantized looks rows up in.
TensorPtr gathered_matrix(const OnnxFile& file, const OnnxNode& node, Shape shape);
/// What a MatMul multiplies by: floats [in, out], perhaps cast, or the output of DequantizeLinear.
TensorPtr product_matrix(const OnnxFile& file, const OnnxNode& node, Shape shape);
/// Floats as they lie: [rows, cols].
TensorPtr float_matrix(const OnnxFile& file, const std::string& tensor, Shape shape);

/// An initializer of this type and shape. Throws bad_data.
const OnnxTensor& require_tensor(const OnnxFile& file, const std::string& name, std::int64_t type,
                                 const std::vector<std::uint64_t>& dims);
/// An attribute that is one whole number. Throws bad_data when it is missing.
std::int64_t integer_of(const OnnxNode& node, const std::string& name);

inline constexpr std::int64_t kOnnxFloat = 1, kOnnxU8 = 2, kOnnxI8 = 3, kOnnxI64 = 7, kOnnxF16 = 10, kOnnxBf16 = 16,
                              kOnnxU4 = 21, kOnnxI4 = 22;

}  // namespace adze
