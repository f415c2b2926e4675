// Dense row-major matrices: an owner and two views. They carry a shape and check it; the mathematics is in linalg/.
#pragma once

#include <cassert>
#include <cstddef>
#include <span>
#include <type_traits>

#include "base/zeroed_array.h"

namespace adze {

struct Shape {
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t count() const { return rows * cols; }
  bool operator==(const Shape&) const = default;
};

/// A view of rows x cols elements, row r starting at data + r * stride. T may be const.
template <typename T>
class MatrixView {
 public:
  MatrixView() = default;
  MatrixView(T* data, Shape shape) : MatrixView(data, shape, shape.cols) {}
  MatrixView(T* data, Shape shape, std::size_t stride) : data_(data), shape_(shape), stride_(stride) {
    assert(stride >= shape.cols);
  }
  /// A view of T is a view of const T.
  template <typename U>
    requires std::is_same_v<const U, T>
  MatrixView(MatrixView<U> other) : MatrixView(other.data(), other.shape(), other.stride()) {}

  std::size_t rows() const { return shape_.rows; }
  std::size_t cols() const { return shape_.cols; }
  std::size_t stride() const { return stride_; }
  Shape shape() const { return shape_; }
  T* data() const { return data_; }
  std::span<T> row(std::size_t r) const {
    assert(r < rows());
    return {data_ + r * stride_, cols()};
  }
  T& operator()(std::size_t r, std::size_t c) const {
    assert(r < rows() && c < cols());
    return data_[r * stride_ + c];
  }
  MatrixView row_range(std::size_t first, std::size_t count) const {
    assert(first + count <= rows());
    return {data_ + first * stride_, {count, cols()}, stride_};
  }
  MatrixView col_range(std::size_t first, std::size_t count) const {
    assert(first + count <= cols());
    return {data_ + first, {rows(), count}, stride_};
  }

 private:
  T* data_ = nullptr;
  Shape shape_;
  std::size_t stride_ = 0;
};

/// Owner of a contiguous row-major matrix, zero at first.
template <typename T>
class Matrix {
 public:
  Matrix() = default;
  explicit Matrix(Shape shape) : shape_(shape), values_(shape.count()) {}
  Matrix(std::size_t rows, std::size_t cols) : Matrix(Shape{rows, cols}) {}

  std::size_t rows() const { return shape_.rows; }
  std::size_t cols() const { return shape_.cols; }
  Shape shape() const { return shape_; }
  bool empty() const { return values_.empty(); }
  T* data() { return values_.data(); }
  const T* data() const { return values_.data(); }
  std::span<T> values() { return values_; }
  std::span<const T> values() const { return values_; }
  std::span<T> row(std::size_t r) { return view().row(r); }
  std::span<const T> row(std::size_t r) const { return view().row(r); }
  T& operator()(std::size_t r, std::size_t c) { return view()(r, c); }
  const T& operator()(std::size_t r, std::size_t c) const { return view()(r, c); }
  MatrixView<T> view() { return {values_.data(), shape_}; }
  MatrixView<const T> view() const { return {values_.data(), shape_}; }
  operator MatrixView<T>() { return view(); }
  operator MatrixView<const T>() const { return view(); }
  bool operator==(const Matrix&) const = default;

 private:
  Shape shape_;
  ZeroedArray<T> values_;
};

using MatrixF = Matrix<float>;
using MatrixD = Matrix<double>;
using ViewF = MatrixView<float>;
using ViewD = MatrixView<double>;
using ConstViewF = MatrixView<const float>;
using ConstViewD = MatrixView<const double>;

}  // namespace adze
