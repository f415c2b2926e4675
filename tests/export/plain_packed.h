// Readers of packed checkpoints that share no code with the library: a safetensors file as JSON and bytes, codes taken
// bit by bit as the formats' documents say.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace adze::testing {

struct PlainTensor {
  std::string type;
  std::vector<std::size_t> shape;
  std::string bytes;

  std::uint32_t word(std::size_t i) const {
    std::uint32_t word = 0;
    for (std::size_t b = 4; b-- > 0;) word = word << 8 | static_cast<unsigned char>(bytes.at(4 * i + b));
    return word;
  }
  /// The i-th 16- or 32-bit float.
  float number(std::size_t i) const {
    if (type == "F32") return std::bit_cast<float>(word(i));
    const unsigned bits = static_cast<unsigned char>(bytes.at(2 * i)) | static_cast<unsigned char>(bytes.at(2 * i + 1))
                                                                            << 8;
    if (type == "BF16") return std::bit_cast<float>(bits << 16);
    const int exponent = static_cast<int>(bits >> 10 & 31U);
    const double mantissa = static_cast<double>(bits & 1023U);
    const double size = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    return static_cast<float>((bits >> 15) != 0 ? -size : size);
  }
};

/// Every tensor of a folder's safetensors files.
inline std::map<std::string, PlainTensor> plain_tensors(const std::filesystem::path& folder) {
  std::map<std::string, PlainTensor> tensors;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string all{std::istreambuf_iterator<char>(in), {}};
    std::uint64_t length = 0;
    for (std::size_t b = 8; b-- > 0;) length = length << 8 | static_cast<unsigned char>(all.at(b));
    const auto header = nlohmann::json::parse(all.substr(8, length));
    for (const auto& [name, one] : header.items()) {
      if (name == "__metadata__") continue;
      const std::size_t begin = one["data_offsets"][0], end = one["data_offsets"][1];
      tensors[name] = {one["dtype"], one["shape"], all.substr(8 + length + begin, end - begin)};
    }
  }
  return tensors;
}

inline nlohmann::json plain_config(const std::filesystem::path& folder) {
  std::ifstream in(folder / "config.json");
  return nlohmann::json::parse(in);
}

/// Field i of `bits` in the stream of words that word(w) gives.
template <typename Word>
unsigned plain_field(std::size_t i, unsigned bits, Word&& word) {
  unsigned field = 0;
  for (unsigned b = 0; b < bits; ++b) {
    const std::size_t at = i * bits + b;
    field |= (word(at / 32) >> (at % 32) & 1U) << b;
  }
  return field;
}

/// value(row, col) of a packed linear, [out x in] row by row.
using PlainMatrix = std::vector<float>;

inline PlainMatrix plain_gptq(const std::map<std::string, PlainTensor>& tensors, const std::string& base, unsigned bits,
                              bool is_v2) {
  const PlainTensor &codes = tensors.at(base + ".qweight"), &zeros = tensors.at(base + ".qzeros"),
                    &scales = tensors.at(base + ".scales"), &index = tensors.at(base + ".g_idx");
  const std::size_t in = index.shape.at(0), out = codes.shape.at(1);
  PlainMatrix w(out * in);
  for (std::size_t n = 0; n < out; ++n)
    for (std::size_t k = 0; k < in; ++k) {
      const std::size_t g = index.word(k);
      const unsigned q = plain_field(k, bits, [&](std::size_t word) { return codes.word(word * out + n); });
      const unsigned stored =
          plain_field(n, bits, [&](std::size_t word) { return zeros.word(g * zeros.shape.at(1) + word); });
      const int zero = static_cast<int>(stored) + (is_v2 ? 0 : 1);
      w[n * in + k] = scales.number(g * out + n) * static_cast<float>(static_cast<int>(q) - zero);
    }
  return w;
}

inline PlainMatrix plain_awq(const std::map<std::string, PlainTensor>& tensors, const std::string& base) {
  const PlainTensor &codes = tensors.at(base + ".qweight"), &zeros = tensors.at(base + ".qzeros"),
                    &scales = tensors.at(base + ".scales");
  const std::size_t in = codes.shape.at(0), out = 8 * codes.shape.at(1), group = in / scales.shape.at(0);
  const unsigned order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
  PlainMatrix w(out * in);
  for (std::size_t k = 0; k < in; ++k)
    for (std::size_t c = 0; c < out / 8; ++c)
      for (unsigned i = 0; i < 8; ++i) {
        const std::size_t n = 8 * c + order[i];
        const int q = static_cast<int>(codes.word(k * out / 8 + c) >> (4 * i) & 15U);
        const int z = static_cast<int>(zeros.word(k / group * out / 8 + c) >> (4 * i) & 15U);
        w[n * in + k] = static_cast<float>(q - z) * scales.number(k / group * out + n);
      }
  return w;
}

