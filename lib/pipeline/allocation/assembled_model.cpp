#include "pipeline/allocation/assembled_model.h"

#include "base/error.h"

namespace adze {
namespace {

TensorPtr stored_as(const std::string& format, TensorPtr original) {
  const auto dtype = dtype_from_name(format);
  if (!dtype || original->format() == format) return original;
  return std::make_shared<DenseTensor>(make_dense(original->decode(), *dtype));
}

}  // namespace

TensorPtr AssembledModel::placed(const std::string& module, TensorPtr original) const {
  const auto at = modules_.find(module);
  if (at == modules_.end()) return stored_as(prepared_.variants.front().find(module)->format, std::move(original));
  const ModuleOption& option = at->second->option();
  if (option.solution.empty()) return stored_as(option.format, std::move(original));
  std::optional<Solution> found = store_.find(option.solution);
  if (!found)
    fail(ErrorKind::bad_data, "{}: the solution of {} as {} is no longer there", store_.folder().string(), module,
         option.scheme);
  return found->tensor;
}

BlockWeights AssembledModel::block(std::size_t index) const {
  BlockWeights block = original_.block(index);
  for (const LinearInfo& info : block_linears(architecture()))
    block[info.slot].weight = placed(module_name(index, info), block[info.slot].weight);
  return block;
}

}  // namespace adze
