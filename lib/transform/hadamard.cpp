#include "transform/hadamard.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "base/random.h"

namespace adze {
namespace {

/// A core by its order m, the odd part of m, and the prime of Paley's construction: I when m = prime + 1, else II with
/// m = 2 (prime + 1).
struct Core {
  std::size_t order;
  std::size_t odd;
  std::size_t prime;
};

// The odd parts 1, 3, 5, 7, 9 and 15 cover the hidden sizes and head sizes of the usual models. A core of order m costs
// m additions per value, so that large ones would cost more than all the rest.
constexpr std::array kCores = {Core{1, 1, 0},   Core{12, 3, 11}, Core{20, 5, 19},
                               Core{28, 7, 13}, Core{36, 9, 17}, Core{60, 15, 59}};

// What is worked on at a time fits a first-level cache: 60 x 32 doubles for the core, 2048 for the Walsh matrix.
constexpr std::size_t kCoreCols = 32;
constexpr std::size_t kWalshInCache = 2048;

/// nullptr when there is no Hadamard matrix for vectors of length n.
const Core* core_for(std::size_t n) {
  if (n == 0) return nullptr;
  const std::size_t odd = n >> std::countr_zero(n);
  const auto core = std::ranges::find(kCores, odd, &Core::odd);
  return core != kCores.end() && n % core->order == 0 ? &*core : nullptr;
}

/// The quadratic character modulo an odd prime: 0, +1 for squares, -1 for others.
std::vector<double> quadratic_character(std::size_t prime) {
  std::vector<double> character(prime, -1.0);
  for (std::size_t i = 1; i < prime; ++i) character[i * i % prime] = 1.0;
  character[0] = 0.0;
  return character;
}

/// Paley's conference matrix S of order prime + 1: zero diagonal, +-1 elsewhere, S S^T = prime I. Symmetric when
/// prime = 1 mod 4, skew when prime = 3 mod 4.
MatrixD conference_matrix(std::size_t prime) {
  const std::vector<double> character = quadratic_character(prime);
  MatrixD s(prime + 1, prime + 1);
  for (std::size_t i = 0; i < prime; ++i) {
    s(0, i + 1) = 1.0;
    s(i + 1, 0) = prime % 4 == 1 ? 1.0 : -1.0;
    for (std::size_t j = 0; j < prime; ++j) s(i + 1, j + 1) = character[(i + prime - j) % prime];
  }
  return s;
}

/// Paley I, prime = 3 mod 4: I + S.
MatrixD paley_one(std::size_t prime) {
  MatrixD h = conference_matrix(prime);
  for (std::size_t i = 0; i < h.rows(); ++i) h(i, i) = 1.0;
  return h;
}

/// Paley II, prime = 1 mod 4: S (x) [1 1; 1 -1] + I (x) [1 -1; -1 -1].
MatrixD paley_two(std::size_t prime) {
  const MatrixD s = conference_matrix(prime);
  MatrixD h(2 * s.rows(), 2 * s.rows());
  for (std::size_t i = 0; i < s.rows(); ++i)
    for (std::size_t j = 0; j < s.rows(); ++j) {
      const double diagonal = i == j ? 1.0 : 0.0;
      h(2 * i, 2 * j) = s(i, j) + diagonal;
      h(2 * i, 2 * j + 1) = h(2 * i + 1, 2 * j) = s(i, j) - diagonal;
      h(2 * i + 1, 2 * j + 1) = -s(i, j) - diagonal;
    }
  return h;
}

/// (a, b) -> (a + b, a - b) for `half` pairs of values, b lying `half` behind a.
void butterfly(double* values, std::size_t half) {
  for (std::size_t i = 0; i < half; ++i) {
    const double a = values[i], b = values[i + half];
    values[i] = a + b;
    values[i + half] = a - b;
  }
}

/// Two butterflies, of `step` and of 2 `step`, in one pass over 4 `step` values: half the memory traffic, same bits.
void double_butterfly(double* values, std::size_t step) {
  for (std::size_t i = 0; i < step; ++i) {
    double* at = values + i;
    const double sum_0 = at[0] + at[step], difference_0 = at[0] - at[step];
    const double sum_1 = at[2 * step] + at[3 * step], difference_1 = at[2 * step] - at[3 * step];
    at[0] = sum_0 + sum_1;
    at[step] = difference_0 + difference_1;
    at[2 * step] = sum_0 - sum_1;
    at[3 * step] = difference_0 - difference_1;
  }
}

/// A -> W A for A: [count / width x width], the quotient a power of two. Long ones half by half, to stay in a cache.
void multiply_by_walsh(double* values, std::size_t count, std::size_t width) {
  if (count > kWalshInCache && count > width) {
    multiply_by_walsh(values, count / 2, width);
    multiply_by_walsh(values + count / 2, count / 2, width);
    butterfly(values, count / 2);
    return;
  }
  std::size_t step = width;
  for (; 4 * step <= count; step *= 4)
    for (std::size_t at = 0; at < count; at += 4 * step) double_butterfly(values + at, step);
  if (step < count) butterfly(values, step);
}

/// Calls apply(row as double) for each row of a matrix.
template <typename T, typename Apply>
void for_rows_in_double(MatrixView<T> rows, const Apply& apply) {
  parallel_for(rows.rows(), [&](std::size_t r) {
    const std::span<T> row = rows.row(r);
    std::vector<double> values(row.begin(), row.end());
    apply(values);
    std::ranges::transform(values, row.begin(), [](double value) { return static_cast<T>(value); });
  });
}

}  // namespace

bool has_hadamard(std::size_t n) { return core_for(n) != nullptr; }

std::string hadamard_lengths() {
  std::string orders;
  for (std::size_t i = 1; i < kCores.size(); ++i)
    orders += fmt::format("{}{}", i == 1 ? "" : i + 1 < kCores.size() ? ", " : " or ", kCores[i].order);
  return fmt::format("a power of two, or {} times one", orders);
}

MatrixD hadamard_core(std::size_t order) {
  const auto core = std::ranges::find(kCores, order, &Core::order);
  if (core == kCores.end()) fail(ErrorKind::internal, "no Hadamard core of order {}", order);
  if (core->prime == 0) {
    MatrixD one(1, 1);
    one(0, 0) = 1.0;
    return one;
  }
  return core->order == core->prime + 1 ? paley_one(core->prime) : paley_two(core->prime);
}

RandomHadamard::RandomHadamard(std::size_t n, std::uint64_t seed, std::string_view name) {
  const Core* core = core_for(n);
  if (!core)
    fail(ErrorKind::bad_recipe, "vectors of length {} cannot be rotated: the length must be {}", n, hadamard_lengths());
  core_ = hadamard_core(core->order);
  RandomStream random(seed, name);
  const double magnitude = 1.0 / std::sqrt(static_cast<double>(n));
  scaled_signs_.resize(n);
  for (double& value : scaled_signs_) value = random.next() >> 63 ? -magnitude : magnitude;
}

void RandomHadamard::check_stack(std::size_t count, std::size_t width) const {
  if (width == 0 || count % (size() * width) != 0)
    fail(ErrorKind::internal, "{} values are no stack of {} x {} matrices", count, size(), width);
}

void RandomHadamard::apply(std::span<double> values, std::size_t width) const {
  check_stack(values.size(), width);
  for (std::size_t at = 0; at < values.size(); at += size() * width) {
    scale(&values[at], width);
    multiply_by_hadamard(&values[at], width, true);
  }
}

void RandomHadamard::apply_transposed(std::span<double> values, std::size_t width) const {
  check_stack(values.size(), width);
  for (std::size_t at = 0; at < values.size(); at += size() * width) {
    multiply_by_hadamard(&values[at], width, false);
    scale(&values[at], width);
  }
}

/// A -> diag(signs) A / sqrt(n).
void RandomHadamard::scale(double* matrix, std::size_t width) const {
  for (std::size_t r = 0; r < size(); ++r)
    for (std::size_t c = 0; c < width; ++c) matrix[r * width + c] *= scaled_signs_[r];
}

/// A -> H A, or H^T A. H = C (x) W: W mixes within each of the m slices of n / m rows, C mixes the slices.
void RandomHadamard::multiply_by_hadamard(double* matrix, std::size_t width, bool transposed) const {
  const std::size_t slice = size() / core_.rows() * width;
  for (std::size_t i = 0; i < core_.rows(); ++i) multiply_by_walsh(matrix + i * slice, slice, width);
  if (core_.rows() > 1) multiply_by_core(matrix, slice, transposed);
}

/// A -> C A, or C^T A, for A: [m x width].
void RandomHadamard::multiply_by_core(double* matrix, std::size_t width, bool transposed) const {
  const std::size_t order = core_.rows();
  std::vector<double> input(order * kCoreCols);
  for (std::size_t first = 0; first < width; first += kCoreCols) {
    const std::size_t cols = std::min(kCoreCols, width - first);
    for (std::size_t r = 0; r < order; ++r) std::copy_n(matrix + r * width + first, cols, &input[r * kCoreCols]);
    for (std::size_t r = 0; r < order; ++r) {
      std::array<double, kCoreCols> sums{};  // a constant number of columns, so that the loop becomes SIMD code
      for (std::size_t i = 0; i < order; ++i) {
        const double sign = transposed ? core_(i, r) : core_(r, i);
        for (std::size_t c = 0; c < kCoreCols; ++c) sums[c] += sign * input[i * kCoreCols + c];
      }
      std::copy_n(sums.begin(), cols, matrix + r * width + first);
    }
  }
}

void RandomHadamard::rotate_rows(ViewF rows) const {
  for_rows_in_double(rows, [&](std::span<double> row) { apply(row); });
}

void RandomHadamard::rotate_rows(ViewD rows) const {
  for_rows_in_double(rows, [&](std::span<double> row) { apply(row); });
}

void RandomHadamard::rotate_rows_back(ViewF rows) const {
  for_rows_in_double(rows, [&](std::span<double> row) { apply_transposed(row); });
}

void RandomHadamard::rotate_rows_back(ViewD rows) const {
  for_rows_in_double(rows, [&](std::span<double> row) { apply_transposed(row); });
}

}  // namespace adze
