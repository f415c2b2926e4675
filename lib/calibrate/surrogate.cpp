#include "calibrate/surrogate.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/parallel.h"
#include "base/random.h"
#include "linalg/cross_moment.h"
#include "linalg/gemm.h"
#include "linalg/second_moment.h"

namespace adze {
namespace {

constexpr std::size_t kDrawsPerInput = 8;  // of down: H has full rank, and noise below its structure
constexpr std::size_t kSlice = 512;        // draws in one product

/// Of gain z + bias.
SurrogateMoments moments_of(const Norm& norm) {
  const std::size_t size = norm.weight.size();
  SurrogateMoments moments{MatrixD(size, size), {}};
  MatrixD& h = moments.second_moment;
  for (std::size_t j = 0; j < size; ++j) h(j, j) = static_cast<double>(norm.weight[j]) * norm.weight[j];
  if (norm.bias.empty()) return moments;
  for (std::size_t i = 0; i < size; ++i)
    for (std::size_t j = 0; j < size; ++j) h(i, j) += static_cast<double>(norm.bias[i]) * norm.bias[j];
  return moments;
}

/// Gains and biases of the norm in front of a stage; gains of one where the states are read as they are.
Norm norm_before(const Architecture& a, const BlockWeights& block, NormSlot slot) {
  return {block[slot].empty() ? std::vector<float>(a.hidden, 1.0f) : gains_of_norm(a, block[slot]),
          block.bias_of(slot)};
}

/// W diag(gain), and what it gives for z = 0 as one more column.
MatrixF scaled(const Linear& linear, const Norm& norm) {
  const MatrixF weight = linear.weight->decode();
  MatrixF result(weight.rows(), weight.cols() + 1);
  for (std::size_t r = 0; r < weight.rows(); ++r) {
    for (std::size_t c = 0; c < weight.cols(); ++c) result(r, c) = weight(r, c) * norm.weight[c];
    float& constant = result(r, weight.cols());
    if (!linear.bias.empty()) constant = linear.bias[r];
    for (std::size_t c = 0; c < norm.bias.size(); ++c) constant += weight(r, c) * norm.bias[c];
  }
  return result;
}

/// Products of value rows, head by head, at the columns of o that read them.
template <typename T>
Matrix<T> head_blocks(const Architecture& a, ConstViewF left, ConstViewF right) {
  Matrix<T> result(a.q_width(), a.q_width());
  const std::size_t group = a.heads / a.kv_heads;
  parallel_for(a.heads, [&](std::size_t head) {
    MatrixF block(a.head_dim, a.head_dim);
    const std::size_t row = head / group * a.head_dim;
    multiply_nt(left.row_range(row, a.head_dim), right.row_range(row, a.head_dim), block);
    for (std::size_t i = 0; i < a.head_dim; ++i)
      for (std::size_t j = 0; j < a.head_dim; ++j)
        result(head * a.head_dim + i, head * a.head_dim + j) = static_cast<T>(block(i, j));
  });
  return result;
}

SurrogateMoments of_values(const Architecture& a, const BlockWeights& original, const BlockWeights& seen) {
  const MatrixF now = scaled(seen[LinearSlot::v], norm_before(a, seen, NormSlot::before_attention));
  SurrogateMoments moments{head_blocks<double>(a, now, now), {}};
  if (seen[LinearSlot::v].weight == original[LinearSlot::v].weight) return moments;
  MatrixF away = scaled(original[LinearSlot::v], norm_before(a, original, NormSlot::before_attention));
  for (std::size_t i = 0; i < away.values().size(); ++i) away.values()[i] -= now.values()[i];
  moments.cross = head_blocks<float>(a, away, now);
  return moments;
}

/// gain z + bias, a row per draw.
MatrixF draw(const Norm& norm, std::size_t index, std::size_t first) {
  const std::vector<float>& gains = norm.weight;
  MatrixF z(kSlice, gains.size());
  parallel_for(kSlice, [&](std::size_t r) {
    RandomStream random(0, fmt::format("surrogate.layers.{}.{}", index, first + r));
    for (std::size_t c = 0; c < gains.size(); ++c) z(r, c) = gains[c] * static_cast<float>(random.normal());
    for (std::size_t c = 0; c < norm.bias.size(); ++c) z(r, c) += norm.bias[c];
  });
  return z;
}

/// Of an FFN, or of one expert.
SurrogateMoments of_hidden(const Architecture& a, Stage stage, std::size_t index, const BlockWeights& original,
                           const BlockWeights& seen) {
  const auto slot = [&](LinearSlot::Kind kind) {
    LinearSlot of(kind);
    of.expert = stage.expert;
    return of;
  };
  const auto differs = [&](LinearSlot::Kind kind) {  // of a gate that is not there: never
    return seen[slot(kind)].weight != original[slot(kind)].weight;
  };
  const std::size_t width = seen[slot(LinearSlot::down)].weight->shape().cols;
  const bool drifts = differs(LinearSlot::up) || differs(LinearSlot::gate);
  SurrogateMoments moments{MatrixD(width, width), {}};
  MatrixD cross(drifts ? width : 0, width);
  const Forward forward(a, kSlice);
  Workspace work;
  const auto run = [&](const BlockWeights& block, ConstViewF in, ViewF out) {
    if (stage.is_expert()) return forward.expert_hidden(block, static_cast<std::size_t>(stage.expert), in, out, work);
    forward.mlp_hidden(block, in, out, work);
  };
  MatrixF x(kSlice, width), away(drifts ? kSlice : 0, width);
  const Norm norm = norm_before(a, seen, NormSlot::before_ffn);
  for (std::size_t first = 0; first < kDrawsPerInput * width; first += kSlice) {
    const MatrixF z = draw(norm, index, first);
    run(seen, z, x);
    add_second_moment(x, kSlice, moments.second_moment);
    if (!drifts) continue;
    run(original, z, away);
    for (std::size_t i = 0; i < x.values().size(); ++i) away.values()[i] -= x.values()[i];
    add_cross_moment(away, x, kSlice, cross);
  }
  if (!drifts) return moments;
  moments.cross = MatrixF(cross.shape());
  std::ranges::transform(cross.values(), moments.cross.values().begin(),
                         [](double v) { return static_cast<float>(v); });
  return moments;
}

}  // namespace

SurrogateMoments surrogate_moments(const Architecture& architecture, Stage stage, std::size_t index,
                                   const BlockWeights& original, const BlockWeights& seen) {
  switch (stage.kind) {
    case Stage::qkv:
      return moments_of(norm_before(architecture, seen, NormSlot::before_attention));
    case Stage::gate_up:
      return moments_of(norm_before(architecture, seen, NormSlot::before_ffn));
    case Stage::o:
      return of_values(architecture, original, seen);
    case Stage::down:
      return of_hidden(architecture, stage, index, original, seen);
  }
  return {};
}

}  // namespace adze
