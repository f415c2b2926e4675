#include "metrics/proxy_loss.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/parallel.h"
#include "linalg/linalg_testing.h"

namespace adze {
namespace {

using testing::eigen;
using testing::random_matrix;
using testing::Strided;

/// H = X^T X of random inputs, symmetric.
MatrixD second_moment(std::size_t n) {
  const auto x = eigen(random_matrix<double>({n + 5, n}, "inputs"));
  const testing::EigenRows<double> h = x.transpose() * x;
  MatrixD matrix(n, n);
  std::copy(h.data(), h.data() + h.size(), matrix.data());
  return matrix;
}

double trace_form(const testing::EigenRows<double>& d, const MatrixD& h) {
  return (d * eigen(h) * d.transpose()).trace();
}

TEST(ProxyLoss, IsTheTraceThatEigenComputes) {
  for (const std::size_t rows : {1, 63, 64, 65, 127, 128, 129, 300})  // around tiles of 64 and 128 rows
    for (const std::size_t cols : {1, 17, 96}) {
      const MatrixD h = second_moment(cols);
      Strided weights(random_matrix<float>({rows, cols}, "w"), 3);
      Strided approximation(random_matrix<float>({rows, cols}, "a"), 1);
      const testing::EigenRows<double> difference = eigen(weights.view()) - eigen(approximation.view());
      const double expected = trace_form(difference, h);
      EXPECT_NEAR(proxy_loss(weights.view(), approximation.view(), h), expected, 1e-12 * expected)
          << rows << " " << cols;
      const double energy = trace_form(eigen(weights.view()), h);
      EXPECT_NEAR(output_energy(weights.view(), h), energy, 1e-12 * energy);
    }
}

TEST(RowLosses, AddUpAndAreEachThatOfTheRowAlone) {
  const MatrixF weights = random_matrix<float>({600, 40}, "w"), approximation = random_matrix<float>({600, 40}, "a");
  const MatrixD h = second_moment(40);
  for (const ConstViewD metric : {h.view(), ConstViewD()}) {
    const std::vector<double> losses = row_losses(weights, approximation, metric);
    ASSERT_EQ(losses.size(), 600u);
    for (const std::size_t r : {0, 511, 512, 599}) {
      const testing::EigenRows<double> d = (eigen(weights) - eigen(approximation)).row(static_cast<Eigen::Index>(r));
      const double expected = metric.rows() > 0 ? trace_form(d, h) : d.squaredNorm();
      EXPECT_NEAR(losses[r], expected, 1e-12 * expected) << r;
    }
  }
  const std::vector<double> losses = row_losses(weights, approximation, h);
  const double sum = std::accumulate(losses.begin(), losses.end(), 0.0);
  EXPECT_NEAR(proxy_loss(weights, approximation, h), sum, 1e-12 * sum);
}

TEST(ProxyLoss, IsTheSquaredErrorOfTheOutput) {
  const auto x = eigen(random_matrix<double>({30, 12}, "inputs"));
  const testing::EigenRows<double> product = x.transpose() * x;
  MatrixD h(12, 12);
  std::copy(product.data(), product.data() + product.size(), h.data());
  const MatrixF weights = random_matrix<float>({8, 12}, "w");
  const MatrixF approximation = random_matrix<float>({8, 12}, "a");
  const double error = ((eigen(weights) - eigen(approximation)) * x.transpose()).squaredNorm();
  EXPECT_NEAR(proxy_loss(weights, approximation, h), error, 1e-12 * error);
}

TEST(ProxyLoss, OfTheWeightsThemselvesIsZero) {
  const MatrixF weights = random_matrix<float>({70, 20}, "w");
  EXPECT_EQ(proxy_loss(weights, weights, second_moment(20)), 0.0);
}

TEST(ProxyLoss, OfNothingStoredIsTheEnergy) {
  const MatrixF weights = random_matrix<float>({70, 20}, "w");
  const MatrixD h = second_moment(20);
  EXPECT_EQ(proxy_loss(weights, MatrixF(70, 20), h), output_energy(weights, h));
}

TEST(ProxyLoss, DoesNotDependOnTheNumberOfThreads) {
  const MatrixF weights = random_matrix<float>({300, 64}, "w");
  const MatrixF approximation = random_matrix<float>({300, 64}, "a");
  const MatrixD h = second_moment(64);
  set_thread_count(1);
  const double one = proxy_loss(weights, approximation, h);
  set_thread_count(4);
  const double four = proxy_loss(weights, approximation, h);
  set_thread_count(0);
  EXPECT_EQ(one, four);
}

}  // namespace
}  // namespace adze
