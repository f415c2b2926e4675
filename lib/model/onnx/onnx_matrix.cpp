#include "model/onnx/onnx_matrix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>

#include <fmt/ranges.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "grid/integer/integer_matrix.h"
#include "linalg/convert.h"
#include "model/packed/packed_integers.h"

namespace adze {
namespace {

constexpr std::uint64_t kSmallestGroup = 2, kLargestGroup = 65536;  // of columns, on the integer grid

/// Scales of codes of `bits` bits, which are so small that every value is finite.
std::vector<float> scales_from(std::span<const std::byte> bytes, int bits) {
  std::vector<float> scales(bytes.size() / sizeof(float));
  std::memcpy(scales.data(), bytes.data(), bytes.size());
  const auto steps = static_cast<float>(1U << bits);
  for (const float scale : scales)
    if (!std::isfinite(scale * steps))
      fail(ErrorKind::bad_data, "a scale of {} gives values of {} bits that are not finite", scale, bits);
  return scales;
}

/// `scales` as `dtype`; nothing where it does not hold all of them, which a few show.
std::optional<std::vector<std::byte>> held_by(DType dtype, std::span<const float> scales) {
  constexpr std::size_t kPiece = 4096;
  const std::size_t width = bytes_of(dtype);
  std::vector<std::byte> bytes(scales.size() * width);
  std::array<float, kPiece> again;
  for (std::size_t first = 0; first < scales.size(); first += kPiece) {
    const std::span<const float> piece = scales.subspan(first, std::min(kPiece, scales.size() - first));
    const std::span<std::byte> out = std::span(bytes).subspan(first * width, piece.size() * width);
    from_float(dtype, piece, out);
    to_float(dtype, out, std::span(again).first(piece.size()));
    if (!std::equal(piece.begin(), piece.end(), again.begin())) return std::nullopt;
  }
  return bytes;
}

/// Scales in the narrowest dtype that holds all of them, which is what they were before they were widened.
void set_scales(IntegerMatrix& matrix, const std::vector<float>& scales) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32})
    if (auto bytes = held_by(dtype, scales)) {
      matrix.spec.scale_dtype = dtype;
      matrix.scales = std::move(*bytes);
      return;
    }
}

/// True when all blocks of each row have the same scale and zero point: one scale a row.
bool is_one_a_row(const std::vector<float>& scales, const std::vector<std::uint8_t>& zeros, std::size_t blocks) {
  for (std::size_t i = 0; i < scales.size(); ++i)
    if (scales[i] != scales[i - i % blocks] || zeros[i] != zeros[i - i % blocks]) return false;
  return true;
}

template <typename Value>
std::vector<Value> every(const std::vector<Value>& values, std::size_t step) {
  std::vector<Value> some;
  for (std::size_t i = 0; i < values.size(); i += step) some.push_back(values[i]);
  return some;
}

/// Fields of `bits` bits, in the order of a stream.
std::vector<std::uint8_t> stream_fields(std::span<const std::byte> bytes, int bits, std::size_t count) {
  BitReader reader(bytes, bits);
  std::vector<std::uint8_t> fields(count);
  for (std::uint8_t& field : fields) field = static_cast<std::uint8_t>(reader.get());
  return fields;
}

/// Calls body(row, col) for every element, rows in tiles so that lines of both orders stay in the cache.
template <typename Body>
void each_turned(Shape shape, Body&& body) {
  constexpr std::size_t kTile = 16;
  parallel_for((shape.rows + kTile - 1) / kTile, [&](std::size_t tile) {
    const std::size_t first = tile * kTile, end = std::min(shape.rows, first + kTile);
    for (std::size_t c = 0; c < shape.cols; ++c)
      for (std::size_t r = first; r < end; ++r) body(r, c);
  });
}

TensorPtr turned_floats(const OnnxFile& file, const OnnxTensor& tensor, DType dtype, Shape shape) {
  return std::make_shared<DenseTensor>(dtype, shape,
                                       turned(file.read(tensor), shape.cols, shape.rows, bytes_of(dtype)));
}

