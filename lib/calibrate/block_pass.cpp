#include "calibrate/block_pass.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
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

/// Lets body(states of a window, scratch) move every window's states.
template <typename Body>
void update_windows(HiddenStates& states, Body&& body) {
  Pool<Workspace> scratch;
  for (std::size_t b = 0; b < states.batches(); ++b) {
    for_windows(states.load(b), states.tokens(), [&](std::size_t, ViewF x) { body(x, *scratch.borrow()); });
    states.store(b);
  }
}

/// Adds a batch of inputs in slices: of whole windows, or of parts of one window where a window is longer.
void add_inputs(InputStatistics& statistics, ConstViewF inputs, std::size_t tokens) {
  if (tokens <= kSliceTokens) {
    statistics.add(inputs, slice_windows(tokens) * tokens);
    return;
  }
  for (std::size_t first = 0; first < inputs.rows(); first += tokens)
    statistics.add(inputs.row_range(first, tokens), kSliceTokens);
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

template <typename Body>
InputStatistics BlockPass::collect(std::size_t width, bool moves_states, Body&& body) {
  const std::size_t tokens = states_.tokens();
  InputStatistics statistics(width);
  Pool<Workspace> scratch;
  MatrixF inputs;
  for (std::size_t b = 0; b < states_.batches(); ++b) {
    const ViewF states = states_.load(b);
    if (inputs.rows() < states.rows()) inputs = MatrixF(states.rows(), width);
    for_windows(states, tokens, [&](std::size_t w, ViewF x) {
      body(x, inputs.view().row_range(w * tokens, tokens), *scratch.borrow());
    });
    if (moves_states) states_.store(b);
    add_inputs(statistics, inputs.view().row_range(0, states.rows()), tokens);
  }
  return statistics;
}

void BlockPass::take_turn(std::size_t step) {
  if (step != next_step_)
    fail(ErrorKind::internal, "step {} of a block's pass is called when step {} is due", step, next_step_);
  ++next_step_;
}

InputStatistics BlockPass::measure(Stage stage, const BlockWeights& weights) {
  take_turn(static_cast<std::size_t>(stage));
  const Architecture& architecture = forward_.architecture();
  switch (stage) {
    case Stage::qkv:
      return collect(architecture.hidden, false,
                     [&](ViewF x, ViewF input, Workspace&) { forward_.stage_input_qkv(weights, x, input); });
    case Stage::o:
      return collect(architecture.q_width(), false, [&](ViewF x, ViewF input, Workspace& work) {
        MatrixF normed(x.shape());
        forward_.stage_input_qkv(weights, x, normed);
        forward_.attention_mix(weights, normed, input, work);
      });
    case Stage::gate_up:
      return collect(architecture.hidden, true, [&](ViewF x, ViewF input, Workspace& work) {
        add_attention(forward_, weights, x, work);
        forward_.stage_input_mlp(weights, x, input);
      });
    case Stage::down:
      return collect(ffn_width(weights), false, [&](ViewF x, ViewF input, Workspace& work) {
        MatrixF normed(x.shape());
        forward_.stage_input_mlp(weights, x, normed);
        forward_.mlp_hidden(weights, normed, input, work);
      });
  }
  fail(ErrorKind::internal, "unknown stage");
}

void BlockPass::pass_by(Stage stage, const BlockWeights& weights) {
  take_turn(static_cast<std::size_t>(stage));
  if (stage != Stage::gate_up) return;
  update_windows(states_, [&](ViewF x, Workspace& work) { add_attention(forward_, weights, x, work); });
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

void run_block(const Forward& forward, const BlockWeights& weights, HiddenStates& states) {
  update_windows(states, [&](ViewF x, Workspace& work) { forward.run_block(weights, x, work); });
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

void embed_windows(const CompressedTensor& embedding, std::span<const std::int32_t> ids, HiddenStates& states) {
  for (std::size_t b = 0; b < states.batches(); ++b) {
    const ViewF x = states.load(b);
    embed(embedding, ids.subspan(states.first_window(b) * states.tokens(), x.rows()), x);
    states.store(b);
  }
}

}  // namespace adze
