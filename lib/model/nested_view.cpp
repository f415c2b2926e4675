#include "model/nested_view.h"

#include "base/error.h"
#include "grid/nested/nested_tensor.h"

namespace adze {

BlockWeights NestedView::block(std::size_t index) const {
  BlockWeights block = model_.block(index);
  for (const LinearInfo& info : block_linears(architecture()))
    with_context(module_name(index, info), [&] { block[info.slot].weight = seen(block[info.slot].weight); });
  for (NamedTensor& tensor : block.listed) with_context(tensor.name, [&] { tensor.tensor = seen(tensor.tensor); });
  return block;
}

TensorPtr NestedView::matrix_in_block(const TensorSpec& spec) const {
  return with_context(spec.listed ? spec.hf_name : spec.module, [&] { return seen(model_.matrix_of(spec)); });
}

TensorPtr NestedView::seen(const TensorPtr& matrix) const {
  const auto* const nested = dynamic_cast<const NestedTensor*>(matrix.get());
  return nested == nullptr ? matrix : std::make_shared<NestedTensor>(nested->prefix(planes_));
}

}  // namespace adze
