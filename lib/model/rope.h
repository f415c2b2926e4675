// Rotary position embedding in the half-split layout of Hugging Face checkpoints: of the elements of a head that are
// rotated, element i is paired with element i + rotated / 2; those behind them stay as they are. Kinds: plain, linear
// (positions divided), llama3 and yarn (low frequencies divided) and longrope (every frequency by a divisor of its
// own).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "model/architecture.h"

namespace adze {

/// The RoPE of windows within the original context, and, where longrope has other divisors for longer ones, that of
/// those: one or two, each with one set of divisors.
std::vector<RopeSpec> rope_sets(const RopeSpec& spec);

/// Angle per position of each of the rotated / 2 pairs, scaling included.
std::vector<double> rope_frequencies(const RopeSpec& spec, std::size_t rotated);

/// theta^(-2i / rotated) / rope_frequencies: the divisors that GGUF stores as rope_freqs.weight for llama3 and
/// longrope.
std::vector<double> rope_divisors(const RopeSpec& spec, std::size_t rotated);

/// Cosines and sines of all angles for positions 0 .. positions - 1, times the attention factor.
class RopeTable {
 public:
  /// head_dim: of a whole head.  rotated: how many of its elements turn, as many as there are or fewer.
  RopeTable(const RopeSpec& spec, std::size_t head_dim, std::size_t rotated, std::size_t positions);

  std::size_t positions() const { return sets_.back().cosines.rows(); }
  /// Rotates every head of every row; row t is position t.  heads: [tokens x n * head_dim]. Needs tokens <=
  /// positions(). Windows longer than the original context of longrope take its other divisors, from the first position
  /// on.
  void rotate(ViewF heads) const;
  /// Every head of one row, of a given position of a text that may grow to positions(), which decide its divisors.
  /// heads: [n * head_dim].
  void rotate_row(std::size_t position, std::span<float> heads) const;

 private:
  struct Turns {
    MatrixF cosines, sines;  // [positions x rotated / 2]
  };
  void rotate_row(const Turns& turns, std::size_t position, std::span<float> heads) const;

  std::size_t head_dim_;
  std::size_t original_max_positions_;
  std::vector<Turns> sets_;  // one, or that of windows within the original context and that of longer ones
};

}  // namespace adze
