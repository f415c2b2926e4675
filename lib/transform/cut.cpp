#include "transform/cut.h"

namespace adze {

TensorPtr dense_f32(const MatrixF& weight) { return std::make_shared<DenseTensor>(make_dense(weight, DType::f32)); }

void keep_rows(std::span<const std::size_t> rows, Linear& linear) {
  MatrixF kept(rows.size(), linear.weight->shape().cols);
  for (std::size_t r = 0; r < rows.size(); ++r) linear.weight->decode_rows(rows[r], 1, kept.row(r));
  linear.weight = dense_f32(kept);
  if (linear.bias.empty()) return;
  std::vector<float> bias;
  for (const std::size_t r : rows) bias.push_back(linear.bias[r]);
  linear.bias = std::move(bias);
}

}  // namespace adze
