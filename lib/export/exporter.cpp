#include "export/exporter.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "export/folder/folder_exporter.h"
#include "export/gguf/gguf_exporter.h"
#include "export/onnx/onnx_exporter.h"
#include "export/pack/pack_exporter.h"
#include "export/tensor_walk.h"

namespace adze {
namespace {

constexpr std::array kExporters = {
    ExporterInfo{"gguf", "one GGUF file for llama.cpp and the programs built on it", &make_gguf_exporter},
    ExporterInfo{"pack", "one file of our own that holds every format as it is stored", &make_pack_exporter},
    ExporterInfo{"pack-entropy", "the same, entropy-coded: smaller, to be decoded before it is used",
                 &make_pack_entropy_exporter},
    ExporterInfo{"safetensors", "a Hugging Face folder of floats, everything decoded", &make_safetensors_exporter,
                 true},
    ExporterInfo{"compressed-tensors", "a folder of integers or small floats for vLLM, SGLang and transformers",
                 &make_compressed_tensors_exporter, true},
    ExporterInfo{"compressed-tensors-w8a8", "the same, where inputs are quantized to 8 bits as well while it runs",
                 &make_w8a8_exporter},
    ExporterInfo{"gptq", "a folder as AutoGPTQ and GPTQModel write it", &make_gptq_exporter},
    ExporterInfo{"awq", "a folder in AutoAWQ's GEMM layout", &make_awq_exporter},
    ExporterInfo{"mlx", "a folder of MLX's affine quantization", &make_mlx_exporter},
    ExporterInfo{"onnx", "a folder for onnxruntime and onnxruntime-genai", &make_onnx_exporter},
    ExporterInfo{"onnx-qdq", "a folder of ONNX with standard operators alone", &make_onnx_qdq_exporter}};

}  // namespace

std::span<const ExporterInfo> exporters() { return kExporters; }

const ExporterInfo* find_exporter(std::string_view name) {
  const auto* const row = std::ranges::find(kExporters, name, &ExporterInfo::name);
  return row == kExporters.end() ? nullptr : row;
}

std::optional<CacheScales> cache_scales_from_name(std::string_view name) {
  return name == "fp8" ? std::optional(CacheScales::fp8) : std::nullopt;
}

std::string no_cache_maxima(std::size_t block) {
  return fmt::format(
      "block {}: how large its keys and values are was not measured; compress does that where an export of the recipe "
      "asks "
      "for it (kv_cache: fp8): make the model with it again, or export without scales of a cache",
      block);
}

std::string vector_format(const TensorSpec& spec) {
  return std::string(name_of(spec.role == TensorRole::kept ? spec.dtype : DType::f32));
}

std::optional<std::string> cannot_list(const ExporterInfo& exporter, const Architecture& architecture) {
  if (exporter.holds_lists || !architecture.is_listed()) return std::nullopt;
  std::vector<std::string_view> others;
  for (const ExporterInfo& other : kExporters)
    if (other.holds_lists) others.push_back(other.name);
  return fmt::format(
      "{} says what a model computes, but the architecture of this one is not known, only its tensors; export {}",
      exporter.name, fmt::join(others, " or "));
}

std::vector<TensorSpec> specs_of(const ExportPlan& plan) {
  std::vector<TensorSpec> specs;
  for (const PlannedTensor& tensor : plan.tensors) specs.push_back(tensor.spec);
  return specs;
}

std::vector<PlannedTensor> planned_tensors(const ModelWeights& model) {
  std::vector<PlannedTensor> planned;
  TensorWalk walk(model);
  for (TensorSpec& spec : expected_tensors(model.architecture())) {
    std::string format = vector_format(spec);
    if (spec.is_matrix()) {
      const std::optional<std::string> known = model.format_of(spec);
      format = known ? *known : walk.at(spec).matrix->format();
    }
    planned.push_back({std::move(spec), std::move(format)});
  }
  return planned;
}

}  // namespace adze
