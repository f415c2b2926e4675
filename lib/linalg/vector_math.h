// Elementwise exponentials over rows, the part of attention, of the gate and of softmax that is not a product; extremes
// of rows; and what two softmaxes over a vocabulary differ by. Highway kernels with a polynomial of our own, so that
// every element's bits depend on that element alone.
#pragma once

#include <cstdint>
#include <span>

namespace adze {

/// The largest value; not empty, no NaN.
float largest(std::span<const float> values);

/// The largest |value|; 0 where there are none. No NaN.
float largest_magnitude(std::span<const float> values);

/// out = exp((in - shift) * scale); returns the sum of out, taken in double in a fixed order. Relative error below 2e-7
/// of the exponential of the (rounded) argument from -87 on; smaller arguments give 0, those above 88 saturate. Meant
/// for arguments <= 0: the shift is the maximum. `in` and `out` may be the same.
double exp_shifted(std::span<const float> in, float shift, float scale, std::span<float> out);

/// A softmax as exp_shifted() leaves it: P(v) = exponentials[v] / sum, exponentials[v] = exp(logits[v] - largest).
struct SoftmaxView {
  std::span<const float> logits;
  std::span<const float> exponentials;
  float largest = 0;
  double sum = 0;
};

/// Sums over the vocabulary of two softmaxes P and Q of equal sizes, in double in a fixed order. Of equal ones `shift`
/// and `variation` are exactly 0.
struct SoftmaxSums {
  double shift = 0;      ///< sum P (p - q), p and q being logits
  double variation = 0;  ///< sum |P - Q|
  double depth_p = 0;    ///< sum P (largest p - p): the entropy of P less the logarithm of its sum
  double depth_q = 0;    ///< the same of Q
};
SoftmaxSums compare_softmaxes(const SoftmaxView& p, const SoftmaxView& q);

/// Places of the ids.size() largest values, descending; of equal values the lowest place comes first. No NaN;
/// 0 < ids.size() <= values.size().
void largest_places(std::span<const float> values, std::span<std::uint32_t> ids);

/// values *= factor.
void multiply_by(float factor, std::span<float> values);

/// out = (in scale) (offset + weights), every operation rounded. Equal sizes; `in` and `out` may be the same.
void scale_by_weights(std::span<const float> in, float scale, float offset, std::span<const float> weights,
                      std::span<float> out);

/// up *= silu(gate), silu(g) = g / (1 + exp(-g)). Equal sizes.
void multiply_by_silu(std::span<const float> gate, std::span<float> up);

/// up *= gelu(gate), gelu(g) = 0.5 g (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))). Equal sizes.
void multiply_by_gelu_tanh(std::span<const float> gate, std::span<float> up);

/// values = cap tanh(values scale / cap). Absolute error below 1e-6 of the cap.
void soft_cap(float cap, float scale, std::span<float> values);

}  // namespace adze
