#include "export/onnx/onnx_graph.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/checked.h"
#include "base/error.h"
#include "export/onnx/onnx.pb.h"

namespace adze {
namespace {

constexpr std::int64_t kIrVersion = 10;
constexpr std::int64_t kOperators = 21;  // the first with 4-bit integers and block-wise scales
constexpr std::uint64_t kMostModelBytes = (std::uint64_t{1} << 31) - 1;  // of a protobuf message
constexpr const char* kContribDomain = "com.microsoft";
/// SimplifiedLayerNormalization is onnxruntime's as well, but has the standard's domain there.
constexpr std::array kContribOperators = {"GatherBlockQuantized", "GroupQueryAttention", "MatMulNBits",
                                          "SkipSimplifiedLayerNormalization"};

template <typename Value>
std::string_view raw_bytes(const Value* values, std::size_t count) {
  return {reinterpret_cast<const char*>(values), count * sizeof(Value)};
}

struct SetAttribute {
  onnx::AttributeProto& attribute;

  void operator()(std::int64_t value) const {
    attribute.set_type(onnx::AttributeProto::INT);
    attribute.set_i(value);
  }
  void operator()(float value) const {
    attribute.set_type(onnx::AttributeProto::FLOAT);
    attribute.set_f(value);
  }
  void operator()(const std::string& value) const {
    attribute.set_type(onnx::AttributeProto::STRING);
    attribute.set_s(value);
  }
  void operator()(const std::vector<std::int64_t>& values) const {
    attribute.set_type(onnx::AttributeProto::INTS);
    for (const std::int64_t value : values) attribute.add_ints(value);
  }
};

void describe(onnx::ValueInfoProto& value, const std::string& name, OnnxType type, const std::vector<OnnxDim>& shape) {
  value.set_name(name);
  onnx::TypeProto::Tensor& tensor = *value.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(static_cast<int>(type));
  tensor.mutable_shape();  // there even where it has no dimensions
  for (const OnnxDim& size : shape) {
    auto& dim = *tensor.mutable_shape()->add_dim();
    if (const auto* const number = std::get_if<std::int64_t>(&size))
      dim.set_dim_value(*number);
    else
      dim.set_dim_param(std::get<std::string>(size));
  }
}

void add_entry(onnx::StringStringEntryProto& entry, const std::string& key, const std::string& value) {
  entry.set_key(key);
  entry.set_value(value);
}

}  // namespace

std::uint64_t onnx_bytes(OnnxType type, std::uint64_t count) {
  switch (type) {
    case OnnxType::u4:
    case OnnxType::i4:
      return divide_up(count, 2);
    case OnnxType::u8:
    case OnnxType::i8:
    case OnnxType::boolean:
      return count;
    case OnnxType::f16:
    case OnnxType::bf16:
      return checked_mul(count, 2);
    case OnnxType::f32:
    case OnnxType::i32:
      return checked_mul(count, 4);
    case OnnxType::i64:
      return checked_mul(count, 8);
  }
  fail(ErrorKind::internal, "no ONNX type {}", static_cast<int>(type));
}

OnnxGraph::OnnxGraph(const std::vector<std::pair<std::string, std::string>>& properties)
    : model_(std::make_unique<onnx::ModelProto>()) {
  model_->set_ir_version(kIrVersion);
  model_->set_producer_name("adze");
  model_->set_producer_version(ADZE_VERSION);
  model_->mutable_graph()->set_name("main_graph");
  for (const auto& [key, value] : properties)
    if (!value.empty()) add_entry(*model_->add_metadata_props(), key, value);
}

OnnxGraph::OnnxGraph(OnnxGraph&&) noexcept = default;
OnnxGraph::~OnnxGraph() = default;

void OnnxGraph::define(const std::string& name) {
  if (!values_.insert(name).second) fail(ErrorKind::internal, "ONNX: two values are called '{}'", name);
}

void OnnxGraph::input(const std::string& name, OnnxType type, const std::vector<OnnxDim>& shape) {
  define(name);
  describe(*model_->mutable_graph()->add_input(), name, type, shape);
}

void OnnxGraph::output(const std::string& name, OnnxType type, const std::vector<OnnxDim>& shape) {
  describe(*model_->mutable_graph()->add_output(), name, type, shape);
}

void OnnxGraph::node(const std::string& op, const std::string& name, const Names& inputs, const Names& outputs,
                     const Attributes& attributes) {
  if (!nodes_.insert(name).second) fail(ErrorKind::internal, "ONNX: two nodes are called '{}'", name);
  onnx::NodeProto& node = *model_->mutable_graph()->add_node();
  node.set_name(name);
  node.set_op_type(op);
  if (std::ranges::find(kContribOperators, op) != kContribOperators.end()) {
    node.set_domain(kContribDomain);
    has_contrib_ = true;
  }
  for (const std::string& value : inputs) {
    if (!value.empty() && !values_.contains(value))
      fail(ErrorKind::internal, "ONNX: '{}' takes '{}', which is not there yet", name, value);
    node.add_input(value);
  }
  for (const std::string& value : outputs) {
    if (!value.empty()) define(value);
    node.add_output(value);
  }
  for (const OnnxAttribute& attribute : attributes) {
    onnx::AttributeProto& added = *node.add_attribute();
    added.set_name(std::string(attribute.name));
    std::visit(SetAttribute{added}, attribute.value);
  }
}

std::string OnnxGraph::add(const std::string& op, const std::string& name, const Names& inputs,
                           const Attributes& attributes) {
  std::string value = name + "/output_0";
  node(op, name, inputs, {value}, attributes);
  return value;
}

std::string OnnxGraph::constant(const std::string& name, OnnxType type, const std::vector<std::int64_t>& dims,
                                std::string_view raw) {
  if (values_.contains(name)) return name;
  define(name);
  onnx::TensorProto& tensor = *model_->mutable_graph()->add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(static_cast<int>(type));
  for (const std::int64_t dim : dims) tensor.add_dims(dim);
  tensor.set_raw_data(std::string(raw));
  return name;
}

std::string OnnxGraph::ints(const std::vector<std::int64_t>& values) {
  return constant(fmt::format("/constants/INT64/[{}]", fmt::join(values, ",")), OnnxType::i64,
                  {static_cast<std::int64_t>(values.size())}, raw_bytes(values.data(), values.size()));
}

std::string OnnxGraph::scalar(std::int64_t value) {
  return constant(fmt::format("/constants/INT64/{}", value), OnnxType::i64, {}, raw_bytes(&value, 1));
}

std::string OnnxGraph::scalar(float value) {
  return constant(fmt::format("/constants/FLOAT/{}", value), OnnxType::f32, {}, raw_bytes(&value, 1));
}

void OnnxGraph::declare(const OnnxWeight& weight) {
  define(weight.name);
  onnx::TensorProto& tensor = *model_->mutable_graph()->add_initializer();
  tensor.set_name(weight.name);
  tensor.set_data_type(static_cast<int>(weight.type));
  for (const std::uint64_t dim : weight.dims) tensor.add_dims(checked_cast<std::int64_t>(dim));
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  add_entry(*tensor.add_external_data(), "location", kOnnxDataName);
  add_entry(*tensor.add_external_data(), "offset", std::to_string(weight.offset));
  add_entry(*tensor.add_external_data(), "length", std::to_string(weight.bytes));
}

std::string OnnxGraph::weight(const std::string& name, OnnxType type, std::vector<std::uint64_t> dims) {
  const std::uint64_t bytes = onnx_bytes(type, checked_product(dims));
  weights_.push_back({name, type, std::move(dims), round_up(data_bytes(), onnx_alignment(bytes)), bytes});
  declare(weights_.back());
  return name;
}

std::string OnnxGraph::second_view(const std::string& name, std::vector<std::uint64_t> dims, const std::string& of) {
  OnnxWeight view = *std::ranges::find(weights_, of, &OnnxWeight::name);
  if (checked_product(dims) != checked_product(view.dims))
    fail(ErrorKind::internal, "ONNX: '{}' and '{}' have not the same number of elements", name, of);
  view.name = name;
  view.dims = std::move(dims);
  declare(view);
  return name;
}

std::uint64_t OnnxGraph::data_bytes() const {
  return weights_.empty() ? 0 : checked_add(weights_.back().offset, weights_.back().bytes);
}

std::string OnnxGraph::serialized() const {
  onnx::ModelProto whole = *model_;
  onnx::OperatorSetIdProto& standard = *whole.add_opset_import();
  standard.set_domain("");
  standard.set_version(kOperators);
  if (has_contrib_) {
    onnx::OperatorSetIdProto& contrib = *whole.add_opset_import();
    contrib.set_domain(kContribDomain);
    contrib.set_version(1);
  }
  if (whole.ByteSizeLong() > kMostModelBytes) fail(ErrorKind::bad_data, "the ONNX graph is larger than 2 GiB");
  return whole.SerializeAsString();
}

}  // namespace adze
