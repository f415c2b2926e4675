// A reader of model.onnx that shares no code with the library: protobuf taken field by field, as onnx.proto numbers
// them, and the codes of MatMulNBits and DequantizeLinear taken bit by bit, as their documents say.
#pragma once

#include <bit>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace adze::testing {

/// A field: a number, or bytes.
struct PlainField {
  std::uint64_t number = 0;
  std::string bytes;
};
/// Fields of a message by their number, in order.
using PlainMessage = std::multimap<int, PlainField>;

inline std::uint64_t plain_varint(const std::string& in, std::size_t& at) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(in.at(at++));
    value += std::uint64_t{byte % 128U} << shift;
    if (byte < 128) return value;
  }
}

inline PlainMessage plain_message(const std::string& in) {
  PlainMessage message;
  for (std::size_t at = 0; at < in.size();) {
    const std::uint64_t tag = plain_varint(in, at);
    PlainField field;
    if (tag % 8 == 0) {
      field.number = plain_varint(in, at);
    } else if (tag % 8 == 2) {
      const std::uint64_t size = plain_varint(in, at);
      if (size > in.size() - at) throw std::runtime_error("a field leaves its message");
      field.bytes = in.substr(at, size);
      at += size;
    } else if (tag % 8 == 5) {
      field.bytes = in.substr(at, 4);
      at += 4;
    } else {
      throw std::runtime_error("a wire type that ONNX has no field of");
    }
    message.emplace(static_cast<int>(tag / 8), field);
  }
  return message;
}

inline std::vector<std::string> plain_texts(const PlainMessage& message, int field) {
  std::vector<std::string> all;
  for (auto [at, end] = message.equal_range(field); at != end; ++at) all.push_back(at->second.bytes);
  return all;
}
inline std::string plain_text(const PlainMessage& message, int field) {
  const auto at = message.find(field);
  return at == message.end() ? "" : at->second.bytes;
}
inline std::uint64_t plain_number(const PlainMessage& message, int field) {
  const auto at = message.find(field);
  return at == message.end() ? 0 : at->second.number;
}

struct PlainAttribute {
  std::uint64_t type = 0;  ///< 1 float, 2 int, 3 string, 7 ints
  std::int64_t integer = 0;
  float real = 0;
  bool is_filled = false;  ///< the field of its type is there, and no other
};

struct PlainNode {
  std::string name, op, domain;
  std::vector<std::string> inputs, outputs;
  std::map<std::string, PlainAttribute> attributes;
};

struct PlainInitializer {
  std::uint64_t type = 0;
  std::vector<std::uint64_t> dims;
  bool is_external = false;
  std::uint64_t offset = 0;
  std::string location, bytes;

  unsigned field(std::size_t i, unsigned bits) const {
    const auto byte = static_cast<unsigned char>(bytes.at(i * bits / 8));
    return byte >> (i * bits % 8) & ((1U << bits) - 1);
  }
  float number(std::size_t i) const {
    std::uint32_t word = 0;
    for (std::size_t b = 4; b-- > 0;) word = word << 8 | static_cast<unsigned char>(bytes.at(4 * i + b));
    return std::bit_cast<float>(word);
  }
};

struct PlainOnnx {
  std::uint64_t ir_version = 0;
  std::map<std::string, std::uint64_t> operators;
  std::map<std::string, std::string> properties;
  std::vector<PlainNode> nodes;
  std::map<std::string, PlainInitializer> initializers;
  std::vector<std::string> inputs, outputs, initializer_names;
  std::string data;  ///< of the side file

  const PlainNode& node(const std::string& name) const {
    for (const PlainNode& one : nodes)
      if (one.name == name) return one;
    throw std::runtime_error("no node " + name);
  }
};

