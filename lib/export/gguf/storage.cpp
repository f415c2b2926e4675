#include "export/gguf/storage.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "grid/format.h"
#include "grid/gguf/block_grid.h"
#include "grid/gguf/gguf_grids.h"
#include "grid/minifloat/minifloat_matrix.h"
#include "grid/quantized_tensor.h"

namespace adze {
namespace {

constexpr std::size_t kBlockCols = 32;  // of Q4_0 and Q8_0

/// Formats whose bytes are those of a GGUF type already.
struct SameBytes {
  std::string_view format;
  std::string_view type;
};
constexpr std::array kSameBytes = {SameBytes{"f32", "F32"},
                                   SameBytes{"f16", "F16"},
                                   SameBytes{"bf16", "BF16"},
                                   SameBytes{"gguf/q4_0", "Q4_0"},
                                   SameBytes{"gguf/q4_1", "Q4_1"},
                                   SameBytes{"gguf/q5_0", "Q5_0"},
                                   SameBytes{"gguf/q5_1", "Q5_1"},
                                   SameBytes{"gguf/q8_0", "Q8_0"},
                                   SameBytes{"gguf/q2_k", "Q2_K"},
                                   SameBytes{"gguf/q3_k", "Q3_K"},
                                   SameBytes{"gguf/q4_k", "Q4_K"},
                                   SameBytes{"gguf/q5_k", "Q5_K"},
                                   SameBytes{"gguf/q6_k", "Q6_K"},
                                   SameBytes{"gguf/iq4_nl", "IQ4_NL"},
                                   SameBytes{"gguf/iq4_xs", "IQ4_XS"},
                                   SameBytes{"gguf/tq1_0", "TQ1_0"},
                                   SameBytes{"gguf/tq2_0", "TQ2_0"},
                                   SameBytes{"gguf/mxfp4", "MXFP4"}};

/// Integer grids of up to this many bits fit the codes of a type. Q8_0 has codes -128 .. 127; the reference encoder
/// never makes a -128, but every decoder reads it as the signed byte it is, and int8 may have it.
struct IntegerType {
  int most_bits;
  std::string_view type;
  std::shared_ptr<const Grid> (*make)();
};
constexpr std::array kIntegerTypes = {IntegerType{4, "Q4_0", &make_q4_0_grid}, IntegerType{8, "Q8_0", &make_q8_0_grid}};

/// The last words of an integer grid's name: "int4 g128 sym", "int4 g128 sym bf16".
enum class SideData { symmetric_f16, asymmetric, other_scales };
SideData side_data_of(std::string_view grid_name) {
  if (grid_name.ends_with(" sym")) return SideData::symmetric_f16;
  return grid_name.find(" sym") == std::string_view::npos ? SideData::asymmetric : SideData::other_scales;
}

/// Why an integer grid fits no block type, with the nearest choice that does; nothing when it fits.
std::optional<std::string> integer_problem(const Grid& grid, std::size_t cols) {
  if (cols % kBlockCols != 0)
    return fmt::format("rows of {} columns do not divide into GGUF's blocks of {}; use store: f16", cols, kBlockCols);
  const SideData side = side_data_of(grid.name());
  if (side == SideData::asymmetric)
    return fmt::format("GGUF has no blocks with integer zero points; use symmetric: true{}",
                       cols % 256 == 0 ? ", or grid: gguf/q4_k" : "");
  if (side == SideData::other_scales) return "the scales of GGUF's blocks are f16; use scales: f16";
  if (grid.step_cols(cols) % kBlockCols != 0)
    return fmt::format("groups of {} columns do not fill GGUF's blocks of {}; use group: {}", grid.step_cols(cols),
                       kBlockCols, kBlockCols);
  return std::nullopt;
}

GgufStorage integer_storage(const Grid& grid, std::size_t cols) {
  if (auto problem = integer_problem(grid, cols)) return {nullptr, std::move(*problem), nullptr, {}};
  const auto* const row =
      std::ranges::find_if(kIntegerTypes, [&](const IntegerType& type) { return grid.code_bits() <= type.most_bits; });
  return {find_gguf_type(row->type), "", row->make(), {}};
}

/// NVFP4: four groups of 16 make a block, and one over the divisor is a tensor of its own.
constexpr std::size_t kNvfp4Groups = 4, kNvfp4Cols = 16;

GgufStorage nvfp4_storage(const MinifloatSpec& spec, std::size_t cols) {
  int exponent = 0;
  if (cols % (kNvfp4Groups * kNvfp4Cols) != 0)
    return {nullptr,
            fmt::format("rows of {} columns do not divide into GGUF's blocks of 64; use store: f16", cols),
            {},
            {}};
  if (std::frexp(spec.divisor, &exponent) != 0.5f)
    return {nullptr, "GGUF multiplies where this divides, which is the same for powers of two alone", {}, {}};
  return {find_gguf_type("NVFP4"), "", nullptr, 1.0f / spec.divisor};
}

/// nullptr when no grid has this name.
std::shared_ptr<const Grid> find_grid(const std::string& name) {
  try {
    return grid_from_name(name);
  } catch (const Error&) {
    return nullptr;
  }
}

GgufStorage matrix_storage(const std::string& format, std::size_t cols) {
  const std::shared_ptr<const Grid> grid = find_grid(format);
  if (grid)
    if (auto problem = grid->cannot_hold(cols)) return {nullptr, std::move(*problem), nullptr, {}};
  const auto* const same = std::ranges::find(kSameBytes, format, &SameBytes::format);
  if (same != kSameBytes.end()) return {find_gguf_type(same->type), "", nullptr, {}};
  if (grid && format.starts_with("int")) return integer_storage(*grid, cols);
  const auto minifloats = minifloat_spec_from_name(format);
  if (minifloats && minifloats->scale == MinifloatScale::e4m3) return nvfp4_storage(*minifloats, cols);
  return {
      nullptr, "GGUF has no layout for it; use grid: gguf/q4_k, gguf/q4_0 or gguf/q8_0, or store: f16", nullptr, {}};
}

/// A row of nvfp4 as blocks: scales of four groups, then their codes, byte j of a group's eight with elements j and j
/// + 8.
void repack_nvfp4_row(const MinifloatMatrix& matrix, std::size_t row, std::span<std::byte> out) {
  constexpr std::size_t kHalf = kNvfp4Cols / 2;
  const std::size_t groups = matrix.groups();
  const std::byte* const scales = matrix.scales.data() + row * groups;
  const std::byte* const codes = matrix.codes.data() + row * matrix.code_bytes();
  const auto code = [&](std::size_t col) { return (codes[col / 2] >> (4 * (col % 2))) & std::byte{15}; };
  std::byte* to = out.data();
  for (std::size_t first = 0; first < groups; first += kNvfp4Groups) {
    to = std::copy_n(scales + first, kNvfp4Groups, to);
    for (std::size_t g = first; g < first + kNvfp4Groups; ++g)
      for (std::size_t j = 0; j < kHalf; ++j)
        *to++ = code(g * kNvfp4Cols + j) | (code(g * kNvfp4Cols + kHalf + j) << 4);
  }
}

/// One row of an integer grid as blocks of Q4_0 or Q8_0: the same codes, the scale repeated in every block.
void repack_row(const Grid& blocks, const QuantizedTensor& matrix, std::size_t row, std::span<std::byte> out) {
  const std::size_t cols = matrix.shape().cols;
  const std::size_t step_cols = matrix.grid().step_cols(cols);
  std::vector<std::int16_t> codes(cols);
  std::vector<StepGroup> groups(cols / step_cols);
  matrix.unpack(row, codes, groups);
  std::vector<std::byte> side(blocks.units(cols) * blocks.side_bytes());
  for (std::size_t b = 0; b < blocks.units(cols); ++b)
    write_f16(std::span(side).subspan(b * blocks.side_bytes()), groups[b * kBlockCols / step_cols].step);
  blocks.pack_row(codes, side, out);
}

}  // namespace

GgufStorage gguf_storage(const PlannedTensor& tensor) {
  if (tensor.spec.shape.size() == 1) return {find_gguf_type("F32"), "", nullptr, {}};
  // GGUF knows no sparsity: pruned weights are stored as the zeros that they are.
  const bool is_kept = tensor.spec.role == TensorRole::router || tensor.spec.role == TensorRole::positions;
  if (is_kept && dtype_from_name(tensor.format)) return {find_gguf_type("F32"), "", nullptr, {}, true};
  GgufStorage storage = matrix_storage(dense_format(tensor.format), tensor.spec.shape.back());
  if (storage.scale && tensor.spec.role != TensorRole::linear)
    storage = {nullptr, "GGUF has NVFP4 in linears of blocks alone; give it store: f16", nullptr, {}};
  if (storage.scale && tensor.spec.gguf_rows.all > 0)
    storage = {nullptr,
               fmt::format("GGUF has {} of this model in one tensor, for which NVFP4 has one scale; take another",
                           gguf_stack_in_words(tensor.spec)),
               nullptr,
               {}};
  if (storage.type == nullptr) {
    const std::string place = fmt::format("{}: {}", tensor.spec.module, tensor.format);
    const bool named = storage.reason.starts_with(tensor.format);  // a grid's own reason leads with its name
    storage.reason = named ? fmt::format("{}: {}", tensor.spec.module, storage.reason)
                           : fmt::format("{}: {}", place, storage.reason);
  }
  return storage;
}

std::size_t gguf_row_bytes(const GgufType& type, std::size_t cols) {
  return cols / type.block_elements * type.block_bytes;
}

void encode_gguf_rows(const GgufStorage& storage, const CompressedTensor& matrix, std::span<const std::size_t> rows,
                      std::span<std::byte> out) {
  const std::size_t row_bytes = gguf_row_bytes(*storage.type, matrix.shape().cols);
  const auto* const integers = dynamic_cast<const QuantizedTensor*>(&matrix);
  if ((storage.repack || storage.scale) && integers == nullptr)
    fail(ErrorKind::internal, "a tensor of format {} has no codes", matrix.format());
  if (storage.widens) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      std::vector<float> row(matrix.shape().cols);
      matrix.decode_rows(rows[i], 1, row);
      std::ranges::copy(std::as_bytes(std::span(row)), out.subspan(i * row_bytes).begin());
    }
    return;
  }
  const std::optional<MinifloatMatrix> minifloats =
      storage.scale ? std::optional(unpack_minifloats(*integers)) : std::nullopt;
  constexpr std::size_t kTileRows = 64;
  parallel_for(divide_up(rows.size(), kTileRows), [&](std::size_t tile) {
    for (std::size_t i = tile * kTileRows; i < std::min(rows.size(), (tile + 1) * kTileRows); ++i) {
      const std::span<std::byte> row = out.subspan(i * row_bytes, row_bytes);
      if (storage.repack)
        repack_row(*storage.repack, *integers, rows[i], row);
      else if (minifloats)
        repack_nvfp4_row(*minifloats, rows[i], row);
      else
        std::memcpy(row.data(), matrix.payload().subspan(rows[i] * row_bytes, row_bytes).data(), row_bytes);
    }
  });
}

}  // namespace adze
