#include "linalg/gemm.h"

#include <gtest/gtest.h>

#include "linalg/factor.h"
#include "linalg/linalg_testing.h"

namespace adze {
namespace {

using testing::eigen;
using testing::random_matrix;
using testing::relative_error;
using testing::Strided;

constexpr double kTolerance = 2e-6;  // single precision, inner dimensions up to 100

struct Sizes {
  std::size_t m, n, k;
};
constexpr Sizes kSizes[] = {{1, 1, 1}, {1, 7, 3}, {5, 1, 9}, {17, 33, 100}, {64, 64, 64}, {70, 3, 31}};

using Product = void (*)(ConstViewF, ConstViewF, ViewF, bool);

/// Checks a product of strided operands against Eigen, both overwriting and accumulating.
template <typename Reference>
void expect_product(Product product, Shape a_shape, Shape b_shape, Shape c_shape, Reference&& reference) {
  Strided a(random_matrix<float>(a_shape, "a"), 3);
  Strided b(random_matrix<float>(b_shape, "b"), 5);
  const MatrixF start = random_matrix<float>(c_shape, "c");
  const testing::EigenRows<double> expected = reference(eigen(a.view()), eigen(b.view()));
  Strided c(start, 2);
  product(a.view(), b.view(), c.view(), false);
  EXPECT_LT(relative_error(eigen(c.view()), expected), kTolerance) << c_shape.rows << " x " << c_shape.cols;
  Strided sum(start, 2);
  product(a.view(), b.view(), sum.view(), true);
  EXPECT_LT(relative_error(eigen(sum.view()), expected + eigen(start)), kTolerance);
}

TEST(Gemm, NtMultipliesByTheTranspose) {
  for (const auto& [m, n, k] : kSizes)
    expect_product(multiply_nt, {m, k}, {n, k}, {m, n}, [](const auto& a, const auto& b) { return a * b.transpose(); });
}

TEST(Gemm, NnMultiplies) {
  for (const auto& [m, n, k] : kSizes)
    expect_product(multiply_nn, {m, k}, {k, n}, {m, n}, [](const auto& a, const auto& b) { return a * b; });
}

TEST(Gemm, TnMultipliesTheTranspose) {
  for (const auto& [m, n, k] : kSizes)
    expect_product(multiply_tn, {k, m}, {k, n}, {m, n}, [](const auto& a, const auto& b) { return a.transpose() * b; });
}

TEST(Gemm, ADoubleProductIsExactToDoublePrecision) {
  for (const auto& [m, n, k] : kSizes) {
    Strided a(random_matrix<double>({m, k}, "a"), 1);
    Strided b(random_matrix<double>({k, n}, "b"), 4);
    Strided c(random_matrix<double>({m, n}, "c"), 2);
    multiply_nn(a.view(), b.view(), c.view());
    EXPECT_LT(relative_error(eigen(c.view()), eigen(a.view()) * eigen(b.view())), 1e-14);
  }
}

TEST(Gemm, TheGramOfATriangleIsThatOfTheWholeMatrix) {
  for (const std::size_t n : {0, 1, 5, 127, 128, 129, 300}) {
    MatrixD t = random_matrix<double>({n, n}, "t");
    for (std::size_t r = 0; r < n; ++r) std::fill_n(t.row(r).begin(), r, 0.0);
    const MatrixD g = gram_of_upper(t);
    EXPECT_EQ(g.shape(), t.shape());
    if (n > 0) {
      EXPECT_LT(relative_error(eigen(g), eigen(t).transpose() * eigen(t)), 1e-14) << n;
    }
    for (std::size_t r = 0; r < n; ++r)
      for (std::size_t c = 0; c < r; ++c) ASSERT_EQ(g(r, c), g(c, r)) << n << ": " << r << "," << c;
  }
}

TEST(Gemm, AnInnerProductIsTheTraceOfAProduct) {
  for (const auto& [m, n, k] : kSizes) {
    Strided a(random_matrix<double>({m, n}, "a"), 2);
    Strided b(random_matrix<double>({m, n}, "b"), 1);
    const double expected = (eigen(a.view()).transpose() * eigen(b.view())).trace();
    EXPECT_NEAR(inner_product(a.view(), b.view()), expected, 1e-12 * static_cast<double>(m * n));
  }
  EXPECT_EQ(inner_product(MatrixD(), MatrixD()), 0);
}

TEST(Gemm, OverwritesWhatWasNotANumber) {
  const MatrixF a = random_matrix<float>({4, 4}, "a");
  MatrixF c(4, 4);
  for (float& value : c.values()) value = std::numeric_limits<float>::quiet_NaN();
  multiply_nn(a, a, c);
  EXPECT_LT(relative_error(eigen(c), eigen(a) * eigen(a)), kTolerance);
}

TEST(Gemm, EmptyResultsAreLeftAlone) {
  MatrixF none(0, 5);
  multiply_nt(MatrixF(0, 3), MatrixF(5, 3), none);
  MatrixD no_columns(5, 0);
  multiply_nn(MatrixD(5, 3), MatrixD(3, 0), no_columns);
  EXPECT_TRUE(none.empty() && no_columns.empty());
}

}  // namespace
}  // namespace adze
