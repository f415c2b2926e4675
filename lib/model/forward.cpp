#include "model/forward.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "linalg/gemm.h"
#include "linalg/vector_math.h"
#include "model/attention.h"
#include "model/norm.h"

namespace adze {
namespace {

// Output rows decoded at a time: 256 x 4096 floats are 4 MiB, a share of a last-level cache, and wide enough that the
// product runs at full speed.
constexpr std::size_t kTileRows = 256;

void add_bias(std::span<const float> bias, ViewF y) {
  for (std::size_t r = 0; r < y.rows(); ++r) {
    const auto row = y.row(r);
    for (std::size_t c = 0; c < row.size(); ++c) row[c] += bias[c];
  }
}

void add_rows(ConstViewF added, ViewF x) {
  for (std::size_t r = 0; r < x.rows(); ++r)
    for (std::size_t c = 0; c < x.cols(); ++c) x(r, c) += added(r, c);
}

/// x as the product with this weight takes it: itself, or a rounded copy in work.rounded.
ConstViewF rounded_for(const CompressedTensor& weight, ConstViewF x, Activations activations, Workspace& work) {
  if (activations == Activations::exact) return x;  // the name of a format is not free
  const auto rounding = rounding_for(weight.format(), activations);
  if (!rounding) return x;
  const ViewF rounded = scratch(work.rounded, x.shape());
  for (std::size_t t = 0; t < x.rows(); ++t) round_activations(*rounding, x.row(t), rounded.row(t));
  return rounded;
}

}  // namespace

ViewF scratch(std::vector<float>& buffer, Shape shape) {
  if (buffer.size() < shape.count()) buffer.resize(shape.count());
  return {buffer.data(), shape};
}

void linear(ConstViewF x, const CompressedTensor& weight, std::span<const float> bias, ViewF y, Workspace& work,
            bool accumulate) {
  const Shape shape = weight.shape();
  assert(x.cols() == shape.cols && y.rows() == x.rows() && y.cols() == shape.rows);
  assert(bias.empty() || bias.size() == shape.rows);
  for (std::size_t first = 0; first < shape.rows; first += kTileRows) {
    const std::size_t count = std::min(kTileRows, shape.rows - first);
    const ViewF tile = scratch(work.tile, {count, shape.cols});
    weight.decode_rows(first, count, {tile.data(), tile.shape().count()});
    multiply_nt(x, tile, y.col_range(first, count), accumulate);
  }
  if (!bias.empty()) add_bias(bias, y);
}

Forward::Forward(const Architecture& architecture, std::size_t max_tokens, Activations activations)
    : architecture_(architecture),
      norm_{architecture.norm_eps, architecture.info().norm_offset},
      activations_(activations) {
  const std::size_t head_dim = architecture.head_dim, rotated = architecture.rotated();
  if (!architecture.learns_positions()) rope_.emplace(architecture.rope, head_dim, rotated, max_tokens);
  if (architecture.sliding_rope) sliding_rope_.emplace(*architecture.sliding_rope, head_dim, rotated, max_tokens);
}

void Forward::embed(const InputTables& tables, std::span<const std::int32_t> ids, ViewF x) const {
  std::vector<std::size_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), std::size_t{0});
  embed(tables, ids, positions, x);
}

void Forward::embed(const InputTables& tables, std::span<const std::int32_t> ids,
                    std::span<const std::size_t> positions, ViewF x) const {
  const Shape shape = tables.tokens->shape();
  assert(x.rows() == ids.size() && positions.size() == ids.size() && x.cols() == shape.cols);
  const auto scale = static_cast<float>(architecture_.embedding_scale);
  for (std::size_t t = 0; t < ids.size(); ++t) {
    if (ids[t] < 0 || static_cast<std::size_t>(ids[t]) >= shape.rows)
      fail(ErrorKind::bad_data, "token id {} at position {} is outside the vocabulary of {}", ids[t], positions[t],
           shape.rows);
    tables.tokens->decode_rows(static_cast<std::size_t>(ids[t]), 1, x.row(t));
    if (scale != 1.0f) multiply_by(scale, x.row(t));
  }
  if (architecture_.learns_positions()) add_positions(tables.positions, positions, x);
}

