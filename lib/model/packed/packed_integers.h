// From fields of bits to tensors on integer grids. Internal to model/packed and model/onnx.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "grid/bits.h"
#include "grid/integer/integer_matrix.h"
#include "model/packed/packed_layout.h"

namespace adze {

/// `count` fields of a stream of 32-bit little-endian words.
inline std::vector<std::uint8_t> fields_of(std::span<const std::byte> words, int bits, std::size_t count) {
  std::vector<std::uint8_t> fields(count);
  unpack_values(words, bits, fields);
  return fields;
}

/// Column `col` of a matrix of words [rows x cols], as one stream.
std::vector<std::byte> word_column(std::span<const std::byte> words, std::size_t cols, std::size_t col);

/// Elements of 2 or 4 bytes, [rows x cols], to [cols x rows].
std::vector<std::byte> turned(std::span<const std::byte> elements, std::size_t rows, std::size_t cols,
                              std::size_t width);

constexpr std::uint64_t word_count(std::size_t count, int bits) {
  return (static_cast<std::uint64_t>(count) * static_cast<std::uint64_t>(bits) + 31) / 32;
}

/// Codes of rows of whole words [rows x words], as most layouts have them: what writes them to where they are stored.
/// Throws bad_data now where that tensor is not there, and later where a row's padding is not zero.
FillCodes codes_of_rows(const RawTensors& raw, const std::string& name, SafetensorsType type, Shape shape, int bits);
/// Bytes `at` and on of row `r` of such words, as much as are codes. Throws bad_data where the rest is not zero.
void put_stream(std::span<std::byte> row, std::size_t r, std::size_t at, std::span<const std::byte> bytes);

/// The tensor of the codes that `fill` writes, streams of rows: on a symmetric grid where every zero point is in the
/// middle and `symmetric` says so. scales: [rows x groups] of floats as they were stored. Throws bad_data for one that
/// is not finite.
TensorPtr integer_tensor(const PackedSizes& sizes, Shape shape, const FillCodes& fill, RawTensors::Floats scales,
                         std::vector<std::uint8_t> zeros);

/// value(row, col, code) of these codes, as f32.
TensorPtr float_tensor(Shape shape, int bits, const FillCodes& fill,
                       const std::function<float(std::size_t, std::size_t, int)>& value);

}  // namespace adze
