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

constexpr std::size_t kOctets = 16;  // of rows, side by side: a cache line of words

/// Word j of as many squares as there are octets.
using Squares = std::array<std::array<std::uint32_t, kOctets>, 8>;

/// Parts of words change places with those of the words kApart further on. Plain loops of a length that the compiler
/// knows become vector instructions.
template <std::size_t kApart, unsigned kShift, std::uint32_t kMask>
void swap_parts(Squares& words) {
  for (std::size_t j = 0; j < 8; ++j) {
    if ((j & kApart) != 0) continue;
    std::array<std::uint32_t, kOctets>&low = words[j], &high = words[j + kApart];
    for (std::size_t i = 0; i < kOctets; ++i) {
      const std::uint32_t change = ((low[i] >> kShift) ^ high[i]) & kMask;
      high[i] ^= change;
      low[i] ^= change << kShift;
    }
  }
}

/// Nibble k of word j becomes nibble j of word k: halves, quarters and eighths of words change places.
void transpose_nibbles(Squares& words) {
  swap_parts<4, 16, 0x0000FFFF>(words);
  swap_parts<2, 8, 0x00FF00FF>(words);
  swap_parts<1, 4, 0x0F0F0F0F>(words);
}

/// Codes [rows x cols] of streams, as words [cols x rows / 8]. A task is the rows of a cache line of words; it takes a
/// cache line of each row at a time, which lie far apart and would push each other out of the cache.
std::vector<std::byte> interleaved(const IntegerMatrix& matrix) {
  constexpr std::size_t kLineWords = 16;
  const auto [rows, cols] = matrix.shape;
  const std::size_t octets = rows / 8, row_bytes = matrix.code_bytes();
  std::vector<std::byte> out(cols * octets * 4);
  parallel_for((octets + kOctets - 1) / kOctets, [&, columns = cols](std::size_t task) {
    const std::size_t first = task * kOctets, count = std::min(kOctets, octets - first);
    std::array<std::array<std::uint32_t, kLineWords>, 8 * kOctets> lines{};
    for (std::size_t col = 0; col < columns; col += 8 * kLineWords) {
      const std::size_t bytes = std::min(sizeof lines[0], row_bytes - col / 2);
      for (std::size_t r = 0; r < 8 * count; ++r) {
        const std::byte* const from = matrix.codes.data() + (8 * first + r) * row_bytes + col / 2;
        if (bytes == sizeof lines[r]) {  // most are whole lines, which are fetched many at a time
          std::memcpy(lines[r].data(), from, sizeof lines[r]);
        } else {
          lines[r] = {};
          std::memcpy(lines[r].data(), from, bytes);
        }
      }
      for (std::size_t c = col; c < std::min(columns, col + 8 * kLineWords); c += 8) {
        Squares words;
        for (std::size_t i = 0; i < 8; ++i)
          for (std::size_t octet = 0; octet < kOctets; ++octet)
            words[i][octet] = lines[8 * octet + kOrder[i]][(c - col) / 8];
        transpose_nibbles(words);
        for (std::size_t k = 0; k < std::min<std::size_t>(8, columns - c); ++k)
          std::memcpy(out.data() + ((c + k) * octets + first) * 4, words[k].data(), 4 * count);
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

  std::vector<std::byte> encode_integers(IntegerMatrix matrix, std::string_view suffix) const override {
    const std::size_t rows = matrix.shape.rows, groups = matrix.groups();
    if (suffix == "scales") return transposed_elements(matrix.scales, rows, groups, bytes_of(DType::f16));
    if (suffix == "qweight") return interleaved(matrix);
    WordMatrix words(groups, rows / 8);
    for (std::size_t g = 0; g < groups; ++g)
      put_row(
          g, rows, [&](std::size_t r) { return matrix.zeros[r * groups + g]; }, words);
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
