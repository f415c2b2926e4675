// AWQ, GEMM version: qweight [in x out / 8], qzeros [groups x out / 8], scales [groups x out]; column j of eight in the
// nibble kNibble[j].
#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "model/config_object.h"
#include "model/packed/packed_integers.h"

namespace adze {
namespace {

constexpr std::array<unsigned, 8> kNibble{0, 4, 1, 5, 2, 6, 3, 7};

/// Field [row, col] of words [rows x cols / 8].
std::uint8_t nibble(std::span<const std::byte> words, std::size_t cols, std::size_t row, std::size_t col) {
  const unsigned at = kNibble[col % 8];
  const auto byte = std::to_integer<unsigned>(words[(row * (cols / 8) + col / 8) * 4 + at / 2]);
  return static_cast<std::uint8_t>(at % 2 == 0 ? byte & 15U : byte >> 4);
}

constexpr std::size_t kLanes = 8;        // pairs of words side by side, a cache line
constexpr std::size_t kFields = 16;      // of a pair, each of an output; as many inputs are turned with it
constexpr std::size_t kLineCodes = 128;  // of a cache line

/// The same pair of words of each lane.
using Lanes = std::array<std::uint64_t, kLanes>;

/// Fields of `a` where they are not in kLow, and of `b` where they are, change places, kShift bits apart.
template <unsigned kShift, std::uint64_t kLow>
void exchange(std::uint64_t& a, std::uint64_t& b) {
  const std::uint64_t differing = ((a >> kShift) ^ b) & kLow;
  a ^= differing << kShift;
  b ^= differing;
}

/// Two steps of turn_fields() at once, between words that lie kApart and 2 kApart from each other.
template <std::size_t kApart, std::uint64_t kLow, std::uint64_t kLowOfTwo>
void exchange_between(std::array<Lanes, kFields>& words) {
  constexpr unsigned kShift = 4 * kApart;
  for (std::size_t j = 0; j < kFields; ++j) {
    if ((j & (3 * kApart)) != 0) continue;
    Lanes &first = words[j], &second = words[j + kApart], &third = words[j + 2 * kApart],
          &fourth = words[j + 3 * kApart];
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      std::uint64_t a = first[lane], b = second[lane], c = third[lane], d = fourth[lane];
      exchange<kShift, kLow>(a, b);
      exchange<kShift, kLow>(c, d);
      exchange<2 * kShift, kLowOfTwo>(a, c);
      exchange<2 * kShift, kLowOfTwo>(b, d);
      first[lane] = a;
      second[lane] = b;
      third[lane] = c;
      fourth[lane] = d;
    }
  }
}

/// Pairs of words of 16 inputs to streams of 16 outputs: field k of stream j is field j of pair k.
void turn_fields(std::array<Lanes, kFields>& words) {
  exchange_between<1, 0x0F0F0F0F0F0F0F0F, 0x00FF00FF00FF00FF>(words);
  exchange_between<4, 0x0000FFFF0000FFFF, 0x00000000FFFFFFFF>(words);
}

/// At most a cache line; of whole ones the compiler knows the size.
void copy_line(void* to, const void* from, std::size_t bytes) {
  constexpr std::size_t kLine = sizeof(Lanes);
  if (bytes == kLine)
    std::memcpy(to, from, kLine);
  else
    std::memcpy(to, from, bytes);
}

/// Inputs from `first` on, at most a cache line of codes, to streams of all outputs.
void put_inputs(CodeRows inputs, std::size_t first, MatrixView<std::byte> rows) {
  std::array<Lanes, kLineCodes> lines;
  std::array<Lanes, kFields> words;
  for (std::size_t left = 0; left < inputs.cols(); left += sizeof(Lanes)) {
    const std::size_t line_bytes = std::min(sizeof(Lanes), inputs.cols() - left);
    for (std::size_t part = 0; part < kLanes; ++part) {
      for (std::size_t i = 0; i < kFields; ++i) {
        const std::size_t input = part * kFields + i;
        if (line_bytes < sizeof(Lanes) || input >= inputs.rows()) words[i] = {};
        if (input < inputs.rows()) copy_line(words[i].data(), inputs.row(input).data() + left, line_bytes);
      }
      turn_fields(words);
      for (std::size_t lane = 0; lane < kLanes; ++lane)
        for (std::size_t j = 0; j < kFields; ++j)
          lines[kFields * lane + j][part] = words[j / 8 * 8 + kNibble[j % 8]][lane];
    }
    const std::size_t at = first / 2, bytes = std::min(sizeof(Lanes), rows.cols() - at);
    for (std::size_t r = 0; r < 2 * line_bytes; ++r)
      copy_line(rows.row(2 * left + r).data() + at, lines[r].data(), bytes);
  }
}

/// Codes of qweight [cols x rows / 8]: what writes them to where they are stored. A piece is some cache lines of all
/// streams; each is put together in the processor's own cache.
FillCodes codes_of_inputs(const RawTensors& raw, const std::string& name, Shape shape) {
  const Shape words{shape.cols, shape.rows / 8};
  raw.require(name, SafetensorsType::i32, {words.rows, words.cols});
  return [&raw, name, words](MatrixView<std::byte> rows) {
    raw.read_rows(name, SafetensorsType::i32, words, kLineCodes,
                  [&](std::size_t first, std::span<const std::byte> bytes) {
                    const std::size_t stride = words.cols * sizeof(std::uint32_t);
                    const CodeRows inputs(bytes.data(), {bytes.size() / stride, stride});
                    for (std::size_t i = 0; i < inputs.rows(); i += kLineCodes)
                      put_inputs(inputs.row_range(i, std::min(kLineCodes, inputs.rows() - i)), first + i, rows);
                  });
  };
}

class AwqLayout final : public PackedLayout {
 public:
  AwqLayout(const nlohmann::json& settings, const std::string& origin) {
    const ConfigObject object(settings, origin);
    const std::string version = object.text_or("version", "gemm");
    if (object.size_or("bits", 4) != 4 || (version != "gemm" && version != "GEMM"))
      fail(ErrorKind::bad_data, "{}: AWQ of 4 bits in version gemm is supported, this is {} bits in version {}", origin,
           object.size_or("bits", 4), version);
    sizes_ = {4, settings.contains("group_size") ? group_of(settings, "group_size", origin) : 128, false};
  }

