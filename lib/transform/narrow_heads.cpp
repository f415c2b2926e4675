#include "transform/narrow_heads.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "linalg/eigen.h"
#include "linalg/gemm.h"
#include "linalg/inverse.h"
#include "metrics/proxy_loss.h"
#include "model/rope.h"
#include "transform/cut.h"
#include "transform/demands.h"
#include "transform/least_groups.h"

namespace adze {
namespace {

constexpr double kDamp = 0.01;  // of the mean diagonal of H, as in GPTQ

MatrixD widened(ConstViewF matrix) {
  MatrixD wide(matrix.shape());
  for (std::size_t r = 0; r < wide.rows(); ++r) std::ranges::copy(matrix.row(r), wide.row(r).begin());
  return wide;
}

/// Mean square of each output of a linear: w^T H w + 2 b w^T sum(x) + T b^2 over T tokens, over T.
std::vector<double> output_energies(const Linear& linear, const InputStatistics& inputs, std::size_t head_dim) {
  const Shape shape = linear.weight->shape();
  std::vector<double> energies(shape.rows);
  const auto tokens = static_cast<double>(inputs.tokens);
  parallel_for(shape.rows / head_dim, [&](std::size_t head) {
    const std::size_t first = head * head_dim;
    MatrixF values(head_dim, shape.cols);
    linear.weight->decode_rows(first, head_dim, values.values());
    const MatrixD rows = widened(values);
    MatrixD products(rows.shape());
    multiply_nn(rows, inputs.second_moment, products);
    for (std::size_t r = 0; r < head_dim; ++r) {
      const auto row = rows.row(r);
      double energy = std::inner_product(row.begin(), row.end(), products.row(r).begin(), 0.0);
      if (!linear.bias.empty()) {
        const double bias = linear.bias[first + r];
        energy += 2 * bias * std::inner_product(row.begin(), row.end(), inputs.sum.begin(), 0.0) + tokens * bias * bias;
      }
      energies[first + r] = energy / tokens;
    }
  });
  return energies;
}

class NarrowHeads final : public Transform {
 public:
  /// pairs: of the original heads, ascending.
  NarrowHeads(const Architecture& original, std::vector<std::size_t> pairs, std::size_t align, double damp)
      : original_(original), pairs_(std::move(pairs)), align_(align), damp_(damp) {}

  std::string description() const override {
    return fmt::format("narrow-heads head_dim={} align={} damp={}", head_dim(), align_, damp_);
  }
  std::string remark() const override {
    return fmt::format("heads of {} instead of {}; the RoPE frequencies that are left are stated one by one (longrope)",
                       head_dim(), original_.head_dim);
  }
  bool needs_inputs() const override { return true; }
  bool needs_survey() const override { return true; }
  std::unique_ptr<Survey> survey() const override;
  Architecture architecture(const Architecture& before) const override {
    Architecture after = before;
    after.head_dim = head_dim();
    after.rope = {};
    after.rope.theta = before.rope.theta;
    const std::vector<double> frequencies = rope_frequencies(before.rope, before.head_dim);
    const std::vector<double> plain = rope_frequencies(after.rope, after.head_dim);
    after.rope.kind = RopeKind::longrope;
    for (std::size_t i = 0; i < pairs_.size(); ++i) after.rope.divisors.push_back(plain[i] / frequencies[pairs_[i]]);
    return after;
  }
  std::size_t head_dim() const { return 2 * pairs_.size(); }  ///< that is left

  BlockWeights block(BlockWeights block, std::size_t index, const BlockInputs* inputs) const override {
    with_context(module_name(original_, index, LinearSlot::o),
                 [&] { narrow_values(with_damping((*inputs)[Stage::o].second_moment, damp_), block); });
    keep_rows(kept_rows(original_.heads), block[LinearSlot::q]);
    keep_rows(kept_rows(original_.kv_heads), block[LinearSlot::k]);
    scale(block[LinearSlot::q]);
    return block;
  }

  std::shared_ptr<const Transform> with_pairs(std::vector<std::size_t> pairs) const {
    return std::make_shared<NarrowHeads>(original_, std::move(pairs), align_, damp_);
  }