void Forward::add_positions(const TensorPtr& table, std::span<const std::size_t> positions, ViewF x) const {
  if (!table)
    fail(ErrorKind::internal, "{} has learned positions, and no table of them was given", architecture_.family);
  std::vector<float> row(x.cols());
  for (std::size_t t = 0; t < positions.size(); ++t) {
    if (positions[t] >= architecture_.max_positions)
      fail(ErrorKind::bad_data, "position {} is none of the {} that the model has learned", positions[t],
           architecture_.max_positions);
    table->decode_rows(positions[t] + architecture_.info().positions.offset, 1, row);
    for (std::size_t c = 0; c < row.size(); ++c) x(t, c) += row[c];
  }
}

void Forward::apply(const Linear& layer, ConstViewF x, ViewF y, Workspace& work, bool accumulate) const {
  linear(rounded_for(*layer.weight, x, activations_, work), *layer.weight, layer.bias, y, work, accumulate);
}

AttentionShape Forward::attention_shape(const BlockWeights& block) const {
  const Architecture& a = architecture_;
  AttentionShape shape{a.heads, a.kv_heads, a.head_dim, block.sees_all ? 0 : a.sliding_window};
  if (a.score_scalar != 0) shape.scale = static_cast<float>(1.0 / std::sqrt(a.score_scalar));
  shape.cap = static_cast<float>(a.attention_cap);
  return shape;
}

/// nullptr where positions are learned.
const RopeTable* Forward::rope(const BlockWeights& block) const {
  if (!rope_) return nullptr;
  return sliding_rope_ && !block.sees_all ? &*sliding_rope_ : &*rope_;
}

void Forward::normalise(std::span<const float> weight, std::span<const float> bias, ConstViewF x, ViewF out) const {
  if (architecture_.info().norm_kind == NormKind::layer) return layer_norm(x, weight, bias, norm_.eps, out);
  rms_norm(x, weight, norm_, out);
}

/// Where the family has no such norm, a copy.
void Forward::normalise(const BlockWeights& block, NormSlot slot, ConstViewF x, ViewF out) const {
  if (!block[slot].empty()) return normalise(block[slot], block.bias_of(slot), x, out);
  if (x.data() == out.data()) return;
  for (std::size_t r = 0; r < x.rows(); ++r) std::ranges::copy(x.row(r), out.row(r).begin());
}

void Forward::normalise_heads(const BlockWeights& block, ViewF q, ViewF k) const {
  if (!block[NormSlot::queries].empty()) rms_norm_parts(block[NormSlot::queries], norm_, q);
  if (!block[NormSlot::keys].empty()) rms_norm_parts(block[NormSlot::keys], norm_, k);
}

/// x += the output of a linear, or its norm.
void Forward::add_output(const BlockWeights& block, LinearSlot slot, NormSlot after, ConstViewF in, ViewF x,
                         Workspace& work) const {
  if (block[after].empty()) return apply(block[slot], in, x, work, true);
  const ViewF output = scratch(work.output, x.shape());
  apply(block[slot], in, output, work);
  normalise(block, after, output, output);
  add_rows(output, x);
}

void Forward::stage_input_qkv(const BlockWeights& block, ConstViewF x, ViewF out) const {
  normalise(block, NormSlot::before_attention, x, out);
}

