// The forward pass over one window of tokens, in float32, over weights in whatever form they are stored.
//
// It is cut into stages so that calibration can look at each stage's input and go on with other weights: every function
// takes the block it shall use, and run_block is nothing but the stages in order. Each call works on one window from
// position 0 on, single-threaded; callers run windows in parallel, one Workspace each. All product shapes depend on the
// window and the model only, so results do not depend on the number of threads. Measuring text needs no cache of keys
// and values; writing it does: run_block_step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "grid/compressed_tensor.h"
#include "model/activations.h"
#include "model/architecture.h"
#include "model/attention.h"
#include "model/mixture.h"
#include "model/norm.h"
#include "model/rope.h"
#include "model/weights.h"

namespace adze {

/// Scratch memory of one call at a time: grows to the largest window it has seen. Contents mean nothing between calls,
/// but for `cache`, of all calls.
/// Loops over windows take theirs from a Pool (model/pool.h).
struct Workspace {
  std::vector<float> tile;     ///< decoded rows of a weight
  std::vector<float> first;    ///< q, or the gate
  std::vector<float> second;   ///< k
  std::vector<float> third;    ///< v
  std::vector<float> scores;   ///< attention of one tile of queries
  std::vector<float> normed;   ///< run_block: input of {q, k, v} and of {gate, up}
  std::vector<float> inner;    ///< run_block: input of {o} and of {down}
  std::vector<float> rounded;  ///< inputs of one product, where activations are rounded
  std::vector<float> output;   ///< of {o} or {down}, where it is normalised; of a mixture
  std::vector<float> routed;   ///< inputs of the tokens of one expert; logits of a router
  std::vector<float> part;     ///< output of one expert
  CacheMaxima cache;           ///< of all keys and values so far
};

/// A matrix in a scratch buffer, which grows as needed; its contents are arbitrary.
ViewF scratch(std::vector<float>& buffer, Shape shape);

/// y = x W^T + b, or y += x W^T + b.  x: [tokens x in], weight: [out x in], bias: [out] or empty, y: [tokens x out].
void linear(ConstViewF x, const CompressedTensor& weight, std::span<const float> bias, ViewF y, Workspace& work,
            bool accumulate = false);

/// Rotated keys and values of one sequence at one block.
struct KeyValueCache {
  KeyValueCache(const Architecture& architecture, std::size_t capacity)
      : keys(capacity, architecture.kv_width()), values(capacity, architecture.kv_width()) {}

  MatrixF keys, values;    ///< [capacity x kv_width]
  std::size_t tokens = 0;  ///< that are there
};

/// The pass of one architecture for windows of up to `max_tokens`. Immutable: share it among threads.
class Forward {
 public:
  /// activations: how inputs of products are rounded first (model/activations.h); only for judging what runtimes do.
  Forward(const Architecture& architecture, std::size_t max_tokens, Activations activations = Activations::exact);

  const Architecture& architecture() const { return architecture_; }

  /// x[t] = embedding row ids[t], scaled, plus that of position t where positions are learned.  x: [ids.size() x
  /// hidden]. Throws bad_data for an id outside the vocabulary and a position that none is learned of.
  void embed(const InputTables& tables, std::span<const std::int32_t> ids, ViewF x) const;
  /// The same of tokens at other positions.  positions: [ids.size()].
  void embed(const InputTables& tables, std::span<const std::int32_t> ids, std::span<const std::size_t> positions,
             ViewF x) const;

  /// Input of {q, k, v}: out = norm(x), or x where the family has no norm there.  x, out: [tokens x hidden]; they may
  /// be the same.
  void stage_input_qkv(const BlockWeights& block, ConstViewF x, ViewF out) const;
  /// Input of {o}: projections, RoPE and attention.  normed: [tokens x hidden], out: [tokens x heads * head_dim].
  void attention_mix(const BlockWeights& block, ConstViewF normed, ViewF out, Workspace& work) const;
  /// x += o(mix), or its norm.
  void add_attention(const BlockWeights& block, ConstViewF mix, ViewF x, Workspace& work) const;
  /// Input of {gate, up}: out = norm(x), or x.  x, out: [tokens x hidden]; they may be the same.
  void stage_input_mlp(const BlockWeights& block, ConstViewF x, ViewF out) const;
  /// Input of {down}: out = activation(gate(normed)) * up(normed), without a gate activation(up(normed)).  out: [tokens
  /// x ffn of the block].
  void mlp_hidden(const BlockWeights& block, ConstViewF normed, ViewF out, Workspace& work) const;
  /// x += down(hidden), or its norm.
  void add_mlp(const BlockWeights& block, ConstViewF hidden, ViewF x, Workspace& work) const;

  /// x += the FFN of normed, or its norm: gate, up and down, or experts.  normed, x: [tokens x hidden].
  void add_ffn(const BlockWeights& block, ConstViewF normed, ViewF x, Workspace& work) const;

  /// In mixtures: the tokens that go to each expert.  normed: [tokens x hidden].
  Routing route(const BlockWeights& block, ConstViewF normed, Workspace& work) const;
  /// Input of an expert's {down}.  rows: [any x hidden], out: [as many x expert_ffn].
  void expert_hidden(const BlockWeights& block, std::size_t expert, ConstViewF rows, ViewF out, Workspace& work) const;

  /// All of the above: x: [tokens x hidden], from one block's input to the next one's.
  void run_block(const BlockWeights& block, ViewF x, Workspace& work) const;

  /// One token of several sequences: row r of x is the next one of sequence r, whose cache it joins.  x: [sequences x
  /// hidden]. The caches must have room.
  void run_block_step(const BlockWeights& block, ViewF x, std::span<KeyValueCache* const> caches,
                      Workspace& work) const;

  /// out = norm(x) before the head.  x, out: [tokens x hidden]; they may be the same.
  void final_norm(const Norm& norm, ConstViewF x, ViewF out) const;
  /// out = x head^T.  x: [rows x hidden] after final_norm, out: [rows x vocab].
  void logits(const CompressedTensor& head, ConstViewF x, ViewF out, Workspace& work) const;

 private:
  void apply(const Linear& layer, ConstViewF x, ViewF y, Workspace& work, bool accumulate = false) const;
  void add_positions(const TensorPtr& table, std::span<const std::size_t> positions, ViewF x) const;
  void normalise(std::span<const float> weight, std::span<const float> bias, ConstViewF x, ViewF out) const;
  void normalise(const BlockWeights& block, NormSlot slot, ConstViewF x, ViewF out) const;
  void normalise_heads(const BlockWeights& block, ViewF q, ViewF k) const;
  void add_output(const BlockWeights& block, LinearSlot slot, NormSlot after, ConstViewF in, ViewF x,
                  Workspace& work) const;
  void gated(const Linear& gate, const Linear& up, ConstViewF in, ViewF out, Workspace& work) const;
  void add_experts(const BlockWeights& block, ConstViewF normed, ViewF output, Workspace& work) const;
  void add_shared_expert(const BlockWeights& block, ConstViewF normed, ViewF output, Workspace& work) const;
  AttentionShape attention_shape(const BlockWeights& block) const;
  const RopeTable* rope(const BlockWeights& block) const;

  Architecture architecture_;
  RmsNorm norm_;
  std::optional<RopeTable> rope_;          ///< nothing where positions are learned
  std::optional<RopeTable> sliding_rope_;  ///< Architecture::sliding_rope
  Activations activations_;
};

}  // namespace adze
