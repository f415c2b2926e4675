#include "model/pack/pack_weights.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "grid/coded/coded_payload.h"
#include "grid/factors/product_tensor.h"
#include "grid/factors/sum_tensor.h"
#include "grid/factors/train_tensor.h"
#include "grid/format.h"
#include "linalg/convert.h"
#include "model/finite.h"
#include "model/tensors.h"

namespace adze {
namespace {

constexpr std::size_t kShownProblems = 10;
constexpr const char* kConfigName = "config.json";

void check_tensors(const PackManifest& manifest) {
  std::vector<TensorSpec> expected = expected_tensors(manifest.architecture);
  std::ranges::sort(expected, {}, &TensorSpec::hf_name);
  std::vector<std::string> problems;
  std::vector<std::string> names;
  for (const PackTensor& tensor : manifest.tensors) names.push_back(tensor.name);
  std::ranges::sort(names);
  for (const TensorSpec& spec : expected)
    if (!std::ranges::binary_search(names, spec.hf_name))
      problems.push_back(fmt::format("tensor '{}' is missing", spec.hf_name));
  for (const PackTensor& tensor : manifest.tensors) {
    const auto spec = std::ranges::lower_bound(expected, tensor.name, {}, &TensorSpec::hf_name);
    if (spec == expected.end() || spec->hf_name != tensor.name)
      problems.push_back(fmt::format("tensor '{}' is not part of the architecture", tensor.name));
    else if (spec->shape != tensor.shape || spec->role != tensor.role || spec->module != tensor.module)
      problems.push_back(fmt::format("tensor '{}' is {} of '{}', {}; the architecture says {} of '{}', {}", tensor.name,
                                     name_of(tensor.role), tensor.module, fmt::join(tensor.shape, " x "),
                                     name_of(spec->role), spec->module, fmt::join(spec->shape, " x ")));
    else if (tensor.shape.size() == 1 && tensor.encoding != PackEncoding::same && tensor.format != "f32")
      problems.push_back(fmt::format("vector '{}' is in {}, not f32", tensor.name, tensor.format));
  }
  if (problems.empty()) return;
  const std::size_t more = problems.size() - std::min(problems.size(), kShownProblems);
  problems.resize(problems.size() - more);
  fail(ErrorKind::bad_data, "{}{}", fmt::join(problems, "; "), more > 0 ? fmt::format("; and {} more", more) : "");
}

/// The dtype in which a tensor's own values lie in the pack; nothing where they have to be decoded, or made with a
/// base.
std::optional<DType> stored_dtype(const PackTensor& tensor) {
  return tensor.needs_base() ? std::nullopt : dtype_from_name(tensor.format);
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

void check_pack_config(std::span<const StoreFile> files, const Architecture& architecture) {
  const auto config = std::ranges::find(files, kConfigName, &StoreFile::name);
  if (config == files.end()) return;
  Architecture said = parse_architecture(parse_json(config->text, kConfigName), kConfigName);
  said.tied = architecture.tied;  // which tensors there are decides that
  said.tied_stated = architecture.tied_stated;
  if (said != architecture)
    fail(ErrorKind::bad_data, "{}: says another architecture than the tensors have", kConfigName);
}

PackWeights::PackWeights(const std::filesystem::path& path) : pack_(path) {
  with_context(origin(), [&] {
    check_tensors(pack_.manifest());
    for (const PackedFile& file : pack_.manifest().files)
      if (file.name == kConfigName)
        check_pack_config(std::array{StoreFile{file.name, text_of(pack_.read(file.region))}}, architecture());
  });
}

PackWeights::PackWeights(const std::filesystem::path& path, BaseModel base) : PackWeights(path) {
  base_ = std::move(base);
  with_context(origin(), [&] {
    if (!pack_.manifest().base) fail(ErrorKind::bad_data, "is no delta and has no base");
    base_->check(pack_.manifest());
  });
}

std::string missing_base_message(const PackFile& pack) {
  const PackBase& base = *pack.manifest().base;
  return fmt::format(
      "{}: is a delta, what a model differs by from '{}' (hash {}); give that model, as a folder, store or file, with "
      "--base",
      pack.file().path().string(), base.name, base.hash);
}

std::vector<StoreFile> PackWeights::files() const {
  std::vector<StoreFile> files;
  for (const PackedFile& file : pack_.manifest().files)
    with_context(fmt::format("{}: file '{}'", origin(), file.name), [&] {
      files.push_back({file.name, text_of(pack_.read(file.region))});
    });
  return files;
}

const PackTensor& PackWeights::require(const std::string& name) const {
  if (const PackTensor* const tensor = pack_.find(name)) return *tensor;
  fail(ErrorKind::internal, "{}: tensor '{}' was there when it was opened", origin(), name);
}

std::vector<std::byte> PackWeights::payload(const PackTensor& tensor) const {
  std::vector<std::byte> stored = pack_.read(tensor.region);
  if (tensor.encoding != PackEncoding::rans) return stored;
  return decode_payload(tensor.format, tensor.matrix_shape(), stored);
}

TensorPtr PackWeights::shared_factor(const SharedFormat& shared, Shape shape) const {
  for (const PackTensor& owner : pack_.manifest().tensors) {
    if (owner.module != shared.owner || owner.role != TensorRole::linear || owner.encoding == PackEncoding::same)
      continue;
    const TensorPtr stored = tensor_from_payload(owner.format, owner.matrix_shape(), payload(owner));
    const auto* const product = dynamic_cast<const ProductTensor*>(stored.get());
    if (product == nullptr || product->right().format() != shared.format || product->right().shape() != shape)
      fail(ErrorKind::bad_data, "its factor is said to be that of {}, {} x {} in {}, which is stored as '{}'",
           shared.owner, shape.rows, shape.cols, shared.format, owner.format);
    return product->right_part();
  }
  fail(ErrorKind::bad_data, "its factor is said to be that of '{}', which is no linear of this model", shared.owner);
}

TensorPtr PackWeights::base_tensor(const PackTensor& tensor) const {
  if (!base_) fail(ErrorKind::missing_input, "{}", missing_base_message(pack_));
  return with_context(origin(), [&] { return base_->tensor(pack_.manifest(), tensor); });
}

TensorPtr PackWeights::tensor(const PackTensor& tensor) const {
  if (tensor.encoding == PackEncoding::same) return base_tensor(tensor);
  if (tensor.encoding == PackEncoding::delta) return std::make_shared<SumTensor>(base_tensor(tensor), stored(tensor));
  return stored(tensor);
}

TensorPtr PackWeights::stored(const PackTensor& tensor) const {
  return with_context(fmt::format("{}: tensor '{}'", origin(), tensor.name), [&] {
    TensorPtr read =
        tensor_from_payload(tensor.format, tensor.matrix_shape(), payload(tensor),
                            [&](const SharedFormat& shared, Shape shape) { return shared_factor(shared, shape); });
    require_finite(*read);
    return read;
  });
}

TensorPtr PackWeights::matrix(const std::string& name) const { return tensor(require(name)); }

std::vector<float> PackWeights::vector(const std::string& name) const {
  const TensorPtr row = matrix(name);
  std::vector<float> values(row->shape().cols);
  row->decode_rows(0, 1, values);
  return values;
}

/// suffix: "weight" or "bias".
std::string PackWeights::full_name(std::string_view module, std::string_view suffix) const {
  return fmt::format("{}.{}", stored_name(architecture(), module), suffix);
}

TensorPtr PackWeights::embedding() const { return matrix(full_name(kEmbeddingModule, "weight")); }

TensorPtr PackWeights::positions() const {
  return architecture().learns_positions() ? matrix(full_name(kPositionsModule, "weight")) : nullptr;
}

BlockWeights PackWeights::block(std::size_t index) const {
  return assemble_block(
      architecture(), index,
      [&](const NormInfo& info, std::string_view suffix) {
        return vector(full_name(module_name(index, info), suffix));
      },
      [&](const LinearInfo& info) {
        const std::string module = module_name(index, info);
        Linear linear{matrix(full_name(module, "weight")), {}};
        if (info.has_bias) linear.bias = vector(full_name(module, "bias"));
        return linear;
      });
}

std::vector<float> PackWeights::final_norm() const { return vector(full_name(kFinalNormModule, "weight")); }

std::vector<float> PackWeights::final_norm_bias() const {
  const bool has_bias = architecture().info().norm_kind == NormKind::layer;
  return has_bias ? vector(full_name(kFinalNormModule, "bias")) : std::vector<float>();
}

std::optional<std::string> PackWeights::format_of(const TensorSpec& spec) const {
  const PackTensor& tensor = require(spec.hf_name);
  if (tensor.encoding == PackEncoding::same || tensor.encoding == PackEncoding::delta) return std::nullopt;
  return tensor.format;
}

TensorPtr PackWeights::head() const {
  return architecture().tied ? embedding() : matrix(full_name(kHeadModule, "weight"));
}

PackSource::PackSource(std::shared_ptr<const PackWeights> weights) : weights_(std::move(weights)) {
  for (const PackTensor& tensor : weights_->pack().manifest().tensors)
    add(tensor.name, stored_dtype(tensor), tensor.shape);
  sort();
}

bool PackSource::read_stored(const TensorInfo& info, std::uint64_t offset, std::span<std::byte> out) const {
  const PackTensor& tensor = *weights_->pack().find(info.name);
  if (!stored_dtype(tensor) || tensor.encoding != PackEncoding::raw) return false;
  with_context(fmt::format("{}: tensor '{}'", origin(), tensor.name),
               [&] { weights_->pack().read(tensor.region, offset, out); });
  return true;
}

TensorPtr PackSource::load(const TensorInfo& info) const { return weights_->tensor(*weights_->pack().find(info.name)); }

}  // namespace adze
