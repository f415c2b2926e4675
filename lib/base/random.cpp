#include "base/random.h"

#include <cmath>
#include <numbers>

#include "base/hash.h"

namespace adze {
namespace {

constexpr std::uint64_t kStep = 0x9E3779B97F4A7C15ULL;  // 2^64 over the golden ratio

}  // namespace

RandomStream::RandomStream(std::uint64_t seed, std::string_view name) : state_(hash64(name) ^ (seed * kStep)) {}

void RandomStream::skip(std::uint64_t count) { state_ += count * kStep; }

std::uint64_t RandomStream::next() {
  state_ += kStep;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

std::uint64_t RandomStream::below(std::uint64_t bound) {
  const std::uint64_t reject_below = (0 - bound) % bound;  // 2^64 mod bound
  std::uint64_t value = next();
  while (value < reject_below) value = next();
  return value % bound;
}

double RandomStream::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

double RandomStream::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

}  // namespace adze
