#include "checkpoint/tensor_source.h"

#include <algorithm>

#include "base/error.h"

namespace adze {

const TensorInfo* TensorSource::find(std::string_view name) const {
  const auto all = tensors();
  const auto at = std::ranges::lower_bound(all, name, {}, &TensorInfo::name);
  return at != all.end() && at->name == name ? &*at : nullptr;
}

std::size_t TensorSource::index_of(const TensorInfo& tensor) const {
  const TensorInfo* const found = find(tensor.name);
  if (found == nullptr || found->bytes != tensor.bytes)
    fail(ErrorKind::internal, "{}: tensor '{}' belongs to another source", origin(), tensor.name);
  return static_cast<std::size_t>(found - tensors().data());
}

void TensorSource::check_range(const TensorInfo& tensor, std::uint64_t offset, std::uint64_t count) const {
  if (offset > tensor.bytes || count > tensor.bytes - offset)
    fail(ErrorKind::bad_data, "{}: tensor '{}': bytes {} to {}+{} lie outside its {} bytes", origin(), tensor.name,
         offset, offset, count, tensor.bytes);
}

}  // namespace adze
