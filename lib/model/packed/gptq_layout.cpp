// GPTQ checkpoints: qweight [in b / 32 x out] packed along inputs, qzeros [groups x out b / 32], scales [groups x out],
// g_idx [in]. v1 stores zero points less one, v2 as they are.
#include <algorithm>
#include <cstring>

#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/error.h"
#include "linalg/convert.h"
#include "linalg/turned_words.h"
#include "model/config_object.h"
#include "model/packed/packed_integers.h"

namespace adze {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kWord = sizeof(std::uint32_t);
constexpr std::size_t kLineWords = 16;  // of a cache line

/// Streams of words that are no whole ones of theirs: rows from `first` on of all outputs. Throws as put_stream().
void put_columns(CodeRows words, std::size_t first, MatrixView<std::byte> rows) {
  std::vector<std::byte> stream(words.rows() * kWord);
  for (std::size_t r = 0; r < rows.rows(); ++r) {
    for (std::size_t w = 0; w < words.rows(); ++w)
      std::memcpy(stream.data() + w * kWord, words.row(w).data() + r * kWord, kWord);
    put_stream(rows.row(r), r, first * kWord, stream);
  }
}

/// Codes of columns of words [words x rows]: what writes them to where they are stored. Throws as codes_of_rows().
FillCodes codes_of_columns(const RawTensors& raw, const std::string& name, Shape shape, int bits) {
  const Shape words{checked_cast<std::size_t>(word_count(shape.cols, bits)), shape.rows};
  raw.require(name, SafetensorsType::i32, {words.rows, words.cols});
  return [&raw, name, words](MatrixView<std::byte> rows) {
    raw.read_rows(
        name, SafetensorsType::i32, words, kLineWords, [&](std::size_t first, std::span<const std::byte> bytes) {
          const std::size_t stride = words.cols * kWord, count = bytes.size() / stride;
          const CodeRows piece(bytes.data(), {count, stride});
          const std::size_t whole = std::min(count, rows.cols() / kWord - first);  // the last word may be padded
          turn_words(piece.row_range(0, whole), rows.col_range(first * kWord, whole * kWord));
          if (whole < count) put_columns(piece.row_range(whole, count - whole), first + whole, rows);
        });
  };
}

/// An entry of `dynamic`: "+:regex" with other sizes; "-:regex" is of modules that stay floats and have no codes.
struct Override {
  NamePattern pattern;
  PackedSizes sizes;
};

PackedSizes sizes_from(const Json& settings, PackedSizes otherwise, const std::string& origin) {
  const ConfigObject object(settings, origin);
  otherwise.bits =
      static_cast<int>(std::min<std::size_t>(object.size_or("bits", static_cast<std::size_t>(otherwise.bits)), 64));
  if (object.has("group_size")) otherwise.group = group_of(settings, "group_size", origin);
  if (object.has("sym")) otherwise.symmetric = object.flag("sym");
  return otherwise;
}

class GptqLayout final : public PackedLayout {
 public:
  GptqLayout(const Json& settings, const nlohmann::ordered_json& in_order, const std::string& origin)
      : origin_(origin) {
    const ConfigObject object(settings, origin_);
    object.size("bits");
    sizes_ = sizes_from(settings, {4, 128, true}, origin_);
    const std::string format = object.text_or("checkpoint_format", object.text_or("format", "gptq"));
    if (format != "gptq" && format != "gptq_v2")
      fail(ErrorKind::bad_data, "{}: checkpoint_format '{}' is not supported; gptq and gptq_v2 are", origin_, format);
    is_v2_ = format == "gptq_v2";
    if (const Json* const dynamic = object.find("dynamic"); dynamic != nullptr && dynamic->is_object())
      for (const auto& [key, value] : in_order.at("dynamic").items()) add_override(key, dynamic->at(key));
  }

  std::vector<std::string> tensors_of(const RawTensors& raw, const std::string& base) const override {
    if (raw.find(base + ".qweight") == nullptr) return {};
    return {base + ".qweight", base + ".qzeros", base + ".scales", base + ".g_idx"};
  }