  std::vector<std::string> tensors_of(const RawTensors& raw, const std::string& base) const override {
    if (raw.find(base + ".qweight") == nullptr) return {};
    return {base + ".qweight", base + ".qzeros", base + ".scales"};
  }

  TensorPtr read(const RawTensors& raw, const std::string& base, Shape shape) const override {
    sizes_.check(shape);
    const auto [rows, cols] = shape;
    if (rows % 8 != 0) fail(ErrorKind::bad_data, "{} outputs, AWQ has multiples of 8", rows);
    const std::size_t groups = cols / sizes_.group_cols(cols);
    const FillCodes codes = codes_of_inputs(raw, base + ".qweight", shape);
    const auto packed_zeros = raw.read(base + ".qzeros", SafetensorsType::i32, {groups, rows / 8});
    std::vector<std::uint8_t> zeros(rows * groups);
    for (std::size_t g = 0; g < groups; ++g)
      for (std::size_t r = 0; r < rows; ++r) zeros[r * groups + g] = nibble(packed_zeros, rows, g, r);
    RawTensors::Floats scales = raw.read_floats(base + ".scales", {groups, rows});
    scales.bytes = turned(scales.bytes, groups, rows, bytes_of(scales.dtype));
    return integer_tensor(sizes_, shape, codes, std::move(scales), std::move(zeros));
  }

 private:
  PackedSizes sizes_;
};

}  // namespace

std::unique_ptr<PackedLayout> make_awq_layout(const nlohmann::json& config, const nlohmann::ordered_json& /*in_order*/,
                                              const std::string& origin) {
  return std::make_unique<AwqLayout>(config["quantization_config"], origin);
}

}  // namespace adze
