// AWQ, GEMM version: qweight [in x out / 8], qzeros [groups x out / 8], scales [groups x out]; column j of eight in the
// nibble kNibble[j].
#include <array>
#include <span>

#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/error.h"
#include "linalg/octet_unpacking.h"
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

constexpr std::size_t kLineCodes = 128;  // of a cache line

/// Codes of qweight [cols x rows / 8]: what writes them to where they are stored. A piece is some cache lines of all
/// streams.
FillCodes codes_of_inputs(const RawTensors& raw, const std::string& name, Shape shape) {
  const Shape words{shape.cols, shape.rows / 8};
  raw.require(name, SafetensorsType::i32, {words.rows, words.cols});
  return [&raw, name, words](MatrixView<std::byte> rows) {
    raw.read_rows(name, SafetensorsType::i32, words, kLineCodes,
                  [&](std::size_t first, std::span<const std::byte> bytes) {
                    const std::size_t stride = words.cols * sizeof(std::uint32_t);
                    const CodeRows inputs(bytes.data(), {bytes.size() / stride, stride});
                    unpack_octets(inputs, rows.col_range(first / 2, (inputs.rows() + 1) / 2));
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
