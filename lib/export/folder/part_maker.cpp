#include "export/folder/part_maker.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/error.h"
#include "export/folder/cache_scales.h"

namespace adze {

PartMaker::PartMaker(const ExportPlan& plan, const FolderFormat& format, DType floats, const ModelWeights& model)
    : plan_(plan), format_(format), floats_(floats), model_(model), walk_(model), meant_(plan.tensors.size()) {}

void PartMaker::begin(const Shard& shard, std::span<const SafetensorsTensor> order) {
  parts_.clear();
  of_tensor_.clear();
  kept_.clear();
  room_ = 0;
  for (const Part& part : shard.parts) {
    parts_[part.spec.name] = &part;
    of_tensor_[part.tensor].push_back(&part);
    room_ = std::max(room_, part.bytes());
  }
  std::set<std::size_t> seen;
  std::vector<TensorSpec> specs;
  for (const SafetensorsTensor& stored : order) {
    const std::size_t tensor = parts_.at(stored.name)->tensor;
    if (seen.insert(tensor).second) specs.push_back(plan_.tensors[tensor].spec);
  }
  walk_.expect(std::move(specs));
}

SharedBytes PartMaker::take(const std::string& name) {
  if (const auto kept = kept_.find(name); kept != kept_.end()) {
    SharedBytes bytes = std::move(kept->second);
    parts_.erase(name);
    room_ += bytes.size();
    kept_.erase(kept);
    return bytes;
  }
  const Part& part = *parts_.at(name);
  parts_.erase(name);
  bool is_loaded = false;
  SharedBytes bytes = make(part, is_loaded);
  if (is_loaded) keep_what_is_small(part);
  return bytes;
}

SharedBytes PartMaker::make(const Part& part, bool& is_loaded) {
  const PlannedTensor& planned = plan_.tensors[part.tensor];
  if (part.is_cache_scale) {
    const std::array scale{cache_scale(planned.spec, model_.cache_of(*planned.spec.block))};
    return copied(std::as_bytes(std::span(scale)));
  }
  if (!planned.spec.is_matrix()) {
    const TensorValues values = walk_.at(planned.spec);
    meant_.note(part.tensor, values);
    return copied(values.payload());
  }
  return format_.encode(planned, part.spec, [&] {
    is_loaded = true;
    TensorPtr matrix = walk_.at(planned.spec).matrix;
    if (matrix->format() != planned.format)
      fail(ErrorKind::internal, "{} in the model, {} planned", matrix->format(), planned.format);
    matrix = format_.as_stored(matrix, floats_);
    meant_.note(part.tensor, matrix->format(), matrix->payload());
    return matrix;
  });
}

void PartMaker::keep_what_is_small(const Part& now) {
  for (const Part* const other : of_tensor_[now.tensor]) keep(*other, now);
}

void PartMaker::keep(const Part& part, const Part& now) {
  const std::uint64_t bytes = part.bytes();
  if (&part == &now || bytes > now.bytes() / 4 || bytes > room_ || !parts_.contains(part.spec.name) ||
      kept_.contains(part.spec.name))
    return;
  bool ignored = false;
  kept_.emplace(part.spec.name, make(part, ignored));
  room_ -= bytes;
}

}  // namespace adze
