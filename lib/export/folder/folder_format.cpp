#include "export/folder/folder_format.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "base/error.h"
#include "grid/format.h"
#include "linalg/convert.h"

namespace adze {
namespace {

/// Scales that are zero stand for groups of zeros; a scale of one with codes of zero says the same, and no reader
/// divides by it. Throws internal for a scale that is not finite.
void leave_no_zero_scales(IntegerMatrix& matrix) {
  const std::vector<float> scales = scales_of(matrix);
  const std::size_t groups = matrix.groups(), cols = matrix.group_cols(), width = bytes_of(matrix.spec.scale_dtype);
  std::vector<std::byte> one(width);
  const float unit = 1.0f;
  from_float(matrix.spec.scale_dtype, std::span(&unit, 1), one);
  for (std::size_t i = 0; i < scales.size(); ++i) {
    if (!std::isfinite(scales[i]))
      fail(ErrorKind::internal, "row {}, group {}: the scale is {}", i / groups, i % groups, scales[i]);
    if (scales[i] != 0) continue;
    std::memcpy(matrix.scales.data() + i * width, one.data(), width);
    std::vector<std::uint8_t> row = matrix.unpacked_row(i / groups);
    std::fill_n(row.begin() + static_cast<std::ptrdiff_t>(i % groups * cols), cols, matrix.zeros[i]);
    matrix.pack_row(i / groups, row);
  }
}

bool is_table(const PlannedTensor& tensor) {
  return tensor.spec.role == TensorRole::embedding || tensor.spec.role == TensorRole::head;
}

}  // namespace

std::string base_name(const TensorSpec& spec) {
  constexpr std::string_view kWeight = ".weight";
  return spec.hf_name.ends_with(kWeight) ? spec.hf_name.substr(0, spec.hf_name.size() - kWeight.size()) : spec.hf_name;
}

Shape shape_of(const PlannedTensor& tensor) {
  return {static_cast<std::size_t>(tensor.spec.shape.front()), static_cast<std::size_t>(tensor.spec.shape.back())};
}

std::optional<IntegerGridSpec> integers_of(const PlannedTensor& tensor) {
  const std::string format = dense_format(tensor.format);
  if (!format.starts_with("int")) return std::nullopt;
  return *integer_spec_of(*grid_from_name(format));
}

std::vector<PlannedLinear> planned_linears(const ExportPlan& plan) {
  std::vector<PlannedLinear> linears;
  for (const PlannedTensor& tensor : plan.tensors)
    if (tensor.spec.shape.size() == 2)
      linears.push_back({base_name(tensor.spec), tensor.spec.role, integers_of(tensor)});
  return linears;
}

int group_size(const IntegerGridSpec& spec) {
  return spec.scope == ScaleScope::group ? static_cast<int>(spec.group) : -1;
}

std::optional<std::string> IntegerFormat::cannot_hold(const PlannedTensor& tensor) const {
  const std::string& module = tensor.spec.module;
  const std::string format = dense_format(tensor.format);
  if (dtype_from_name(format)) return std::nullopt;
  const auto spec = integers_of(tensor);
  if (!spec)
    return fmt::format(
        "{}: {} holds integers with scales, not {}; take an integer grid such as int4, or export gguf or "
        "safetensors",
        module, name(), tensor.format);
  if (is_table(tensor) && !quantizes_tables())
    return fmt::format("{}: {} keeps embedding and head as floats; give it store: f16 or bf16", module, name());
  if (spec->scope == ScaleScope::tensor)
    return fmt::format("{}: {} has a scale for each group or channel, not one for the matrix; take scope: channel",
                       module, name());
  if (auto reason = refuses(*spec, shape_of(tensor)))
    return fmt::format("{}: {} cannot hold {}: {}", module, name(), format, *reason);
  return std::nullopt;
}

std::optional<std::string> IntegerFormat::remark(const PlannedTensor& tensor) const {
  if (is_composed(tensor.format))
    return fmt::format("{}: {} is multiplied out and rounded to {}", tensor.spec.module, tensor.format,
                       dense_format(tensor.format));
  if (dense_format(tensor.format) != tensor.format)
    return fmt::format("{}: the zeros of {} are stored as codes", tensor.spec.module, tensor.format);
  const auto spec = integers_of(tensor);
  if (!spec) return std::nullopt;
  if (auto text = remark_on(*spec)) return fmt::format("{}: {}", tensor.spec.module, *text);
  return std::nullopt;
}

std::vector<SafetensorsSpec> IntegerFormat::parts(const PlannedTensor& tensor, DType) const {
  const std::string base = base_name(tensor.spec);
  if (const auto spec = integers_of(tensor)) return integer_parts(base, *spec, shape_of(tensor));
  const DType dtype = *dtype_from_name(dense_format(tensor.format));
  return {{base + ".weight", safetensors_type_of(dtype), tensor.spec.shape}};
}

std::vector<std::byte> IntegerFormat::encode(const PlannedTensor& tensor, const SafetensorsSpec& part,
                                             const LoadMatrix& matrix) const {
  const std::string_view suffix = std::string_view(part.name).substr(base_name(tensor.spec).size() + 1);
  const auto spec = integers_of(tensor);
  if (spec)
    if (auto bytes = encode_sizes(*spec, shape_of(tensor), suffix)) return std::move(*bytes);
  const TensorPtr dense = densified(matrix());
  const auto* const quantized = dynamic_cast<const QuantizedTensor*>(dense.get());
  if (quantized == nullptr) return {dense->payload().begin(), dense->payload().end()};
  IntegerMatrix integers = unpack_integers(*quantized);
  leave_no_zero_scales(integers);
  return encode_integers(std::move(integers), suffix);
}

TensorPtr IntegerFormat::as_stored(const TensorPtr& matrix, DType) const { return densified(matrix); }

}  // namespace adze
