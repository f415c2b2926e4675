#include "model/onnx/onnx_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/folder_files.h"
#include "linalg/convert.h"
#include "model/onnx/onnx_matrix.h"
#include "model/rope.h"

namespace adze {
namespace {

Shape matrix_shape(const TensorSpec& spec) {
  return {checked_cast<std::size_t>(spec.shape[0]), checked_cast<std::size_t>(spec.shape[1])};
}

void require_finite(const CompressedTensor& tensor) {
  constexpr std::size_t kTileRows = 64;
  const auto [rows, cols] = tensor.shape();
  std::vector<float> values;
  for (std::size_t first = 0; first < rows; first += kTileRows) {
    values.resize(std::min(kTileRows, rows - first) * cols);
    tensor.decode_rows(first, values.size() / cols, values);
    if (!all_finite(values)) fail(ErrorKind::bad_data, "a value in rows from {} on is not finite", first);
  }
}

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

/// True where the head multiplies by the embedding table: turned, or the same bytes in blocks.
bool is_tied(const OnnxFile& file) {
  if (file.find_node("/lm_head/Transpose") != nullptr) return true;
  const OnnxNode* const head = file.find_node("/lm_head/MatMulNBits");
  const OnnxTensor* const codes = file.find_tensor("model.embed_tokens.weight_codes");
  if (head == nullptr || codes == nullptr || head->inputs.size() < 2) return false;
  const OnnxTensor* const of_head = file.find_tensor(head->inputs[1]);
  return of_head != nullptr && of_head->location == codes->location && of_head->offset == codes->offset;
}

}  // namespace

bool is_onnx_folder(const std::filesystem::path& folder) {
  return is_in_folder(folder, "model.onnx") && !is_in_folder(folder, "model.safetensors") &&
         !is_in_folder(folder, "model.safetensors.index.json");
}

OnnxWeights::OnnxWeights(const std::filesystem::path& folder)
    : file_(folder), architecture_(read_architecture(folder)) {
  with_context(file_.origin(), [&] {
    architecture_.tied = is_tied(file_);
    check_settings();
  });
}

void OnnxWeights::check_settings() const {
  for (const OnnxNode& node : file_.nodes()) {
    if (node.op == "GroupQueryAttention") check_attention(node, architecture_);
    if (node.op == "SimplifiedLayerNormalization" || node.op == "SkipSimplifiedLayerNormalization")
      expect_setting(node, "epsilon", static_cast<float>(architecture_.norm_eps));
  }
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
  return product(spec.role == TensorRole::head ? "/lm_head" : "/model/" + spec.module, matrix_shape(spec));
}

std::vector<float> OnnxWeights::vector(const TensorSpec& spec) const {
  return floats(spec.hf_name, checked_cast<std::size_t>(spec.shape[0]));
}

TensorPtr OnnxWeights::embedding() const {
  return with_context(fmt::format("{}: 'embed_tokens'", origin()), [&]() -> TensorPtr {
    const Shape shape{architecture_.vocab, architecture_.hidden};
    if (const OnnxNode* const node = file_.find_node("/model/embed_tokens/GatherBlockQuantized"))
      return gathered_matrix(file_, *node, shape);
    TensorPtr tensor = float_matrix(file_, "model.embed_tokens.weight", shape);
    require_finite(*tensor);
    return tensor;
  });
}

BlockWeights OnnxWeights::block(std::size_t index) const {
  if (index >= architecture_.layers)
    fail(ErrorKind::internal, "block {} of a model with {}", index, architecture_.layers);
  const std::string prefix = fmt::format("model.layers.{}.", index);
  BlockWeights block;
  block.input_norm = floats(prefix + "input_layernorm.weight", architecture_.hidden);
  block.post_attention_norm = floats(prefix + "post_attention_layernorm.weight", architecture_.hidden);
  for (const LinearInfo& info : block_linears()) {
    const Shape shape = adze::shape_of(architecture_, info.slot);
    const std::string module = module_name(index, info.slot);
    block[info.slot].weight = product("/model/" + module, shape);
    if (info.has_bias(architecture_)) block[info.slot].bias = floats("model." + module + ".bias", shape.rows);
  }
  return block;
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
