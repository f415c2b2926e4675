#include "solve/obq/greedy_rounding.h"

#include <cmath>
#include <vector>

namespace adze {
namespace {

class Row {
 public:
  Row(MatrixD& inverse, std::span<const float> weights, std::size_t row, Encoding& encoding)
      : m_(inverse), row_(row), encoding_(encoding) {
    for (std::size_t c = 0; c < weights.size(); ++c) {
      if (encoding.kept(row, c)) {
        columns_.push_back(c);
        current_.push_back(weights[c]);
      } else {
        encoding.round_at(row, c, 0);
      }
    }
    left_.assign(columns_.size(), true);
  }

  void run() {
    for (std::size_t k = 0; k < columns_.size(); ++k) fix(next());
  }

 private:
  double error_of(std::size_t i) const {
    return current_[i] - encoding_.round_at(row_, columns_[i], static_cast<float>(current_[i]));
  }

  /// The weight of least e^2 / M_ii; or, if some are further than half a step from any value, the furthest.
  std::size_t next() const {
    std::size_t cheapest = columns_.size();
    std::size_t furthest = columns_.size();
    double least = 0, most = 0;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (!left_[i]) continue;
      const double square = std::pow(error_of(i), 2);
      const double step = encoding_.group(row_, columns_[i]).step;
      const double cost = square / m_(i, i);
      if (cheapest == columns_.size() || cost < least) {
        least = cost;
        cheapest = i;
      }
      // A little more than half a step: rounding of the difference itself must not make outliers.
      if (square > step * step * (0.25 + 1e-6) && square > most) {
        most = square;
        furthest = i;
      }
    }
    return furthest < columns_.size() ? furthest : cheapest;
  }

  /// Rounds weight p, moves the others, takes p out of M.
  void fix(std::size_t p) {
    const double pull = error_of(p) / m_(p, p);  // sets the code as well
    left_[p] = false;
    for (std::size_t j = 0; j < columns_.size(); ++j)
      if (left_[j]) current_[j] -= pull * m_(p, j);
    const double pivot = m_(p, p);
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (!left_[i]) continue;
      const double factor = m_(i, p) / pivot;
      for (std::size_t j = 0; j < columns_.size(); ++j) m_(i, j) -= factor * m_(p, j);
      m_(i, i) = std::max(m_(i, i), 1e-12);
    }
  }

  MatrixD& m_;
  std::size_t row_;
  Encoding& encoding_;
  std::vector<std::size_t> columns_;
  std::vector<double> current_;
  std::vector<bool> left_;
};

}  // namespace

void round_greedily(MatrixD& inverse, std::span<const float> weights, std::size_t row, Encoding& encoding) {
  Row(inverse, weights, row, encoding).run();
}

}  // namespace adze
