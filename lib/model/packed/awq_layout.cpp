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

constexpr std::size_t kLanes = 16;  // words side by side that are turned together

/// The same word of each lane.
struct Lanes {
  std::array<std::uint32_t, kLanes> of{};
};

/// Fields at odd places of the first of two words and those at even places of the second; what stays is where `low` is
/// set in the first, and where it is not in the second.
template <unsigned kShift, std::uint32_t kLow>
void exchange(Lanes& first, Lanes& second) {
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const std::uint32_t a = first.of[lane], b = second.of[lane];
    first.of[lane] = (a & kLow) | ((b & kLow) << kShift);
    second.of[lane] = ((a >> kShift) & kLow) | (b & ~kLow);
  }
}

/// Words of eight inputs to streams of eight outputs, which lie at kNibble: nibble k of a stream is the field of its
/// output in word k.
void turn_fields(std::span<Lanes, 8> words) {
  for (const std::size_t pair : {0, 2, 4, 6}) exchange<4, 0x0F0F0F0F>(words[pair], words[pair + 1]);
  for (const std::size_t pair : {0, 1, 4, 5}) exchange<8, 0x00FF00FF>(words[pair], words[pair + 2]);
  for (const std::size_t pair : {0, 1, 2, 3}) exchange<16, 0x0000FFFF>(words[pair], words[pair + 4]);
}

/// At most a cache line; of whole ones the compiler knows the size.
void copy_line(void* to, const void* from, std::size_t bytes) {
  constexpr std::size_t kLine = 4 * kLanes;
  if (bytes == kLine)
    std::memcpy(to, from, kLine);
  else
    std::memcpy(to, from, bytes);
}

/// qweight [cols x rows / 8] as streams of rows. A task is the rows of a cache line of words; their streams are put
/// together a cache line at a time. Lines are fetched many at a time, far from each other as they are.
std::vector<std::byte> code_streams(std::span<const std::byte> packed, Shape shape) {
  constexpr std::size_t kLineCols = 128;
  const std::size_t octets = shape.rows / 8, row_bytes = static_cast<std::size_t>(packed_bytes(shape.cols, 4));
  std::vector<std::byte> codes(shape.rows * row_bytes);
  parallel_for(divide_up(octets, kLanes), [&](std::size_t task) {
    const std::size_t first = task * kLanes, count = std::min(kLanes, octets - first);
    std::array<Lanes, kLineCols> words{};
    std::array<std::array<std::uint32_t, kLineCols / 8>, 8 * kLanes> lines;
    for (std::size_t begin = 0; begin < shape.cols; begin += kLineCols) {
      const std::size_t inputs = std::min(kLineCols, shape.cols - begin);
      if (inputs < kLineCols) words = {};
      for (std::size_t i = 0; i < inputs; ++i)
        copy_line(words[i].of.data(), packed.data() + ((begin + i) * octets + first) * 4, 4 * count);
      for (std::size_t word = 0; word < kLineCols / 8; ++word) {
        const std::span<Lanes, 8> eight(words.data() + 8 * word, 8);
        turn_fields(eight);
        for (std::size_t lane = 0; lane < kLanes; ++lane)
          for (std::size_t j = 0; j < 8; ++j) lines[8 * lane + j][word] = eight[kNibble[j]].of[lane];
      }
      const std::size_t bytes = std::min(sizeof lines[0], row_bytes - begin / 2);
      for (std::size_t r = 0; r < 8 * count; ++r)
        copy_line(codes.data() + (8 * first + r) * row_bytes + begin / 2, lines[r].data(), bytes);
    }
  });
  return codes;
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
    const auto packed = raw.read(base + ".qweight", SafetensorsType::i32, {cols, rows / 8});
    const auto packed_zeros = raw.read(base + ".qzeros", SafetensorsType::i32, {groups, rows / 8});
    std::vector<std::uint8_t> zeros(rows * groups);
    for (std::size_t g = 0; g < groups; ++g)
      for (std::size_t r = 0; r < rows; ++r) zeros[r * groups + g] = nibble(packed_zeros, rows, g, r);
    RawTensors::Floats scales = raw.read_floats(base + ".scales", {groups, rows});
    scales.bytes = turned(scales.bytes, groups, rows, bytes_of(scales.dtype));
    return integer_tensor(sizes_, shape, code_streams(packed, shape), std::move(scales), std::move(zeros));
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
