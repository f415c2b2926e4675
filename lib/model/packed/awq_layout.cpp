// AWQ, GEMM version: qweight [in x out / 8], qzeros [groups x out / 8], scales [groups x out]; column j of eight in the
// nibble kNibble[j].
#include <array>

#include <nlohmann/json.hpp>

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
    IntegerMatrix matrix{
        {4, false, ScaleScope::channel}, shape, std::vector<std::byte>(rows * packed_bytes(cols, 4)), {}, {}};
    std::vector<std::uint8_t> zeros(rows * groups);
    parallel_for(rows / 8, [&](std::size_t octet) {  // the rows of one column of words
      std::vector<std::uint8_t> codes(cols);
      for (std::size_t r = 8 * octet; r < 8 * octet + 8; ++r) {
        for (std::size_t c = 0; c < cols; ++c) codes[c] = nibble(packed, rows, c, r);
        matrix.pack_row(r, codes);
        for (std::size_t g = 0; g < groups; ++g) zeros[r * groups + g] = nibble(packed_zeros, rows, g, r);
      }
    });
    RawTensors::Floats scales = raw.read_floats(base + ".scales", {groups, rows});
    scales.bytes = turned(scales.bytes, groups, rows, bytes_of(scales.dtype));
    return integer_tensor(sizes_, shape, std::move(matrix.codes), std::move(scales), std::move(zeros));
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
