// AWQ checkpoints in AutoAWQ's GEMM layout: 4 bits, packed along outputs in the order that its kernel wants.
#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "export/folder/bit_words.h"
#include "export/folder/folder_format.h"
#include "linalg/octet_packing.h"

namespace adze {
namespace {

/// The column, among eight neighbours, whose code the nibble at shift 4 i holds.
constexpr std::array<std::size_t, 8> kOrder{0, 2, 4, 6, 1, 3, 5, 7};

/// Rows of eight nibbles each: code(column) of `cols` columns of one row.
template <typename Code>
void put_row(std::size_t row, std::size_t cols, Code&& code, WordMatrix& words) {
  for (std::size_t c = 0; c < cols / 8; ++c) {
    std::uint32_t word = 0;
    for (std::size_t i = 0; i < 8; ++i) word |= std::uint32_t{code(8 * c + kOrder[i])} << (4 * i);
    words.set(row, c, word);
  }
}

/// Codes of rows, `cols` of each, as words [cols x rows / 8]. A task is the rows of two cache lines of words, which are
/// neighbours.
ByteArray interleaved(CodeRows rows, std::size_t cols) {
  constexpr std::size_t kTaskRows = 256;
  const std::size_t stride = rows.rows() / 2;  // bytes of a row of words
  ByteArray out(cols * stride);
  const MatrixView<std::byte> words(out.data(), {cols, stride});
  parallel_for((rows.rows() + kTaskRows - 1) / kTaskRows, [&](std::size_t task) {
    const std::size_t top = task * kTaskRows, count = std::min(kTaskRows, rows.rows() - top);
    pack_octets(rows.row_range(top, count), words.col_range(top / 2, count / 2));
  });
  return out;
}

class AwqFormat final : public QuantizedFormat {
  std::string_view name() const override { return "AWQ"; }

  std::optional<std::string> refuses(const IntegerGridSpec& spec, Shape shape) const override {
    if (spec.bits != 4) return "it has 4 bits; take int4";
    if (spec.symmetric) return "it has a zero point for each group; take symmetric: false";
    if (spec.scope != ScaleScope::group) return "it has groups; take group: 128";
    if (spec.scale_dtype != DType::f16) return "its scales are f16";
    if (shape.rows % 8 != 0) return fmt::format("outputs must be a multiple of 8, not {}", shape.rows);
    return std::nullopt;
  }

  std::vector<SafetensorsSpec> integer_parts(const std::string& base, const IntegerGridSpec& spec,
                                             Shape shape) const override {
    const std::size_t groups = shape.cols / spec.group;
    return {{base + ".qweight", SafetensorsType::i32, {shape.cols, shape.rows / 8}},
            {base + ".qzeros", SafetensorsType::i32, {groups, shape.rows / 8}},
            {base + ".scales", SafetensorsType::f16, {groups, shape.rows}}};
  }

  ByteArray encode_integers(IntegerMatrix sides, CodeRows codes, std::string_view suffix) const override {
    const std::size_t rows = sides.shape.rows, groups = sides.groups();
    if (suffix == "scales") return transposed_elements(sides.scales, rows, groups, bytes_of(DType::f16));
    if (suffix == "qweight") return interleaved(codes, sides.shape.cols);
    WordMatrix words(groups, rows / 8);
    for (std::size_t g = 0; g < groups; ++g)
      put_row(
          g, rows, [&](std::size_t r) { return sides.zeros[r * groups + g]; }, words);
    return words.take();
  }

 public:
  void describe(const ExportPlan& plan, nlohmann::ordered_json& config) const override {
    std::optional<std::size_t> group;
    auto floats = nlohmann::ordered_json::array();
    for (const PlannedLinear& linear : planned_linears(plan)) {
      if (linear.role == TensorRole::linear && !linear.integers) floats.push_back(linear.base);
      if (!linear.integers) continue;
      if (group && *group != linear.integers->group)
        fail(ErrorKind::bad_data, "AWQ: one checkpoint has one group size, here are {} and {}", *group,
             linear.integers->group);
      group = linear.integers->group;
    }
    if (!group) fail(ErrorKind::bad_data, "AWQ: no matrix is on an integer grid; export safetensors");
    config["quantization_config"] = {{"quant_method", "awq"}, {"bits", 4},         {"group_size", *group},
                                     {"zero_point", true},    {"version", "gemm"}, {"modules_to_not_convert", nullptr}};
    if (!floats.empty()) config["quantization_config"]["modules_to_not_convert"] = std::move(floats);
  }
};

}  // namespace

std::unique_ptr<FolderFormat> make_awq_format() { return std::make_unique<AwqFormat>(); }

}  // namespace adze