inline std::string plain_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("no file " + path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

inline PlainNode plain_node(const PlainMessage& message) {
  PlainNode node{plain_text(message, 3),  plain_text(message, 4),  plain_text(message, 7),
                 plain_texts(message, 1), plain_texts(message, 2), {}};
  const std::map<std::uint64_t, int> field_of{{1, 2}, {2, 3}, {3, 4}, {7, 8}};
  for (const std::string& text : plain_texts(message, 5)) {
    const PlainMessage said = plain_message(text);
    PlainAttribute attribute{plain_number(said, 20), static_cast<std::int64_t>(plain_number(said, 3)), 0, false};
    if (said.contains(2)) attribute.real = PlainInitializer{0, {}, false, 0, "", plain_text(said, 2)}.number(0);
    attribute.is_filled = field_of.contains(attribute.type) && said.contains(field_of.at(attribute.type));
    for (const auto& [type, field] : field_of)
      if (type != attribute.type && said.contains(field)) attribute.is_filled = false;
    node.attributes[plain_text(said, 1)] = attribute;
  }
  return node;
}

inline PlainOnnx plain_onnx(const std::filesystem::path& folder) {
  PlainOnnx model;
  model.data = plain_file(folder / "model.onnx_data");
  const PlainMessage file = plain_message(plain_file(folder / "model.onnx"));
  model.ir_version = plain_number(file, 1);
  for (const std::string& text : plain_texts(file, 8))
    model.operators[plain_text(plain_message(text), 1)] = plain_number(plain_message(text), 2);
  for (const std::string& text : plain_texts(file, 14))
    model.properties[plain_text(plain_message(text), 1)] = plain_text(plain_message(text), 2);
  const PlainMessage graph = plain_message(plain_text(file, 7));
  for (const std::string& text : plain_texts(graph, 1)) model.nodes.push_back(plain_node(plain_message(text)));
  for (const std::string& text : plain_texts(graph, 11)) model.inputs.push_back(plain_text(plain_message(text), 1));
  for (const std::string& text : plain_texts(graph, 12)) model.outputs.push_back(plain_text(plain_message(text), 1));
  for (const std::string& text : plain_texts(graph, 5)) {
    const PlainMessage message = plain_message(text);
    PlainInitializer one{plain_number(message, 2), {}, plain_number(message, 14) == 1, 0, "", plain_text(message, 9)};
    for (auto [at, end] = message.equal_range(1); at != end; ++at) one.dims.push_back(at->second.number);
    std::map<std::string, std::string> place;
    for (const std::string& entry : plain_texts(message, 13))
      place[plain_text(plain_message(entry), 1)] = plain_text(plain_message(entry), 2);
    if (one.is_external) {
      one.location = place.at("location");
      one.offset = std::stoull(place.at("offset"));
      one.bytes = model.data.substr(one.offset, std::stoull(place.at("length")));
    }
    model.initializer_names.push_back(plain_text(message, 8));
    model.initializers[plain_text(message, 8)] = one;
  }
  return model;
}

/// W [out x in] of a MatMulNBits node.
inline std::vector<float> plain_blocks(const PlainOnnx& model, const PlainNode& node) {
  const auto attribute = [&](const char* name) { return static_cast<std::size_t>(node.attributes.at(name).integer); };
  const std::size_t k = attribute("K"), n = attribute("N"), bits = attribute("bits"), block = attribute("block_size");
  const std::size_t blocks = (k + block - 1) / block, zero_bytes = (blocks * bits + 7) / 8;
  const PlainInitializer &codes = model.initializers.at(node.inputs.at(1)),
                         &scales = model.initializers.at(node.inputs.at(2));
  std::vector<float> values;
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t c = 0; c < k; ++c) {
      const unsigned code = codes.field(r * blocks * block + c, static_cast<unsigned>(bits));
      unsigned zero = 1U << (bits - 1);
      if (node.inputs.size() > 3) {
        const PlainInitializer& zeros = model.initializers.at(node.inputs[3]);
        zero = zeros.field(r * zero_bytes * 8 / bits + c / block, static_cast<unsigned>(bits));
      }
      values.push_back((static_cast<float>(code) - static_cast<float>(zero)) * scales.number(r * blocks + c / block));
    }
  return values;
}

/// W [out x in] of a DequantizeLinear node over [in, out].
inline std::vector<float> plain_dequantized(const PlainOnnx& model, const PlainNode& node) {
  const PlainInitializer &codes = model.initializers.at(node.inputs.at(0)),
                         &scales = model.initializers.at(node.inputs.at(1));
  const std::size_t k = codes.dims.at(0), n = codes.dims.at(1);
  const bool has_groups = node.attributes.at("axis").integer == 0, is_signed = codes.type == 3 || codes.type == 22;
  const unsigned bits = codes.type == 21 || codes.type == 22 ? 4 : 8;
  const auto code_of = [&](const PlainInitializer& one, std::size_t i) {
    const int code = static_cast<int>(one.field(i, bits));
    return is_signed && code >= 1 << (bits - 1) ? code - (1 << bits) : code;
  };
  std::vector<float> values(n * k);
  for (std::size_t c = 0; c < k; ++c)
    for (std::size_t r = 0; r < n; ++r) {
      const std::size_t group =
          has_groups ? c / static_cast<std::size_t>(node.attributes.at("block_size").integer) * n + r : r;
      const int zero = node.inputs.size() > 2 ? code_of(model.initializers.at(node.inputs[2]), group) : 0;
      values[r * k + c] = static_cast<float>(code_of(codes, c * n + r) - zero) * scales.number(group);
    }
  return values;
}

}  // namespace adze::testing
