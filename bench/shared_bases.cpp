// What neighbouring blocks could share: for every pair of blocks and every linear that reads a norm, the loss of
// factors of their own and of factors with one right factor for both, at equal numbers, in float64 before any rounding.
//
//   own        What_i = L_i R_i, the best of its rank for each (solver svd)
//   shared     R from the stacked weights in H_1 + H_2 (Basis Sharing, ICLR 2025), each L_i fitted in its own H_i
//   alternate  the same with R and L_i in turns, each exact for its own H_i (GeoPair's problem; low-rank.md, section 7)
//
// and the three with right factors stored pivoted, [I T], so of more rank.
//
//   adze-shared-bases MODEL STATISTICS
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "base/parallel.h"
#include "calibrate/statistics_folder.h"
#include "linalg/eigen.h"
#include "linalg/gemm.h"
#include "linalg/inverse.h"
#include "pipeline/open_model.h"
#include "solve/factors/low_rank.h"

namespace {

using namespace adze;

constexpr std::array kSlots{LinearSlot::q, LinearSlot::k, LinearSlot::v, LinearSlot::gate, LinearSlot::up};
constexpr int kSweeps = 20;

struct Layer {
  MatrixD w, h;
};

double energy(const Layer& layer) {
  const MatrixD seen = times_moment(layer.w, layer.h);
  double sum = 0;
  for (std::size_t i = 0; i < seen.values().size(); ++i) sum += seen.values()[i] * layer.w.values()[i];
  return sum;
}

double loss(const Layer& layer, const MatrixD& left, const MatrixD& right) {
  Layer difference{product_nn(left, right), layer.h};
  for (std::size_t i = 0; i < difference.w.values().size(); ++i)
    difference.w.values()[i] = layer.w.values()[i] - difference.w.values()[i];
  return energy(difference);
}

double own_loss(const Layer& layer, std::size_t rank) {
  const std::size_t most = std::min(layer.w.rows(), layer.w.cols());
  return tail(output_spectrum(layer.w, layer.h, moment_root(layer.h), most).energy, rank);
}

MatrixD plus(MatrixD a, const MatrixD& b) {
  for (std::size_t i = 0; i < a.values().size(); ++i) a.values()[i] += b.values()[i];
  return a;
}

MatrixD stacked(const MatrixD& a, const MatrixD& b) {
  MatrixD all(a.rows() + b.rows(), a.cols());
  for (std::size_t r = 0; r < all.rows(); ++r)
    std::ranges::copy(r < a.rows() ? a.row(r) : b.row(r - a.rows()), all.row(r).begin());
  return all;
}

/// A^-1 of a lower factor, by LU.
MatrixD inverse_of(MatrixD a) {
  MatrixD rows(a.rows(), a.rows());
  for (std::size_t i = 0; i < a.rows(); ++i) rows(i, i) = 1;
  if (!solve_general(a, rows)) fail(ErrorKind::bad_data, "a factor is singular");
  return transposed(rows);  // rows solved A x = e_i: columns of A^-1
}

MatrixD lower_factor(MatrixD a) {
  double mean = 0;
  for (std::size_t i = 0; i < a.rows(); ++i) mean += a(i, i) / static_cast<double>(a.rows());
  for (std::size_t i = 0; i < a.rows(); ++i) a(i, i) += 1e-10 * mean;
  if (!cholesky(a)) fail(ErrorKind::bad_data, "a moment cannot be factored");
  for (std::size_t r = 0; r < a.rows(); ++r) std::ranges::fill(a.row(r).subspan(r + 1), 0.0);
  return a;
}

MatrixD symmetric(const MatrixD& a) {
  MatrixD half = plus(a, transposed(a));
  for (double& value : half.values()) value *= 0.5;
  return half;
}

/// The R of least loss for given L_i: sum L_i^T L_i R H_i = sum L_i^T W_i H_i, by two simultaneous diagonalisations.
MatrixD best_right(const std::array<Layer, 2>& pair, const std::array<MatrixD, 2>& left) {
  const MatrixD whiten = inverse_of(lower_factor(pair[0].h));  // C^-1
  const MatrixD root = inverse_of(lower_factor(product_tn(left[0], left[0])));
  const SymmetricEigen inputs = symmetric_eigen(symmetric(product_nt(product_nn(whiten, pair[1].h), whiten)));
  const SymmetricEigen ranks =
      symmetric_eigen(symmetric(product_nt(product_nn(root, product_tn(left[1], left[1])), root)));
  MatrixD wanted = plus(product_tn(left[0], times_moment(pair[0].w, pair[0].h)),
                        product_tn(left[1], times_moment(pair[1].w, pair[1].h)));
  const MatrixD from_left = product_nn(ranks.vectors, root), from_right = product_nn(inputs.vectors, whiten);
  MatrixD y = product_nt(product_nn(from_left, wanted), from_right);
  for (std::size_t r = 0; r < y.rows(); ++r)
    for (std::size_t c = 0; c < y.cols(); ++c) y(r, c) /= 1 + std::max(0.0, ranks.values[r] * inputs.values[c]);
  return product_tn(from_left, product_nn(y, from_right));
}

struct Losses {
  double own = 0, shared = 0, alternate = 0;
};

/// The largest r with r sides - r^2 (pivoted) or r sides numbers within the budget.
std::size_t rank_for(double budget, double sides, bool pivoted) {
  return static_cast<std::size_t>(pivoted ? (sides - std::sqrt(sides * sides - 4 * budget)) / 2 : budget / sides);
}

/// Sums of the two layers' relative losses.
Losses losses_of(const std::array<Layer, 2>& pair, double keep, bool pivoted) {
  const auto m = static_cast<double>(pair[0].w.rows()), n = static_cast<double>(pair[0].w.cols());
  const std::size_t own = rank_for(keep * m * n, m + n, pivoted);
  const std::size_t rank = std::min(rank_for(2 * keep * m * n, n + 2 * m, pivoted), pair[0].w.cols());
  Losses sums;
  const std::array<double, 2> all{energy(pair[0]), energy(pair[1])};
  for (std::size_t i = 0; i < 2; ++i) sums.own += own_loss(pair[i], own) / all[i];
  const Layer both{stacked(pair[0].w, pair[1].w), plus(pair[0].h, pair[1].h)};
  const std::size_t most = std::min({rank, both.w.rows(), both.w.cols()});
  MatrixD right = leading_factors(both.w, output_spectrum(both.w, both.h, moment_root(both.h), most)).right;
  std::array<MatrixD, 2> left;
  for (int sweep = 0; sweep <= kSweeps; ++sweep) {
    if (sweep > 0) right = best_right(pair, left);
    double sum = 0;
    for (std::size_t i = 0; i < 2; ++i) {
      left[i] = best_left(pair[i].w, pair[i].h, right);
      sum += loss(pair[i], left[i], right) / all[i];
    }
    if (sweep == 0) sums.shared = sums.alternate = sum;
    sums.alternate = std::min(sums.alternate, sum);
  }
  return sums;
}

int compare(const char* path, const char* folder) {
  const OpenedModel model = open_model(path);
  const StatisticsFolder statistics(folder);
  std::printf("%-6s %-8s %-6s %9s %9s %9s   relative loss, mean over blocks\n", "keep", "form", "linear", "own",
              "shared", "alternate");
  for (const auto& [keep, pivoted] : {std::pair{0.8, false}, {0.8, true}, {0.6, false}, {0.6, true}}) {
    for (const LinearSlot slot : kSlots) {
      Losses sums;
      std::size_t layers = 0;
      for (std::size_t block = 0; block + 1 < model.architecture().layers; block += 2) {
        std::array<Layer, 2> pair;
        for (std::size_t i = 0; i < 2; ++i) {
          const Stage stage = block_linears()[static_cast<std::size_t>(slot)].stage;
          pair[i] = {to_double(model.weights->block(block + i)[slot].weight->decode()),
                     statistics.block_input(block + i, stage).second_moment};
        }
        const Losses one = losses_of(pair, keep, pivoted);
        sums = {sums.own + one.own, sums.shared + one.shared, sums.alternate + one.alternate};
        layers += 2;
      }
      const auto mean = [&](double sum) { return sum / static_cast<double>(layers); };
      const std::string module = module_name(0, slot);
      const std::size_t dot = module.rfind('.') + 1;
      std::printf("%-6.2f %-8s %-6s %9.5f %9.5f %9.5f\n", keep, pivoted ? "pivoted" : "plain",
                  module.substr(dot, module.rfind('_') - dot).c_str(), mean(sums.own), mean(sums.shared),
                  mean(sums.alternate));
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: adze-shared-bases MODEL STATISTICS\n", stderr);
    return 64;
  }
  try {
    return compare(argv[1], argv[2]);
  } catch (const adze::Error& error) {
    std::fprintf(stderr, "adze-shared-bases: %s\n", error.message().c_str());
    return 65;
  }
}
