#include "transform/slice.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "linalg/convert.h"
#include "linalg/eigen.h"
#include "linalg/gemm.h"
#include "transform/cut.h"
#include "transform/demands.h"

namespace adze {
namespace {

constexpr std::size_t kTileRows = 256;  // of the side that stays, so that products have shapes of the problem

void narrow(std::span<const double> from, std::span<float> to) {
  std::ranges::transform(from, to.begin(), [](double value) { return static_cast<float>(value); });
  if (!all_finite(to)) fail(ErrorKind::bad_data, "a value of the cut matrix does not fit f32");
}

/// W diag(gain) P^T, for what reads the residual stream. gain: empty for ones.
TensorPtr cut_inputs(const CompressedTensor& weight, std::span<const float> gain, const MatrixD& basis) {
  const Shape shape = weight.shape();
  MatrixF cut(shape.rows, basis.rows());
  parallel_for(divide_up(shape.rows, kTileRows), [&](std::size_t t) {
    const std::size_t first = t * kTileRows;
    const std::size_t rows = std::min(kTileRows, shape.rows - first);
    MatrixF values(rows, shape.cols);
    weight.decode_rows(first, rows, values.values());
    MatrixD tile(rows, shape.cols), product(rows, basis.rows());
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < shape.cols; ++c)
        tile(r, c) = double{values(r, c)} * (gain.empty() ? 1.0 : double{gain[c]});
    multiply_nt(tile, basis, product);
    for (std::size_t r = 0; r < rows; ++r) narrow(product.row(r), cut.row(first + r));
  });
  return dense_f32(cut);
}

/// P W, for what is added to the residual stream.
TensorPtr cut_outputs(const CompressedTensor& weight, const MatrixD& basis) {
  const MatrixF values = weight.decode();
  MatrixD wide(values.shape());
  std::ranges::copy(values.values(), wide.values().begin());
  const MatrixD product = product_nn(basis, wide);
  MatrixF cut(product.shape());
  narrow(product.values(), cut.values());
  return dense_f32(cut);
}

class Slice final : public Transform {
 public:
  Slice(const Architecture& original, std::size_t kept, std::size_t align)
      : kept_(kept), original_(original), align_(align), unties_(original.tied) {}

  std::string description() const override { return fmt::format("slice hidden={} align={}", kept_, align_); }
  std::string remark() const override {
    return fmt::format("hidden size {} of {}{}", kept_, original_.hidden,
                       unties_ ? "; the head was the embedding table and is one of its own now" : "");
  }
  Architecture architecture(const Architecture& before) const override {
    Architecture after = before;
    // The mean square of fewer values is the greater: so must be what is added to it.
    after.norm_eps *= static_cast<double>(original_.hidden) / static_cast<double>(kept_);
    after.hidden = kept_;
    if (before.tied) after.tied_stated = true;
    after.tied = false;
    return after;
  }

  bool needs_survey() const override { return true; }
  std::unique_ptr<Survey> survey() const override;
  /// norm_inputs: sum over all norms and tokens of x x^T / mean(x^2), [hidden x hidden].
  std::shared_ptr<const Transform> surveyed(const MatrixD& norm_inputs) const {
    const SymmetricEigen eigen = symmetric_eigen(norm_inputs);
    auto made = std::make_shared<Slice>(*this);
    made->basis_ = MatrixD(kept_, original_.hidden);
    for (std::size_t r = 0; r < made->basis_.rows(); ++r)
      std::ranges::copy(eigen.vectors.row(r), made->basis_.row(r).begin());
    const auto kept = static_cast<std::ptrdiff_t>(kept_);
    const double all = std::accumulate(eigen.values.begin(), eigen.values.end(), 0.0);
    const double captured = std::accumulate(eigen.values.begin(), eigen.values.begin() + kept, 0.0);
    if (!(all > 0)) fail(ErrorKind::bad_data, "every norm's input is zero on the whole calibration set");
    made->gain_ = static_cast<float>(
        std::sqrt(captured / all * static_cast<double>(original_.hidden) / static_cast<double>(kept_)));
    return made;
  }

