#include "model/onnx/onnx_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "base/read_bytes.h"
#include "checkpoint/folder_files.h"
#include "model/architecture.h"

namespace adze {
namespace {

constexpr const char* kModelName = "model.onnx";
constexpr std::uint64_t kMostModelBytes = (std::uint64_t{1} << 31) - 1;  // of a protobuf message
constexpr std::size_t kMostDims = 8;
/// Empty messages take two bytes in the file and a hundred times that here, so nodes and initializers are counted: a
/// few for any file, more for one whose bytes they can be made of (names alone take more than these).
constexpr std::size_t kFewItems = 65536, kBytesOfAnItem = 64;
constexpr std::size_t kMostValuesOfANode = kMostExperts;  // inputs, outputs: a mixture has one for each expert
constexpr std::size_t kMostAttributes = 64;               // of a node
constexpr std::size_t kMostDomains = 64;

std::size_t most_items(std::size_t file_bytes) { return kFewItems + file_bytes / kBytesOfAnItem; }

/// The element types that weights and constants of a decoder have.
struct TypeInfo {
  std::int64_t number;
  std::string_view name;
  std::uint64_t bits;
};
constexpr std::array kTypes{TypeInfo{1, "float", 32},    TypeInfo{2, "uint8", 8},      TypeInfo{3, "int8", 8},
                            TypeInfo{6, "int32", 32},    TypeInfo{7, "int64", 64},     TypeInfo{9, "bool", 8},
                            TypeInfo{10, "float16", 16}, TypeInfo{16, "bfloat16", 16}, TypeInfo{21, "uint4", 4},
                            TypeInfo{22, "int4", 4}};

const TypeInfo& type_of(std::int64_t number) {
  const auto* const at = std::ranges::find(kTypes, number, &TypeInfo::number);
  if (at == kTypes.end()) fail(ErrorKind::bad_data, "element type {} is not supported", number);
  return *at;
}

/// One field of a protobuf message.
struct Field {
  std::uint32_t number = 0;
  std::uint32_t wire = 0;   ///< 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes
  std::uint64_t value = 0;  ///< of varints and fixed sizes
  std::string_view bytes;   ///< of length-delimited ones
};

class Fields {
 public:
  explicit Fields(std::string_view bytes) : bytes_(bytes) {}

  bool next(Field& field) {
    if (bytes_.empty()) return false;
    const std::uint64_t tag = varint();
    field = {checked_cast<std::uint32_t>(tag >> 3), static_cast<std::uint32_t>(tag & 7), 0, {}};
    switch (field.wire) {
      case 0:
        field.value = varint();
        return true;
      case 1:
        field.value = fixed(8);
        return true;
      case 2:
        field.bytes = take(varint());
        return true;
      case 5:
        field.value = fixed(4);
        return true;
      default:
        fail(ErrorKind::bad_data, "field {} has the unknown wire type {}", field.number, field.wire);
    }
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1).front());
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    fail(ErrorKind::bad_data, "a number of more than 64 bits");
  }
  bool empty() const { return bytes_.empty(); }

 private:
  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size()) fail(ErrorKind::bad_data, "a field of {} bytes where {} are left", count, bytes_.size());
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }
  std::uint64_t fixed(std::size_t count) {
    std::uint64_t value = 0;
    const std::string_view bytes = take(count);
    std::memcpy(&value, bytes.data(), count);
    return value;
  }

  std::string_view bytes_;
};

/// A field must have the wire type that the schema gives it.
const Field& expect(const Field& field, std::uint32_t wire) {
  if (field.wire != wire)
    fail(ErrorKind::bad_data, "field {} has wire type {}, not {}", field.number, field.wire, wire);
  return field;
}
std::string text_of(const Field& field) { return std::string(expect(field, 2).bytes); }
std::int64_t number_of(const Field& field) { return static_cast<std::int64_t>(expect(field, 0).value); }

/// Calls body(field) for every field of a message.
template <typename Body>
void each_field(std::string_view message, Body&& body) {
  Fields fields(message);
  Field field;
  while (fields.next(field)) body(field);
}

/// {key = 1, value = 2}
std::pair<std::string, std::string> entry_of(std::string_view message) {
  std::pair<std::string, std::string> entry;
  each_field(message, [&](const Field& field) {
    if (field.number == 1) entry.first = text_of(field);
    if (field.number == 2) entry.second = text_of(field);
  });
  return entry;
}

