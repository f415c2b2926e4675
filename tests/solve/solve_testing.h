// Problems for solver tests, and a plain reference implementation of GPTQ that shares no code with the library's.
#pragma once

#include <Eigen/Dense>
#include <memory>
#include <vector>

#include "base/random.h"
#include "recipe/document.h"
#include "recipe/reader.h"
#include "solve/solver.h"

namespace adze {

/// A grid of one fixed step for golden values: value = 0.25 q, q in -4 .. 3. Codes take one byte each.
class FixedGrid final : public Grid {
 public:
  explicit FixedGrid(float step = 0.25f, float lo = -4, float hi = 3) : step_(step), lo_(lo), hi_(hi) {}
  std::string name() const override { return "fixed"; }
  std::size_t unit_cols(std::size_t cols) const override { return cols; }
  std::size_t step_cols(std::size_t cols) const override { return cols; }
  std::size_t side_bytes() const override { return 1; }
  int code_bits() const override { return 8; }
  bool holds_zero() const override { return true; }
  std::optional<std::string> cannot_hold(std::size_t) const override { return std::nullopt; }
  std::uint64_t row_bytes(std::size_t cols) const override { return cols; }
  void fit(std::span<const float>, std::span<const float>, ScaleRule, std::span<std::byte>) const override {}
  void read_side(std::span<const std::byte>, std::span<StepGroup> groups) const override {
    groups[0] = {step_, 0, lo_, hi_};
  }
  void pack_row(std::span<const std::int16_t> codes, std::span<const std::byte>,
                std::span<std::byte> out) const override {
    for (std::size_t c = 0; c < codes.size(); ++c) out[c] = static_cast<std::byte>(codes[c] & 0xFF);
  }
  void unpack_row(std::span<const std::byte> in, std::span<std::int16_t> codes, std::span<std::byte>) const override {
    for (std::size_t c = 0; c < codes.size(); ++c) codes[c] = static_cast<std::int8_t>(std::to_integer<int>(in[c]));
  }

 private:
  float step_;
  float lo_;
  float hi_;
};

inline Eigen::MatrixXd eigen(ConstViewD matrix) {
  Eigen::MatrixXd copy(matrix.rows(), matrix.cols());
  for (std::size_t r = 0; r < matrix.rows(); ++r)
    for (std::size_t c = 0; c < matrix.cols(); ++c)
      copy(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(c)) = matrix(r, c);
  return copy;
}

inline MatrixF gaussian(Shape shape, std::uint64_t seed, double scale = 1) {
  RandomStream random(seed, "gaussian");
  MatrixF matrix(shape);
  for (float& value : matrix.values()) value = static_cast<float>(scale * random.normal());
  return matrix;
}

/// H = X X^T of inputs with strong correlations: a few directions carry most of the energy.
inline MatrixD correlated_hessian(std::size_t n, std::uint64_t seed, std::size_t tokens = 0) {
  tokens = tokens == 0 ? 4 * n : tokens;
  const std::size_t rank = std::max<std::size_t>(n / 4, 1);
  RandomStream random(seed, "hessian");
  Eigen::MatrixXd mix(n, rank), x(n, tokens);
  for (auto& v : mix.reshaped()) v = random.normal();
  Eigen::MatrixXd latent(rank, tokens);
  for (auto& v : latent.reshaped()) v = random.normal();
  for (auto& v : x.reshaped()) v = 0.3 * random.normal();
  x += mix * latent;
  const Eigen::MatrixXd product = x * x.transpose();
  MatrixD h(n, n);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) h(i, j) = product(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j));
  return h;
}

inline Problem make_problem(const MatrixF& weights, const MatrixD& h, std::shared_ptr<const Grid> grid) {
  return {{weights.view()}, h.view(), std::move(grid)};
}

/// A solver as a recipe would configure it: `options` is YAML, "{ damp: 0.1 }".
inline std::unique_ptr<Solver> configured(std::string_view name, const std::string& options = "{}") {
  static std::vector<std::unique_ptr<Document>> kept;
  kept.push_back(std::make_unique<Document>(Document::parse(options, "options")));
  MapReader reader(kept.back()->root(), "scheme", kept.back()->problems());
  auto solver = find_solver(name)->configure(reader);
  reader.finish();
  kept.back()->problems().throw_if_any();
  return solver;
}

}  // namespace adze