  TensorPtr read(const RawTensors& raw, const std::string& base, Shape shape) const override {
    const PackedSizes sizes = sizes_of(base);
    sizes.check(shape);
    const auto [rows, cols] = shape;
    const std::size_t groups = cols / sizes.group_cols(cols);
    const std::uint64_t zero_words = word_count(rows, sizes.bits);
    const FillCodes codes = codes_of_columns(raw, base + ".qweight", shape, sizes.bits);
    const auto packed_zeros = raw.read(base + ".qzeros", SafetensorsType::i32, {groups, zero_words});
    std::vector<std::uint8_t> zeros(rows * groups);
    for (std::size_t g = 0; g < groups; ++g) {
      const auto fields =
          fields_of(std::span(packed_zeros).subspan(g * zero_words * 4, zero_words * 4), sizes.bits, rows);
      for (std::size_t r = 0; r < rows; ++r) zeros[r * groups + g] = zero_point(fields[r], sizes.bits);
    }
    RawTensors::Floats scales = raw.read_floats(base + ".scales", {groups, rows});
    scales.bytes = turned(scales.bytes, groups, rows, bytes_of(scales.dtype));
    const std::vector<std::uint32_t> order = group_index(raw, base, cols, groups);
    for (std::size_t c = 0; c < cols; ++c)
      if (order[c] != c / sizes.group_cols(cols))
        return scattered(shape, groups, sizes.bits, codes, zeros, scales, order);
    return integer_tensor(sizes, shape, codes, std::move(scales), std::move(zeros));
  }

 private:
  void add_override(const std::string& key, const Json& value) {
    if (key.starts_with("-:")) return;
    const std::string place = fmt::format("{}: dynamic '{}'", origin_, key);
    overrides_.push_back(
        {NamePattern(key.starts_with("+:") ? key.substr(2) : key, place), sizes_from(value, sizes_, place)});
  }

  PackedSizes sizes_of(const std::string& base) const {
    for (const Override& one : overrides_)
      if (one.pattern.matches(base)) return one.sizes;
    return sizes_;
  }

  std::uint8_t zero_point(std::uint8_t field, int bits) const {
    if (is_v2_) return field;
    if (field + 1 == 1 << bits)
      fail(ErrorKind::bad_data, "a zero point of {} in format v1, which readers take for 0 or for {}", field,
           field + 1);
    return static_cast<std::uint8_t>(field + 1);
  }

  /// Which group each input belongs to; in order where nothing is stored.
  static std::vector<std::uint32_t> group_index(const RawTensors& raw, const std::string& base, std::size_t cols,
                                                std::size_t groups) {
    std::vector<std::uint32_t> index(cols);
    if (raw.find(base + ".g_idx") == nullptr) {
      for (std::size_t c = 0; c < cols; ++c) index[c] = static_cast<std::uint32_t>(c / (cols / groups));
      return index;
    }
    const auto bytes = raw.read(base + ".g_idx", SafetensorsType::i32, {cols});
    std::memcpy(index.data(), bytes.data(), bytes.size());
    if (const auto wrong = std::ranges::find_if(index, [&](std::uint32_t g) { return g >= groups; });
        wrong != index.end())
      fail(ErrorKind::bad_data, "g_idx: input {} is of group {}, there are {}", wrong - index.begin(), *wrong, groups);
    return index;
  }

  /// Activation order: groups of columns that no grid has side by side.
  static TensorPtr scattered(Shape shape, std::size_t groups, int bits, const FillCodes& codes,
                             const std::vector<std::uint8_t>& zeros, const RawTensors::Floats& stored,
                             const std::vector<std::uint32_t>& order) {
    std::vector<float> scales(shape.rows * groups);
    to_float(stored.dtype, stored.bytes, scales);
    return float_tensor(shape, bits, codes, [&](std::size_t r, std::size_t c, int code) {
      const std::size_t side = r * groups + order[c];
      return scales[side] * static_cast<float>(code - int{zeros[side]});
    });
  }

  std::string origin_;
  PackedSizes sizes_;
  bool is_v2_ = false;
  std::vector<Override> overrides_;
};

}  // namespace

std::unique_ptr<PackedLayout> make_gptq_layout(const Json& config, const nlohmann::ordered_json& in_order,
                                               const std::string& origin) {
  return std::make_unique<GptqLayout>(config["quantization_config"], in_order.at("quantization_config"), origin);
}

}  // namespace adze
