#include "export/folder/folder_format.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "grid/format.h"
#include "linalg/convert.h"

namespace adze {
namespace {

/// The groups whose scale is zero, by their number. Throws internal for a scale that is not finite.
std::vector<std::size_t> zero_groups(const IntegerMatrix& matrix) {
  const std::vector<float> scales = scales_of(matrix);
  const std::size_t groups = matrix.groups();
  std::vector<std::size_t> zero;
  for (std::size_t i = 0; i < scales.size(); ++i) {
    if (!std::isfinite(scales[i]))
      fail(ErrorKind::internal, "row {}, group {}: the scale is {}", i / groups, i % groups, scales[i]);
    if (scales[i] == 0) zero.push_back(i);
  }
  return zero;
}

/// Scales that are zero stand for groups of zeros; a scale of one with codes of zero says the same, and no reader
/// divides by it. Of a matrix without codes, scales alone.
void leave_no_zero_scales(IntegerMatrix& matrix, const std::vector<std::size_t>& zero) {
  const std::size_t groups = matrix.groups(), cols = matrix.group_cols(), width = bytes_of(matrix.spec.scale_dtype);
  std::vector<std::byte> one(width);
  const float unit = 1.0f;
  from_float(matrix.spec.scale_dtype, std::span(&unit, 1), one);
  for (const std::size_t i : zero) {
    std::memcpy(matrix.scales.data() + i * width, one.data(), width);
    if (matrix.codes.empty()) continue;
    std::vector<std::uint8_t> row = matrix.unpacked_row(i / groups);
    std::fill_n(row.begin() + static_cast<std::ptrdiff_t>(i % groups * cols), cols, matrix.zeros[i]);
    matrix.pack_row(i / groups, row);
  }
}

/// The same of steps that are zero: codes of zero, and a scale of one; powers of two are never zero.
void leave_no_zero_scales(MinifloatMatrix& matrix) {
  if (matrix.spec.scale == MinifloatScale::e8m0) return;
  const std::size_t groups = matrix.groups(), width = matrix.spec.scale_bytes();
  const std::size_t group_bytes = matrix.code_bytes() / groups;
  const float one = 1.0f;
  for (std::size_t i = 0; i < matrix.shape.rows * groups; ++i) {
    std::byte* const scale = matrix.scales.data() + i * width;
    if (std::ranges::any_of(std::span(scale, width), [](std::byte b) { return b != std::byte{0}; })) continue;
    if (width == sizeof one)
      std::memcpy(scale, &one, width);
    else
      *scale = static_cast<std::byte>(nearest_e4m3(one));
    std::fill_n(matrix.codes.data() + i * group_bytes, group_bytes, std::byte{0});
  }
}

/// True for the part of a matrix on an integer grid that has its codes; others are made without them.
bool has_codes(std::string_view suffix) {
  return suffix == "weight" || suffix == "weight_packed" || suffix == "qweight";
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

std::optional<MinifloatSpec> minifloats_of(const PlannedTensor& tensor) {
  return minifloat_spec_from_name(dense_format(tensor.format));
}

std::vector<PlannedLinear> planned_linears(const ExportPlan& plan) {
  std::vector<PlannedLinear> linears;
  for (const PlannedTensor& tensor : plan.tensors)
    if (tensor.spec.is_matrix())
      linears.push_back({base_name(tensor.spec), tensor.spec.role, integers_of(tensor), minifloats_of(tensor)});
    else if (tensor.spec.role == TensorRole::kept && tensor.spec.hf_name.ends_with(".weight"))
      linears.push_back({base_name(tensor.spec), tensor.spec.role, std::nullopt, std::nullopt});
  return linears;
}

int group_size(const IntegerGridSpec& spec) {
  return spec.scope == ScaleScope::group ? static_cast<int>(spec.group) : -1;
}

std::optional<std::string> QuantizedFormat::refuses_minifloats(const MinifloatSpec&, Shape) const {
  return "its codes are integers; take an integer grid such as int4";
}
std::vector<SafetensorsSpec> QuantizedFormat::minifloat_parts(const std::string&, const MinifloatSpec&, Shape) const {
  fail(ErrorKind::internal, "{} has no small floats", name());
}
ByteArray QuantizedFormat::encode_minifloats(MinifloatMatrix, std::string_view) const {
  fail(ErrorKind::internal, "{} has no small floats", name());
}

std::optional<std::string> QuantizedFormat::refusal(const PlannedTensor& tensor) const {
  const Shape shape = shape_of(tensor);
  if (const auto minifloats = minifloats_of(tensor)) return refuses_minifloats(*minifloats, shape);
  const auto integers = integers_of(tensor);
  if (!integers) return "it holds codes with scales; take an integer grid such as int4, or export gguf or safetensors";
  if (integers->scope == ScaleScope::tensor)
    return "it has a scale for each group or channel, not one for the matrix; take scope: channel";
  return refuses(*integers, shape);
}

std::optional<std::string> QuantizedFormat::cannot_hold(const PlannedTensor& tensor) const {
  const std::string& module = tensor.spec.module;
  const std::string format = dense_format(tensor.format);
  if (dtype_from_name(format)) return std::nullopt;
  if (const auto reason = refusal(tensor))
    return fmt::format("{}: {} cannot hold {}: {}", module, name(), tensor.format, *reason);
  if (is_table(tensor) && !quantizes_tables())
    return fmt::format("{}: {} keeps embedding and head as floats; give it store: f16 or bf16", module, name());
  return std::nullopt;
}

std::optional<std::string> QuantizedFormat::remark(const PlannedTensor& tensor) const {
  if (is_composed(tensor.format))
    return fmt::format("{}: {} is multiplied out and rounded to {}", tensor.spec.module, tensor.format,
                       dense_format(tensor.format));
  if (dense_format(tensor.format) != tensor.format)
    return fmt::format("{}: the zeros of {} are stored as codes", tensor.spec.module, tensor.format);
  std::optional<std::string> text;
  if (const auto integers = integers_of(tensor)) text = remark_on(*integers);
  if (const auto minifloats = minifloats_of(tensor)) text = remark_on_minifloats(*minifloats);
  if (text) return fmt::format("{}: {}", tensor.spec.module, *text);
  return std::nullopt;
}

std::vector<SafetensorsSpec> QuantizedFormat::parts(const PlannedTensor& tensor, DType) const {
  const std::string base = base_name(tensor.spec);
  if (const auto spec = integers_of(tensor)) return integer_parts(base, *spec, shape_of(tensor));
  if (const auto spec = minifloats_of(tensor)) return minifloat_parts(base, *spec, shape_of(tensor));
  const DType dtype = *dtype_from_name(dense_format(tensor.format));
  return {{base + ".weight", safetensors_type_of(dtype), tensor.spec.shape}};
}

SharedBytes QuantizedFormat::encode(const PlannedTensor& tensor, const SafetensorsSpec& part,
                                    const LoadMatrix& matrix) const {
  const std::string_view suffix = std::string_view(part.name).substr(base_name(tensor.spec).size() + 1);
  const auto integers = integers_of(tensor);
  const auto minifloats = minifloats_of(tensor);
  std::optional<ByteArray> known;
  if (integers) known = encode_sizes(*integers, shape_of(tensor), suffix);
  if (minifloats) known = encode_minifloat_sizes(*minifloats, shape_of(tensor), suffix);
  if (known) return std::move(*known);
  const TensorPtr dense = matrix();
  const auto* const quantized = dynamic_cast<const QuantizedTensor*>(dense.get());
  if (quantized == nullptr) return {dense->payload(), dense};
  if (minifloats) {
    MinifloatMatrix parts = unpack_minifloats(*quantized);
    leave_no_zero_scales(parts);
    return encode_minifloats(std::move(parts), suffix);
  }
  IntegerMatrix sides = unpack_sides(*quantized);
  const std::vector<std::size_t> zero = zero_groups(sides);
  if (!has_codes(suffix)) {
    leave_no_zero_scales(sides, zero);
    return encode_integers(std::move(sides), {}, suffix);
  }
  if (zero.empty()) return encode_integers(std::move(sides), stored_codes(*quantized), suffix);
  IntegerMatrix changed = unpack_integers(*quantized);
  leave_no_zero_scales(changed, zero);
  const std::vector<std::byte> codes = std::exchange(changed.codes, {});
  const CodeRows rows(codes.data(), {changed.shape.rows, changed.code_bytes()});
  return encode_integers(std::move(changed), rows, suffix);
}

TensorPtr QuantizedFormat::as_stored(const TensorPtr& matrix, DType) const { return densified(matrix); }

}  // namespace adze