void Forward::attention_mix(const BlockWeights& block, ConstViewF normed, ViewF out, Workspace& work) const {
  const std::size_t tokens = normed.rows();
  const ViewF q = scratch(work.first, {tokens, architecture_.q_width()});
  const ViewF k = scratch(work.second, {tokens, architecture_.kv_width()});
  const ViewF v = scratch(work.third, {tokens, architecture_.kv_width()});
  apply(block[LinearSlot::q], normed, q, work);
  apply(block[LinearSlot::k], normed, k, work);
  apply(block[LinearSlot::v], normed, v, work);
  normalise_heads(block, q, k);
  if (const RopeTable* const table = rope(block)) {
    table->rotate(q);
    table->rotate(k);
  }
  work.cache.add({largest_magnitude({k.data(), k.shape().count()}), largest_magnitude({v.data(), v.shape().count()})});
  attention(q, k, v, attention_shape(block), out, work.scores);
}

void Forward::add_attention(const BlockWeights& block, ConstViewF mix, ViewF x, Workspace& work) const {
  add_output(block, LinearSlot::o, NormSlot::after_attention, mix, x, work);
}

void Forward::stage_input_mlp(const BlockWeights& block, ConstViewF x, ViewF out) const {
  normalise(block, NormSlot::before_ffn, x, out);
}

/// out = activation(gate(in)) * up(in), or activation(up(in)) where there is no gate.
void Forward::gated(const Linear& gate, const Linear& up, ConstViewF in, ViewF out, Workspace& work) const {
  apply(up, in, out, work);
  if (!gate.weight) return activate(architecture_.activation, out);
  const ViewF opened = scratch(work.first, out.shape());
  apply(gate, in, opened, work);
  apply_gate(architecture_.activation, opened, out);
}

void Forward::mlp_hidden(const BlockWeights& block, ConstViewF normed, ViewF out, Workspace& work) const {
  gated(block[LinearSlot::gate], block[LinearSlot::up], normed, out, work);
}

void Forward::add_mlp(const BlockWeights& block, ConstViewF hidden, ViewF x, Workspace& work) const {
  add_output(block, LinearSlot::down, NormSlot::after_ffn, hidden, x, work);
}

Routing Forward::route(const BlockWeights& block, ConstViewF normed, Workspace& work) const {
  const ViewF logits = scratch(work.routed, {normed.rows(), architecture_.experts});
  apply(block[LinearSlot::router], normed, logits, work);
  return route_tokens(architecture_, logits);
}

void Forward::expert_hidden(const BlockWeights& block, std::size_t expert, ConstViewF rows, ViewF out,
                            Workspace& work) const {
  gated(block[LinearSlot(LinearSlot::gate, expert)], block[LinearSlot(LinearSlot::up, expert)], rows, out, work);
}

/// output += what the experts make of their tokens, one expert after the other.
void Forward::add_experts(const BlockWeights& block, ConstViewF normed, ViewF output, Workspace& work) const {
  const Routing routing = route(block, normed, work);
  for (std::size_t e = 0; e < routing.size(); ++e) {
    const std::vector<RoutedToken>& tokens = routing[e];
    if (tokens.empty()) continue;
    const ViewF rows = scratch(work.routed, {tokens.size(), normed.cols()});
    for (std::size_t i = 0; i < tokens.size(); ++i) std::ranges::copy(normed.row(tokens[i].row), rows.row(i).begin());
    const ViewF hidden = scratch(work.inner, {tokens.size(), architecture_.expert_ffn});
    expert_hidden(block, e, rows, hidden, work);
    const ViewF part = scratch(work.part, rows.shape());
    apply(block[LinearSlot(LinearSlot::down, e)], hidden, part, work);
    for (std::size_t i = 0; i < tokens.size(); ++i)
      for (std::size_t c = 0; c < part.cols(); ++c) output(tokens[i].row, c) += tokens[i].weight * part(i, c);
  }
}

/// output += sigmoid(router(normed)) times what the shared expert makes of it.
void Forward::add_shared_expert(const BlockWeights& block, ConstViewF normed, ViewF output, Workspace& work) const {
  const ViewF hidden = scratch(work.inner, {normed.rows(), architecture_.shared_ffn});
  mlp_hidden(block, normed, hidden, work);
  const ViewF part = scratch(work.part, normed.shape());
  apply(block[LinearSlot::down], hidden, part, work);
  const ViewF opened = scratch(work.routed, {normed.rows(), 1});
  apply(block[LinearSlot::shared_router], normed, opened, work);
  for (std::size_t t = 0; t < part.rows(); ++t) {
    const float factor = 1.0f / (1.0f + std::exp(-opened(t, 0)));
    for (std::size_t c = 0; c < part.cols(); ++c) output(t, c) += factor * part(t, c);
  }
}

