// What the tests of this folder share: random matrices, and Eigen as the reference.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include <Eigen/Dense>

#include "base/matrix.h"
#include "base/random.h"

namespace adze::testing {

template <typename T>
using EigenRows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <typename T>
EigenRows<double> eigen(MatrixView<T> matrix) {
  EigenRows<double> copy(matrix.rows(), matrix.cols());
  for (std::size_t r = 0; r < matrix.rows(); ++r)
    for (std::size_t c = 0; c < matrix.cols(); ++c)
      copy(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(c)) = static_cast<double>(matrix(r, c));
  return copy;
}
template <typename T>
EigenRows<double> eigen(const Matrix<T>& matrix) {
  return eigen(matrix.view());
}

template <typename T>
Matrix<T> random_matrix(Shape shape, std::string_view name) {
  RandomStream random(3, name);
  Matrix<T> matrix(shape);
  for (T& value : matrix.values()) value = static_cast<T>(random.normal());
  return matrix;
}

/// Part of a larger matrix, so that rows are not contiguous; the rest is NaN, which no result may show.
template <typename T>
class Strided {
 public:
  Strided(const Matrix<T>& content, std::size_t extra_cols) : memory_(content.rows(), content.cols() + extra_cols) {
    for (T& value : memory_.values()) value = std::numeric_limits<T>::quiet_NaN();
    for (std::size_t r = 0; r < content.rows(); ++r)
      for (std::size_t c = 0; c < content.cols(); ++c) memory_(r, c) = content(r, c);
    cols_ = content.cols();
  }
  MatrixView<T> view() { return memory_.view().col_range(0, cols_); }

 private:
  Matrix<T> memory_;
  std::size_t cols_;
};

/// Largest difference relative to the largest entry of the reference.
inline double relative_error(const EigenRows<double>& actual, const EigenRows<double>& expected) {
  return (actual - expected).cwiseAbs().maxCoeff() / expected.cwiseAbs().maxCoeff();
}

}  // namespace adze::testing
