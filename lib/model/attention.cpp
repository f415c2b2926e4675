#include "model/attention.h"

#include <algorithm>
#include <cmath>

#include "linalg/gemm.h"
#include "linalg/vector_math.h"

namespace adze {
namespace {

constexpr std::size_t kQueryTile = 128;  // rows: a quarter of a usual window; larger tiles multiply more masked keys

std::size_t first_key(std::size_t token, std::size_t sliding_window) {
  return sliding_window != 0 && token + 1 > sliding_window ? token + 1 - sliding_window : 0;
}

/// How products of queries and keys become scores.
struct Scores {
  explicit Scores(const AttentionShape& shape)
      : scale(shape.scale != 0 ? shape.scale : 1.0f / std::sqrt(static_cast<float>(shape.head_dim))), cap(shape.cap) {}
  float scale, cap;
};

/// Turns the products of one query, of which [begin, end) are visible, into probabilities; the others become 0.
void softmax_row(std::span<float> scores, std::size_t begin, std::size_t end, const Scores& rule) {
  const auto visible = scores.subspan(begin, end - begin);
  if (rule.cap != 0) soft_cap(rule.cap, rule.scale, visible);
  const float scale = rule.cap != 0 ? 1.0f : rule.scale;
  const double sum = exp_shifted(visible, largest(visible), scale, visible);
  multiply_by(static_cast<float>(1.0 / sum), visible);
  std::ranges::fill(scores.first(begin), 0.0f);
  std::ranges::fill(scores.subspan(end), 0.0f);
}

/// One tile of queries of one head: rows [first, first + count) of q and out.
void attend(ConstViewF q, ConstViewF k, ConstViewF v, std::size_t first, std::size_t count, const AttentionShape& shape,
            ViewF out, std::span<float> memory) {
  const std::size_t sliding_window = shape.sliding_window;
  const std::size_t key_begin = first_key(first, sliding_window);
  const std::size_t key_count = first + count - key_begin;
  const ViewF scores(memory.data(), {count, key_count});
  multiply_nt(q.row_range(first, count), k.row_range(key_begin, key_count), scores);
  const Scores rule(shape);
  for (std::size_t r = 0; r < count; ++r) {
    const std::size_t token = first + r;
    softmax_row(scores.row(r), first_key(token, sliding_window) - key_begin, token + 1 - key_begin, rule);
  }
  multiply_nn(scores, v.row_range(key_begin, key_count), out.row_range(first, count));
}

}  // namespace

void attention(ConstViewF q, ConstViewF k, ConstViewF v, const AttentionShape& shape, ViewF out,
               std::vector<float>& scores) {
  const std::size_t tokens = q.rows();
  const std::size_t dim = shape.head_dim;
  assert(q.cols() == shape.heads * dim && k.cols() == shape.kv_heads * dim && v.cols() == k.cols());
  scores.resize(std::max(scores.size(), std::min(kQueryTile, tokens) * tokens));
  const std::size_t group = shape.heads / shape.kv_heads;
  for (std::size_t head = 0; head < shape.heads; ++head) {
    const std::size_t key_column = head / group * dim;
    for (std::size_t first = 0; first < tokens; first += kQueryTile)
      attend(q.col_range(head * dim, dim), k.col_range(key_column, dim), v.col_range(key_column, dim), first,
             std::min(kQueryTile, tokens - first), shape, out.col_range(head * dim, dim), scores);
  }
}

void attend_last(ConstViewF q, ConstViewF k, ConstViewF v, const AttentionShape& shape, ViewF out,
                 std::vector<float>& scores) {
  const std::size_t dim = shape.head_dim, group = shape.heads / shape.kv_heads;
  const std::size_t begin = first_key(k.rows() - 1, shape.sliding_window), keys = k.rows() - begin;
  scores.resize(std::max(scores.size(), group * keys));
  const Scores rule(shape);
  for (std::size_t head = 0; head < shape.kv_heads; ++head) {
    // The queries that read this head lie side by side: as rows they are one product.
    const ConstViewF queries(q.row(0).data() + head * group * dim, {group, dim});
    const ViewF of_group(scores.data(), {group, keys});
    multiply_nt(queries, k.row_range(begin, keys).col_range(head * dim, dim), of_group);
    for (std::size_t r = 0; r < group; ++r) softmax_row(of_group.row(r), 0, keys, rule);
    multiply_nn(of_group, v.row_range(begin, keys).col_range(head * dim, dim),
                ViewF(out.row(0).data() + head * group * dim, {group, dim}));
  }
}

}  // namespace adze