 private:
  std::vector<std::size_t> kept_rows(std::size_t heads) const {
    std::vector<std::size_t> rows;
    for (std::size_t head = 0; head < heads; ++head)
      for (const std::size_t half : {std::size_t{0}, original_.head_dim / 2})
        for (const std::size_t pair : pairs_) rows.push_back(head * original_.head_dim + half + pair);
    return rows;
  }

  /// Scores are divided by the root of the head size, which is another now.
  void scale(Linear& linear) const {
    const auto factor =
        static_cast<float>(std::sqrt(static_cast<double>(head_dim()) / static_cast<double>(original_.head_dim)));
    MatrixF weights = linear.weight->decode();
    for (float& value : weights.values()) value *= factor;
    linear.weight = dense_f32(weights);
    for (float& value : linear.bias) value *= factor;
  }

  std::size_t queries() const { return original_.heads / original_.kv_heads; }  // per group

  /// E of one group, [left x head_dim].  h: damped, of all heads' outputs.
  MatrixD encoder(std::size_t group, ConstViewF output, const MatrixD& h) const {
    const std::size_t wide = original_.head_dim;
    MatrixD lower(wide, wide), energy(wide, wide);
    for (std::size_t q = 0; q < queries(); ++q) {
      const std::size_t first = (group * queries() + q) * wide;
      for (std::size_t i = 0; i < wide; ++i)
        for (std::size_t j = 0; j < wide; ++j) lower(i, j) += h(first + i, first + j);
      MatrixD columns(output.rows(), wide);
      for (std::size_t r = 0; r < output.rows(); ++r)
        std::ranges::copy(output.row(r).subspan(first, wide), columns.row(r).begin());
      multiply_tn(columns, columns, energy, true);
    }
    if (!cholesky(lower)) fail(ErrorKind::bad_data, "H of the inputs is not positive definite");
    for (std::size_t i = 0; i < wide; ++i) std::ranges::fill(lower.row(i).subspan(i + 1), 0.0);
    MatrixD half(wide, wide), inner(wide, wide);
    multiply_nn(energy, lower, half);
    multiply_tn(lower, half, inner);
    const SymmetricEigen eigen = symmetric_eigen(std::move(inner));
    MatrixD encoder(head_dim(), wide);
    for (std::size_t r = 0; r < encoder.rows(); ++r) {  // y L = z from the right
      for (std::size_t c = wide; c-- > 0;) {
        double rest = eigen.vectors(r, c);
        for (std::size_t k = c + 1; k < wide; ++k) rest -= encoder(r, k) * lower(k, c);
        encoder(r, c) = rest / lower(c, c);
      }
    }
    return encoder;
  }

  void narrow_values(const MatrixD& h, BlockWeights& block) const {
    const MatrixF output = block[LinearSlot::o].weight->decode();
    std::vector<MatrixD> encoders(original_.kv_heads);
    parallel_for(encoders.size(), [&](std::size_t group) { encoders[group] = encoder(group, output, h); });
    block[LinearSlot::o].weight = dense_f32(solved_output(output, h, encoders));
    encode_values(encoders, block[LinearSlot::v]);
  }

  MatrixF solved_output(ConstViewF output, const MatrixD& h, const std::vector<MatrixD>& encoders) const {
    const std::size_t wide = original_.head_dim, left = head_dim();
    MatrixD across(h.rows(), original_.heads * left), inner(across.cols(), across.cols());
    parallel_for(original_.heads, [&](std::size_t head) {
      multiply_nt(h.view().col_range(head * wide, wide), encoders[head / queries()],
                  across.view().col_range(head * left, left));
    });
    parallel_for(original_.heads, [&](std::size_t head) {
      multiply_nn(encoders[head / queries()], across.view().row_range(head * wide, wide),
                  inner.view().row_range(head * left, left));
    });
    return repaired(output, across, inner);
  }

