#include <array>
#include <cstdlib>
#include <cstring>

#include "base/parallel.h"
#include "base/random.h"
#include "linalg/quantized_product.h"
#include "pairs.h"

namespace adze::bench {
namespace {

constexpr std::size_t kCols = 4096;
constexpr std::size_t kBytes = std::size_t{1} << 30;  // of packed weights: far more than any cache

/// Reads every byte once, all threads, and nothing else.
std::function<void()> read_bytes(const std::shared_ptr<std::vector<std::byte>>& bytes) {
  return [=] {
    constexpr std::size_t kPart = std::size_t{256} << 10;
    std::vector<std::uint64_t> sums(bytes->size() / kPart);
    parallel_for(sums.size(), [&](std::size_t p) {
      std::array<std::uint64_t, 16> sum{}, words;
      for (std::size_t at = p * kPart; at < (p + 1) * kPart; at += sizeof words) {
        std::memcpy(words.data(), bytes->data() + at, sizeof words);
        for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += words[k];
      }
      for (const std::uint64_t s : sum) sums[p] += s;
    });
    std::uint64_t total = 0;
    for (const std::uint64_t s : sums) total += s;
    if (total == 0) std::abort();
  };
}

Pair product(const std::string& name, std::size_t group, bool symmetric) {
  FourBitRows rows{{}, {0, kCols}, group, DType::f16, symmetric};
  rows.shape.rows = kBytes / rows.row_bytes();
  const auto bytes = std::make_shared<std::vector<std::byte>>(rows.shape.rows * rows.row_bytes());
  RandomStream random(1, "bench product");
  std::vector<std::byte> row(rows.row_bytes());
  for (std::byte& b : row) b = static_cast<std::byte>(random.below(256));
  const std::uint16_t scale = float_to_f16(0.01f);
  for (std::size_t g = 0; g < rows.groups(); ++g) std::memcpy(row.data() + 2 * g, &scale, 2);
  for (std::size_t r = 0; r < rows.shape.rows; ++r) std::memcpy(bytes->data() + r * row.size(), row.data(), row.size());
  rows.bytes = *bytes;
  std::vector<float> x(kCols);
  for (float& v : x) v = static_cast<float>(random.normal());
  const auto y = std::make_shared<std::vector<float>>(rows.shape.rows);
  return {name, "reading a GiB of weights, all threads", [=, keep = bytes] { multiply_four_bit(rows, x, *y); },
          read_bytes(bytes), 1 / 0.6};
}

std::vector<Pair> make_pairs() {
  return {product("vector_product_int4_g128", 128, true), product("vector_product_int4_g128_asym", 128, false),
          product("vector_product_int4_g64", 64, true), product("vector_product_int4_g32", 32, true)};
}

const bool registered = add("product", &make_pairs);

}  // namespace
}  // namespace adze::bench
