#include "calibrate/block_pass.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/checked.h"
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

/// Of a narrowed model, that of the block itself.
std::size_t width_in(const Architecture& architecture, const BlockWeights& weights, Stage stage) {
  if (stage == Stage::down) return weights[LinearSlot::down].weight->shape().cols;
  return width_of(architecture, stage);
}

/// Rows of one or several streams of states over the same windows, copied together in the order of the rows, as many at
/// a time as fit the memory of some slices. Pieces depend on the rows alone, not on batches.
///
/// body(pieces): one view for each stream, which the body may change.
template <std::size_t streams, typename Body>
void for_rows(const std::array<HiddenStates*, streams>& states, std::span<const std::uint32_t> rows, Body&& body) {
  constexpr std::size_t kSlices = 8;
  const HiddenStates& first = *states.front();
  std::array<MatrixF, streams> piece;
  for (MatrixF& matrix : piece) matrix = MatrixF(std::min(rows.size(), kSlices * kSliceTokens), first.hidden());
  std::size_t filled = 0;
  const auto hand_over = [&] {
    std::array<ViewF, streams> views;
    for (std::size_t s = 0; s < streams; ++s) views[s] = piece[s].view().row_range(0, filled);
    body(views);
    filled = 0;
  };
  auto next = rows.begin();
  for (std::size_t b = 0; b < first.batches() && next != rows.end(); ++b) {
    const std::size_t begin = first.first_window(b) * first.tokens();
    const std::size_t end = begin + first.windows_of(b) * first.tokens();
    if (*next >= end) continue;
    std::array<ViewF, streams> loaded;
    for (std::size_t s = 0; s < streams; ++s) loaded[s] = states[s]->load(b);
    for (; next != rows.end() && *next < end; ++next) {
      for (std::size_t s = 0; s < streams; ++s)
        std::ranges::copy(loaded[s].row(*next - begin), piece[s].row(filled).begin());
      if (++filled == piece.front().rows()) hand_over();
    }
  }
  if (filled > 0) hand_over();
}

/// Calls body(first row, rows) for the slices of `count` rows, in parallel.
template <typename Body>
void for_row_slices(std::size_t count, Body&& body) {
  parallel_for((count + kSliceTokens - 1) / kSliceTokens, [&](std::size_t i) {
    const std::size_t first = i * kSliceTokens;
    body(first, std::min(kSliceTokens, count - first));
  });
}

}  // namespace

BlockPass::BlockPass(const Forward& forward, HiddenStates& states, ExpertInputs experts)
    : forward_(forward),
      states_(states),
      experts_(experts),
      stages_(stages_of(forward.architecture())),
      routed_(forward.architecture().experts) {}

void BlockPass::take_turn(Stage stage) {
  if (next_ >= stages_.size() || stages_[next_] != stage)
    fail(ErrorKind::internal, "stage {} of a block's pass is called when step {} of {} is due", name_of(stage), next_,
         stages_.size());
  if (stage.is_expert() && stage.kind == Stage::gate_up) choose_tokens(static_cast<std::size_t>(stage.expert));
  ++next_;
}

/// Of a stage of the whole block.
ViewF BlockPass::inputs_of(std::size_t batch, Stage stage, const BlockWeights& weights) {
  const std::size_t tokens = states_.tokens();
  const ViewF states = states_.load(batch);
  const std::size_t width = width_in(forward_.architecture(), weights, stage);
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
  const ViewF inputs = inputs_.view().row_range(0, states.rows());
  if (stage == Stage::gate_up) {
    route(batch, inputs, weights);
    states_.store(batch);
  }
  return inputs;
}

/// Remembers where the tokens of a batch go.  normed: their inputs of {gate, up}.
void BlockPass::route(std::size_t batch, ConstViewF normed, const BlockWeights& weights) {
  if (routed_.empty()) return;
  const std::size_t tokens = states_.tokens(), windows = states_.windows_of(batch);
  std::vector<Routing> routing(windows);
  Pool<Workspace> scratch;
  parallel_for(windows, [&](std::size_t w) {
    routing[w] = forward_.route(weights, normed.row_range(w * tokens, tokens), *scratch.borrow());
  });
  for (std::size_t w = 0; w < windows; ++w) {
    const std::size_t first = (states_.first_window(batch) + w) * tokens;
    for (std::size_t e = 0; e < routed_.size(); ++e)
      for (const RoutedToken& token : routing[w][e])
        routed_[e].push_back(checked_cast<std::uint32_t>(first + token.row));
  }
}