  void encode_values(const std::vector<MatrixD>& encoders, Linear& linear) const {
    const std::size_t wide = original_.head_dim, left = head_dim();
    const MatrixF values = linear.weight->decode();
    MatrixF encoded(encoders.size() * left, values.cols());
    std::vector<float> bias(linear.bias.empty() ? 0 : encoded.rows());
    parallel_for(encoders.size(), [&](std::size_t group) {
      const MatrixD head = widened(values.view().row_range(group * wide, wide));
      MatrixD product(left, values.cols());
      multiply_nn(encoders[group], head, product);
      for (std::size_t r = 0; r < left; ++r) {
        std::ranges::transform(product.row(r), encoded.row(group * left + r).begin(),
                               [](double value) { return static_cast<float>(value); });
        if (!bias.empty())
          bias[group * left + r] = static_cast<float>(std::inner_product(
              encoders[group].row(r).begin(), encoders[group].row(r).end(), &linear.bias[group * wide], 0.0));
      }
    });
    linear.weight = dense_f32(encoded);
    linear.bias = std::move(bias);
  }

  Architecture original_;
  std::vector<std::size_t> pairs_;  ///< that are left; the first ones before the survey
  std::size_t align_;
  double damp_;
};

/// Sums, over query heads and blocks, of E |q_p|^2 E |k_p|^2 for every RoPE pair p.
class PairSurvey final : public Survey {
 public:
  PairSurvey(const NarrowHeads& narrow, const Architecture& original)
      : narrow_(narrow), original_(original), energies_(original.head_dim / 2) {}

  bool wants(Stage stage) const override { return stage == Stage::qkv; }
  void see(Stage /*stage*/, const InputStatistics& inputs, const BlockWeights& block) override {
    const std::vector<double> q = output_energies(block[LinearSlot::q], inputs, original_.head_dim);
    const std::vector<double> k = output_energies(block[LinearSlot::k], inputs, original_.head_dim);
    const std::size_t half = original_.head_dim / 2;
    for (std::size_t head = 0; head < original_.heads; ++head) {
      const std::size_t of_q = head * original_.head_dim;
      const std::size_t of_k = head / (original_.heads / original_.kv_heads) * original_.head_dim;
      for (std::size_t pair = 0; pair < half; ++pair)
        energies_[pair] += (q[of_q + pair] + q[of_q + half + pair]) * (k[of_k + pair] + k[of_k + half + pair]);
    }
  }
  std::shared_ptr<const Transform> result() override {
    std::vector<std::size_t> order(energies_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, std::greater{}, [&](std::size_t pair) { return energies_[pair]; });
    order.resize(narrow_.head_dim() / 2);
    std::ranges::sort(order);
    return narrow_.with_pairs(std::move(order));
  }

 private:
  const NarrowHeads& narrow_;
  const Architecture& original_;
  std::vector<double> energies_;
};

std::unique_ptr<Survey> NarrowHeads::survey() const { return std::make_unique<PairSurvey>(*this, original_); }

}  // namespace

std::shared_ptr<const Transform> configure_narrow_heads(MapReader& options, const Architecture& original) {
  require_plain_heads(original, "narrow-heads");
  const Value keep = options.required("keep");
  const double part = keep.percent().value_or(1);
  const Value align_value = options.optional("align");
  const std::size_t align = align_value.count(2, 256).value_or(8);
  const double damp = options.optional("damp").real(1e-6, 1).value_or(kDamp);
  if (align % 2 != 0) align_value.complain("must be even: RoPE needs pairs");
  const auto wanted = static_cast<std::size_t>(part * static_cast<double>(original.head_dim) + 1e-9);
  const std::size_t left = wanted / align * align / 2;
  if (keep.present() && left == 0)
    keep.complain(fmt::format("leaves {} of {} per head, less than align: {}", wanted, original.head_dim, align));
  if (2 * left == original.head_dim && keep.present())
    fail(ErrorKind::bad_recipe, "keep: {}% of {} per head is all of them; nothing would be cut", 100 * part,
         original.head_dim);
  std::vector<std::size_t> pairs(std::max<std::size_t>(left, 1));
  std::iota(pairs.begin(), pairs.end(), std::size_t{0});
  return std::make_shared<NarrowHeads>(original, std::move(pairs), align, damp);
}

}  // namespace adze
