#include <algorithm>
#include <cmath>

#include "linalg/eigen.h"
#include "linalg/gemm.h"
#include "solve/mpo/mpo.h"

namespace adze {
namespace {

/// The same numbers as a matrix of another shape.
MatrixD reshaped(ConstViewD values, Shape shape) {
  MatrixD copy(shape);
  for (std::size_t r = 0; r < values.rows(); ++r)
    std::ranges::copy(values.row(r), copy.values().begin() + static_cast<std::ptrdiff_t>(r * values.cols()));
  return copy;
}

/// Where entry (r, c) of the matrix lies among digits in the order (i_1 j_1) (i_2 j_2) ...: place_of_row[r] +
/// place_of_col[c].
struct DigitOrder {
  std::vector<std::size_t> row, col;

  explicit DigitOrder(const TrainShape& train) : row(train.whole().rows), col(train.whole().cols) {
    std::size_t step = 1, rows = 1, cols = 1;
    for (std::size_t k = train.cores(); k-- > 0;) {
      for (std::size_t c = 0; c < col.size(); ++c) col[c] += c / cols % train.cols[k] * step;
      for (std::size_t r = 0; r < row.size(); ++r) row[r] += r / rows % train.rows[k] * step * train.cols[k];
      step *= train.rows[k] * train.cols[k];
      rows *= train.rows[k];
      cols *= train.cols[k];
    }
  }

  MatrixD to_digits(ConstViewD matrix) const {
    MatrixD digits(1, row.size() * col.size());
    for (std::size_t r = 0; r < row.size(); ++r)
      for (std::size_t c = 0; c < col.size(); ++c) digits(0, row[r] + col[c]) = matrix(r, c);
    return digits;
  }
  MatrixD to_matrix(const MatrixD& digits) const {
    MatrixD matrix(row.size(), col.size());
    for (std::size_t r = 0; r < row.size(); ++r)
      for (std::size_t c = 0; c < col.size(); ++c) matrix(r, c) = digits.values()[row[r] + col[c]];
    return matrix;
  }
};

std::size_t digit_pairs(const TrainShape& train, std::size_t first, std::size_t last) {
  std::size_t count = 1;
  for (std::size_t k = first; k < last; ++k) count *= train.rows[k] * train.cols[k];
  return count;
}

/// A core as [bond x (m n bond')].
MatrixD by_left(const TrainShape& train, const MatrixD& core, std::size_t k) {
  return reshaped(core, {train.bond_before(k), train.rows[k] * train.cols[k] * train.bond_after(k)});
}
/// A core as [(bond m n) x bond'].
MatrixD by_right(const TrainShape& train, const MatrixD& core, std::size_t k) {
  return reshaped(core, {train.bond_before(k) * train.rows[k] * train.cols[k], train.bond_after(k)});
}

/// The cores before k contracted: [pairs before x bond].
MatrixD left_of(const TrainShape& train, const TrainCores& cores, std::size_t k) {
  MatrixD left(1, 1);
  left(0, 0) = 1;
  for (std::size_t l = 0; l < k; ++l)
    left = reshaped(product_nn(left, by_left(train, cores[l], l)), {digit_pairs(train, 0, l + 1), train.bond_after(l)});
  return left;
}

/// The cores after k contracted: [bond x pairs after].
MatrixD right_of(const TrainShape& train, const TrainCores& cores, std::size_t k) {
  MatrixD right(1, 1);
  right(0, 0) = 1;
  for (std::size_t l = train.cores(); l-- > k + 1;)
    right = reshaped(product_nn(by_right(train, cores[l], l), right),
                     {train.bond_before(l), digit_pairs(train, l, train.cores())});
  return right;
}

double dot(const MatrixD& a, const MatrixD& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.values().size(); ++i) sum += a.values()[i] * b.values()[i];
  return sum;
}

void add(MatrixD& to, double factor, const MatrixD& what) {
  for (std::size_t i = 0; i < to.values().size(); ++i) to.values()[i] += factor * what.values()[i];
}

/// J as a function of one core: core -> What is linear, and so is the gradient's way back.
class CoreProblem {
 public:
  CoreProblem(ConstViewD weights, ConstViewD h, const TrainShape& train, const DigitOrder& order,
              const TrainCores& cores, std::size_t k)
      : h_(h), train_(train), order_(order), k_(k), left_(left_of(train, cores, k)), right_(right_of(train, cores, k)) {
    wanted_ = adjoint(times_h(weights));
  }

