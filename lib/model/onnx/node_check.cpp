#include "model/onnx/node_check.h"

#include <algorithm>

namespace adze {

void expect_setting(const OnnxNode& node, const char* name, std::int64_t want) {
  if (const std::int64_t said = integer_of(node, name); said != want)
    fail(ErrorKind::bad_data, "node '{}': {} is {}, config.json says {}", node.name, name, said, want);
}

void expect_setting(const OnnxNode& node, const char* name, float want) {
  const auto at = node.numbers.find(name);
  if (at == node.numbers.end() || !std::holds_alternative<float>(at->second) || std::get<float>(at->second) != want)
    fail(ErrorKind::bad_data, "node '{}': {} is not {}, which config.json says", node.name, name, want);
}

void expect_text(const OnnxNode& node, const std::string& name, const std::string& want) {
  if (const auto at = node.texts.find(name); at == node.texts.end() || at->second != want)
    fail(ErrorKind::bad_data, "node '{}': {} is not {}, which config.json asks for", node.name, name, want);
}

const OnnxNode& node_of(const OnnxFile& file, const std::string& name) {
  const OnnxNode* const found = file.find_node(name);
  if (found == nullptr) fail(ErrorKind::bad_data, "node '{}' is missing, which config.json asks for", name);
  return *found;
}

std::string take(const OnnxFile& file, const std::string& name, std::string_view op,
                 const std::vector<std::string>& inputs) {
  const OnnxNode& found = node_of(file, name);
  if (found.op != op) fail(ErrorKind::bad_data, "node '{}' is {}, config.json asks for {}", name, found.op, op);
  const std::vector<std::string> first(found.inputs.begin(),
                                       found.inputs.begin() + std::min(std::ssize(found.inputs), std::ssize(inputs)));
  if (first != inputs) fail(ErrorKind::bad_data, "node '{}' reads {}, by config.json it reads {}", name, first, inputs);
  if (found.outputs.empty()) fail(ErrorKind::bad_data, "node '{}' has no output", name);
  return found.outputs.front();
}

}  // namespace adze