DType dtype_of_floats(const OnnxTensor& tensor) {
  switch (tensor.type) {
    case kOnnxFloat:
      return DType::f32;
    case kOnnxF16:
      return DType::f16;
    case kOnnxBf16:
      return DType::bf16;
    default:
      fail(ErrorKind::bad_data, "initializer '{}' has element type {}, which is no float", tensor.name, tensor.type);
  }
}

const OnnxTensor& existing(const OnnxFile& file, const std::string& name) {
  const OnnxTensor* const tensor = file.find_tensor(name);
  if (tensor == nullptr) fail(ErrorKind::bad_data, "initializer '{}' is missing", name);
  return *tensor;
}

/// Codes [in, out] as numbers from 0 on, and what was added to signed ones for that.
struct TurnedCodes {
  int bits = 0;
  bool is_signed = false;
  std::vector<std::uint8_t> fields;
};

TurnedCodes codes_of(const OnnxFile& file, const OnnxTensor& tensor) {
  TurnedCodes codes;
  codes.bits = tensor.type == kOnnxU4 || tensor.type == kOnnxI4 ? 4 : 8;
  codes.is_signed = tensor.type == kOnnxI4 || tensor.type == kOnnxI8;
  const std::vector<std::byte> bytes = file.read(tensor);
  codes.fields.resize(checked_product(tensor.dims));
  const unsigned half = codes.is_signed ? 1U << (codes.bits - 1) : 0;  // two's complement
  constexpr std::size_t kSlice = std::size_t{1} << 16;
  parallel_for(divide_up(codes.fields.size(), kSlice), [&](std::size_t slice) {
    const std::size_t first = slice * kSlice, end = std::min(codes.fields.size(), first + kSlice);
    for (std::size_t i = first; i < end; ++i) {
      const auto byte = std::to_integer<unsigned>(bytes[codes.bits == 8 ? i : i / 2]);
      const unsigned field = codes.bits == 8 ? byte : (i % 2 == 0 ? byte & 15U : byte >> 4);
      codes.fields[i] = static_cast<std::uint8_t>(field ^ half);
    }
  });
  return codes;
}

TensorPtr dequantized_matrix(const OnnxFile& file, const OnnxNode& node, Shape shape) {
  if (node.inputs.size() < 2 || node.inputs.size() > 3)
    fail(ErrorKind::bad_data, "DequantizeLinear has {} inputs", node.inputs.size());
  const std::int64_t axis = integer_of(node, "axis");
  const std::uint64_t rows = shape.rows, cols = shape.cols;
  const std::uint64_t group = axis == 0 ? checked_cast<std::uint64_t>(integer_of(node, "block_size")) : cols;
  if ((axis != 0 && axis != 1) || group == 0 || cols % group != 0)
    fail(ErrorKind::bad_data, "axis {} and blocks of {} do not fit {} columns", axis, group, cols);
  if (axis == 0 && (group < kSmallestGroup || group > kLargestGroup))
    fail(ErrorKind::bad_data, "blocks of {} columns, want {} to {}", group, kSmallestGroup, kLargestGroup);
  const std::vector<std::uint64_t> sides =
      axis == 0 ? std::vector<std::uint64_t>{cols / group, rows} : std::vector<std::uint64_t>{rows};

  const OnnxTensor& stored = existing(file, node.inputs[0]);
  constexpr std::array kCodeTypes{kOnnxI4, kOnnxU4, kOnnxI8, kOnnxU8};
  if (std::ranges::find(kCodeTypes, stored.type) == kCodeTypes.end())
    fail(ErrorKind::bad_data, "codes of element type {}", stored.type);
  const TurnedCodes codes = codes_of(file, require_tensor(file, stored.name, stored.type, {cols, rows}));
  const std::vector<float> turned_scales =
      scales_from(file.read(require_tensor(file, node.inputs[1], kOnnxFloat, sides)), codes.bits);
  const bool has_zeros = node.inputs.size() == 3;
  if (codes.is_signed == has_zeros) fail(ErrorKind::bad_data, "signed codes with zero points, or others without");

  IntegerMatrix matrix{{codes.bits, !has_zeros, axis == 0 ? ScaleScope::group : ScaleScope::channel,
                        static_cast<std::size_t>(group), DType::f32},
                       shape,
                       {},
                       {},
                       {}};
  const std::size_t groups = matrix.groups();
  std::vector<float> scales(turned_scales.size());
  matrix.zeros.assign(scales.size(), static_cast<std::uint8_t>(1 << (codes.bits - 1)));
  const TurnedCodes zeros =
      has_zeros ? codes_of(file, require_tensor(file, node.inputs[2], stored.type, sides)) : TurnedCodes{};
  for (std::size_t g = 0; g < groups; ++g)
    for (std::size_t r = 0; r < shape.rows; ++r) {
      scales[r * groups + g] = turned_scales[g * shape.rows + r];
      if (has_zeros) matrix.zeros[r * groups + g] = zeros.fields[g * shape.rows + r];
    }
  set_scales(matrix, scales);
  matrix.codes.resize(shape.rows * matrix.code_bytes());
  std::vector<std::uint8_t> rows_of_codes(shape.count());
  each_turned(shape, [&](std::size_t r, std::size_t c) {
    rows_of_codes[r * shape.cols + c] = codes.fields[c * shape.rows + r];
  });
  parallel_for(shape.rows, [&](std::size_t r) {
    matrix.pack_row(r, std::span(rows_of_codes).subspan(r * shape.cols, shape.cols));
  });
  return pack_integers(matrix);
}

}  // namespace