void BlockPass::choose_tokens(std::size_t expert) {
  const Architecture& a = forward_.architecture();
  const std::size_t rows = states_.layout().shape().rows, inputs = std::max(a.hidden, a.expert_ffn);
  tokens_ = tokens_of_expert(std::exchange(routed_[expert], {}), rows, inputs, experts_);
}

/// rows: states before the FFN of tokens of the stage's expert, [any x hidden]; they are normalised.
MatrixF BlockPass::expert_inputs(Stage stage, const BlockWeights& weights, ViewF rows) const {
  const auto expert = static_cast<std::size_t>(stage.expert);
  MatrixF inputs(rows.rows(), width_of(forward_.architecture(), stage));
  Pool<Workspace> scratch;
  for_row_slices(rows.rows(), [&](std::size_t first, std::size_t count) {
    const ViewF slice = rows.row_range(first, count), out = inputs.view().row_range(first, count);
    if (stage.kind == Stage::gate_up) return forward_.stage_input_mlp(weights, slice, out);
    forward_.stage_input_mlp(weights, slice, slice);
    forward_.expert_hidden(weights, expert, slice, out, *scratch.borrow());
  });
  return inputs;
}

InputStatistics BlockPass::measure_expert(Stage stage, const BlockWeights& weights) {
  InputStatistics statistics(width_of(forward_.architecture(), stage));
  for_rows(std::array{&states_}, tokens_.rows, [&](const std::array<ViewF, 1>& rows) {
    statistics.add(expert_inputs(stage, weights, rows[0]), kSliceTokens);
  });
  statistics.borrowed = tokens_.borrowed;
  return statistics;
}

/// The reference's inputs are those of the same tokens, wherever its own router sends them.
ReferencedStatistics BlockPass::measure_expert_against(const BlockPass& reference,
                                                       const BlockWeights& reference_weights, Stage stage,
                                                       const BlockWeights& weights) {
  const std::size_t width = width_of(forward_.architecture(), stage);
  ReferencedStatistics statistics{InputStatistics(width), MatrixD(width, width), {}};
  for_rows(std::array{&states_, &reference.states_}, tokens_.rows, [&](const std::array<ViewF, 2>& rows) {
    const MatrixF inputs = expert_inputs(stage, weights, rows[0]);
    MatrixF away = reference.expert_inputs(stage, reference_weights, rows[1]);
    statistics.inputs.add(inputs, kSliceTokens);
    subtract(away, inputs);
    require_finite(away);
    add_cross_moment(away, inputs, kSliceTokens, statistics.cross);
  });
  statistics.inputs.borrowed = tokens_.borrowed;
  return statistics;
}

InputStatistics BlockPass::measure(Stage stage, const BlockWeights& weights) {
  take_turn(stage);
  if (stage.is_expert()) return measure_expert(stage, weights);
  InputStatistics statistics;
  for (std::size_t b = 0; b < states_.batches(); ++b) {
    const ViewF inputs = inputs_of(b, stage, weights);
    if (b == 0) statistics = InputStatistics(inputs.cols());
    add_inputs(statistics, inputs, states_.tokens());
  }
  inputs_ = {};  // the caller solves now, and needs the memory
  return statistics;
}

