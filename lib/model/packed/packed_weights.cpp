#include "model/packed/packed_weights.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/words.h"
#include "grid/kept_tensor.h"
#include "linalg/convert.h"
#include "model/finite.h"
#include "model/multimodal.h"

namespace adze {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kShownProblems = 10;

bool says_method(const Json& config, const char* method) {
  return config.contains("quantization_config") && config["quantization_config"].is_object() &&
         config["quantization_config"].contains("quant_method") &&
         config["quantization_config"]["quant_method"] == method;
}

bool is_gptq(const Json& config) { return says_method(config, "gptq"); }
bool is_awq(const Json& config) { return says_method(config, "awq"); }
bool is_compressed_tensors(const Json& config) { return says_method(config, "compressed-tensors"); }
/// It says bits and group_size under a key of its own.
bool is_mlx(const Json& config) {
  return config.contains("quantization") && config["quantization"].is_object() &&
         config["quantization"].contains("bits");
}

constexpr std::array kLayouts{
    PackedLayoutInfo{"gptq", &is_gptq, &make_gptq_layout}, PackedLayoutInfo{"awq", &is_awq, &make_awq_layout},
    PackedLayoutInfo{"compressed-tensors", &is_compressed_tensors, &make_compressed_tensors_layout},
    PackedLayoutInfo{"mlx", &is_mlx, &make_mlx_layout}};

const PackedLayoutInfo* layout_of(const Json& config) {
  const auto* const at = std::ranges::find_if(kLayouts, [&](const auto& info) { return info.matches(config); });
  return at == kLayouts.end() ? nullptr : at;
}

std::string config_text(const std::filesystem::path& folder) {
  constexpr std::uint64_t kMostBytes = std::uint64_t{16} << 20;
  return read_file(folder / "config.json", kMostBytes);
}

std::string base_of(const TensorSpec& spec) { return spec.hf_name.substr(0, spec.hf_name.rfind('.')); }

}  // namespace

bool is_packed_config(const Json& config, const std::string& origin) {
  if (!config.is_object()) return false;
  if (layout_of(config) != nullptr) return true;
  if (!config.contains("quantization_config") || config["quantization_config"].is_null()) return false;
  std::vector<std::string_view> names;
  for (const PackedLayoutInfo& info : kLayouts) names.push_back(info.name);
  const Json& said = config["quantization_config"];
  const std::string method = said.is_object() && said.contains("quant_method") && said["quant_method"].is_string()
                                 ? said["quant_method"].get<std::string>()
                                 : "";
  fail(ErrorKind::bad_data, "{}: weights are packed by '{}', which is not supported; {} are", origin, method,
       fmt::join(names, ", "));
}

PackedWeights::PackedWeights(const std::filesystem::path& folder, const Architecture* listed) : raw_(folder) {
  const std::string origin = (folder / "config.json").string(), text = config_text(folder);
  const Json config = parse_json(text, origin);
  if (listed == nullptr && is_multimodal(config))
    fail(ErrorKind::bad_data,
         "{}: a model of text and images whose weights are packed is not supported; of those in floats the language "
         "model is read",
         origin);
  architecture_ = listed != nullptr ? *listed : parse_architecture(config, origin);
  const PackedLayoutInfo* const info = layout_of(config);
  if (info == nullptr) fail(ErrorKind::bad_data, "{}: says nothing of packed weights", origin);
  layout_ = info->make(config, nlohmann::ordered_json::parse(text), origin);
  layout_name_ = info->name;
  const bool has_head = raw_.find("lm_head.weight") != nullptr || !layout_->tensors_of(raw_, "lm_head").empty();
  if (listed == nullptr) architecture_.tied = !has_head;
  check_names();
}

void PackedWeights::check_names() const {
  std::vector<std::string> problems;
  std::unordered_set<std::string> known;
  for (const TensorSpec& spec : expected_tensors(architecture_)) {
    const std::vector<std::string> packed =
        spec.is_matrix() ? layout_->tensors_of(raw_, base_of(spec)) : std::vector<std::string>();
    known.insert(packed.begin(), packed.end());
    if (!packed.empty()) continue;
    known.insert(spec.hf_name);
    if (raw_.find(spec.hf_name) == nullptr) problems.push_back(fmt::format("tensor '{}' is missing", spec.hf_name));
  }
  for (const std::string& name : raw_.names())
    if (!known.contains(name) && !name.ends_with("rotary_emb.inv_freq") && !layout_->is_for_runtime(name))
      problems.push_back(fmt::format("tensor '{}' is not part of the architecture", name));
  if (problems.empty()) return;
  const std::size_t more = problems.size() - std::min(problems.size(), kShownProblems);
  problems.resize(problems.size() - more);
  fail(ErrorKind::bad_data, "{}: {}{}", origin(), fmt::join(problems, "; "),
       more > 0 ? fmt::format("; and {} more", more) : "");
}

TensorPtr PackedWeights::matrix(const std::string& base, Shape shape) const {
  return with_context(fmt::format("{}: '{}'", origin(), base), [&]() -> TensorPtr {
    TensorPtr tensor;
    if (!layout_->tensors_of(raw_, base).empty()) {
      tensor = layout_->read(raw_, base, shape);
    } else {
      tensor = raw_.read_matrix(base + ".weight", shape);
    }
    // Of integers with scales of 16 bits the scales were looked at, and no code makes them too large.
    if (!tensor->format().starts_with("int") || tensor->format().ends_with(" f32")) require_finite(*tensor);
    return tensor;
  });
}

