#include "calibrate/pass_memory.h"

#include <algorithm>

#include "base/checked.h"
#include "base/parallel.h"

namespace adze {
namespace {

constexpr std::uint64_t kTileRows = 256;   // model/forward.cpp: rows of a weight decoded at a time
constexpr std::uint64_t kQueryTile = 128;  // model/attention.cpp: scores of one tile of queries, at most

std::uint64_t floats(std::uint64_t count) { return checked_mul(count, sizeof(float)); }

std::uint64_t threads() { return static_cast<std::uint64_t>(thread_count()); }

/// An output that is normalised before it joins the states.
std::uint64_t output_floats(const Architecture& a, NormSlot after, std::uint64_t tokens) {
  return a.has_norm(after) ? tokens * a.hidden : 0;
}

/// Attention: q, k, v, its output and its normed input.
std::uint64_t attention_floats(const Architecture& a, std::uint64_t tokens) {
  return tokens * (2 * a.q_width() + 2 * a.kv_width() + a.hidden + kQueryTile) +
         output_floats(a, NormSlot::after_attention, tokens) + kTileRows * std::max(a.hidden, a.q_width());
}

/// The widest FFN that tokens go through.
std::uint64_t widest_ffn(const Architecture& a) {
  return a.is_mixture() ? std::max(a.expert_ffn, a.shared_ffn) : a.ffn;
}

/// The FFN: gate, its output and its normed input. Of a mixture also an expert's tokens, its output and the sum.
std::uint64_t ffn_floats(const Architecture& a, std::uint64_t tokens, bool adds_output) {
  const std::uint64_t ffn = widest_ffn(a), mixed = a.is_mixture() && adds_output ? 3 * tokens * a.hidden : 0;
  return tokens * ((adds_output ? 2 : 1) * ffn + a.hidden) + mixed +
         (adds_output ? output_floats(a, NormSlot::after_ffn, tokens) : 0) + kTileRows * (adds_output ? ffn : a.hidden);
}

}  // namespace

std::uint64_t program_bytes(const Architecture& architecture) {
  const std::uint64_t widest = std::max({architecture.hidden, architecture.q_width(), widest_ffn(architecture)});
  return kProgramBytes + threads() * kThreadBytes + widest * kBytesPerColumn;
}

std::uint64_t states_bytes(const StatesLayout& layout) {
  const std::size_t held = layout.on_disk ? std::min(layout.batch_windows, layout.windows) : layout.windows;
  return floats(checked_mul(checked_mul(held, layout.tokens), layout.hidden));
}

std::uint64_t measuring_bytes(const Architecture& architecture, Stage stage, const StatesLayout& layout) {
  const std::uint64_t windows = std::min(layout.batch_windows, layout.windows);
  const std::uint64_t inputs = width_of(architecture, stage);
  if (stage.is_expert()) {  // a piece of 8 slices of its tokens, and what becomes of them
    constexpr std::uint64_t kRows = 8 * 512;
    return floats(kRows * (architecture.hidden + inputs) +
                  threads() * (512 * architecture.expert_ffn + kTileRows * architecture.hidden));
  }
  const std::uint64_t active = std::min(threads(), windows);
  std::uint64_t scratch = 0;
  if (stage == Stage::o || stage == Stage::gate_up) scratch = attention_floats(architecture, layout.tokens);
  if (stage == Stage::down) scratch = ffn_floats(architecture, layout.tokens, false);
  return floats(windows * layout.tokens * inputs + active * scratch);
}

std::uint64_t measuring_all_bytes(const Architecture& a, const StatesLayout& layout) {
  const std::uint64_t windows = std::min(layout.batch_windows, layout.windows);
  const std::uint64_t active = std::min(threads(), windows);
  const std::uint64_t inputs = windows * layout.tokens * (2 * a.hidden + a.q_width() + a.common_ffn());
  return floats(inputs) + active * window_scratch_bytes(a, layout.tokens);
}

std::uint64_t window_scratch_bytes(const Architecture& architecture, std::size_t tokens) {
  return floats(std::max(attention_floats(architecture, tokens), ffn_floats(architecture, tokens, true)));
}

}  // namespace adze
