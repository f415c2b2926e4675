// What a key/value cache holds of a token, as numbers over all blocks. Where k_proj or v_proj is a product of rank r, a
// runtime can keep the r numbers between its factors, and make keys and values of them when they are read.
#pragma once

#include <cstddef>

#include "pipeline/plan.h"

namespace adze {

struct CacheSize {
  std::size_t original = 0;    ///< of the model before the run
  std::size_t plain = 0;       ///< of the model that is stored
  std::size_t with_codes = 0;  ///< the same, kept as codes where these are fewer
};

CacheSize cache_size(const CompressionPlan& plan);

}  // namespace adze
