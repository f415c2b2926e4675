#include "linalg/second_moment.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/parallel.h"
#include "linalg/linalg_testing.h"

namespace adze {
namespace {

using testing::eigen;
using testing::random_matrix;
using testing::relative_error;
using testing::Strided;

class ThreadCount {
 public:
  explicit ThreadCount(int threads) { set_thread_count(threads); }
  ~ThreadCount() { set_thread_count(0); }
};

TEST(SecondMoment, IsEigensProductToSinglePrecision) {
  for (const std::size_t n : {1, 5, 127, 128, 129, 300})
    for (const std::size_t tokens : {1, 31, 100}) {
      Strided x(random_matrix<float>({tokens, n}, "x"), 3);
      MatrixD h(n, n);
      add_second_moment(x.view(), 32, h);  // slices of 32, the last one ragged
      EXPECT_LT(relative_error(eigen(h), eigen(x.view()).transpose() * eigen(x.view())), 3e-7) << n << " " << tokens;
    }
}

TEST(SecondMoment, CoversEveryTileOfAWideMatrix) {
  const std::size_t n = 1030;  // above 1024 tiles are 512 wide, and 1030 leaves a ragged one
  const MatrixF x = random_matrix<float>({9, n}, "wide");
  MatrixD h(n, n);
  add_second_moment(x, 4, h);
  EXPECT_LT(relative_error(eigen(h), eigen(x).transpose() * eigen(x)), 3e-7);
}

TEST(SecondMoment, IsSymmetricToTheBit) {
  const MatrixF x = random_matrix<float>({50, 301}, "x");
  MatrixD h(301, 301);
  add_second_moment(x, 16, h);
  for (std::size_t i = 0; i < 301; ++i)
    for (std::size_t j = 0; j < i; ++j) ASSERT_EQ(h(i, j), h(j, i)) << i << "," << j;
}

TEST(SecondMoment, DoesNotDependOnTheNumberOfThreads) {
  const MatrixF x = random_matrix<float>({70, 400}, "x");
  MatrixD one(400, 400);
  MatrixD four(400, 400);
  {
    const ThreadCount threads(1);
    add_second_moment(x, 32, one);
  }
  {
    const ThreadCount threads(4);
    add_second_moment(x, 32, four);
  }
  EXPECT_EQ(one, four);
}

TEST(SecondMoment, DoesNotDependOnHowManySlicesComePerCall) {
  const MatrixF x = random_matrix<float>({96, 200}, "x");
  MatrixD whole(200, 200);
  add_second_moment(x, 16, whole);
  MatrixD parts(200, 200);
  add_second_moment(x.view().row_range(0, 32), 16, parts);
  add_second_moment(x.view().row_range(32, 64), 16, parts);
  EXPECT_EQ(whole, parts);
}

TEST(SecondMoment, SideBySideGivesTheBitsOfEachAlone) {
  constexpr std::size_t kWidths[] = {300, 5, 1030, 128};
  std::vector<MatrixF> inputs;
  std::vector<MatrixD> alone, together;
  for (const std::size_t n : kWidths) {
    inputs.push_back(random_matrix<float>({50, n}, "x" + std::to_string(n)));
    alone.emplace_back(n, n);
    together.emplace_back(n, n);
    add_second_moment(inputs.back(), 16, alone.back());
  }
  for (const int count : {1, 3}) {
    const ThreadCount threads(count);
    std::vector<MomentSum> sums;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      together[i] = MatrixD(alone[i].shape());
      sums.push_back({inputs[i], together[i]});
    }
    add_second_moments(sums, 16);
    EXPECT_EQ(together, alone) << count;
  }
}

TEST(SecondMoment, SumsOfSlicesAreDouble) {
  // 2^24 + 1 needs 25 bits: a sum in single precision would lose the last slices.
  MatrixF x(3, 1);
  x(0, 0) = 4096.0f;
  x(1, 0) = x(2, 0) = 1.0f;
  MatrixD h(1, 1);
  add_second_moment(x, 1, h);
  EXPECT_EQ(h(0, 0), 16777218.0);
  add_second_moment(x, 1, h);
  EXPECT_EQ(h(0, 0), 2 * 16777218.0);
}

}  // namespace
}  // namespace adze
