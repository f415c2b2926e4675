#include "grid/factors/train_tensor.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/checked.h"
#include "base/error.h"
#include "linalg/gemm.h"

namespace adze {
namespace {

constexpr std::string_view kPrefix = "train ";
constexpr std::size_t kMaxCores = 8;

std::size_t product_of(std::span<const std::size_t> digits) {
  std::uint64_t product = 1;
  for (const std::size_t digit : digits) product = checked_mul(product, digit);
  return checked_cast<std::size_t>(product);
}

/// Takes "16x16" off the front of `text`; empty when there is none.
std::vector<std::size_t> take_digits(std::string_view& text) {
  std::vector<std::size_t> digits;
  while (digits.size() < kMaxCores) {
    std::size_t digit = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), digit);
    if (error != std::errc{} || digit == 0) return {};
    digits.push_back(digit);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (!text.starts_with('x')) break;
    text.remove_prefix(1);
  }
  return digits;
}

bool take(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  return true;
}

/// [rows, cols, m, n, bond] -> [rows, m, cols, n, bond]: digits of rows come together.
MatrixF join_digits(const MatrixF& product, std::size_t rows, std::size_t cols, std::size_t m, std::size_t n,
                    std::size_t bond) {
  MatrixF joined(rows * m * cols * n, bond);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; ++c)
      for (std::size_t i = 0; i < m; ++i)
        std::copy_n(product.data() + ((r * cols + c) * m + i) * n * bond, n * bond,
                    joined.data() + ((r * m + i) * cols + c) * n * bond);
  return joined;
}

/// The rows of the matrix whose first digit is `first_digit`, [m / m_1 x n], of cores as they are stored.
MatrixF contract_train(const TrainShape& train, std::span<const MatrixF> cores, std::size_t first_digit) {
  std::size_t rows = 1, cols = train.cols[0];
  MatrixF current(cols, train.bond_after(0));
  std::ranges::copy(cores[0].row(first_digit), current.values().begin());
  for (std::size_t k = 1; k < train.cores(); ++k) {
    const std::size_t m = train.rows[k], n = train.cols[k], bond = train.bond_after(k);
    const ConstViewF core(cores[k].data(), Shape{train.bond_before(k), m * n * bond});
    MatrixF product(rows * cols, m * n * bond);
    multiply_nn(current, core, product);
    current = join_digits(product, rows, cols, m, n, bond);
    rows *= m;
    cols *= n;
  }
  MatrixF result(rows, cols);
  std::ranges::copy(current.values(), result.values().begin());
  return result;
}

}  // namespace

Shape TrainShape::whole() const { return {product_of(rows), product_of(cols)}; }

std::size_t TrainShape::most_bond(std::size_t core) const {
  std::uint64_t before = 1, after = 1;
  for (std::size_t k = 0; k < cores(); ++k)
    (k <= core ? before : after) = checked_mul(k <= core ? before : after, checked_mul(rows[k], cols[k]));
  return checked_cast<std::size_t>(std::min(before, after));
}

void TrainShape::check() const {
  if (cores() < 2 || cols.size() != cores() || bonds.size() + 1 != cores())
    fail(ErrorKind::bad_data, "a train of {} digits of rows, {} of columns and {} bonds", cores(), cols.size(),
         bonds.size());
  for (std::size_t k = 0; k + 1 < cores(); ++k)
    if (bonds[k] == 0 || bonds[k] > most_bond(k))
      fail(ErrorKind::bad_data, "bond {} of a train is {}, which is not from 1 to {}", k, bonds[k], most_bond(k));
}

TrainTensor::TrainTensor(TrainShape train, std::vector<Part> cores)
    : train_(std::move(train)), cores_(std::move(cores)) {
  train_.check();
  if (cores_.size() != train_.cores())
    fail(ErrorKind::bad_data, "a train of {} cores for {} digits", cores_.size(), train_.cores());
  for (std::size_t k = 0; k < cores_.size(); ++k) {
    if (cores_[k]->shape() != train_.core(k) || cores_[k]->format() != cores_[0]->format())
      fail(ErrorKind::bad_data, "core {} of a train is {} x {} in {}, not {} x {} in {}", k, cores_[k]->shape().rows,
           cores_[k]->shape().cols, cores_[k]->format(), train_.core(k).rows, train_.core(k).cols, cores_[0]->format());
    payload_.insert(payload_.end(), cores_[k]->payload().begin(), cores_[k]->payload().end());
  }
}

std::uint64_t TrainTensor::multiplications() const { return train_multiplications(train_); }

std::string TrainTensor::format() const { return train_format({train_, cores_[0]->format()}); }

void TrainTensor::decode_rows(std::size_t first, std::size_t count, std::span<float> out) const {
  const Shape whole = shape();
  assert(first + count <= whole.rows && out.size() == count * whole.cols);
  std::vector<MatrixF> cores;
  for (const Part& core : cores_) cores.push_back(core->decode());
  const std::size_t height = whole.rows / train_.rows[0];  // rows of a first digit
  for (std::size_t digit = first / height; digit * height < first + count; ++digit) {
    const MatrixF rows = contract_train(train_, cores, digit);
    const std::size_t begin = std::max(first, digit * height);
    const std::size_t end = std::min(first + count, (digit + 1) * height);
    for (std::size_t r = begin; r < end; ++r)
      std::ranges::copy(rows.row(r - digit * height), out.subspan((r - first) * whole.cols, whole.cols).begin());
  }
}

std::uint64_t train_multiplications(const TrainShape& train) {
  std::uint64_t forward = 0, backward = 0;
  for (std::size_t k = 0; k < train.cores(); ++k) {
    const std::uint64_t core = train.core(k).count();
    std::uint64_t cols_before = 1, rows_before = 1, cols_after = 1, rows_after = 1;
    for (std::size_t l = 0; l < train.cores(); ++l) {
      if (l < k) cols_before *= train.cols[l], rows_before *= train.rows[l];
      if (l > k) cols_after *= train.cols[l], rows_after *= train.rows[l];
    }
    forward += core * rows_before * cols_after;   // the digits before are outputs already
    backward += core * cols_before * rows_after;  // those after are
  }
  return std::min(forward, backward);
}

std::string train_format(const TrainFormat& parts) {
  return fmt::format("{}{} by {} bonds {} [{}]", kPrefix, fmt::join(parts.train.rows, "x"),
                     fmt::join(parts.train.cols, "x"), fmt::join(parts.train.bonds, "x"), parts.values);
}

std::optional<TrainFormat> parse_train_format(const std::string& format) {
  std::string_view rest = format;
  if (!take(rest, kPrefix)) return std::nullopt;
  TrainFormat parsed;
  parsed.train.rows = take_digits(rest);
  const bool by = take(rest, " by ");
  parsed.train.cols = take_digits(rest);
  const bool bonds = take(rest, " bonds ");
  parsed.train.bonds = take_digits(rest);
  const std::size_t cores = parsed.train.cores();
  if (by && bonds && cores >= 2 && parsed.train.cols.size() == cores && parsed.train.bonds.size() + 1 == cores &&
      take(rest, " [") && rest.ends_with(']')) {
    parsed.values = std::string(rest.substr(0, rest.size() - 1));
    parsed.train.check();
    if (train_format(parsed) == format) return parsed;
  }
  fail(ErrorKind::bad_data, "unknown format '{}'", format);
}

}  // namespace adze
