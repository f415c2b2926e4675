// Row-wise arithmetic of a block that is not a product: normalisation, the gate and activations.
#pragma once

#include <span>

#include "base/matrix.h"
#include "model/family.h"

namespace adze {

/// How a model normalises.
struct RmsNorm {
  double eps = 1e-6;
  float offset = 0;  ///< FamilyInfo::norm_offset
};

/// out = x / sqrt(mean(x^2) + eps) * (offset + weight), per row; the mean is taken in double.  x, out: [tokens x n]
/// (may be the same), weight: [n].
void rms_norm(ConstViewF x, std::span<const float> weight, const RmsNorm& norm, ViewF out);

/// The same of every part of weight.size() values of each row, in place: heads of queries or keys, or the whole row.
void rms_norm_parts(std::span<const float> weight, const RmsNorm& norm, ViewF x);

/// out = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias, per row; mean and variance, that of all n values, are
/// taken in double.  x, out: [tokens x n] (may be the same), weight, bias: [n].
void layer_norm(ConstViewF x, std::span<const float> weight, std::span<const float> bias, double eps, ViewF out);

/// up = activation(gate) * up. Equal shapes.
void apply_gate(Activation activation, ConstViewF gate, ViewF up);

/// x = activation(x).
void activate(Activation activation, ViewF x);

}  // namespace adze
