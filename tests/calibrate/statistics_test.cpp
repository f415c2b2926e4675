#include "calibrate/statistics.h"

#include "calibrate/calibrate_testing.h"

namespace adze {
namespace {

using testing::expect_close;
using testing::expect_error;
using testing::expect_same;
using testing::random_matrix;
using testing::ThreadCount;

/// All of it in double, one token after the other.
InputStatistics naive(ConstViewF x) {
  InputStatistics statistics(x.cols());
  for (std::size_t t = 0; t < x.rows(); ++t)
    for (std::size_t i = 0; i < x.cols(); ++i) {
      const double value = x(t, i);
      statistics.sum[i] += value;
      statistics.abs_sum[i] += std::fabs(value);
      statistics.abs_max[i] = std::max(statistics.abs_max[i], std::fabs(x(t, i)));
      for (std::size_t j = 0; j < x.cols(); ++j) statistics.second_moment(i, j) += value * static_cast<double>(x(t, j));
    }
  statistics.tokens = x.rows();
  return statistics;
}

TEST(InputStatistics, AreTheNaiveSumsToSinglePrecision) {
  for (const std::size_t n : {1, 3, 255, 256, 257}) {  // around the tiles of 256 columns
    const MatrixF x = random_matrix({37, n}, "x");
    InputStatistics statistics(n);
    statistics.add(x, 16);
    expect_close(statistics, naive(x), 3e-7);
  }
}

TEST(InputStatistics, VectorsAreExactSumsInTokenOrder) {
  const MatrixF x = random_matrix({50, 300}, "x");
  InputStatistics statistics(300);
  statistics.add(x, 50);
  const InputStatistics expected = naive(x);
  EXPECT_EQ(statistics.sum, expected.sum);
  EXPECT_EQ(statistics.abs_sum, expected.abs_sum);
  EXPECT_EQ(statistics.abs_max, expected.abs_max);
}

TEST(InputStatistics, DoNotDependOnTheNumberOfThreads) {
  const MatrixF x = random_matrix({64, 600}, "x");
  const auto with_threads = [&](int threads) {
    const ThreadCount scope(threads);
    InputStatistics statistics(600);
    statistics.add(x, 16);
    return statistics;
  };
  expect_same(with_threads(4), with_threads(1));
}

TEST(InputStatistics, MergingGivesThoseOfAllTokens) {
  const MatrixF x = random_matrix({96, 40}, "x");
  InputStatistics whole(40);
  whole.add(x, 16);
  InputStatistics first(40);
  first.add(x.view().row_range(0, 32), 16);
  InputStatistics second(40);
  second.add(x.view().row_range(32, 64), 16);
  first.merge(second);
  expect_close(first, whole, 1e-13);
}

TEST(InputStatistics, OfDifferentWidthsDoNotMerge) {
  InputStatistics four(4);
  expect_error(ErrorKind::bad_data, "statistics of 4 inputs cannot be merged with statistics of 5",
               [&] { four.merge(InputStatistics(5)); });
}

TEST(InputStatistics, RefuseActivationsThatAreNotFinite) {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    MatrixF x = random_matrix({8, 20}, "x");
    x(7, 19) = bad;
    InputStatistics statistics(20);
    expect_error(ErrorKind::bad_data, "activations are not finite", [&] { statistics.add(x, 8); });
    expect_same(statistics, InputStatistics(20), "nothing of a refused batch is counted");
  }
}

TEST(InputStatistics, MeasuredTogetherAreThoseOfEachAlone) {
  const MatrixF narrow = random_matrix({48, 20}, "narrow"), wide = random_matrix({48, 300}, "wide");
  InputStatistics alone[] = {InputStatistics(20), InputStatistics(300)};
  InputStatistics together[] = {InputStatistics(20), InputStatistics(300)};
  for (int batch = 0; batch < 2; ++batch) {
    alone[0].add(narrow, 16);
    alone[1].add(wide, 16);
    const InputRows rows[] = {{&together[0], narrow, "narrow"}, {&together[1], wide, "wide"}};
    add_together(rows, 16);
  }
  expect_same(together[0], alone[0]);
  expect_same(together[1], alone[1]);
}

TEST(InputStatistics, MeasuredTogetherNameTheFirstThatIsNotFinite) {
  const MatrixF good = random_matrix({8, 20}, "x");
  MatrixF bad = random_matrix({8, 600}, "x");
  bad(3, 599) = std::numeric_limits<float>::infinity();  // in another tile of columns than the first
  InputStatistics first(20), second(600), third(600);
  const InputRows rows[] = {{&first, good, "one"}, {&second, bad, "two"}, {&third, bad, "three"}};
  expect_error(ErrorKind::bad_data, "input of two: activations are not finite", [&] { add_together(rows, 8); });
  expect_same(first, InputStatistics(20), "nothing of a refused batch is counted");
}

}  // namespace
}  // namespace adze