std::uint64_t decimal(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    fail(ErrorKind::bad_data, "'{}' is no size", text.substr(0, 40));
  return value;
}

void expect_room(std::size_t count, std::size_t most, std::string_view what) {
  if (count >= most) fail(ErrorKind::bad_data, "more than {} {}", most, what);
}

void add_dim(OnnxTensor& tensor, std::uint64_t dim) {
  expect_room(tensor.dims.size(), kMostDims, "dimensions");
  if (dim > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    fail(ErrorKind::bad_data, "a dimension is negative");
  tensor.dims.push_back(dim);
}

/// Repeated numbers, one by one or packed.
void add_dims(OnnxTensor& tensor, const Field& field) {
  if (field.wire == 0) return add_dim(tensor, field.value);
  Fields packed(expect(field, 2).bytes);
  while (!packed.empty()) add_dim(tensor, packed.varint());
}

void add_value(std::vector<std::string>& values, const Field& field, std::string_view what) {
  expect_room(values.size(), kMostValuesOfANode, what);
  values.push_back(text_of(field));
}

/// What it says and nothing for lists and tensors.
void add_attribute(OnnxNode& node, std::string_view message) {
  expect_room(node.numbers.size() + node.texts.size(), kMostAttributes, "attributes of a node");
  std::string name;
  std::optional<std::variant<std::int64_t, float>> value;
  std::optional<std::string> text;
  each_field(message, [&](const Field& field) {
    if (field.number == 1) name = text_of(field);
    if (field.number == 2) value = std::bit_cast<float>(static_cast<std::uint32_t>(expect(field, 5).value));
    if (field.number == 3) value = number_of(field);
    if (field.number == 4) text = text_of(field);
  });
  if ((value && !node.numbers.emplace(name, *value).second) || (text && !node.texts.emplace(name, *text).second))
    fail(ErrorKind::bad_data, "node '{}' has two attributes '{}'", node.name, name);
}

void add_index(std::map<std::string, std::size_t, std::less<>>& index, const std::string& name, std::size_t at,
               const char* what) {
  if (!index.emplace(name, at).second) fail(ErrorKind::bad_data, "two {} are called '{}'", what, name);
}

template <typename Item>
const Item* find_in(const std::map<std::string, std::size_t, std::less<>>& index, const std::vector<Item>& items,
                    std::string_view name) {
  const auto at = index.find(name);
  return at == index.end() ? nullptr : &items[at->second];
}

}  // namespace

std::string_view onnx_type_name(std::int64_t type) { return type_of(type).name; }

std::uint64_t onnx_type_bytes(std::int64_t type, std::uint64_t count) {
  return divide_up(checked_mul(count, type_of(type).bits), 8);
}

OnnxFile::OnnxFile(const std::filesystem::path& folder)
    : OnnxFile(folder, read_file(path_in_folder(folder, kModelName), kMostModelBytes)) {}

OnnxFile::OnnxFile(const std::filesystem::path& folder, std::string text)
    : origin_((folder / kModelName).string()), text_(std::move(text)) {
  with_context(origin_, [&] {
    read_model(text_);
    open_side_files(folder);
  });
}

void OnnxFile::read_model(std::string_view bytes) {
  each_field(bytes, [&](const Field& field) {
    if (field.number == 1) ir_version_ = number_of(field);
    if (field.number == 7) read_graph(expect(field, 2).bytes);
    if (field.number != 8) return;
    std::string domain;
    std::int64_t version = 0;
    each_field(expect(field, 2).bytes, [&](const Field& part) {
      if (part.number == 1) domain = text_of(part);
      if (part.number == 2) version = number_of(part);
    });
    expect_room(operators_.size(), kMostDomains, "domains of operators");
    if (!operators_.emplace(domain, version).second)
      fail(ErrorKind::bad_data, "operators of '{}' have two versions", domain);
  });
}

void OnnxFile::read_graph(std::string_view bytes) {
  each_field(bytes, [&](const Field& field) {
    if (field.number == 1) read_node(expect(field, 2).bytes);
    if (field.number == 5) read_tensor(expect(field, 2).bytes);
  });
}

