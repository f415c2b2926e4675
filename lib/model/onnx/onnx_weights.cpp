#include "model/onnx/onnx_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include <fmt/ranges.h>

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/folder_files.h"
#include "linalg/convert.h"
#include "model/finite.h"
#include "model/onnx/onnx_matrix.h"
#include "model/rope.h"

namespace adze {
namespace {

constexpr const char* kTableRows = "/model/embed_tokens/GatherBlockQuantized";
constexpr const char* kTable = "model.embed_tokens.weight";
constexpr const char* kHeadBlocks = "/lm_head/MatMulNBits";
constexpr const char* kHeadTranspose = "/lm_head/Transpose";
constexpr const char* kHeadProduct = "/lm_head/MatMul";

void expect_setting(const OnnxNode& node, const char* name, std::int64_t want) {
  if (const std::int64_t said = integer_of(node, name); said != want)
    fail(ErrorKind::bad_data, "node '{}': {} is {}, config.json says {}", node.name, name, said, want);
}

void expect_setting(const OnnxNode& node, const char* name, float want) {
  const auto at = node.numbers.find(name);
  if (at == node.numbers.end() || !std::holds_alternative<float>(at->second) || std::get<float>(at->second) != want)
    fail(ErrorKind::bad_data, "node '{}': {} is not {}, which config.json says", node.name, name, want);
}

void check_attention(const OnnxNode& node, const Architecture& a) {
  expect_setting(node, "num_heads", static_cast<std::int64_t>(a.heads));
  expect_setting(node, "kv_num_heads", static_cast<std::int64_t>(a.kv_heads));
  expect_setting(node, "do_rotary", std::int64_t{1});
  expect_setting(node, "rotary_interleaved", std::int64_t{0});
  expect_setting(node, "local_window_size",
                 a.sliding_window > 0 ? static_cast<std::int64_t>(a.sliding_window) : std::int64_t{-1});
  expect_setting(node, "scale", static_cast<float>(1.0 / std::sqrt(static_cast<double>(a.head_dim))));
}

/// The second input of a node must be a constant of these dimensions (of a scalar none) and values.
template <typename Value>
void expect_constant(const OnnxFile& file, const std::string& name, std::int64_t type,
                     const std::vector<std::uint64_t>& dims, const std::vector<Value>& want) {
  const OnnxNode* const node = file.find_node(name);
  if (node == nullptr || node->inputs.size() != 2)
    fail(ErrorKind::bad_data, "node '{}' is missing or has not two inputs", name);
  const std::vector<std::byte> bytes = file.read(require_tensor(file, node->inputs[1], type, dims));
  std::vector<Value> said(bytes.size() / sizeof(Value));
  std::memcpy(said.data(), bytes.data(), bytes.size());
  if (said != want) fail(ErrorKind::bad_data, "node '{}': its constant is {}, config.json says {}", name, said, want);
}

bool is_operator(const OnnxNode* node, std::string_view op) { return node != nullptr && node->op == op; }

/// Nodes of the fused kind state epsilon themselves.
void check_spelled_out_norm(const OnnxFile& file, const std::string& name, const Architecture& a) {
  const OnnxNode* const node = file.find_node(name);
  if (is_operator(node, "SimplifiedLayerNormalization") || is_operator(node, "SkipSimplifiedLayerNormalization"))
    return;
  expect_constant<float>(file, name + "/Add", kOnnxFloat, {}, {static_cast<float>(a.norm_eps)});
}

void check_spelled_out_window(const OnnxFile& file, const Architecture& a) {
  const std::string name = "/model/mask/window/Sub";
  if (a.sliding_window > 0)
    expect_constant<std::int64_t>(file, name, kOnnxI64, {}, {static_cast<std::int64_t>(a.sliding_window)});
  else if (file.find_node(name) != nullptr)
    fail(ErrorKind::bad_data, "node '{}': attention has a window, config.json has none", name);
}

void check_spelled_out_attention(const OnnxFile& file, const std::string& name, const Architecture& a) {
  const auto kv_heads = static_cast<std::int64_t>(a.kv_heads), shared = static_cast<std::int64_t>(a.heads) / kv_heads,
             head_dim = static_cast<std::int64_t>(a.head_dim);
  expect_constant<std::int64_t>(file, name + "/q/groups", kOnnxI64, {5}, {0, kv_heads, shared, -1, head_dim});
  expect_constant<float>(file, name + "/scores/Mul", kOnnxFloat, {},
                         {static_cast<float>(1.0 / std::sqrt(static_cast<double>(a.head_dim)))});
  check_spelled_out_window(file, a);
}

/// Every block has its norms and its attention, as an operator that states its settings or spelled out with constants.
void check_blocks(const OnnxFile& file, const Architecture& a) {
  for (std::size_t block = 0; block < a.layers; ++block) {
    const std::string base = fmt::format("/model/layers.{}", block);
    for (const char* const norm : {"/input_layernorm/LayerNorm", "/post_attention_layernorm/LayerNorm"})
      check_spelled_out_norm(file, base + norm, a);
    if (!is_operator(file.find_node(base + "/attn/GroupQueryAttention"), "GroupQueryAttention"))
      check_spelled_out_attention(file, base + "/attn", a);
  }
  check_spelled_out_norm(file, "/model/norm/LayerNorm", a);
}

/// Nodes mean what these versions say.
void check_versions(const OnnxFile& file) {
  constexpr std::int64_t kIrVersion = 10;
  const std::map<std::string, std::int64_t> known{{"", 21}, {"com.microsoft", 1}};
  if (file.ir_version() != kIrVersion)
    fail(ErrorKind::bad_data, "IR version {}; {} is read", file.ir_version(), kIrVersion);
  if (!file.operators().contains("")) fail(ErrorKind::bad_data, "no version of the standard's operators");
  for (const auto& [domain, version] : file.operators())
    if (const auto at = known.find(domain); at == known.end() || at->second != version)
      fail(ErrorKind::bad_data, "operators of '{}' in version {}; read are {}", domain, version, known);
  for (const OnnxNode& node : file.nodes())
    if (!file.operators().contains(node.domain))
      fail(ErrorKind::bad_data, "node '{}' is of the domain '{}', which has no version", node.name, node.domain);
}

void check_rope(const OnnxFile& file, const Architecture& a) {
  constexpr double kRounding = 1e-6;  // of angles that another library may have turned into a cosine
  const std::vector<double> frequencies = rope_frequencies(a.rope, a.head_dim);
  const auto check = [&](const char* name, double (*function)(double)) {
    const OnnxTensor& tensor = require_tensor(file, name, kOnnxFloat, {a.max_positions, a.head_dim / 2});
    const std::vector<std::byte> bytes = file.read(tensor);
    for (std::size_t i = 0; i < bytes.size() / sizeof(float); ++i) {
      float value = 0;
      std::memcpy(&value, bytes.data() + i * sizeof(float), sizeof(float));
      const std::size_t position = i / frequencies.size();
      const double angle = static_cast<double>(position) * frequencies[i % frequencies.size()];
      if (!(std::fabs(value - function(angle)) <= kRounding))
        fail(ErrorKind::bad_data, "initializer '{}': position {} has another angle than config.json's RoPE", name,
             position);
    }
  };
  check("cos_cache", [](double angle) { return std::cos(angle); });
  check("sin_cache", [](double angle) { return std::sin(angle); });
}

bool have_same_bytes(const OnnxTensor* left, const OnnxTensor* right) {
  return left != nullptr && right != nullptr && left->type == right->type && left->bytes == right->bytes &&
         left->location == right->location && left->offset == right->offset;
}

/// True where the head multiplies by the embedding table: turned, or the same codes in blocks.
bool is_tied(const OnnxFile& file) {
  if (file.find_node(kHeadTranspose) != nullptr) return true;
  const OnnxNode* const head = file.find_node(kHeadBlocks);
  const OnnxNode* const rows = file.find_node(kTableRows);
  if (head == nullptr || rows == nullptr || head->inputs.size() < 2 || rows->inputs.empty()) return false;
  return have_same_bytes(file.find_tensor(head->inputs[1]), file.find_tensor(rows->inputs[0]));
}

/// MatMulNBits(x, codes, scales, zeros) and GatherBlockQuantized(codes, ids, scales, zeros) have the same values where
/// codes have the same bytes, scales and zero points are the same initializers, and sizes agree.
void check_tied_blocks(const OnnxFile& file, const OnnxNode& head, const Architecture& a) {
  const OnnxNode& rows = *file.find_node(kTableRows);
  if (!std::equal(head.inputs.begin() + 2, head.inputs.end(),
                  rows.inputs.begin() + std::min<std::ptrdiff_t>(2, std::ssize(rows.inputs)), rows.inputs.end()))
    fail(ErrorKind::bad_data, "node '{}' has other scales or zero points than the embedding table", head.name);
  const auto expect = [&](const char* name, std::int64_t want) {
    if (const std::int64_t said = integer_of(head, name); said != want)
      fail(ErrorKind::bad_data, "node '{}': {} is {}, of the embedding table {}", head.name, name, said, want);
  };
  expect("K", static_cast<std::int64_t>(a.hidden));
  expect("N", static_cast<std::int64_t>(a.vocab));
  expect("bits", integer_of(rows, "bits"));
  expect("block_size", integer_of(rows, "block_size"));
}

/// MatMul(x, Transpose(table)), the table perhaps cast.
void check_tied_floats(const OnnxFile& file, const OnnxNode& transpose) {
  const OnnxNode* const product = file.find_node(kHeadProduct);
  if (product == nullptr || product->inputs.size() != 2 || file.maker_of(product->inputs[1]) != &transpose)
    fail(ErrorKind::bad_data, "node '{}' does not multiply by the output of '{}'", kHeadProduct, transpose.name);
  std::string table = transpose.inputs.empty() ? "" : transpose.inputs.front();
  if (const OnnxNode* const cast = file.maker_of(table); is_operator(cast, "Cast") && cast->inputs.size() == 1)
    table = cast->inputs.front();
  if (table != kTable || file.find_node(kTableRows) != nullptr)
    fail(ErrorKind::bad_data, "node '{}' turns '{}', which is not the embedding table", transpose.name, table);
}

/// A tied head is read as the embedding, so its nodes must say the same.
void check_tied_head(const OnnxFile& file, const Architecture& a) {
  if (const OnnxNode* const transpose = file.find_node(kHeadTranspose))
    check_tied_floats(file, *transpose);
  else
    check_tied_blocks(file, *file.find_node(kHeadBlocks), a);
}

}  // namespace

bool is_onnx_folder(const std::filesystem::path& folder) {
  return is_in_folder(folder, "model.onnx") && !is_in_folder(folder, "model.safetensors") &&
         !is_in_folder(folder, "model.safetensors.index.json");
}

OnnxWeights::OnnxWeights(const std::filesystem::path& folder)
    : file_(folder), architecture_(read_architecture(folder)) {
  with_context(file_.origin(), [&] {
    if (const std::string parts = beyond_plain(architecture_); !parts.empty())
      fail(ErrorKind::bad_data, "config.json names {}, whose {} no graph of ours has", architecture_.family, parts);
    architecture_.tied = is_tied(file_);
    check_settings();
    if (architecture_.tied) check_tied_head(file_, architecture_);
  });
}

void OnnxWeights::check_settings() const {
  check_versions(file_);
  for (const OnnxNode& node : file_.nodes()) {
    if (node.op == "GroupQueryAttention") check_attention(node, architecture_);
    if (node.op == "SimplifiedLayerNormalization" || node.op == "SkipSimplifiedLayerNormalization")
      expect_setting(node, "epsilon", static_cast<float>(architecture_.norm_eps));
  }
  check_blocks(file_, architecture_);
  check_rope(file_, architecture_);
}

TensorPtr OnnxWeights::product(const std::string& base, Shape shape) const {
  return with_context(fmt::format("{}: '{}'", origin(), base), [&]() -> TensorPtr {
    if (const OnnxNode* const node = file_.find_node(base + "/MatMulNBits")) return block_matrix(file_, *node, shape);
    const OnnxNode* const node = file_.find_node(base + "/MatMul");
    if (node == nullptr) fail(ErrorKind::bad_data, "no node multiplies by its weight");
    TensorPtr tensor = product_matrix(file_, *node, shape);
    if (dtype_from_name(tensor->format())) require_finite(*tensor);  // of integers, scales were looked at
    return tensor;
  });
}

std::vector<float> OnnxWeights::floats(const std::string& name, std::size_t size) const {
  return with_context(origin(), [&] {
    const std::vector<std::byte> bytes = file_.read(require_tensor(file_, name, kOnnxFloat, {size}));
    std::vector<float> values(size);
    std::memcpy(values.data(), bytes.data(), bytes.size());
    if (!all_finite(values)) fail(ErrorKind::bad_data, "initializer '{}' has a value that is not finite", name);
    return values;
  });
}

TensorPtr OnnxWeights::matrix(const TensorSpec& spec) const {
  if (spec.role == TensorRole::embedding) return embedding();
  return product(spec.role == TensorRole::head ? "/lm_head" : "/model/" + spec.module, spec.matrix_shape());
}

std::vector<float> OnnxWeights::vector(const TensorSpec& spec) const {
  return floats(spec.hf_name, checked_cast<std::size_t>(spec.shape[0]));
}

TensorPtr OnnxWeights::embedding() const {
  return with_context(fmt::format("{}: 'embed_tokens'", origin()), [&]() -> TensorPtr {
    const Shape shape{architecture_.vocab, architecture_.hidden};
    if (const OnnxNode* const node = file_.find_node(kTableRows)) return gathered_matrix(file_, *node, shape);
    TensorPtr tensor = float_matrix(file_, kTable, shape);
    require_finite(*tensor);
    return tensor;
  });
}

BlockWeights OnnxWeights::block(std::size_t index) const {
  return assemble_block(
      architecture_, index,
      [&](const NormInfo& info, std::string_view suffix) {
        return floats(fmt::format("model.layers.{}.{}.{}", index, info.module, suffix),
                      norm_size(architecture_, info.slot));
      },
      [&](const LinearInfo& info) {
        const std::string module = module_name(index, info);
        Linear linear{product("/model/" + module, info.shape), {}};
        if (info.has_bias) linear.bias = floats("model." + module + ".bias", info.shape.rows);
        return linear;
      });
}

std::vector<float> OnnxWeights::final_norm() const { return floats("model.norm.weight", architecture_.hidden); }

TensorPtr OnnxWeights::head() const {
  return architecture_.tied ? embedding() : product("/lm_head", {architecture_.vocab, architecture_.hidden});
}

OnnxSource::OnnxSource(std::shared_ptr<const OnnxWeights> weights) : weights_(std::move(weights)) {
  specs_ = expected_tensors(weights_->architecture());
  std::ranges::sort(specs_, {}, &TensorSpec::hf_name);
  for (const TensorSpec& spec : specs_) {
    const OnnxTensor* const stored = weights_->file().find_tensor(spec.hf_name);
    const DType dtype = stored != nullptr && stored->type == kOnnxF16    ? DType::f16
                        : stored != nullptr && stored->type == kOnnxBf16 ? DType::bf16
                                                                         : DType::f32;
    tensors_.push_back({spec.hf_name, dtype, spec.shape, checked_mul(checked_product(spec.shape), bytes_of(dtype))});
  }
}

void OnnxSource::read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const {
  check_range(tensor, offset, out.size());
  const TensorSpec& spec = specs_[index_of(tensor)];
  const std::lock_guard lock(mutex_);
  if (last_name_ != tensor.name) {
    last_name_.clear();
    last_.resize(checked_cast<std::size_t>(tensor.bytes));
    if (spec.shape.size() == 1)
      from_float(tensor.dtype, weights_->vector(spec), last_);
    else
      from_float(tensor.dtype, weights_->matrix(spec)->decode().values(), last_);
    last_name_ = tensor.name;
  }
  std::memcpy(out.data(), last_.data() + offset, out.size());
}

}  // namespace adze
