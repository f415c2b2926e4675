// What nodes of a graph are asked for while it is followed: operator, inputs, settings and constants. Internal to
// model/onnx.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/ranges.h>

#include "base/error.h"
#include "model/onnx/onnx_file.h"
#include "model/onnx/onnx_matrix.h"

namespace adze {

inline bool is_operator(const OnnxNode* node, std::string_view op) { return node != nullptr && node->op == op; }

/// An attribute that is a number. Throws bad_data unless it is this one.
void expect_setting(const OnnxNode& node, const char* name, std::int64_t want);
void expect_setting(const OnnxNode& node, const char* name, float want);
/// The same of one that is text.
void expect_text(const OnnxNode& node, const std::string& name, const std::string& want);

/// An input of a node, by default the second, must be a constant of these dimensions (of a scalar none) and values;
/// throws bad_data otherwise.
template <typename Value>
void expect_constant(const OnnxFile& file, const std::string& name, std::int64_t type,
                     const std::vector<std::uint64_t>& dims, const std::vector<Value>& want, std::size_t input = 1) {
  const OnnxNode* const node = file.find_node(name);
  if (node == nullptr || node->inputs.size() <= input)
    fail(ErrorKind::bad_data, "node '{}' is missing or has not {} inputs", name, input + 1);
  const std::vector<std::byte> bytes = file.read(require_tensor(file, node->inputs[input], type, dims));
  std::vector<Value> said(bytes.size() / sizeof(Value));
  std::memcpy(said.data(), bytes.data(), bytes.size());
  if (said != want) fail(ErrorKind::bad_data, "node '{}': its constant is {}, config.json says {}", name, said, want);
}

/// Throws bad_data where there is none of that name.
const OnnxNode& node_of(const OnnxFile& file, const std::string& name);

/// The first output of a node of this operator whose first inputs are these; throws bad_data for any other.
std::string take(const OnnxFile& file, const std::string& name, std::string_view op,
                 const std::vector<std::string>& inputs);

}  // namespace adze
