// Causal attention over one window with grouped queries and an optional sliding window, softmax in float with the row's
// maximum subtracted. Queries go in fixed tiles, so masked keys beyond a tile cost nothing.
#pragma once

#include <cstddef>
#include <vector>

#include "base/matrix.h"

namespace adze {

struct AttentionShape {
  std::size_t heads = 0;
  std::size_t kv_heads = 0;  ///< divides heads; query head h reads key head h / (heads / kv_heads)
  std::size_t head_dim = 0;
  std::size_t sliding_window = 0;  ///< token t sees max(0, t - window + 1) .. t; 0: all up to t
  float scale = 0;                 ///< of q k^T; 0: 1 / sqrt(head_dim)
  float cap = 0;                   ///< scores s become cap tanh(s / cap); 0: they stay
};

/// out_h = softmax(scale q_h k_g^T) v_g for each head h of group g.  q, out: [tokens x heads * head_dim];
/// k, v: [tokens x kv_heads * head_dim]; rotated already. `scores` is scratch and grows as needed.
void attention(ConstViewF q, ConstViewF k, ConstViewF v, const AttentionShape& shape, ViewF out,
               std::vector<float>& scores);

/// The same for the last token alone.  q, out: [1 x heads * head_dim]; k, v: of all tokens up to and with it.
void attend_last(ConstViewF q, ConstViewF k, ConstViewF v, const AttentionShape& shape, ViewF out,
                 std::vector<float>& scores);

}  // namespace adze