void BlockPass::measure_all(const BlockWeights& weights,
                            const std::function<void(Stage, const InputStatistics&)>& take) {
  const Architecture& a = forward_.architecture();
  std::vector<Stage> common = stages_;
  std::erase_if(common, [](Stage stage) { return stage.is_expert(); });
  for (const Stage stage : common) take_turn(stage);
  std::vector<InputStatistics> statistics(common.size());
  std::vector<MatrixF> inputs(common.size());
  const std::size_t tokens = states_.tokens();
  Pool<Workspace> scratch;
  for (std::size_t b = 0; b < states_.batches(); ++b) {
    const ViewF states = states_.load(b);
    for (std::size_t s = 0; s < inputs.size(); ++s)
      if (inputs[s].rows() < states.rows()) inputs[s] = MatrixF(states.rows(), width_in(a, weights, common[s]));
    for_windows(states, tokens, [&](std::size_t w, ViewF x) {
      const auto of = [&](Stage stage) {  // `common` begins with the first four kinds
        return inputs[stage.kind].view().row_range(w * tokens, tokens);
      };
      const auto borrowed = scratch.borrow();
      Workspace& work = *borrowed;
      forward_.stage_input_qkv(weights, x, of(Stage::qkv));
      forward_.attention_mix(weights, of(Stage::qkv), of(Stage::o), work);
      forward_.add_attention(weights, of(Stage::o), x, work);
      forward_.stage_input_mlp(weights, x, of(Stage::gate_up));
      if (a.common_ffn() > 0) forward_.mlp_hidden(weights, of(Stage::gate_up), of(Stage::down), work);
      if (!a.is_mixture()) forward_.add_mlp(weights, of(Stage::down), x, work);
    });
    route(b, inputs[Stage::gate_up].view().row_range(0, states.rows()), weights);
    states_.store(b);
    if (b == 0)
      for (std::size_t s = 0; s < common.size(); ++s) statistics[s] = InputStatistics(inputs[s].cols());
    for_slices(states.rows(), tokens, [&](std::size_t first, std::size_t count, std::size_t slice) {
      std::vector<InputRows> rows;
      for (std::size_t s = 0; s < common.size(); ++s)
        rows.push_back({&statistics[s], inputs[s].view().row_range(first, count), name_of(common[s])});
      add_together(rows, slice);
    });
  }
  add_maxima(scratch, cache_);
  inputs.clear();
  for (std::size_t s = 0; s < common.size(); ++s) take(common[s], std::exchange(statistics[s], {}));
  for (const Stage stage : std::span(stages_).subspan(common.size()))
    take(stage, with_context(fmt::format("input of {}", name_of(stage)), [&] { return measure(stage, weights); }));
  if (a.is_mixture()) return finish(weights);
  ++next_;  // finish() was done on the way
}

ReferencedStatistics BlockPass::measure_against(BlockPass& reference, const BlockWeights& reference_weights,
                                                Stage stage, const BlockWeights& weights) {
  take_turn(stage);
  reference.take_turn(stage);
  if (stage.is_expert()) return measure_expert_against(reference, reference_weights, stage, weights);
  const NormSlot after = stage == Stage::o ? NormSlot::after_attention : NormSlot::after_ffn;
  const bool is_added = stage == Stage::o || (stage == Stage::down && !forward_.architecture().is_mixture());
  const bool joins_states = is_added && weights[after].empty();
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
  take_turn(stage);
  if (stage != Stage::gate_up) return;
  if (!routed_.empty()) {  // experts may be measured, and need their inputs to be sent to them
    for (std::size_t b = 0; b < states_.batches(); ++b) inputs_of(b, stage, weights);
    inputs_ = {};
    return;
  }
  cache_.add(update_windows(states_, [&](ViewF x, Workspace& work) { add_attention(forward_, weights, x, work); }));
}

void BlockPass::finish(const BlockWeights& weights) {
  if (next_ != stages_.size())
    fail(ErrorKind::internal, "a block's pass is finished when step {} of {} is due", next_, stages_.size());
  ++next_;
  update_windows(states_, [&](ViewF x, Workspace& work) {
    MatrixF normed(x.shape());
    forward_.stage_input_mlp(weights, x, normed);
    forward_.add_ffn(weights, normed, x, work);
  });
}

CacheMaxima run_block(const Forward& forward, const BlockWeights& weights, HiddenStates& states) {
  return update_windows(states, [&](ViewF x, Workspace& work) { forward.run_block(weights, x, work); });
}

InputStatistics measure_head_input(const Forward& forward, const Norm& norm, HiddenStates& states) {
  InputStatistics statistics(forward.architecture().hidden);
  MatrixF normed;
  for (std::size_t b = 0; b < states.batches(); ++b) {
    const ViewF x = states.load(b);
    if (normed.rows() < x.rows()) normed = MatrixF(x.shape());
    const ViewF inputs = normed.view().row_range(0, x.rows());
    for_windows(x, states.tokens(), [&](std::size_t w, ViewF window) {
      forward.final_norm(norm, window, inputs.row_range(w * states.tokens(), states.tokens()));
    });
    add_inputs(statistics, inputs, states.tokens());
  }
  return statistics;
}

void embed_windows(const Forward& forward, const InputTables& tables, std::span<const std::int32_t> ids,
                   HiddenStates& states) {
  for (std::size_t b = 0; b < states.batches(); ++b) {
    const ViewF x = states.load(b);
    const std::span<const std::int32_t> batch = ids.subspan(states.first_window(b) * states.tokens(), x.rows());
    for_windows(x, states.tokens(), [&](std::size_t w, ViewF window) {
      forward.embed(tables, batch.subspan(w * states.tokens(), states.tokens()), window);
    });
    states.store(b);
  }
}

}  // namespace adze