void OnnxFile::read_node(std::string_view bytes) {
  expect_room(nodes_.size(), most_items(text_.size()), "nodes");
  OnnxNode node;
  each_field(bytes, [&](const Field& field) {
    if (field.number == 1) add_value(node.inputs, field, "inputs of a node");
    if (field.number == 2) add_value(node.outputs, field, "outputs of a node");
    if (field.number == 3) node.name = text_of(field);
    if (field.number == 4) node.op = text_of(field);
    if (field.number == 5) add_attribute(node, expect(field, 2).bytes);
    if (field.number == 7) node.domain = text_of(field);
  });
  if (!node.name.empty()) add_index(node_index_, node.name, nodes_.size(), "nodes");
  for (const std::string& output : node.outputs)
    if (!output.empty()) add_index(maker_index_, output, nodes_.size(), "values");
  nodes_.push_back(std::move(node));
}

void OnnxFile::read_tensor(std::string_view bytes) {
  expect_room(tensors_.size(), most_items(text_.size()), "initializers");
  OnnxTensor tensor;
  std::optional<std::uint64_t> length;
  std::optional<std::string_view> raw;
  bool is_external = false;
  each_field(bytes, [&](const Field& field) {
    if (field.number == 1) add_dims(tensor, field);
    if (field.number == 2) tensor.type = number_of(field);
    if (field.number == 8) tensor.name = text_of(field);
    if (field.number == 9) raw = expect(field, 2).bytes;
    if (field.number == 14) is_external = number_of(field) == 1;
    if (field.number != 13) return;
    const auto [key, value] = entry_of(expect(field, 2).bytes);
    if (key == "location") tensor.location = value;
    if (key == "offset") tensor.offset = decimal(value);
    if (key == "length") length = decimal(value);
  });
  with_context(fmt::format("initializer '{}'", tensor.name), [&] {
    tensor.bytes = onnx_type_bytes(tensor.type, checked_product(tensor.dims));
    if (!is_external) {
      if (!raw) fail(ErrorKind::bad_data, "its values are neither raw bytes nor in a side file");
      tensor.location.clear();
      tensor.offset = static_cast<std::uint64_t>(raw->data() - text_.data());
      length = raw->size();
    } else if (tensor.location.empty()) {
      fail(ErrorKind::bad_data, "names no side file");
    }
    if (length.value_or(tensor.bytes) != tensor.bytes)
      fail(ErrorKind::bad_data, "{} bytes, its shape takes {}", *length, tensor.bytes);
  });
  add_index(tensor_index_, tensor.name, tensors_.size(), "initializers");
  tensors_.push_back(std::move(tensor));
}

void OnnxFile::open_side_files(const std::filesystem::path& folder) {
  for (const OnnxTensor& tensor : tensors_) {
    if (tensor.location.empty()) continue;
    auto at = side_files_.find(tensor.location);
    if (at == side_files_.end())
      at = side_files_.emplace(tensor.location, InputFile(path_in_folder(folder, tensor.location))).first;
    if (checked_add(tensor.offset, tensor.bytes) > at->second.size())
      fail(ErrorKind::bad_data, "initializer '{}': ends at {} of '{}', which has {} bytes", tensor.name,
           tensor.offset + tensor.bytes, tensor.location, at->second.size());
  }
}

const OnnxNode* OnnxFile::find_node(std::string_view name) const { return find_in(node_index_, nodes_, name); }
const OnnxNode* OnnxFile::maker_of(std::string_view value) const { return find_in(maker_index_, nodes_, value); }
const OnnxTensor* OnnxFile::find_tensor(std::string_view name) const { return find_in(tensor_index_, tensors_, name); }

std::vector<std::filesystem::path> OnnxFile::files() const {
  std::vector<std::filesystem::path> all{origin_};
  for (const auto& [name, file] : side_files_) all.push_back(file.path());
  return all;
}

std::vector<std::byte> OnnxFile::read(const OnnxTensor& tensor) const {
  if (!tensor.location.empty()) return read_bytes(side_files_.at(tensor.location), tensor.offset, tensor.bytes);
  std::vector<std::byte> bytes(checked_cast<std::size_t>(tensor.bytes));
  std::memcpy(bytes.data(), text_.data() + tensor.offset, bytes.size());
  return bytes;
}

void OnnxFile::read_rows(const OnnxTensor& tensor, std::size_t rows,
                         const std::function<void(std::size_t first, std::span<const std::byte> bytes)>& body) const {
  const std::uint64_t row_bytes = rows == 0 ? 0 : tensor.bytes / rows;
  if (tensor.location.empty())
    body(0, as_bytes(std::string_view(text_).substr(tensor.offset, tensor.bytes)));
  else
    adze::read_rows(side_files_.at(tensor.location), {tensor.offset, rows, checked_cast<std::size_t>(row_bytes)}, 1,
                    body);
}

}  // namespace adze
