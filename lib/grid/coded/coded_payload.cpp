#include "grid/coded/coded_payload.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/checked.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "grid/format.h"
#include "grid/quantized_tensor.h"

namespace adze {
namespace {

enum class Way : std::uint32_t { bytes = 0, grid = 1 };

struct Header {
  Way way = Way::bytes;
  std::uint32_t period_or_side = 1;
  std::int32_t lowest = 0;
  std::uint32_t alphabet = 0;
  std::uint32_t checksum = 0;
};
static_assert(sizeof(Header) == kCodedPayloadFixedBytes - kCodedFixedBytes);

std::uint32_t checksum(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return static_cast<std::uint32_t>(hash64(text) & 0xFFFFFFFF);
}

// --- bytes of one place together

/// of_run and run such that byte k of every element has the context k: elements lie plane by plane.
struct PlaneContexts {
  PlaneContexts(std::uint64_t elements, std::size_t planes) : run(std::max<std::uint64_t>(elements, 1)) {
    for (std::size_t k = 0; k < planes; ++k) of_run.push_back(static_cast<std::uint8_t>(k));
  }
  Contexts contexts() const { return {of_run, run, static_cast<int>(of_run.size())}; }

  std::vector<std::uint8_t> of_run;
  std::uint64_t run;
};

/// elements: [count x planes] -> [planes x count].
std::vector<std::uint8_t> to_planes(std::span<const std::byte> elements, std::size_t planes) {
  const std::size_t count = elements.size() / planes;
  std::vector<std::uint8_t> out(elements.size());
  for (std::size_t k = 0; k < planes; ++k)
    for (std::size_t i = 0; i < count; ++i)
      out[k * count + i] = std::to_integer<std::uint8_t>(elements[i * planes + k]);
  return out;
}

std::vector<std::byte> from_planes(std::span<const std::uint8_t> in, std::size_t planes) {
  const std::size_t count = in.size() / planes;
  std::vector<std::byte> elements(in.size());
  for (std::size_t k = 0; k < planes; ++k)
    for (std::size_t i = 0; i < count; ++i) elements[i * planes + k] = static_cast<std::byte>(in[k * count + i]);
  return elements;
}

CodedSymbols encode_planes(std::span<const std::byte> elements, std::size_t planes) {
  return encode_symbols(to_planes(elements, planes), 256, PlaneContexts(elements.size() / planes, planes).contexts());
}

/// Refuses, before anything is allocated, sizes that the coded bytes cannot stand for.
std::vector<std::byte> decode_planes(std::span<const std::byte> coded, std::uint64_t size, std::size_t planes) {
  if (size > most_symbols(coded.size()))
    fail(ErrorKind::bad_data, "{} coded bytes cannot stand for {}", coded.size(), size);
  std::vector<std::uint8_t> symbols(size);
  decode_symbols(coded, 256, PlaneContexts(size / planes, planes).contexts(), symbols);
  return from_planes(symbols, planes);
}

/// Of elements that most of the payload consists of: the bytes of a dtype; else numbers of 16 bits are the likeliest.
std::uint32_t period_of(const CompressedTensor& tensor) {
  const auto dtype = dtype_from_name(tensor.format());
  const auto period = static_cast<std::uint32_t>(dtype ? bytes_of(*dtype) : 2);
  return tensor.payload().size() % period == 0 ? period : 1;
}

// --- grids

/// Where what lies of a matrix on a grid.
struct GridLayout {
  GridLayout(const Grid& on, Shape of)
      : grid(on),
        shape(of),
        row_bytes(on.row_bytes(of.cols)),
        head(on.one_side_per_tensor() ? on.side_bytes() : 0),
        row_side(on.units(of.cols) * on.side_bytes()),
        side_bytes(head > 0 ? head : of.rows * row_side),
        step_cols(on.step_cols(of.cols)) {}

  const Grid& grid;
  Shape shape;
  std::size_t row_bytes;
  std::size_t head;        ///< bytes of side data before the first row
  std::size_t row_side;    ///< bytes of side data of a row
  std::size_t side_bytes;  ///< of the matrix
  std::size_t step_cols;