  /// A^T (W H): what the normal equations ask for.
  const MatrixD& wanted() const { return wanted_; }
  /// A^T (A(core) H), the normal equations' left side.
  MatrixD apply(const MatrixD& core) const { return adjoint(times_h(expand(core))); }

 private:
  MatrixD times_h(ConstViewD matrix) const {
    return h_.rows() == 0 ? reshaped(matrix, matrix.shape()) : product_nn(matrix, h_);
  }
  MatrixD expand(const MatrixD& core) const {
    const MatrixD inner = product_nn(left_, by_left(train_, core, k_));  // [before x (m n bond')]
    const std::size_t pairs = left_.rows() * train_.rows[k_] * train_.cols[k_];
    return order_.to_matrix(product_nn(reshaped(inner, {pairs, train_.bond_after(k_)}), right_));
  }
  MatrixD adjoint(const MatrixD& matrix) const {
    const std::size_t pairs = left_.rows() * train_.rows[k_] * train_.cols[k_];
    const MatrixD digits = reshaped(order_.to_digits(matrix), {pairs, right_.cols()});
    const MatrixD inner = product_nt(digits, right_);  // [(before m n) x bond']
    const MatrixD core =
        product_tn(left_, reshaped(inner, {left_.rows(), train_.rows[k_] * train_.cols[k_] * train_.bond_after(k_)}));
    return reshaped(core, train_.core(k_));
  }

  ConstViewD h_;
  const TrainShape& train_;
  const DigitOrder& order_;
  std::size_t k_;
  MatrixD left_, right_, wanted_;
};

/// Conjugate gradients from the core as it is: in every step J falls.
void fit_core(const CoreProblem& problem, MatrixD& core) {
  constexpr int kSteps = 10;
  constexpr double kSmall = 1e-20;  // of the first residual, squared
  MatrixD residual = problem.wanted();
  add(residual, -1, problem.apply(core));
  MatrixD direction = residual;
  double energy = dot(residual, residual);
  const double enough = kSmall * energy;
  for (int i = 0; i < kSteps && energy > enough; ++i) {
    const MatrixD image = problem.apply(direction);
    const double curvature = dot(direction, image);
    if (!(curvature > 0)) return;
    add(core, energy / curvature, direction);
    add(residual, -energy / curvature, image);
    const double next = dot(residual, residual);
    for (std::size_t j = 0; j < direction.values().size(); ++j)
      direction.values()[j] = residual.values()[j] + next / energy * direction.values()[j];
    energy = next;
  }
}

}  // namespace

std::vector<std::size_t> digits_of(std::size_t size, std::size_t count) {
  std::vector<std::size_t> digits;
  std::size_t rest = size;
  for (std::size_t left = count; left > 1; --left) {
    const double equal = std::pow(static_cast<double>(rest), 1.0 / static_cast<double>(left));
    auto digit = static_cast<std::size_t>(equal + 1e-9);
    while (rest % digit != 0) --digit;
    digits.push_back(digit);
    rest /= digit;
  }
  digits.push_back(rest);
  return digits;
}

TrainCores train_by_svd(ConstViewD weights, const TrainShape& train) {
  TrainCores cores;
  MatrixD rest = DigitOrder(train).to_digits(weights);
  for (std::size_t k = 0; k + 1 < train.cores(); ++k) {
    const std::size_t rows = train.bond_before(k) * train.rows[k] * train.cols[k];
    const SingularValues svd = singular_values(reshaped(rest, {rows, rest.values().size() / rows}));
    const std::size_t bond = train.bond_after(k);
    MatrixD core(rows, bond);
    rest = MatrixD(bond, svd.vt.cols());
    for (std::size_t i = 0; i < std::min(bond, svd.values.size()); ++i) {
      for (std::size_t r = 0; r < rows; ++r) core(r, i) = svd.u(r, i);
      for (std::size_t c = 0; c < svd.vt.cols(); ++c) rest(i, c) = svd.values[i] * svd.vt(i, c);
    }
    cores.push_back(reshaped(core, train.core(k)));
  }
  cores.push_back(reshaped(rest, train.core(train.cores() - 1)));
  return cores;
}

MatrixD contract(const TrainShape& train, const TrainCores& cores) {
  return DigitOrder(train).to_matrix(left_of(train, cores, train.cores()));
}

void fit_cores(ConstViewD weights, ConstViewD h, const TrainShape& train, int sweeps, TrainCores& cores) {
  const DigitOrder order(train);
  for (int sweep = 0; sweep < sweeps; ++sweep)
    for (std::size_t k = 0; k < cores.size(); ++k) fit_core(CoreProblem(weights, h, train, order, cores, k), cores[k]);
}

}  // namespace adze
