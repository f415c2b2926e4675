#include "grid/sparse/mask_bits.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "grid/bits.h"

namespace adze {
namespace {

/// m choose n for m <= SparsityPattern::kLargestM: every value and product fits 64 bits.
std::uint64_t binomial(std::uint64_t m, std::uint64_t n) {
  if (n > m) return 0;
  std::uint64_t value = 1;
  for (std::uint64_t i = 1; i <= n; ++i) value = value * (m - n + i) / i;
  return value;
}

int rank_bits(const SparsityPattern& pattern) { return std::bit_width(binomial(pattern.m(), pattern.n()) - 1); }

/// The rank of a subset of 0 .. m - 1 among those of its size, in the combinatorial number system: the k-th smallest
/// member c_k (k from 1) adds c_k choose k.
unsigned rank_of(std::span<const std::size_t> members) {
  std::uint64_t rank = 0;
  for (std::size_t k = 0; k < members.size(); ++k) rank += binomial(members[k], k + 1);
  return static_cast<unsigned>(rank);
}

/// The inverse: members in ascending order. rank < m choose members.size().
void members_of(std::uint64_t rank, std::size_t m, std::span<std::size_t> members) {
  std::size_t candidate = m;
  for (std::size_t k = members.size(); k > 0; --k) {
    do --candidate;
    while (binomial(candidate, k) > rank);
    members[k - 1] = candidate;
    rank -= binomial(candidate, k);
  }
}

std::uint64_t index_bytes(const SparsityPattern& pattern, Shape shape) {
  const std::uint64_t kept = shape.count() - pattern.zeros(shape);
  return checked_add(checked_mul(shape.rows, sizeof(std::uint32_t)), checked_mul(kept, sizeof(std::uint16_t)));
}

constexpr std::size_t kMostIndexedCols = 65536;

/// Unstructured masks that are stored as columns.
bool indexed(const SparsityPattern& pattern, Shape shape) {
  return pattern.kind() == PatternKind::unstructured && shape.cols <= kMostIndexedCols &&
         index_bytes(pattern, shape) < checked_mul(shape.rows, packed_bytes(shape.cols, 1));
}

/// Bits of a row where a bit stands for block_cols() columns.
std::uint64_t row_bits(const SparsityPattern& pattern, Shape shape) { return shape.cols / pattern.block_cols(); }

template <typename T>
void append(std::span<std::byte>& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i, value = static_cast<T>(value >> 8))
    out[i] = static_cast<std::byte>(value & 0xFF);
  out = out.subspan(sizeof(T));
}

template <typename T>
T take(std::span<const std::byte>& in) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i)
    value = static_cast<T>(value | static_cast<T>(std::to_integer<T>(in[i]) << (8 * i)));
  in = in.subspan(sizeof(T));
  return value;
}

void write_columns(const Mask& mask, std::span<std::byte> out) {
  for (std::size_t r = 0; r < mask.shape().rows; ++r) append(out, static_cast<std::uint32_t>(mask.kept_in_row(r)));
  for (std::size_t r = 0; r < mask.shape().rows; ++r)
    for (std::size_t c = 0; c < mask.shape().cols; ++c)
      if (mask.kept(r, c)) append(out, static_cast<std::uint16_t>(c));
}

Mask read_columns(std::span<const std::byte> in, Shape shape) {
  Mask mask(shape);
  std::vector<std::uint32_t> kept;
  for (std::size_t r = 0; r < shape.rows; ++r) kept.push_back(take<std::uint32_t>(in));
  for (std::size_t r = 0; r < shape.rows; ++r) {
    std::size_t next = 0;  // columns before it are decided
    for (std::uint32_t k = 0; k < kept[r]; ++k) {
      if (in.size() < sizeof(std::uint16_t))
        fail(ErrorKind::bad_data, "mask: row {} has more columns than there are", r);
      const std::size_t col = take<std::uint16_t>(in);
      if (col < next || col >= shape.cols)
        fail(ErrorKind::bad_data, "mask: row {} keeps column {} after {}", r, col, next);
      mask.prune(r, next, col - next);
      next = col + 1;
    }
    mask.prune(r, next, shape.cols - next);
  }
  return mask;
}

void write_subsets(const Mask& mask, const SparsityPattern& pattern, std::span<std::byte> out) {
  const std::size_t groups = mask.shape().cols / pattern.m();
  const std::uint64_t row_size = packed_bytes(groups, rank_bits(pattern));
  parallel_for(mask.shape().rows, [&](std::size_t r) {
    std::vector<std::size_t> members;
    BitWriter writer(out.subspan(r * row_size, row_size), rank_bits(pattern));
    for (std::size_t g = 0; g < groups; ++g) {
      members.clear();
      for (std::size_t i = 0; i < pattern.m(); ++i)
        if (mask.kept(r, g * pattern.m() + i)) members.push_back(i);
      writer.put(rank_of(members));
    }
  });
}

