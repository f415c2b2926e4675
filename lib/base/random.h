// Random streams keyed by a seed and a name, never by thread or time: the same key gives the same numbers anywhere.
#pragma once

#include <cstdint>
#include <string_view>

namespace adze {

/// SplitMix64 (Steele, Lea, Flood 2014): 64 bits of state, passes BigCrush, any state is a good start.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, std::string_view name);

  std::uint64_t next();
  /// As if next() had been called `count` times.
  void skip(std::uint64_t count);
  /// Uniform in [0, bound), without modulo bias. bound > 0.
  std::uint64_t below(std::uint64_t bound);
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  /// Standard normal (Box-Muller, one of each pair).
  double normal();

 private:
  std::uint64_t state_;
};

}  // namespace adze
