#include "calibrate/readers.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "linalg/gemm.h"
#include "model/rope.h"

namespace adze {
namespace {

/// Means over the distances of a causal window of products of cosines and sines of two pairs' angles, [pairs x pairs].
struct RotationMeans {
  MatrixD cos_cos, cos_sin, sin_sin;  ///< of the row's and the column's angle

  RotationMeans(const std::vector<double>& frequencies, std::size_t window)
      : cos_cos(frequencies.size(), frequencies.size()), cos_sin(cos_cos.shape()), sin_sin(cos_cos.shape()) {
    const std::size_t pairs = frequencies.size();
    MatrixD cosines(window, pairs), sines(window, pairs), weighted(window, pairs), weighted_sines(window, pairs);
    const double all = 0.5 * static_cast<double>(window) * static_cast<double>(window + 1);
    parallel_for(window, [&](std::size_t d) {
      const double weight = static_cast<double>(window - d) / all;
      for (std::size_t p = 0; p < pairs; ++p) {
        const double angle = -static_cast<double>(d) * frequencies[p];  // a key stands before its query
        cosines(d, p) = std::cos(angle);
        sines(d, p) = std::sin(angle);
        weighted(d, p) = weight * cosines(d, p);
        weighted_sines(d, p) = weight * sines(d, p);
      }
    });
    multiply_tn(weighted, cosines, cos_cos);
    multiply_tn(weighted, sines, cos_sin);
    multiply_tn(weighted_sines, sines, sin_sin);
  }
};

/// E q q^T of one head before rotation, bias included, times the number of tokens; added to `sum`.
void add_query_moment(const Linear& q, std::size_t head, const InputStatistics& inputs, MatrixD& sum) {
  const std::size_t wide = sum.rows(), first = head * wide;
  MatrixF values(wide, q.weight->shape().cols);
  q.weight->decode_rows(first, wide, values.values());
  MatrixD rows(values.shape()), products(values.shape());
  std::ranges::copy(values.values(), rows.values().begin());
  multiply_nn(rows, inputs.second_moment, products);
  multiply_nt(products, rows, sum, true);
  if (q.bias.empty()) return;
  std::vector<double> mean(wide);
  for (std::size_t i = 0; i < wide; ++i)
    mean[i] = std::inner_product(rows.row(i).begin(), rows.row(i).end(), inputs.sum.begin(), 0.0);
  const float* const bias = &q.bias[first];
  for (std::size_t i = 0; i < wide; ++i)
    for (std::size_t j = 0; j < wide; ++j)
      sum(i, j) += mean[i] * bias[j] + bias[i] * mean[j] +
                   static_cast<double>(inputs.tokens) * static_cast<double>(bias[i]) * bias[j];
}

/// Angles per position of all pairs of a head. Elements that RoPE does not rotate are pairs that do not turn.
std::vector<double> head_frequencies(const Architecture& a) {
  std::vector<double> frequencies = rope_frequencies(a.rope, a.rotated());
  frequencies.resize(a.head_dim / 2);
  return frequencies;
}

/// Where the elements of a head lie as pairs (i, i + head_dim / 2) that turn together.
std::vector<std::size_t> paired_elements(const Architecture& a) {
  std::vector<std::size_t> elements(a.head_dim);
  const std::size_t turning = a.rotated() / 2, half = a.head_dim / 2;
  for (std::size_t pair = 0; pair < half; ++pair) {
    const bool turns = pair < turning;
    elements[pair] = turns ? pair : turning + pair;
    elements[half + pair] = turns ? turning + pair : half + pair;
  }
  return elements;
}

/// Mean of R^T H R.  elements: paired_elements().
MatrixD rotated(const MatrixD& stored, std::span<const std::size_t> elements, const RotationMeans& means) {
  MatrixD h(stored.shape()), m(stored.shape()), out(stored.shape());
  for (std::size_t i = 0; i < h.rows(); ++i)
    for (std::size_t j = 0; j < h.cols(); ++j) h(i, j) = stored(elements[i], elements[j]);
  const std::size_t half = h.rows() / 2;
  for (std::size_t p = 0; p < half; ++p)
    for (std::size_t q = 0; q < half; ++q) {
      const double cc = means.cos_cos(p, q), cs = means.cos_sin(p, q), sc = means.cos_sin(q, p),
                   ss = means.sin_sin(p, q);
      const double h00 = h(p, q), h01 = h(p, q + half), h10 = h(p + half, q), h11 = h(p + half, q + half);
      m(p, q) = cc * h00 + sc * h10 + cs * h01 + ss * h11;
      m(p, q + half) = -cs * h00 - ss * h10 + cc * h01 + sc * h11;
      m(p + half, q) = -sc * h00 + cc * h10 - ss * h01 + cs * h11;
      m(p + half, q + half) = ss * h00 - cs * h10 - sc * h01 + cc * h11;
    }
  for (std::size_t i = 0; i < h.rows(); ++i)
    for (std::size_t j = 0; j < h.cols(); ++j) out(elements[i], elements[j]) = m(i, j);
  return out;
}

void add_output_moment(const Linear& o, std::size_t head, MatrixD& sum) {
  constexpr std::size_t kRows = 256;
  const std::size_t wide = sum.rows();
  const Shape shape = o.weight->shape();
  for (std::size_t first = 0; first < shape.rows; first += kRows) {
    const std::size_t rows = std::min(kRows, shape.rows - first);
    MatrixF values(rows, shape.cols);
    o.weight->decode_rows(first, rows, values.values());
    MatrixD columns(rows, wide);
    for (std::size_t r = 0; r < rows; ++r)
      std::ranges::copy(values.row(r).subspan(head * wide, wide), columns.row(r).begin());
    multiply_tn(columns, columns, sum, true);
  }
}

}  // namespace

MatrixD reading_moment(const Architecture& architecture, LinearSlot slot, const BlockWeights& block,
                       const InputStatistics& inputs, std::size_t window) {
  if (slot != LinearSlot::k && slot != LinearSlot::v) return {};
  if (slot == LinearSlot::k && architecture.has_norm(NormSlot::queries))
    return {};  // a key is normalised before it is read
  const std::size_t wide = architecture.head_dim, queries = architecture.heads / architecture.kv_heads;
  const bool of_keys = slot == LinearSlot::k;
  std::optional<RotationMeans> means;  // keys are read as they are where positions are learned
  if (of_keys && !architecture.learns_positions()) means.emplace(head_frequencies(architecture), window);
  const std::vector<std::size_t> elements = paired_elements(architecture);
  MatrixD all(architecture.kv_width(), architecture.kv_width());
  parallel_for(architecture.kv_heads, [&](std::size_t group) {
    MatrixD sum(wide, wide);
    for (std::size_t head = group * queries; head < (group + 1) * queries; ++head) {
      if (of_keys)
        add_query_moment(block[LinearSlot::q], head, inputs, sum);
      else
        add_output_moment(block[LinearSlot::o], head, sum);
    }
    if (means) sum = rotated(sum, elements, *means);
    for (std::size_t i = 0; i < wide; ++i) std::ranges::copy(sum.row(i), &all(group * wide + i, group * wide));
  });
  return all;
}

}  // namespace adze