Mask read_subsets(std::span<const std::byte> in, const SparsityPattern& pattern, Shape shape) {
  const std::size_t groups = shape.cols / pattern.m();
  const std::uint64_t row_size = packed_bytes(groups, rank_bits(pattern));
  const std::uint64_t subsets = binomial(pattern.m(), pattern.n());
  Mask mask(shape);
  parallel_for(shape.rows, [&](std::size_t r) {
    std::vector<std::size_t> members(pattern.n());
    BitReader reader(in.subspan(r * row_size, row_size), rank_bits(pattern));
    for (std::size_t g = 0; g < groups; ++g) {
      const unsigned rank = reader.get();
      if (rank >= subsets) fail(ErrorKind::bad_data, "mask: row {}, group {}: no subset {} of {}", r, g, rank, subsets);
      members_of(rank, pattern.m(), members);
      for (std::size_t i = 0; i < pattern.m(); ++i)
        if (!std::ranges::binary_search(members, i)) mask.prune(r, g * pattern.m() + i);
    }
  });
  return mask;
}

/// One bit for block_cols() columns.
void write_bits(const Mask& mask, const SparsityPattern& pattern, std::span<std::byte> out) {
  const std::uint64_t bits = row_bits(pattern, mask.shape());
  const std::uint64_t row_size = packed_bytes(bits, 1);
  parallel_for(mask.shape().rows, [&](std::size_t r) {
    BitWriter writer(out.subspan(r * row_size, row_size), 1);
    for (std::size_t b = 0; b < bits; ++b) writer.put(mask.kept(r, b * pattern.block_cols()) ? 1 : 0);
  });
}

Mask read_bits(std::span<const std::byte> in, const SparsityPattern& pattern, Shape shape) {
  const std::uint64_t bits = row_bits(pattern, shape);
  const std::uint64_t row_size = packed_bytes(bits, 1);
  Mask mask(shape);
  parallel_for(shape.rows, [&](std::size_t r) {
    BitReader reader(in.subspan(r * row_size, row_size), 1);
    for (std::size_t b = 0; b < bits; ++b)
      if (reader.get() == 0) mask.prune(r, b * pattern.block_cols(), pattern.block_cols());
  });
  return mask;
}

/// Whole rows: their bits lie together.
void write_rows(const Mask& mask, std::span<std::byte> out) {
  BitWriter writer(out, 1);
  for (std::size_t r = 0; r < mask.shape().rows; ++r) writer.put(mask.kept(r, 0) ? 1 : 0);
}

Mask read_rows(std::span<const std::byte> in, Shape shape) {
  Mask mask(shape);
  BitReader reader(in, 1);
  for (std::size_t r = 0; r < shape.rows; ++r)
    if (reader.get() == 0) mask.prune(r, 0, shape.cols);
  return mask;
}

}  // namespace

std::uint64_t mask_bytes(const SparsityPattern& pattern, Shape shape) {
  if (shape.count() == 0) return 0;
  switch (pattern.kind()) {
    case PatternKind::rows:
      return packed_bytes(shape.rows, 1);
    case PatternKind::n_of_m:
      return checked_mul(shape.rows, packed_bytes(shape.cols / pattern.m(), rank_bits(pattern)));
    case PatternKind::unstructured:
      if (indexed(pattern, shape)) return index_bytes(pattern, shape);
      break;
    case PatternKind::blocks:
      break;
  }
  return checked_mul(shape.rows, packed_bytes(row_bits(pattern, shape), 1));
}

void write_mask(const Mask& mask, const SparsityPattern& pattern, std::span<std::byte> out) {
  if (mask.shape().count() == 0) return;
  if (pattern.kind() == PatternKind::n_of_m) return write_subsets(mask, pattern, out);
  if (pattern.kind() == PatternKind::rows) return write_rows(mask, out);
  if (indexed(pattern, mask.shape())) return write_columns(mask, out);
  write_bits(mask, pattern, out);
}

Mask read_mask(std::span<const std::byte> in, const SparsityPattern& pattern, Shape shape) {
  if (shape.count() == 0) return Mask(shape);
  Mask mask = pattern.kind() == PatternKind::n_of_m ? read_subsets(in, pattern, shape)
              : pattern.kind() == PatternKind::rows ? read_rows(in, shape)
              : indexed(pattern, shape)             ? read_columns(in, shape)
                                                    : read_bits(in, pattern, shape);
  if (const auto problem = pattern_problem(mask, pattern)) fail(ErrorKind::bad_data, "mask: {}", *problem);
  return mask;
}

}  // namespace adze