TensorPtr PackedWeights::matrix(const TensorSpec& spec) const { return matrix(base_of(spec), spec.matrix_shape()); }

std::vector<float> PackedWeights::vector(const std::string& name, std::size_t size) const {
  const RawTensors::Floats floats = raw_.read_floats(name, {size});
  std::vector<float> values(size);
  to_float(floats.dtype, floats.bytes, values);
  if (!all_finite(values)) fail(ErrorKind::bad_data, "{}: tensor '{}' has a value that is not finite", origin(), name);
  return values;
}

std::optional<DType> PackedWeights::stored_dtype(const TensorSpec& spec) const {
  if (spec.shape.size() == 2 && !layout_->tensors_of(raw_, base_of(spec)).empty()) return std::nullopt;
  const SafetensorsTensor& tensor = raw_.require(spec.hf_name);
  const auto dtype = dtype_of(tensor.type);
  if (!dtype || !is_weight_dtype(*dtype) || tensor.shape != spec.shape)
    fail(ErrorKind::bad_data, "{}: tensor '{}' is no {} floats", origin(), spec.hf_name, fmt::join(spec.shape, " x "));
  return dtype;
}

void PackedWeights::read_floats(const TensorSpec& spec, std::uint64_t offset, std::span<std::byte> out) const {
  raw_.read_range(spec.hf_name, offset, out);
}

std::vector<float> PackedWeights::vector(const TensorSpec& spec) const {
  return vector(spec.hf_name, checked_cast<std::size_t>(spec.shape[0]));
}

TensorPtr PackedWeights::embedding() const {
  return matrix(stored_name(architecture_, kEmbeddingModule), {architecture_.vocab, architecture_.hidden});
}

TensorPtr PackedWeights::positions() const {
  if (!architecture_.learns_positions()) return nullptr;
  return matrix(stored_name(architecture_, kPositionsModule), {architecture_.position_rows(), architecture_.hidden});
}

TensorPtr PackedWeights::kept(const TensorSpec& spec) const {
  return std::make_shared<KeptTensor>(spec.dtype, raw_.read(spec.hf_name, safetensors_type_of(spec.dtype), spec.shape));
}

TensorPtr PackedWeights::matrix_in_block(const TensorSpec& spec) const {
  return spec.is_matrix() ? matrix(spec) : kept(spec);
}

BlockWeights PackedWeights::block(std::size_t index) const {
  if (architecture_.is_listed())
    return assemble_listed(architecture_, index, [&](const TensorSpec& spec) { return matrix_in_block(spec); });
  return assemble_block(
      architecture_, index,
      [&](const NormInfo& info, std::string_view suffix) {
        return vector(fmt::format("{}.{}", stored_name(architecture_, module_name(index, info)), suffix),
                      norm_size(architecture_, info.slot));
      },
      [&](const LinearInfo& info) {
        const std::string base = stored_name(architecture_, module_name(index, info));
        Linear linear{matrix(base, info.shape), {}};
        if (info.has_bias) linear.bias = vector(base + ".bias", info.shape.rows);
        return linear;
      });
}

std::vector<float> PackedWeights::final_norm() const {
  return vector(stored_name(architecture_, kFinalNormModule) + ".weight", architecture_.hidden);
}

std::vector<float> PackedWeights::final_norm_bias() const {
  if (architecture_.info().norm_kind != NormKind::layer) return {};
  return vector(stored_name(architecture_, kFinalNormModule) + ".bias", architecture_.hidden);
}

TensorPtr PackedWeights::head() const {
  return architecture_.tied ? embedding() : matrix("lm_head", {architecture_.vocab, architecture_.hidden});
}

PackedSource::PackedSource(std::shared_ptr<const PackedWeights> weights)
    : weights_(std::move(weights)), specs_(expected_tensors(weights_->architecture())) {
  std::ranges::sort(specs_, {}, &TensorSpec::hf_name);
  for (const TensorSpec& spec : specs_) add(spec.hf_name, weights_->stored_dtype(spec), spec.shape);
  sort();
}

bool PackedSource::read_stored(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const {
  const TensorSpec& spec = specs_[index_of(tensor)];
  if (!weights_->stored_dtype(spec)) return false;
  weights_->read_floats(spec, offset, out);
  return true;
}

TensorPtr PackedSource::load(const TensorInfo& tensor) const { return weights_->matrix(specs_[index_of(tensor)]); }

std::unique_ptr<ModelWeights> open_folder_model(const std::filesystem::path& folder) {
  const std::string origin = (folder / "config.json").string();
  if (is_packed_config(parse_json(config_text(folder), origin), origin)) return std::make_unique<PackedWeights>(folder);
  return open_checkpoint_model(folder);
}

std::unique_ptr<ModelWeights> open_listed_folder(const std::filesystem::path& folder, const Architecture& listed) {
  const std::string origin = (folder / "config.json").string();
  if (is_packed_config(parse_json(config_text(folder), origin), origin))
    return std::make_unique<PackedWeights>(folder, &listed);
  return std::make_unique<CheckpointWeights>(listed, open_checkpoint_folder(folder));
}

}  // namespace adze