inline PlainMatrix plain_compressed_tensors(const std::map<std::string, PlainTensor>& tensors, const std::string& base,
                                            unsigned bits) {
  const PlainTensor &codes = tensors.at(base + ".weight_packed"), &scales = tensors.at(base + ".weight_scale");
  const auto zeros = tensors.find(base + ".weight_zero_point");
  const PlainTensor& shape = tensors.at(base + ".weight_shape");
  const std::size_t out = shape.word(0), in = shape.word(2), groups = scales.shape.at(1);
  const int half = 1 << (bits - 1);
  PlainMatrix w(out * in);
  for (std::size_t n = 0; n < out; ++n)
    for (std::size_t k = 0; k < in; ++k) {
      const std::size_t g = k / (in / groups);
      const int q = static_cast<int>(plain_field(
                        k, bits, [&](std::size_t word) { return codes.word(n * codes.shape.at(1) + word); })) -
                    half;
      int z = 0;
      if (zeros != tensors.end())
        z = static_cast<int>(
                plain_field(n, bits, [&](std::size_t word) { return zeros->second.word(word * groups + g); })) -
            half;
      w[n * in + k] = static_cast<float>(q - z) * scales.number(n * groups + g);
    }
  return w;
}

/// E4M3 by its definition: bias 7, no infinity.
inline double plain_e4m3(unsigned byte) {
  const int exponent = static_cast<int>(byte >> 3 & 15U), mantissa = static_cast<int>(byte & 7U);
  const double size = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return (byte & 0x80U) != 0 ? -size : size;
}

inline double plain_e2m1(unsigned nibble) {
  const double sizes[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return (nibble & 8U) != 0 ? -sizes[nibble & 7U] : sizes[nibble & 7U];
}

/// Formats of compressed-tensors other than pack-quantized, by the name that the config group gives.
inline PlainMatrix plain_elements(const std::map<std::string, PlainTensor>& tensors, const std::string& base,
                                  const std::string& format) {
  const bool nibbles = format.find("fp4") != std::string::npos;
  const PlainTensor &codes = tensors.at(base + (nibbles ? ".weight_packed" : ".weight")),
                    &scales = tensors.at(base + ".weight_scale");
  const std::size_t out = codes.shape.at(0), in = codes.shape.at(1) * (nibbles ? 2 : 1), groups = scales.shape.at(1);
  const auto byte = [](const PlainTensor& tensor, std::size_t i) {
    return static_cast<unsigned>(static_cast<unsigned char>(tensor.bytes.at(i)));
  };
  PlainMatrix w(out * in);
  for (std::size_t n = 0; n < out; ++n)
    for (std::size_t k = 0; k < in; ++k) {
      const std::size_t at = n * in + k, side = n * groups + k / (in / groups);
      double value = 0;
      if (nibbles)
        value = plain_e2m1(byte(codes, at / 2) >> (4 * (k % 2)) & 15U);
      else if (codes.type == "F8_E4M3")
        value = plain_e4m3(byte(codes, at));
      else
        value = static_cast<signed char>(codes.bytes.at(at));
      double scale = 0;
      if (format == "nvfp4-pack-quantized")
        scale = plain_e4m3(byte(scales, side)) / double{tensors.at(base + ".weight_global_scale").number(0)};
      else if (scales.type == "U8")
        scale = std::ldexp(1.0, static_cast<int>(byte(scales, side)) - 127);
      else
        scale = double{scales.number(side)};
      w[at] = static_cast<float>(value * scale);
    }
  return w;
}

/// MLX's modes without biases.
inline PlainMatrix plain_mlx_elements(const std::map<std::string, PlainTensor>& tensors, const std::string& base,
                                      unsigned bits) {
  const PlainTensor &codes = tensors.at(base + ".weight"), &scales = tensors.at(base + ".scales");
  const std::size_t out = codes.shape.at(0), words = codes.shape.at(1), in = words * 32 / bits;
  PlainMatrix w(out * in);
  for (std::size_t n = 0; n < out; ++n)
    for (std::size_t k = 0; k < in; ++k) {
      const unsigned q = plain_field(k, bits, [&](std::size_t word) { return codes.word(n * words + word); });
      const int exponent = static_cast<unsigned char>(scales.bytes.at(n * in / 32 + k / 32));
      w[n * in + k] = static_cast<float>(std::ldexp(bits == 4 ? plain_e2m1(q) : plain_e4m3(q), exponent - 127));
    }
  return w;
}

inline PlainMatrix plain_mlx(const std::map<std::string, PlainTensor>& tensors, const std::string& base,
                             unsigned bits) {
  const PlainTensor &codes = tensors.at(base + ".weight"), &scales = tensors.at(base + ".scales"),
                    &biases = tensors.at(base + ".biases");
  const std::size_t out = codes.shape.at(0), words = codes.shape.at(1), in = words * 32 / bits;
  const std::size_t groups = scales.shape.at(1);
  PlainMatrix w(out * in);
  for (std::size_t n = 0; n < out; ++n)
    for (std::size_t k = 0; k < in; ++k) {
      const std::size_t side = n * groups + k / (in / groups);
      const unsigned q = plain_field(k, bits, [&](std::size_t word) { return codes.word(n * words + word); });
      w[n * in + k] = static_cast<float>(double{scales.number(side)} * q + double{biases.number(side)});
    }
  return w;
}

}  // namespace adze::testing
