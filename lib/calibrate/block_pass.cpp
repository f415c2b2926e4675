#include "calibrate/block_pass.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"

namespace adze {
namespace {

constexpr std::size_t kBatchTokens = 4096;
/// Tokens per single-precision product; a longer sum loses digits, a slice never spans two windows.
constexpr std::size_t kSliceTokens = 512;

/// Calls body(window, states of that window) for all windows in parallel.
template <typename Body>
void for_windows(ViewF hidden, std::size_t tokens, Body&& body) {
  parallel_for(hidden.rows() / tokens, [&](std::size_t w) { body(w, hidden.row_range(w * tokens, tokens)); });
}

/// Adds windows of inputs to the statistics, window by window, so that no slice spans two.
void add_windows(InputStatistics& statistics, ConstViewF inputs, std::size_t tokens) {
  if (tokens <= kSliceTokens) {
    statistics.add(inputs, tokens);
    return;
  }
  for (std::size_t first = 0; first < inputs.rows(); first += tokens)
    statistics.add(inputs.row_range(first, tokens), kSliceTokens);
}

}  // namespace

std::size_t batch_windows(std::size_t tokens) {
  return std::max<std::size_t>(kBatchTokens / tokens, static_cast<std::size_t>(thread_count()));
}

BlockPass::BlockPass(const Forward& forward, ViewF hidden, std::size_t tokens)
    : forward_(forward), hidden_(hidden), tokens_(tokens) {
  if (tokens == 0 || hidden.rows() % tokens != 0)
    fail(ErrorKind::internal, "{} hidden states are not windows of {}", hidden.rows(), tokens);
}

template <typename Body>
InputStatistics BlockPass::collect(std::size_t width, Body&& body) {
  InputStatistics statistics(width);
  const std::size_t step = batch_windows(tokens_) * tokens_;
  MatrixF inputs(std::min(step, hidden_.rows()), width);
  for (std::size_t first = 0; first < hidden_.rows(); first += step) {
    const std::size_t rows = std::min(step, hidden_.rows() - first);
    for_windows(hidden_.row_range(first, rows), tokens_,
                [&](std::size_t w, ViewF states) { body(states, inputs.view().row_range(w * tokens_, tokens_)); });
    add_windows(statistics, inputs.view().row_range(0, rows), tokens_);
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
  const std::size_t ffn = weights[LinearSlot::down].weight->shape().cols;
  switch (stage) {
    case Stage::qkv:
      return collect(architecture.hidden, [&](ViewF x, ViewF input) { forward_.stage_input_qkv(weights, x, input); });
    case Stage::o:
      return collect(architecture.q_width(), [&](ViewF x, ViewF input) {
        const auto work = scratch_.borrow();
        MatrixF normed(x.shape());
        forward_.stage_input_qkv(weights, x, normed);
        forward_.attention_mix(weights, normed, input, *work);
      });
    case Stage::gate_up:
      return collect(architecture.hidden, [&](ViewF x, ViewF input) {
        add_attention(weights, x);
        forward_.stage_input_mlp(weights, x, input);
      });
    case Stage::down:
      return collect(ffn, [&](ViewF x, ViewF input) {
        const auto work = scratch_.borrow();
        MatrixF normed(x.shape());
        forward_.stage_input_mlp(weights, x, normed);
        forward_.mlp_hidden(weights, normed, input, *work);
      });
  }
  fail(ErrorKind::internal, "unknown stage");
}

void BlockPass::add_attention(const BlockWeights& weights, ViewF x) {
  const auto work = scratch_.borrow();
  MatrixF normed(x.shape());
  MatrixF mix(x.rows(), forward_.architecture().q_width());
  forward_.stage_input_qkv(weights, x, normed);
  forward_.attention_mix(weights, normed, mix, *work);
  forward_.add_attention(weights, mix, x, *work);
}

void BlockPass::pass_by(Stage stage, const BlockWeights& weights) {
  take_turn(static_cast<std::size_t>(stage));
  if (stage != Stage::gate_up) return;
  for_windows(hidden_, tokens_, [&](std::size_t, ViewF x) { add_attention(weights, x); });
}

void BlockPass::finish(const BlockWeights& weights) {
  take_turn(kStages.size());
  const std::size_t ffn = weights[LinearSlot::down].weight->shape().cols;
  for_windows(hidden_, tokens_, [&](std::size_t, ViewF x) {
    const auto work = scratch_.borrow();
    MatrixF normed(x.shape());
    MatrixF inner(x.rows(), ffn);
    forward_.stage_input_mlp(weights, x, normed);
    forward_.mlp_hidden(weights, normed, inner, *work);
    forward_.add_mlp(weights, inner, x, *work);
  });
}

void run_block(const Forward& forward, const BlockWeights& weights, std::size_t tokens, ViewF hidden) {
  Pool<Workspace> scratch;
  for_windows(hidden, tokens, [&](std::size_t, ViewF x) { forward.run_block(weights, x, *scratch.borrow()); });
}

InputStatistics measure_head_input(const Forward& forward, std::span<const float> final_norm, std::size_t tokens,
                                   ConstViewF hidden) {
  InputStatistics statistics(forward.architecture().hidden);
  MatrixF normed(tokens, hidden.cols());
  for (std::size_t first = 0; first < hidden.rows(); first += tokens) {
    forward.final_norm(final_norm, hidden.row_range(first, tokens), normed);
    add_windows(statistics, normed, tokens);
  }
  return statistics;
}

MatrixF embed_windows(const Architecture& architecture, const CompressedTensor& embedding,
                      std::span<const std::int32_t> ids) {
  MatrixF hidden(ids.size(), architecture.hidden);
  embed(embedding, ids, hidden);
  return hidden;
}

}  // namespace adze
