#include "calibrate/block_pass.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "base/parallel.h"
#include "linalg/convert.h"
#include "linalg/cross_moment.h"
#include "model/pool.h"

namespace adze {
namespace {

/// The longest slice of one window; shorter windows are summed in slices of several (slice_windows).
constexpr std::size_t kSliceTokens = 512;

/// Calls body(window in the batch, its states) for the windows of one batch in parallel.
template <typename Body>
void for_windows(ViewF batch, std::size_t tokens, Body&& body) {
  parallel_for(batch.rows() / tokens, [&](std::size_t w) { body(w, batch.row_range(w * tokens, tokens)); });
}

void add_maxima(const Pool<Workspace>& pool, CacheMaxima& maxima) {
  pool.for_each([&](const Workspace& work) { maxima.add(work.cache); });
}

/// Lets body(states of a window, scratch) move every window's states. The largest keys and values that came by.
template <typename Body>
CacheMaxima update_windows(HiddenStates& states, Body&& body) {
  Pool<Workspace> scratch;
  for (std::size_t b = 0; b < states.batches(); ++b) {
    for_windows(states.load(b), states.tokens(), [&](std::size_t, ViewF x) { body(x, *scratch.borrow()); });
    states.store(b);
  }
  CacheMaxima maxima;
  add_maxima(scratch, maxima);
  return maxima;
}

/// Calls body(first row, rows, tokens of a slice) for a batch of inputs in slices: of whole windows, or of parts of one
/// window where a window is longer.
template <typename Body>
void for_slices(std::size_t rows, std::size_t tokens, Body&& body) {
  if (tokens <= kSliceTokens) {
    body(std::size_t{0}, rows, slice_windows(tokens) * tokens);
    return;
  }
  for (std::size_t first = 0; first < rows; first += tokens) body(first, tokens, kSliceTokens);
}

void add_inputs(InputStatistics& statistics, ConstViewF inputs, std::size_t tokens) {
  for_slices(inputs.rows(), tokens, [&](std::size_t first, std::size_t count, std::size_t slice) {
    statistics.add(inputs.row_range(first, count), slice);
  });
}

void subtract(ViewF a, ConstViewF b) {
  parallel_for(a.rows(), [&](std::size_t r) {
    for (std::size_t c = 0; c < a.cols(); ++c) a(r, c) -= b(r, c);
  });
}

void require_finite(ConstViewF gap) {
  for (std::size_t r = 0; r < gap.rows(); ++r)
    if (!all_finite(gap.row(r))) fail(ErrorKind::bad_data, "the original model's activations are not finite");
}

MatrixF copy_of(ConstViewF a) {
  MatrixF copy(a.shape());
  for (std::size_t r = 0; r < a.rows(); ++r) std::ranges::copy(a.row(r), copy.row(r).begin());
  return copy;
}

void add_attention(const Forward& forward, const BlockWeights& weights, ViewF x, Workspace& work) {
  MatrixF normed(x.shape());
  MatrixF mix(x.rows(), forward.architecture().q_width());
  forward.stage_input_qkv(weights, x, normed);
  forward.attention_mix(weights, normed, mix, work);
  forward.add_attention(weights, mix, x, work);
}

std::size_t ffn_width(const BlockWeights& weights) { return weights[LinearSlot::down].weight->shape().cols; }

}  // namespace

void BlockPass::take_turn(std::size_t step) {
  if (step != next_step_)
    fail(ErrorKind::internal, "step {} of a block's pass is called when step {} is due", step, next_step_);
  ++next_step_;
}

ViewF BlockPass::inputs_of(std::size_t batch, Stage stage, const BlockWeights& weights) {
  const Architecture& architecture = forward_.architecture();
  const std::size_t tokens = states_.tokens();
  const ViewF states = states_.load(batch);
  const std::size_t width = stage == Stage::down ? ffn_width(weights)
                            : stage == Stage::o  ? architecture.q_width()
                                                 : architecture.hidden;
  if (inputs_.cols() != width || inputs_.rows() < states.rows()) inputs_ = MatrixF(states.rows(), width);
  Pool<Workspace> scratch;
  for_windows(states, tokens, [&](std::size_t w, ViewF x) {
    const ViewF input = inputs_.view().row_range(w * tokens, tokens);
    const auto borrowed = scratch.borrow();  // held until this window is done
    Workspace& work = *borrowed;
    if (stage == Stage::qkv) {
      forward_.stage_input_qkv(weights, x, input);
      return;
    }
    if (stage == Stage::gate_up) {
      add_attention(forward_, weights, x, work);
      forward_.stage_input_mlp(weights, x, input);
      return;
    }
    MatrixF normed(x.shape());
    if (stage == Stage::o) {
      forward_.stage_input_qkv(weights, x, normed);
      forward_.attention_mix(weights, normed, input, work);
    } else {
      forward_.stage_input_mlp(weights, x, normed);
      forward_.mlp_hidden(weights, normed, input, work);
    }
  });
  add_maxima(scratch, cache_);
  if (stage == Stage::gate_up) states_.store(batch);
  return inputs_.view().row_range(0, states.rows());
}

InputStatistics BlockPass::measure(Stage stage, const BlockWeights& weights) {
  take_turn(static_cast<std::size_t>(stage));
  InputStatistics statistics;
  for (std::size_t b = 0; b < states_.batches(); ++b) {
    const ViewF inputs = inputs_of(b, stage, weights);
    if (b == 0) statistics = InputStatistics(inputs.cols());
    add_inputs(statistics, inputs, states_.tokens());
  }
  inputs_ = {};  // the caller solves now, and needs the memory
  return statistics;
}

std::array<InputStatistics, kStages.size()> BlockPass::measure_all(const BlockWeights& weights) {
  for (std::size_t step = 0; step <= kStages.size(); ++step) take_turn(step);
  const Architecture& a = forward_.architecture();
  const std::array<std::size_t, kStages.size()> widths{a.hidden, a.q_width(), a.hidden, ffn_width(weights)};
  std::array<InputStatistics, kStages.size()> statistics;
  std::array<MatrixF, kStages.size()> inputs;
  const std::size_t tokens = states_.tokens();
  Pool<Workspace> scratch;
  for (std::size_t b = 0; b < states_.batches(); ++b) {
    const ViewF states = states_.load(b);
    for (std::size_t s = 0; s < inputs.size(); ++s)
      if (inputs[s].rows() < states.rows()) inputs[s] = MatrixF(states.rows(), widths[s]);
    for_windows(states, tokens, [&](std::size_t w, ViewF x) {
      const auto of = [&](Stage stage) {
        return inputs[static_cast<std::size_t>(stage)].view().row_range(w * tokens, tokens);
      };
      const auto borrowed = scratch.borrow();
      Workspace& work = *borrowed;
      forward_.stage_input_qkv(weights, x, of(Stage::qkv));
      forward_.attention_mix(weights, of(Stage::qkv), of(Stage::o), work);
      forward_.add_attention(weights, of(Stage::o), x, work);
      forward_.stage_input_mlp(weights, x, of(Stage::gate_up));
      forward_.mlp_hidden(weights, of(Stage::gate_up), of(Stage::down), work);
      forward_.add_mlp(weights, of(Stage::down), x, work);
    });
    states_.store(b);
    if (b == 0)
      for (std::size_t i = 0; i < inputs.size(); ++i) statistics[i] = InputStatistics(widths[i]);
    for_slices(states.rows(), tokens, [&](std::size_t first, std::size_t count, std::size_t slice) {
      std::vector<InputRows> rows;
      for (const Stage stage : kStages) {
        const auto i = static_cast<std::size_t>(stage);
        rows.push_back({&statistics[i], inputs[i].view().row_range(first, count), std::string(name_of(stage))});
      }
      add_together(rows, slice);
    });
  }
  add_maxima(scratch, cache_);
  return statistics;
}

ReferencedStatistics BlockPass::measure_against(BlockPass& reference, const BlockWeights& reference_weights,
                                                Stage stage, const BlockWeights& weights) {
  take_turn(static_cast<std::size_t>(stage));
  reference.take_turn(static_cast<std::size_t>(stage));
  const NormSlot after = stage == Stage::o ? NormSlot::after_attention : NormSlot::after_ffn;
  const bool joins_states = (stage == Stage::o || stage == Stage::down) && weights[after].empty();
  ReferencedStatistics statistics;
  for (std::size_t b = 0; b < states_.batches(); ++b) {
    const ViewF inputs = inputs_of(b, stage, weights);
    const ViewF away = reference.inputs_of(b, stage, reference_weights);
    if (b == 0) {
      statistics = {InputStatistics(inputs.cols()), MatrixD(inputs.cols(), inputs.cols()), {}};
      if (joins_states) statistics.residual = MatrixD(states_.hidden(), inputs.cols());
    }
    add_inputs(statistics.inputs, inputs, states_.tokens());
    subtract(away, inputs);
    require_finite(away);
    add_cross(away, inputs, statistics.cross);
    if (!joins_states) continue;
    MatrixF gap = copy_of(reference.states_.load(b));
    subtract(gap, states_.load(b));
    require_finite(gap);
    add_cross(gap, inputs, statistics.residual);
  }
  inputs_ = {};
  reference.inputs_ = {};
  return statistics;
}

/// target += a^T inputs, slice by slice.
void BlockPass::add_cross(ConstViewF a, ConstViewF inputs, ViewD target) const {
  for_slices(inputs.rows(), states_.tokens(), [&](std::size_t first, std::size_t count, std::size_t slice) {
    add_cross_moment(a.row_range(first, count), inputs.row_range(first, count), slice, target);
  });
}

void BlockPass::pass_by(Stage stage, const BlockWeights& weights) {
  take_turn(static_cast<std::size_t>(stage));
  if (stage != Stage::gate_up) return;
  cache_.add(update_windows(states_, [&](ViewF x, Workspace& work) { add_attention(forward_, weights, x, work); }));
}

void BlockPass::finish(const BlockWeights& weights) {
  take_turn(kStages.size());
  update_windows(states_, [&](ViewF x, Workspace& work) {
    MatrixF normed(x.shape());
    MatrixF inner(x.rows(), ffn_width(weights));
    forward_.stage_input_mlp(weights, x, normed);
    forward_.mlp_hidden(weights, normed, inner, work);
    forward_.add_mlp(weights, inner, x, work);
  });
}

CacheMaxima run_block(const Forward& forward, const BlockWeights& weights, HiddenStates& states) {
  return update_windows(states, [&](ViewF x, Workspace& work) { forward.run_block(weights, x, work); });
}

InputStatistics measure_head_input(const Forward& forward, std::span<const float> final_norm, HiddenStates& states) {
  InputStatistics statistics(forward.architecture().hidden);
  MatrixF normed;
  for (std::size_t b = 0; b < states.batches(); ++b) {
    const ViewF x = states.load(b);
    if (normed.rows() < x.rows()) normed = MatrixF(x.shape());
    const ViewF inputs = normed.view().row_range(0, x.rows());
    forward.final_norm(final_norm, x, inputs);
    add_inputs(statistics, inputs, states.tokens());
  }
  return statistics;
}

void embed_windows(const Forward& forward, const CompressedTensor& embedding, std::span<const std::int32_t> ids,
                   HiddenStates& states) {
  for (std::size_t b = 0; b < states.batches(); ++b) {
    const ViewF x = states.load(b);
    forward.embed(embedding, ids.subspan(states.first_window(b) * states.tokens(), x.rows()), x);
    states.store(b);
  }
}

}  // namespace adze