  BlockWeights block(BlockWeights block, std::size_t index, const BlockInputs* /*inputs*/) const override {
    for (const LinearInfo& info : block_linears(original_)) {
      Linear& linear = block[info.slot];
      with_context(module_name(index, info), [&] {
        if (info.stage.kind == Stage::o || info.stage.kind == Stage::down)
          cut_outputs_of(linear);
        else
          linear.weight = cut_inputs(
              *linear.weight,
              info.stage == Stage::qkv ? block[NormSlot::before_attention] : block[NormSlot::before_ffn], basis());
      });
    }
    block[NormSlot::before_attention] = norm();
    block[NormSlot::before_ffn] = norm();
    return block;
  }

  TensorPtr embedding(TensorPtr table) const override {
    return with_context("embed_tokens", [&] { return cut_inputs(*table, {}, basis()); });
  }
  TensorPtr head(TensorPtr table, std::span<const float> norm) const override {
    return with_context("lm_head", [&] { return cut_inputs(*table, norm, basis()); });
  }
  std::vector<float> final_norm(std::vector<float> /*norm*/) const override { return norm(); }

 private:
  const MatrixD& basis() const {
    if (basis_.empty()) fail(ErrorKind::internal, "slice: nothing was surveyed");
    return basis_;
  }
  std::vector<float> norm() const { return std::vector<float>(kept_, gain_); }

  void cut_outputs_of(Linear& linear) const {
    linear.weight = cut_outputs(*linear.weight, basis());
    if (linear.bias.empty()) return;
    std::vector<double> cut(basis_.rows());
    for (std::size_t r = 0; r < cut.size(); ++r)
      cut[r] = std::transform_reduce(linear.bias.begin(), linear.bias.end(), basis_.row(r).begin(), 0.0);
    linear.bias.resize(cut.size());
    narrow(cut, linear.bias);
  }

  std::size_t kept_;
  Architecture original_;
  std::size_t align_;
  bool unties_;
  MatrixD basis_;   ///< P [kept x hidden], orthonormal rows; empty before the survey
  float gain_ = 1;  ///< of every norm
};

/// What the norms see: their outputs' second moments without their gains.
class NormSurvey final : public Survey {
 public:
  NormSurvey(const Slice& slice, std::size_t hidden) : slice_(slice), sum_(hidden, hidden) {}

  bool wants(Stage stage) const override { return stage == Stage::qkv || stage == Stage::gate_up; }
  bool wants_head() const override { return true; }
  void see(Stage stage, const InputStatistics& inputs, const BlockWeights& block) override {
    add(inputs, stage == Stage::qkv ? block[NormSlot::before_attention] : block[NormSlot::before_ffn]);
  }
  void see_head(const InputStatistics& inputs, std::span<const float> norm) override { add(inputs, norm); }
  std::shared_ptr<const Transform> result() override { return slice_.surveyed(sum_); }

 private:
  /// A channel whose gain is zero is not seen behind the norm, and nothing reads it.
  void add(const InputStatistics& outputs, std::span<const float> gain) {
    for (std::size_t r = 0; r < sum_.rows(); ++r)
      for (std::size_t c = 0; c < sum_.cols(); ++c)
        if (gain[r] != 0 && gain[c] != 0) sum_(r, c) += outputs.second_moment(r, c) / (double{gain[r]} * gain[c]);
  }

  const Slice& slice_;
  MatrixD sum_;
};

std::unique_ptr<Survey> Slice::survey() const { return std::make_unique<NormSurvey>(*this, original_.hidden); }

}  // namespace

std::shared_ptr<const Transform> configure_slice(MapReader& options, const Architecture& original) {
  require_readable_states(original, "slice");
  require_free_hidden_size(original, "slice");
  const Value keep = options.required("keep");
  const double part = keep.percent().value_or(1);
  const std::size_t align = options.optional("align").count(1, 1024).value_or(32);
  const auto wanted = static_cast<std::size_t>(part * static_cast<double>(original.hidden) + 1e-9);
  const std::size_t kept = wanted / align * align;
  if (keep.present() && kept == 0)
    keep.complain(fmt::format("leaves {} of {} directions, less than align: {}", wanted, original.hidden, align));
  return std::make_shared<Slice>(original, kept == 0 ? original.hidden : kept, align);
}

}  // namespace adze
