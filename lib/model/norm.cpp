#include "model/norm.h"

#include <cmath>

#include "linalg/vector_math.h"

namespace adze {

void rms_norm(ConstViewF x, std::span<const float> weight, double eps, ViewF out) {
  assert(weight.size() == x.cols() && out.shape() == x.shape());
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const auto in = x.row(r);
    double sum = 0.0;
    for (const float value : in) sum += static_cast<double>(value) * value;
    const auto scale = static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(in.size()) + eps));
    const auto target = out.row(r);
    for (std::size_t c = 0; c < in.size(); ++c) target[c] = in[c] * scale * weight[c];
  }
}

void swiglu(ConstViewF gate, ViewF up) {
  assert(gate.shape() == up.shape());
  for (std::size_t r = 0; r < gate.rows(); ++r) multiply_by_silu(gate.row(r), up.row(r));
}

}  // namespace adze