  std::size_t side_start(std::size_t row) const { return head > 0 ? 0 : row * row_side; }
  std::size_t row_start(std::size_t row) const { return head + row * row_bytes; }
};

/// Rows that a thread takes at a time.
std::size_t tile_rows(Shape shape) { return std::max<std::size_t>(1, 65536 / std::max<std::size_t>(1, shape.cols)); }

template <class Body>
void for_tiles(Shape shape, Body&& body) {
  const std::size_t tile = tile_rows(shape);
  parallel_for(divide_up(shape.rows, tile),
               [&](std::size_t t) { body(t * tile, std::min(shape.rows, (t + 1) * tile)); });
}

struct GridParts {
  std::vector<std::byte> side;      ///< of all units
  std::vector<std::int16_t> codes;  ///< [rows x cols]
};

/// Nothing when packing the parts does not give the payload again (bits that say nothing are not zero).
std::optional<GridParts> take_apart(const QuantizedTensor& tensor) {
  const GridLayout layout(tensor.grid(), tensor.shape());
  GridParts parts{std::vector<std::byte>(layout.side_bytes), std::vector<std::int16_t>(layout.shape.count())};
  std::copy_n(tensor.payload().begin(), layout.head, parts.side.begin());
  std::atomic<bool> same = true;
  for_tiles(layout.shape, [&](std::size_t first, std::size_t end) {
    std::vector<std::byte> again(layout.row_bytes);
    for (std::size_t r = first; r < end; ++r) {
      const std::span codes(parts.codes.data() + r * layout.shape.cols, layout.shape.cols);
      const std::span side(parts.side.data() + layout.side_start(r), layout.row_side);
      // One side of a tensor is only read: rows of other threads may.
      std::vector<std::byte> own(side.begin(), side.end());
      layout.grid.unpack_row(tensor.row(r), codes, own);
      if (layout.head == 0) std::ranges::copy(own, side.begin());
      layout.grid.pack_row(codes, own, again);
      if (!std::ranges::equal(again, tensor.row(r))) same = false;
    }
  });
  if (!same) return std::nullopt;
  return parts;
}

constexpr int kClasses = 64;

/// The context of a step group's codes. With an offset: its zero point, whose distance from both ends shapes the
/// distribution. Else the step in quarters of an octave: beside a large weight the others' codes are small.
std::uint8_t context_of(const StepGroup& group) {
  if (group.offset != 0) {
    const float zero = -group.offset / group.step;
    return static_cast<std::uint8_t>(kClasses + (zero > 0 ? std::min(zero + 0.5f, kClasses - 1.0f) : 0.0f));
  }
  if (!std::isfinite(group.step) || group.step == 0) return 0;
  int exponent = 0;
  const float fraction = std::frexp(std::fabs(group.step), &exponent);  // 0.5 .. 1
  const int quarter = (fraction >= 0.59460356f) + (fraction >= 0.70710678f) + (fraction >= 0.84089642f);
  return static_cast<std::uint8_t>(((4 * exponent + quarter) % kClasses + kClasses) % kClasses);
}

/// Of every step group, row by row.
std::vector<std::uint8_t> code_contexts(const GridLayout& layout, std::span<const std::byte> side) {
  const std::size_t cols = layout.shape.cols, units = layout.grid.units(cols);
  const std::size_t per_unit = layout.grid.groups_per_unit(cols), unit_side = layout.grid.side_bytes();
  std::vector<std::uint8_t> contexts(layout.shape.rows * units * per_unit);
  for_tiles(layout.shape, [&](std::size_t first, std::size_t end) {
    std::vector<StepGroup> groups(per_unit);
    for (std::size_t r = first; r < end; ++r)
      for (std::size_t u = 0; u < units; ++u) {
        layout.grid.read_side(side.subspan(layout.side_start(r) + u * unit_side, unit_side), groups);
        std::ranges::transform(groups, contexts.begin() + static_cast<std::ptrdiff_t>((r * units + u) * per_unit),
                               context_of);
      }
  });
  return contexts;
}

Contexts grid_contexts(const GridLayout& layout, std::span<const std::uint8_t> of_group) {
  return {of_group, layout.step_cols, 2 * kClasses};
}

std::vector<std::byte> assembled(const Header& header, std::span<const std::byte> first,
                                 std::span<const std::byte> second) {
  std::vector<std::byte> bytes(sizeof header + first.size() + second.size());
  std::memcpy(bytes.data(), &header, sizeof header);
  std::ranges::copy(first, bytes.begin() + sizeof header);
  std::ranges::copy(second, bytes.begin() + static_cast<std::ptrdiff_t>(sizeof header + first.size()));
  return bytes;
}

CodedPayload encode_bytes(const CompressedTensor& tensor) {
  const std::uint32_t period = period_of(tensor);
  const CodedSymbols coded = encode_planes(tensor.payload(), period);
  const Header header{Way::bytes, period, 0, 0, checksum(tensor.payload())};
  CodedPayload result{assembled(header, coded.bytes, {}), {}};
  result.report = {tensor.bytes(), result.bytes.size(), {}, coded.report};
  return result;
}

std::optional<CodedPayload> encode_grid(const QuantizedTensor& tensor) {
  const auto parts = take_apart(tensor);
  if (!parts || parts->codes.empty()) return std::nullopt;
  const auto [low, high] = std::ranges::minmax(parts->codes);
  const int alphabet = std::max(2, high - low + 1);
  if (alphabet > 256) return std::nullopt;
  const GridLayout layout(tensor.grid(), tensor.shape());
  std::vector<std::uint8_t> symbols(parts->codes.size());
  std::ranges::transform(parts->codes, symbols.begin(),
                         [least = low](std::int16_t code) { return static_cast<std::uint8_t>(code - least); });
  const CodedSymbols side = encode_planes(parts->side, layout.grid.side_bytes());
  const std::vector<std::uint8_t> of_group = code_contexts(layout, parts->side);
  const CodedSymbols codes = encode_symbols(symbols, alphabet, grid_contexts(layout, of_group));
  const Header header{Way::grid, checked_cast<std::uint32_t>(side.bytes.size()), low,
                      static_cast<std::uint32_t>(alphabet), checksum(tensor.payload())};
  CodedPayload result{assembled(header, side.bytes, codes.bytes), {}};
  result.report = {tensor.bytes(), result.bytes.size(), codes.report, side.report};
  return result;
}

std::vector<std::byte> decode_grid(const Header& header, const std::string& format, Shape shape,
                                   std::span<const std::byte> coded) {
  const auto grid = grid_from_name(format);
  if (const auto reason = grid->cannot_hold(shape.cols)) fail(ErrorKind::bad_data, "{}", *reason);
  const GridLayout layout(*grid, shape);
  if (header.period_or_side > coded.size() || header.alphabet < 2 || header.alphabet > 256 ||
      std::abs(std::int64_t{header.lowest}) > 256)
    fail(ErrorKind::bad_data, "side data of {} bytes, {} codes from {} on", header.period_or_side, header.alphabet,
         header.lowest);
  const auto side_part = coded.first(header.period_or_side), code_part = coded.subspan(header.period_or_side);
  if (shape.count() > most_symbols(code_part.size()))
    fail(ErrorKind::bad_data, "{} coded bytes cannot stand for {} codes", code_part.size(), shape.count());
  const std::vector<std::byte> side = decode_planes(side_part, layout.side_bytes, grid->side_bytes());
  const std::vector<std::uint8_t> of_group = code_contexts(layout, side);
  std::vector<std::uint8_t> symbols(shape.count());
  decode_symbols(code_part, static_cast<int>(header.alphabet), grid_contexts(layout, of_group), symbols);

  std::vector<std::byte> payload(grid->bytes(shape));
  std::copy_n(side.begin(), layout.head, payload.begin());
  for_tiles(shape, [&](std::size_t first, std::size_t end) {
    std::vector<std::int16_t> codes(shape.cols);
    for (std::size_t r = first; r < end; ++r) {
      for (std::size_t c = 0; c < shape.cols; ++c)
        codes[c] = static_cast<std::int16_t>(header.lowest + symbols[r * shape.cols + c]);
      grid->pack_row(codes, std::span(side).subspan(layout.side_start(r), layout.row_side),
                     std::span(payload).subspan(layout.row_start(r), layout.row_bytes));
    }
  });
  return payload;
}

std::vector<std::byte> decode_any(const Header& header, const std::string& format, Shape shape,
                                  std::span<const std::byte> coded) {
  if (header.way == Way::grid) return decode_grid(header, format, shape, coded);
  const std::uint64_t size = format_bytes(format, shape);
  const std::uint32_t period = header.period_or_side;
  if (header.way != Way::bytes || header.lowest != 0 || header.alphabet != 0 || period < 1 || period > 8 ||
      size % period != 0)
    fail(ErrorKind::bad_data, "coded in way {} with a period of {}", static_cast<std::uint32_t>(header.way), period);
  return decode_planes(coded, size, period);
}

}  // namespace

CodedPayload encode_payload(const CompressedTensor& tensor) {
  CodedPayload best = encode_bytes(tensor);
  if (const auto* const quantized = dynamic_cast<const QuantizedTensor*>(&tensor))
    if (auto coded = encode_grid(*quantized); coded && coded->bytes.size() < best.bytes.size())
      best = std::move(*coded);
  return best;
}

std::vector<std::byte> decode_payload(const std::string& format, Shape shape, std::span<const std::byte> coded) {
  if (checked_mul(shape.rows, shape.cols) == 0)
    fail(ErrorKind::bad_data, "a matrix of {} x {} weights", shape.rows, shape.cols);
  if (coded.size() < sizeof(Header)) fail(ErrorKind::bad_data, "{} bytes are no coded payload", coded.size());
  Header header;
  std::memcpy(&header, coded.data(), sizeof header);
  std::vector<std::byte> payload = decode_any(header, format, shape, coded.subspan(sizeof header));
  if (checksum(payload) != header.checksum) fail(ErrorKind::bad_data, "the checksum of a decoded payload is wrong");
  return payload;
}

}  // namespace adze
