#include "model/onnx/onnx_weights.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/folder_files.h"
#include "linalg/convert.h"
#include "model/finite.h"
#include "model/onnx/decoder_check.h"
#include "model/onnx/onnx_matrix.h"

namespace adze {
namespace {

constexpr const char* kTableRows = "/model/embed_tokens/GatherBlockQuantized";
constexpr const char* kHeadBlocks = "/lm_head/MatMulNBits";
constexpr const char* kHeadTranspose = "/lm_head/Transpose";
constexpr const char* kHeadProduct = "/lm_head/MatMul";

bool is_operator(const OnnxNode* node, std::string_view op) { return node != nullptr && node->op == op; }

std::string table_name(const Architecture& a) { return stored_name(a, kEmbeddingModule) + ".weight"; }

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
void check_tied_floats(const OnnxFile& file, const OnnxNode& transpose, const Architecture& a) {
  const OnnxNode* const product = file.find_node(kHeadProduct);
  if (product == nullptr || product->inputs.size() != 2 || file.maker_of(product->inputs[1]) != &transpose)
    fail(ErrorKind::bad_data, "node '{}' does not multiply by the output of '{}'", kHeadProduct, transpose.name);
  std::string table = transpose.inputs.empty() ? "" : transpose.inputs.front();
  if (const OnnxNode* const cast = file.maker_of(table); is_operator(cast, "Cast") && cast->inputs.size() == 1)
    table = cast->inputs.front();
  if (table != table_name(a) || file.find_node(kTableRows) != nullptr)
    fail(ErrorKind::bad_data, "node '{}' turns '{}', which is not the embedding table", transpose.name, table);
}

/// A tied head is read as the embedding, so its nodes must say the same.
void check_tied_head(const OnnxFile& file, const Architecture& a) {
  if (const OnnxNode* const transpose = file.find_node(kHeadTranspose))
    check_tied_floats(file, *transpose, a);
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
    architecture_.tied = is_tied(file_);
    check_decoder(file_, architecture_);
    if (architecture_.tied) check_tied_head(file_, architecture_);
  });
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
  if (spec.role == TensorRole::positions) return positions();
  return product(spec.role == TensorRole::head ? "/lm_head" : "/model/" + spec.module, spec.matrix_shape());
}

/// A graph has what norms multiply by.
std::vector<float> OnnxWeights::norm(const std::string& name, std::size_t size) const {
  return norm_of_gains(architecture_, floats(name, size));
}

std::vector<float> OnnxWeights::vector(const TensorSpec& spec) const {
  const auto size = checked_cast<std::size_t>(spec.shape[0]);
  return spec.role == TensorRole::norm ? norm(spec.hf_name, size) : floats(spec.hf_name, size);
}

TensorPtr OnnxWeights::embedding() const {
  return with_context(fmt::format("{}: 'embed_tokens'", origin()), [&]() -> TensorPtr {
    const Shape shape{architecture_.vocab, architecture_.hidden};
    if (const OnnxNode* const node = file_.find_node(kTableRows)) return gathered_matrix(file_, *node, shape);
    TensorPtr tensor = float_matrix(file_, table_name(architecture_), shape);
    require_finite(*tensor);
    return tensor;
  });
}

TensorPtr OnnxWeights::positions() const {
  if (!architecture_.learns_positions()) return nullptr;
  return with_context(fmt::format("{}: '{}'", origin(), kPositionsModule), [&]() -> TensorPtr {
    const std::string name = stored_name(architecture_, kPositionsModule) + ".weight";
    TensorPtr tensor = float_matrix(file_, name, {architecture_.position_rows(), architecture_.hidden});
    require_finite(*tensor);
    return tensor;
  });
}

BlockWeights OnnxWeights::block(std::size_t index) const {
  return assemble_block(
      architecture_, index,
      [&](const NormInfo& info, std::string_view suffix) {
        const std::string name = fmt::format("{}.{}", stored_name(architecture_, module_name(index, info)), suffix);
        const std::size_t size = norm_size(architecture_, info.slot);
        return suffix == "weight" ? norm(name, size) : floats(name, size);
      },
      [&](const LinearInfo& info) {
        const std::string module = module_name(index, info);
        Linear linear{product("/model/" + module, info.shape), {}};
        if (info.has_bias) linear.bias = floats(stored_name(architecture_, module) + ".bias", info.shape.rows);
        return linear;
      });
}

std::vector<float> OnnxWeights::final_norm() const {
  return norm(stored_name(architecture_, kFinalNormModule) + ".weight", architecture_.hidden);
}

std::vector<float> OnnxWeights::final_norm_bias() const {
  if (architecture_.info().norm_kind != NormKind::layer) return {};
  return floats(stored_name(architecture_, kFinalNormModule) + ".bias", architecture_.hidden);
}

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
