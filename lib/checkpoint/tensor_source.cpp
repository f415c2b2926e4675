#include "checkpoint/tensor_source.h"

#include <algorithm>

namespace adze {

const TensorInfo* TensorSource::find(std::string_view name) const {
  const auto all = tensors();
  const auto at = std::ranges::lower_bound(all, name, {}, &TensorInfo::name);
  return at != all.end() && at->name == name ? &*at : nullptr;
}

}  // namespace adze
