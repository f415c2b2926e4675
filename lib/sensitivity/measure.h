// Sensitivity measures: what an option of a matrix is predicted to cost the model, in a unit that is the same for all
// matrices (specification allocation.md, section 3). Solvers give J of every option, which layers do not share the
// scale of: a measure says what J, or its part of the output's energy, is worth.
//
// Measures are asked block by block, in order. Those that run the model are given a ReferenceJudge at that block, with
// the original's states there; losses are then KL divergences of predictions, or parts of such.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "evaluate/reference_judge.h"
#include "model/tensors.h"

namespace adze {

/// What one solve has given.
struct MeasuredOption {
  TensorPtr tensor;
  double loss = 0;           ///< J = tr((W - What) H (W - What)^T)
  double relative_loss = 0;  ///< J / tr(W H W^T)
};

struct MeasuredModule {
  std::string name;  ///< "layers.3.self_attn.q_proj"; also the key of its random numbers
  LinearSlot slot;
  std::vector<MeasuredOption> options;
};

/// One block of the original model. References all but `moment`.
struct BlockView {
  std::size_t index = 0;
  const BlockWeights& weights;
  std::function<MatrixD(Stage)> moment;  ///< H of a stage's input
  ReferenceJudge* judge = nullptr;       ///< at this block; nullptr for measures that do not run the model
};

/// How coefficients become losses: times J, or times its part of the output's energy.
enum class LossBase : std::uint8_t { loss, relative_loss };

class SensitivityMeasure {
 public:
  virtual ~SensitivityMeasure() = default;

  /// True when predict_options() is asked, for every option; else coefficients() is, once for every matrix.
  virtual bool by_option() const { return false; }
  virtual bool runs_model() const { return false; }
  virtual LossBase base() const { return LossBase::relative_loss; }

  /// One per module: an option loses that times its base(). Options are not looked at, and may be missing.
  virtual std::vector<double> coefficients(const BlockView& block, std::span<const MeasuredModule> modules) const;
  /// One row per module, one number per option.
  virtual std::vector<std::vector<double>> predict_options(const BlockView& block,
                                                           std::span<const MeasuredModule> modules) const;
};

struct MeasureInfo {
  std::string_view name;
  std::string_view summary;
  bool in_kl;         ///< losses are in units of KL: sums of them are predictions of it
  bool knows_tables;  ///< embedding and head have losses in the same unit: KL by exchange, or what solvers report
  std::unique_ptr<SensitivityMeasure> (*make)();
};

std::span<const MeasureInfo> measures();
/// nullptr when there is none of that name.
const MeasureInfo* find_measure(std::string_view name);

/// The original's block with one matrix exchanged.
BlockWeights with_matrix(const BlockWeights& block, LinearSlot slot, TensorPtr matrix);

/// W plus `noise` scaled so that tr(E H E^T) = part * tr(W H W^T); nullptr where H sees nothing of W or of the noise.
TensorPtr with_noise(const MatrixF& weights, const MatrixD& h, double part, MatrixF noise);

/// Gaussian noise of a matrix' shape, by its name.
MatrixF gaussian_noise(Shape shape, std::string_view name, std::uint64_t draw = 0);

// The rows of the registry; each says in its file what it computes and where it is from.
std::unique_ptr<SensitivityMeasure> make_noise_measure();
std::unique_ptr<SensitivityMeasure> make_swap_measure();
std::unique_ptr<SensitivityMeasure> make_block_output_measure();
std::unique_ptr<SensitivityMeasure> make_taylor_measure();
std::unique_ptr<SensitivityMeasure> make_hessian_trace_measure();
std::unique_ptr<SensitivityMeasure> make_lim_measure();
std::unique_ptr<SensitivityMeasure> make_zd_measure();
std::unique_ptr<SensitivityMeasure> make_cmpq_measure();
std::unique_ptr<SensitivityMeasure> make_pmpq_measure();
std::unique_ptr<SensitivityMeasure> make_tdmpq_measure();
std::unique_ptr<SensitivityMeasure> make_pq_index_measure();

}  // namespace adze
