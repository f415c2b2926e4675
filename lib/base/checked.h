// Arithmetic on sizes that come from files: overflow is an Error(bad_data), never a wrap.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <utility>

#include "base/error.h"

namespace adze {

inline std::uint64_t checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) fail(ErrorKind::bad_data, "size overflow: {} + {}", a, b);
  return sum;
}

inline std::uint64_t checked_mul(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) fail(ErrorKind::bad_data, "size overflow: {} x {}", a, b);
  return product;
}

/// Product of dimensions, checked step by step. The empty product is 1.
inline std::uint64_t checked_product(std::span<const std::uint64_t> dims) {
  std::uint64_t product = 1;
  for (const std::uint64_t dim : dims) product = checked_mul(product, dim);
  return product;
}

/// Integer conversion that must not change the value.
template <std::integral To, std::integral From>
To checked_cast(From value) {
  if (!std::in_range<To>(value)) fail(ErrorKind::bad_data, "value {} is out of range", value);
  return static_cast<To>(value);
}

constexpr std::uint64_t divide_up(std::uint64_t n, std::uint64_t d) { return n / d + (n % d != 0); }
constexpr std::uint64_t round_up(std::uint64_t n, std::uint64_t multiple) { return divide_up(n, multiple) * multiple; }

}  // namespace adze
