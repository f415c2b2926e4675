// What a model makes of tokens, in the plainest way: one window, block by block.
#pragma once

#include <cstdint>
#include <vector>

#include "model/forward.h"
#include "model/weights.h"

namespace adze::testing {

/// [ids.size() x vocab]
inline MatrixF logits_of(const ModelWeights& model, const std::vector<std::int32_t>& ids) {
  const Architecture& a = model.architecture();
  const Forward forward(a, ids.size());
  Workspace work;
  MatrixF x(ids.size(), a.hidden);
  forward.embed(input_tables(model), ids, x);
  for (std::size_t b = 0; b < a.layers; ++b) forward.run_block(model.block(b), x, work);
  forward.final_norm(norm_of(model), x, x);
  MatrixF logits(ids.size(), a.vocab);
  forward.logits(*model.head(), x, logits, work);
  return logits;
}

}  // namespace adze::testing