std::int64_t integer_of(const OnnxNode& node, const std::string& name) {
  const auto at = node.numbers.find(name);
  if (at == node.numbers.end() || !std::holds_alternative<std::int64_t>(at->second))
    fail(ErrorKind::bad_data, "node '{}' has no whole number '{}'", node.name, name);
  return std::get<std::int64_t>(at->second);
}

const OnnxTensor& require_tensor(const OnnxFile& file, const std::string& name, std::int64_t type,
                                 const std::vector<std::uint64_t>& dims) {
  const OnnxTensor& tensor = existing(file, name);
  if (tensor.type != type || tensor.dims != dims)
    fail(ErrorKind::bad_data, "initializer '{}' is of element type {} and shape [{}], want {} and [{}]", name,
         tensor.type, fmt::join(tensor.dims, ", "), type, fmt::join(dims, ", "));
  return tensor;
}

namespace {

/// Sizes of blocks as a node states them.
struct Blocks {
  int bits;
  std::size_t columns;
};

Blocks blocks_of(const OnnxNode& node) {
  const std::int64_t bits = integer_of(node, "bits"), block = integer_of(node, "block_size");
  if ((bits != 2 && bits != 4 && bits != 8) || block < 16 || block > 256 || (block & (block - 1)) != 0)
    fail(ErrorKind::bad_data, "{} bits in blocks of {} columns", bits, block);
  if (node.inputs.size() < 3 || node.inputs.size() > 4)
    fail(ErrorKind::bad_data, "{} has {} inputs", node.op, node.inputs.size());
  return {static_cast<int>(bits), static_cast<std::size_t>(block)};
}

/// zeros_name: empty where the grid is symmetric.
TensorPtr matrix_of_blocks(const OnnxFile& file, const Blocks& of, Shape shape, const OnnxTensor& codes,
                           const std::string& scales_name, const std::string& zeros_name) {
  const bool has_zeros = !zeros_name.empty();
  const int width = of.bits;
  const std::size_t blocks = divide_up(shape.cols, of.columns);
  const std::uint64_t rows = shape.rows, zero_bytes = packed_bytes(blocks, width);

  std::vector<float> scales =
      scales_from(file.read(require_tensor(file, scales_name, kOnnxFloat, {rows, blocks})), width);
  std::vector<std::uint8_t> zeros(scales.size(), static_cast<std::uint8_t>(1 << (width - 1)));
  if (has_zeros) {
    const std::vector<std::byte> packed = file.read(require_tensor(file, zeros_name, kOnnxU8, {rows, zero_bytes}));
    for (std::size_t r = 0; r < shape.rows; ++r) {
      const auto row = stream_fields(std::span(packed).subspan(r * zero_bytes, zero_bytes), width, blocks);
      std::ranges::copy(row, zeros.begin() + static_cast<std::ptrdiff_t>(r * blocks));
    }
  }

  IntegerMatrix matrix{{width, !has_zeros, ScaleScope::group, of.columns, DType::f32}, shape, {}, {}, std::move(zeros)};
  const bool is_whole = shape.cols % of.columns == 0;
  if (is_one_a_row(scales, matrix.zeros, blocks) && !(is_whole && blocks == 1)) {
    matrix.spec.scope = ScaleScope::channel;
    scales = every(scales, blocks);
    matrix.zeros = every(matrix.zeros, blocks);
  } else if (!is_whole) {
    fail(ErrorKind::bad_data, "{} columns are no whole blocks of {}", shape.cols, of.columns);
  }
  set_scales(matrix, scales);
  const auto stored_bytes = static_cast<std::size_t>(codes.bytes / shape.rows);
  const std::size_t spare = 8 * matrix.code_bytes() - shape.cols * static_cast<std::size_t>(width);
  return pack_integers(matrix, [&](MatrixView<std::byte> out) {
    file.read_rows(codes, shape.rows, [&](std::size_t first, std::span<const std::byte> bytes) {
      for (std::size_t r = 0; r < bytes.size() / stored_bytes; ++r) {
        const std::span<std::byte> row = out.row(first + r);
        std::memcpy(row.data(), bytes.data() + r * stored_bytes, row.size());
        if (spare > 0) row.back() &= static_cast<std::byte>(0xFF >> spare);
      }
    });
  });
}

}  // namespace

