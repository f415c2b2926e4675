// Which experts of a mixture each token goes to: softmax of the router's logits, the experts of the largest scores, and
// their scores as weights (Shazeer et al. 2017, arXiv 1701.06538; Mixtral, arXiv 2401.04088, section 2.1).
#pragma once

#include <cstdint>
#include <vector>

#include "base/matrix.h"
#include "model/architecture.h"

namespace adze {

struct RoutedToken {
  std::uint32_t row = 0;
  float weight = 0;  ///< of the expert's output
};

/// By expert: the tokens that go there, in their order.
using Routing = std::vector<std::vector<RoutedToken>>;

/// logits: [tokens x experts]; become softmax scores. Of equal scores the first expert is taken.
Routing route_tokens(const Architecture& architecture, ViewF logits);

}  // namespace adze
