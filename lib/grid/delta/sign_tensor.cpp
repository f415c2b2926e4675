#include "grid/delta/sign_tensor.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"

namespace adze {
namespace {

constexpr std::array<const char*, 2> kFormats{"signs per matrix", "signs per row"};  // by SignScope

std::size_t scale_count(SignScope scope, Shape shape) { return scope == SignScope::matrix ? 1 : shape.rows; }
std::size_t row_bytes(Shape shape) { return divide_up(shape.cols, 8); }

}  // namespace

std::uint64_t sign_bytes(SignScope scope, Shape shape) {
  return checked_add(checked_mul(scale_count(scope, shape), sizeof(std::uint16_t)),
                     checked_mul(shape.rows, row_bytes(shape)));
}

std::string sign_format(SignScope scope) { return kFormats[static_cast<std::size_t>(scope)]; }

std::optional<SignScope> parse_sign_format(const std::string& format) {
  const auto* const at = std::ranges::find(kFormats, format);
  if (at == kFormats.end()) return std::nullopt;
  return static_cast<SignScope>(at - kFormats.begin());
}

SignTensor::SignTensor(SignScope scope, Shape shape, std::vector<std::byte> payload)
    : scope_(scope), shape_(shape), payload_(std::move(payload)) {
  if (payload_.size() != sign_bytes(scope, shape))
    fail(ErrorKind::bad_data, "{} x {} weights in '{}' take {} bytes, not {}", shape.rows, shape.cols,
         sign_format(scope), sign_bytes(scope, shape), payload_.size());
}

SignTensor SignTensor::of_values(SignScope scope, ConstViewF values, std::span<const std::uint16_t> scales) {
  const Shape shape = values.shape();
  if (scales.size() != scale_count(scope, shape))
    fail(ErrorKind::internal, "{} scales of {} x {} signs, '{}'", scales.size(), shape.rows, shape.cols,
         sign_format(scope));
  std::vector<std::byte> payload(sign_bytes(scope, shape));
  std::memcpy(payload.data(), scales.data(), scales.size_bytes());
  std::byte* const bits = payload.data() + scales.size_bytes();
  for (std::size_t r = 0; r < shape.rows; ++r)
    for (std::size_t c = 0; c < shape.cols; ++c)
      if (values(r, c) < 0) bits[r * row_bytes(shape) + c / 8] |= static_cast<std::byte>(1 << (c % 8));
  return {scope, shape, std::move(payload)};
}

std::uint16_t SignTensor::scale(std::size_t row) const {
  std::uint16_t bits = 0;
  std::memcpy(&bits, payload_.data() + (scope_ == SignScope::matrix ? 0 : row) * sizeof bits, sizeof bits);
  return bits;
}

void SignTensor::decode_rows(std::size_t first, std::size_t count, std::span<float> out) const {
  const std::byte* const bits = payload_.data() + scale_count(scope_, shape_) * sizeof(std::uint16_t);
  for (std::size_t r = 0; r < count; ++r) {
    const float value = f16_to_float(scale(first + r));
    const std::byte* const row = bits + (first + r) * row_bytes(shape_);
    for (std::size_t c = 0; c < shape_.cols; ++c) {
      const bool negative = (std::to_integer<unsigned>(row[c / 8]) >> (c % 8) & 1u) != 0;
      out[r * shape_.cols + c] = negative ? -value : value;
    }
  }
}

}  // namespace adze
