#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace adze {
namespace {

/// 1 above the high frequency bound, `factor` below the low one, interpolated in the frequency between them
/// (Llama 3.1 reference code, apply_scaling).
double llama3_divisor(const RopeSpec& spec, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const auto context = static_cast<double>(spec.original_max_positions);
  if (wavelength < context / spec.high_freq_factor) return 1.0;
  if (wavelength > context / spec.low_freq_factor) return spec.factor;
  const double t = (context / wavelength - spec.low_freq_factor) / (spec.high_freq_factor - spec.low_freq_factor);
  return 1.0 / ((1.0 - t) / spec.factor + t);
}

/// Pairs that turn `turns` times within the original context (equation 23 of YaRN, arXiv 2309.00071, solved for the
/// pair).
double yarn_pair(const RopeSpec& spec, std::size_t rotated, double turns) {
  const auto context = static_cast<double>(spec.original_max_positions);
  return static_cast<double>(rotated) * std::log(context / (2.0 * std::numbers::pi * turns)) /
         (2.0 * std::log(spec.theta));
}

/// 1 for pairs that turn fast, `factor` for slow ones, between them a ramp of the frequency over the pair's number.
double yarn_divisor(const RopeSpec& spec, std::size_t pair, std::size_t rotated) {
  const double low = std::max(std::floor(yarn_pair(spec, rotated, spec.beta_fast)), 0.0);
  const double high = std::min(std::ceil(yarn_pair(spec, rotated, spec.beta_slow)), static_cast<double>(rotated) - 1);
  const double ramp = std::clamp((static_cast<double>(pair) - low) / std::max(high - low, 0.001), 0.0, 1.0);
  return 1.0 / (ramp / spec.factor + 1.0 - ramp);
}

double divisor(const RopeSpec& spec, std::size_t pair, std::size_t rotated, double frequency) {
  switch (spec.kind) {
    case RopeKind::none:
      return 1.0;
    case RopeKind::linear:
      return spec.factor;
    case RopeKind::llama3:
      return llama3_divisor(spec, frequency);
    case RopeKind::longrope:
      return spec.divisors.at(pair);
    case RopeKind::yarn:
      return yarn_divisor(spec, pair, rotated);
  }
  return 1.0;
}

double plain_frequency(const RopeSpec& spec, std::size_t pair, std::size_t rotated) {
  return std::pow(spec.theta, -2.0 * static_cast<double>(pair) / static_cast<double>(rotated));
}

void rotate_head(float* head, std::span<const float> cosine, std::span<const float> sine) {
  const std::size_t half = cosine.size();
  for (std::size_t i = 0; i < half; ++i) {
    const float low = head[i];
    const float high = head[i + half];
    head[i] = low * cosine[i] - high * sine[i];
    head[i + half] = high * cosine[i] + low * sine[i];
  }
}

}  // namespace

std::vector<RopeSpec> rope_sets(const RopeSpec& spec) {
  RopeSpec within = spec;
  within.long_divisors.clear();
  std::vector<RopeSpec> sets{within};
  if (!spec.long_divisors.empty()) {
    within.divisors = spec.long_divisors;
    sets.push_back(std::move(within));
  }
  return sets;
}

std::vector<double> rope_divisors(const RopeSpec& spec, std::size_t rotated) {
  std::vector<double> divisors(rotated / 2);
  for (std::size_t i = 0; i < divisors.size(); ++i)
    divisors[i] = divisor(spec, i, rotated, plain_frequency(spec, i, rotated));
  return divisors;
}

std::vector<double> rope_frequencies(const RopeSpec& spec, std::size_t rotated) {
  std::vector<double> frequencies = rope_divisors(spec, rotated);
  for (std::size_t i = 0; i < frequencies.size(); ++i)
    frequencies[i] = plain_frequency(spec, i, rotated) / frequencies[i];
  return frequencies;
}

RopeTable::RopeTable(const RopeSpec& spec, std::size_t head_dim, std::size_t rotated, std::size_t positions)
    : head_dim_(head_dim), original_max_positions_(spec.original_max_positions) {
  assert(rotated <= head_dim);
  std::vector<RopeSpec> sets = rope_sets(spec);
  if (positions <= original_max_positions_) sets.resize(1);
  for (const RopeSpec& set : sets) {
    Turns turns{MatrixF(positions, rotated / 2), MatrixF(positions, rotated / 2)};
    const std::vector<double> frequencies = rope_frequencies(set, rotated);
    for (std::size_t position = 0; position < positions; ++position)
      for (std::size_t i = 0; i < frequencies.size(); ++i) {
        const double angle = static_cast<double>(position) * frequencies[i];
        turns.cosines(position, i) = static_cast<float>(spec.attention_factor * std::cos(angle));
        turns.sines(position, i) = static_cast<float>(spec.attention_factor * std::sin(angle));
      }
    sets_.push_back(std::move(turns));
  }
}

void RopeTable::rotate(ViewF heads) const {
  const Turns& turns = heads.rows() > original_max_positions_ ? sets_.back() : sets_.front();
  for (std::size_t t = 0; t < heads.rows(); ++t) rotate_row(turns, t, heads.row(t));
}

void RopeTable::rotate_row(std::size_t position, std::span<float> heads) const {
  rotate_row(sets_.back(), position, heads);
}

void RopeTable::rotate_row(const Turns& turns, std::size_t position, std::span<float> heads) const {
  assert(position < positions());
  for (std::size_t first = 0; first < heads.size(); first += head_dim_)
    rotate_head(heads.data() + first, turns.cosines.row(position), turns.sines.row(position));
}

}  // namespace adze
