#include "model/norm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "linalg/vector_math.h"

namespace adze {
namespace {

/// Sums of squares of `Rows` rows from `first` on, side by side: alone, each addition would wait for the one before.
template <std::size_t Rows>
std::array<double, Rows> square_sums(ConstViewF x, std::size_t first) {
  std::array<const float*, Rows> rows;
  for (std::size_t r = 0; r < Rows; ++r) rows[r] = x.row(first + r).data();
  std::array<double, Rows> sums{};
  for (std::size_t c = 0; c < x.cols(); ++c)
    for (std::size_t r = 0; r < Rows; ++r) sums[r] += static_cast<double>(rows[r][c]) * rows[r][c];
  return sums;
}

template <std::size_t Rows>
void normalise(ConstViewF x, std::size_t first, std::span<const float> weight, const RmsNorm& norm, ViewF out) {
  const std::array<double, Rows> sums = square_sums<Rows>(x, first);
  for (std::size_t r = 0; r < Rows; ++r) {
    const auto scale = static_cast<float>(1.0 / std::sqrt(sums[r] / static_cast<double>(x.cols()) + norm.eps));
    scale_by_weights(x.row(first + r), scale, norm.offset, weight, out.row(first + r));
  }
}

}  // namespace

void rms_norm(ConstViewF x, std::span<const float> weight, const RmsNorm& norm, ViewF out) {
  assert(weight.size() == x.cols() && out.shape() == x.shape());
  constexpr std::size_t kTogether = 4;
  std::size_t r = 0;
  for (; r + kTogether <= x.rows(); r += kTogether) normalise<kTogether>(x, r, weight, norm, out);
  for (; r < x.rows(); ++r) normalise<1>(x, r, weight, norm, out);
}

void rms_norm_parts(std::span<const float> weight, const RmsNorm& norm, ViewF x) {
  assert(x.cols() % weight.size() == 0);
  for (std::size_t r = 0; r < x.rows(); ++r)
    for (std::size_t first = 0; first < x.cols(); first += weight.size()) {
      const ViewF part = x.row_range(r, 1).col_range(first, weight.size());
      normalise<1>(part, 0, weight, norm, part);
    }
}

void layer_norm(ConstViewF x, std::span<const float> weight, std::span<const float> bias, double eps, ViewF out) {
  assert(weight.size() == x.cols() && bias.size() == x.cols() && out.shape() == x.shape());
  const auto size = static_cast<double>(x.cols());
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const std::span<const float> in = x.row(r);
    const std::span<float> to = out.row(r);
    double sum = 0, squares = 0;
    for (const float value : in) sum += value;
    const double mean = sum / size;
    for (const float value : in) squares += (value - mean) * (value - mean);  // not of what cancels
    const double scale = 1.0 / std::sqrt(squares / size + eps);
    for (std::size_t c = 0; c < in.size(); ++c)
      to[c] = static_cast<float>((in[c] - mean) * scale) * weight[c] + bias[c];
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
      case Activation::relu:
        for (std::size_t c = 0; c < up.cols(); ++c) up(r, c) *= std::max(gate(r, c), 0.0f);
        break;
    }
}

void activate(Activation activation, ViewF x) {
  std::vector<float> activated(x.cols());  // what a gate of x makes of ones
  for (std::size_t r = 0; r < x.rows(); ++r) {
    std::ranges::fill(activated, 1.0f);
    apply_gate(activation, x.row_range(r, 1), ViewF(activated.data(), {1, activated.size()}));
    std::ranges::copy(activated, x.row(r).begin());
  }
}

}  // namespace adze
