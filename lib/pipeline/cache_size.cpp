#include "pipeline/cache_size.h"

#include <algorithm>

#include "grid/factors/product_tensor.h"
#include "model/stored_size.h"

namespace adze {

CacheSize cache_size(const CompressionPlan& plan) {
  CacheSize size;
  size.original = cache_values_per_token(plan.original_architecture);
  for (const ModulePlan& module : plan.modules) {
    if (module.spec.slot != LinearSlot::k && module.spec.slot != LinearSlot::v) continue;
    const auto width = static_cast<std::size_t>(module.spec.shape[0]);
    const auto product = parse_product_format(module.format);
    size.plain += width;
    size.with_codes += product ? std::min(product->rank, width) : width;
  }
  return size;
}

}  // namespace adze