TensorPtr block_matrix(const OnnxFile& file, const OnnxNode& node, Shape shape) {
  const Blocks blocks = blocks_of(node);
  if (integer_of(node, "K") != static_cast<std::int64_t>(shape.cols) ||
      integer_of(node, "N") != static_cast<std::int64_t>(shape.rows))
    fail(ErrorKind::bad_data, "K and N are not of a matrix of {} x {}", shape.rows, shape.cols);
  const std::uint64_t count = divide_up(shape.cols, blocks.columns), bytes = packed_bytes(blocks.columns, blocks.bits);
  const OnnxTensor& codes = require_tensor(file, node.inputs[1], kOnnxU8, {shape.rows, count, bytes});
  return matrix_of_blocks(file, blocks, shape, codes, node.inputs[2], node.inputs.size() == 4 ? node.inputs[3] : "");
}

TensorPtr gathered_matrix(const OnnxFile& file, const OnnxNode& node, Shape shape) {
  const Blocks blocks = blocks_of(node);
  if (integer_of(node, "gather_axis") != 0 || integer_of(node, "quantize_axis") != 1)
    fail(ErrorKind::bad_data, "gathers along another axis");
  if (shape.cols % blocks.columns != 0)
    fail(ErrorKind::bad_data, "{} columns are no whole blocks of {}", shape.cols, blocks.columns);
  const OnnxTensor& codes =
      require_tensor(file, node.inputs[0], kOnnxU8, {shape.rows, packed_bytes(shape.cols, blocks.bits)});
  return matrix_of_blocks(file, blocks, shape, codes, node.inputs[2], node.inputs.size() == 4 ? node.inputs[3] : "");
}

TensorPtr product_matrix(const OnnxFile& file, const OnnxNode& node, Shape shape) {
  if (node.inputs.size() != 2) fail(ErrorKind::bad_data, "MatMul has {} inputs", node.inputs.size());
  std::string value = node.inputs[1];
  const OnnxNode* maker = file.maker_of(value);
  if (maker != nullptr && maker->op == "DequantizeLinear") return dequantized_matrix(file, *maker, shape);
  if (maker != nullptr) {
    if (maker->op != "Cast" || maker->inputs.size() != 1)
      fail(ErrorKind::bad_data, "MatMul by the output of {}", maker->op);
    value = maker->inputs.front();
  }
  const OnnxTensor& tensor = existing(file, value);
  const DType dtype = dtype_of_floats(tensor);
  return turned_floats(file, require_tensor(file, value, tensor.type, {shape.cols, shape.rows}), dtype, shape);
}

TensorPtr float_matrix(const OnnxFile& file, const std::string& name, Shape shape) {
  const OnnxTensor& tensor = existing(file, name);
  const DType dtype = dtype_of_floats(tensor);
  return std::make_shared<DenseTensor>(dtype, shape,
                                       file.read(require_tensor(file, name, tensor.type, {shape.rows, shape.cols})));
}

}  // namespace adze
