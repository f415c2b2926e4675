// AWQ checkpoints in AutoAWQ's GEMM layout: 4 bits, packed along outputs in the order that its kernel wants.
#include <algorithm>
#include <array>
#include <cstring>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "export/folder/bit_words.h"
#include "export/folder/folder_format.h"

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

constexpr std::size_t kSquareRows = 16;                               // two octets, whose words lie side by side
constexpr std::size_t kLineRows = 128;                                // of a cache line of words
constexpr std::size_t kLineBytes = 64, kLineCols = 128;               // of a row's codes
constexpr std::size_t kSquares = kLineBytes / sizeof(std::uint64_t);  // of 16 codes of 16 rows, side by side

/// Codes of a row of as many squares as a cache line has.
using Squares = std::array<std::array<std::uint64_t, kSquares>, kSquareRows>;

/// Parts of words change places with those of the words kApart further on. Plain loops of a length that the compiler
/// knows become vector instructions.
template <std::size_t kApart, unsigned kShift, std::uint64_t kMask>
void swap_parts(Squares& words) {
  for (std::size_t j = 0; j < kSquareRows; ++j) {
    if ((j & kApart) != 0) continue;
    std::array<std::uint64_t, kSquares>&low = words[j], &high = words[j + kApart];
    for (std::size_t i = 0; i < kSquares; ++i) {
      const std::uint64_t change = ((low[i] >> kShift) ^ high[i]) & kMask;
      high[i] ^= change;
      low[i] ^= change << kShift;
    }
  }
}

/// Nibble k of word j becomes nibble j of word k: halves, quarters, eighths and sixteenths of words change places.
void transpose_nibbles(Squares& words) {
  swap_parts<8, 32, 0x00000000FFFFFFFF>(words);
  swap_parts<4, 16, 0x0000FFFF0000FFFF>(words);
  swap_parts<2, 8, 0x00FF00FF00FF00FF>(words);
  swap_parts<1, 4, 0x0F0F0F0F0F0F0F0F>(words);
}

/// Codes of `rows`, at most a cache line of words, from column `left` on, at most kLineCols, as words of columns. Below
/// the last row lines keep what they were; nobody takes it.
struct Lines {
  std::array<std::array<std::uint64_t, kLineRows / kSquareRows>, kLineCols> of;
};
void turn_rows(CodeRows rows, std::size_t left, Lines& lines) {
  const std::size_t bytes = std::min(kLineBytes, rows.cols() - left / 2);
  Squares words;
  if (bytes < kLineBytes || rows.rows() % kSquareRows != 0) words = {};
  for (std::size_t top = 0; top < rows.rows(); top += kSquareRows) {
    for (std::size_t i = 0; i < std::min(kSquareRows, rows.rows() - top); ++i) {
      const std::byte* const from = rows.row(top + i / 8 * 8 + kOrder[i % 8]).data() + left / 2;
      if (bytes == kLineBytes)  // most are whole lines, of a length that the compiler knows
        std::memcpy(words[i].data(), from, kLineBytes);
      else
        std::memcpy(words[i].data(), from, bytes);
    }
    transpose_nibbles(words);
    for (std::size_t k = 0; k < kSquareRows; ++k)
      for (std::size_t square = 0; square < kSquares; ++square)
        lines.of[kSquareRows * square + k][top / kSquareRows] = words[k][square];
  }
}

/// Codes of rows, `cols` of each, as words [cols x rows / 8]. A task is the rows of two cache lines of words, which are
/// neighbours; it takes a cache line of each row at a time, since they lie far apart and would push each other out of
/// the cache.
ByteArray interleaved(CodeRows rows, std::size_t cols) {
  constexpr std::size_t kTaskRows = 2 * kLineRows;
  const std::size_t stride = rows.rows() / 2;  // bytes of a row of words
  ByteArray out(cols * stride);
  parallel_for((rows.rows() + kTaskRows - 1) / kTaskRows, [&](std::size_t task) {
    Lines lines;
    for (std::size_t left = 0; left < cols; left += kLineCols)
      for (std::size_t top = task * kTaskRows; top < std::min(rows.rows(), (task + 1) * kTaskRows); top += kLineRows) {
        const std::size_t count = std::min(kLineRows, rows.rows() - top);
        turn_rows(rows.row_range(top, count), left, lines);
        for (std::size_t c = 0; c < std::min(kLineCols, cols - left); ++c) {
          std::byte* const to = out.data() + (left + c) * stride + top / 2;
          if (count == kLineRows)
            std::memcpy(to, lines.of[c].data(), kLineRows / 2);
          else
            std::memcpy(to, lines.of[c].data(), count / 2);
        }
      }
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
