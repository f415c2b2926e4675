#include "model/norm.h"

#include <cmath>

#include "linalg/vector_math.h"

namespace adze {
namespace {

void normalise(std::span<const float> in, std::span<const float> weight, const RmsNorm& norm, std::span<float> out) {
  double sum = 0.0;
  for (const float value : in) sum += static_cast<double>(value) * value;
  const auto scale = static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(in.size()) + norm.eps));
  for (std::size_t c = 0; c < in.size(); ++c) out[c] = in[c] * scale * (norm.offset + weight[c]);
}

}  // namespace

void rms_norm(ConstViewF x, std::span<const float> weight, const RmsNorm& norm, ViewF out) {
  assert(weight.size() == x.cols() && out.shape() == x.shape());
  for (std::size_t r = 0; r < x.rows(); ++r) normalise(x.row(r), weight, norm, out.row(r));
}

void rms_norm_parts(std::span<const float> weight, const RmsNorm& norm, ViewF x) {
  assert(x.cols() % weight.size() == 0);
  for (std::size_t r = 0; r < x.rows(); ++r)
    for (std::size_t first = 0; first < x.cols(); first += weight.size()) {
      const auto part = x.row(r).subspan(first, weight.size());
      normalise(part, weight, norm, part);
    }
}

void apply_gate(Activation activation, ConstViewF gate, ViewF up) {
  assert(gate.shape() == up.shape());
  for (std::size_t r = 0; r < gate.rows(); ++r) switch (activation) {
      case Activation::silu:
        multiply_by_silu(gate.row(r), up.row(r));
        break;
      case Activation::gelu_tanh:
        multiply_by_gelu_tanh(gate.row(r), up.row(r));
        break;
    }
}

}  // namespace adze