void Forward::add_ffn(const BlockWeights& block, ConstViewF normed, ViewF x, Workspace& work) const {
  if (!architecture_.is_mixture()) {
    const ViewF hidden = scratch(work.inner, {normed.rows(), block[LinearSlot::down].weight->shape().cols});
    mlp_hidden(block, normed, hidden, work);
    return add_mlp(block, hidden, x, work);
  }
  const ViewF output = scratch(work.output, x.shape());
  for (std::size_t t = 0; t < output.rows(); ++t) std::ranges::fill(output.row(t), 0.0f);
  add_experts(block, normed, output, work);
  if (architecture_.shared_ffn > 0) add_shared_expert(block, normed, output, work);
  normalise(block, NormSlot::after_ffn, output, output);
  add_rows(output, x);
}

void Forward::run_block(const BlockWeights& block, ViewF x, Workspace& work) const {
  const std::size_t tokens = x.rows();
  const ViewF normed = scratch(work.normed, x.shape());
  stage_input_qkv(block, x, normed);
  const ViewF mix = scratch(work.inner, {tokens, architecture_.q_width()});
  attention_mix(block, normed, mix, work);
  add_attention(block, mix, x, work);
  stage_input_mlp(block, x, normed);
  add_ffn(block, normed, x, work);
}

void Forward::run_block_step(const BlockWeights& block, ViewF x, std::span<KeyValueCache* const> caches,
                             Workspace& work) const {
  assert(x.rows() == caches.size());
  const ViewF normed = scratch(work.normed, x.shape());
  stage_input_qkv(block, x, normed);
  const ViewF q = scratch(work.first, {x.rows(), architecture_.q_width()});
  const ViewF k = scratch(work.second, {x.rows(), architecture_.kv_width()});
  const ViewF v = scratch(work.third, {x.rows(), architecture_.kv_width()});
  apply(block[LinearSlot::q], normed, q, work);
  apply(block[LinearSlot::k], normed, k, work);
  apply(block[LinearSlot::v], normed, v, work);
  normalise_heads(block, q, k);
  const ViewF mix = scratch(work.inner, {x.rows(), architecture_.q_width()});
  for (std::size_t r = 0; r < x.rows(); ++r) {
    KeyValueCache& cache = *caches[r];
    if (const RopeTable* const table = rope(block)) {
      table->rotate_row(cache.tokens, q.row(r));
      table->rotate_row(cache.tokens, k.row(r));
    }
    std::ranges::copy(k.row(r), cache.keys.row(cache.tokens).begin());
    std::ranges::copy(v.row(r), cache.values.row(cache.tokens).begin());
    ++cache.tokens;
    attend_last(q.row_range(r, 1), cache.keys.view().row_range(0, cache.tokens),
                cache.values.view().row_range(0, cache.tokens), attention_shape(block), mix.row_range(r, 1),
                work.scores);
  }
  add_attention(block, mix, x, work);
  stage_input_mlp(block, x, normed);
  add_ffn(block, normed, x, work);
}

void Forward::final_norm(const Norm& norm, ConstViewF x, ViewF out) const { normalise(norm.weight, norm.bias, x, out); }

void Forward::logits(const CompressedTensor& head, ConstViewF x, ViewF out, Workspace& work) const {
  linear(rounded_for(head, x, activations_, work), head, {}, out, work);
  if (architecture_.final_cap == 0) return;
  for (std::size_t r = 0; r < out.rows(); ++r) soft_cap(static_cast<float>(architecture_.final_cap), 1.0f, out.row(r));
}

}  // namespace adze
