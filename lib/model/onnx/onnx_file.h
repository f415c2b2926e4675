// model.onnx as it lies in a file: nodes, initializers and where their bytes are. Reads the protobuf encoding itself,
// with every length bounded by the bytes that remain; fields that it has no use for are skipped.
//
// Refuses weights outside the folder, ranges that leave their file, sizes that contradict the shape, two initializers
// or outputs of one name, more nodes or initializers than a file of its size has, more than 4096 inputs or outputs of a
// node, and more than 64 attributes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/file.h"

namespace adze {

/// An initializer.
struct OnnxTensor {
  std::string name;
  std::int64_t type = 0;  ///< as ONNX numbers element types: 1 float, 10 float16, 22 int4 ...
  std::vector<std::uint64_t> dims;
  std::string location;  ///< of the side file; empty where the bytes are in model.onnx
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

struct OnnxNode {
  std::string name, op, domain;
  std::vector<std::string> inputs, outputs;
  std::map<std::string, std::variant<std::int64_t, float>> numbers;  ///< attributes that are one number
  std::map<std::string, std::string> texts;                          ///< attributes that are text
};

class OnnxFile {
 public:
  /// Throws missing_input, bad_data.
  explicit OnnxFile(const std::filesystem::path& folder);
  /// text: the bytes of model.onnx. Its side files are looked for in `folder`.
  OnnxFile(const std::filesystem::path& folder, std::string text);

  const std::string& origin() const { return origin_; }
  std::int64_t ir_version() const { return ir_version_; }
  /// Domain ("" is the standard's) to version.
  const std::map<std::string, std::int64_t>& operators() const { return operators_; }
  const std::vector<OnnxNode>& nodes() const { return nodes_; }
  const std::vector<OnnxTensor>& tensors() const { return tensors_; }
  /// nullptr when there is none.
  const OnnxNode* find_node(std::string_view name) const;
  /// The node that makes a value; nullptr for weights and inputs.
  const OnnxNode* maker_of(std::string_view value) const;
  const OnnxTensor* find_tensor(std::string_view name) const;
  /// model.onnx and its side files.
  std::vector<std::filesystem::path> files() const;

  /// All bytes of a tensor. Thread-safe.
  std::vector<std::byte> read(const OnnxTensor& tensor) const;
  /// The same as so many rows, in pieces: adze::read_rows().
  void read_rows(const OnnxTensor& tensor, std::size_t rows,
                 const std::function<void(std::size_t first, std::span<const std::byte> bytes)>& body) const;

 private:
  void read_model(std::string_view bytes);
  void read_graph(std::string_view bytes);
  void read_node(std::string_view bytes);
  void read_tensor(std::string_view bytes);
  void open_side_files(const std::filesystem::path& folder);

  std::string origin_, text_;
  std::int64_t ir_version_ = 0;
  std::map<std::string, std::int64_t> operators_;
  std::vector<OnnxNode> nodes_;
  std::vector<OnnxTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> node_index_, maker_index_, tensor_index_;
  std::map<std::string, InputFile> side_files_;
};

/// "int4". Throws bad_data for an element type that no weight has.
std::string_view onnx_type_name(std::int64_t type);
/// Bytes of that many elements. Throws bad_data for an element type that no weight has.
std::uint64_t onnx_type_bytes(std::int64_t type, std::uint64_t count);

}  // namespace adze
