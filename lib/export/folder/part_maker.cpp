#include "export/folder/part_maker.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.h"
#include "export/folder/cache_scales.h"

namespace adze {
namespace {

/// Blocks in the order of their tensors' names.
std::vector<std::size_t> by_name(std::size_t layers) {
  std::vector<std::size_t> order = in_order(layers);
  std::ranges::sort(order, {}, [](std::size_t block) { return fmt::format("{}.", block); });
  return order;
}

}  // namespace

PartMaker::PartMaker(const ExportPlan& plan, const FolderFormat& format, DType floats, const ModelWeights& model)
    : plan_(plan),
      format_(format),
      floats_(floats),
      model_(model),
      walk_(model, by_name(model.architecture().layers)),
      meant_(plan.tensors.size()) {}

void PartMaker::begin(const Shard& shard) {
  parts_.clear();
  of_tensor_.clear();
  kept_.clear();
  room_ = 0;
  for (const Part& part : shard.parts) {
    parts_[part.spec.name] = &part;
    of_tensor_[part.tensor].push_back(&part);
    room_ = std::max(room_, part.bytes());
  }
}

ByteArray PartMaker::take(const std::string& name) {
  if (const auto kept = kept_.find(name); kept != kept_.end()) {
    ByteArray bytes = std::move(kept->second);
    parts_.erase(name);
    room_ += bytes.size();
    kept_.erase(kept);
    return bytes;
  }
  const Part& part = *parts_.at(name);
  parts_.erase(name);
  bool is_loaded = false;
  ByteArray bytes = make(part, is_loaded);
  if (is_loaded) keep_what_is_small(part);
  return bytes;
}

ByteArray PartMaker::make(const Part& part, bool& is_loaded) {
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
  const std::optional<std::size_t> block = plan_.tensors[now.tensor].spec.block;
  if (!block || !vectors_of_.insert(*block).second) return;
  for (const auto& [tensor, parts] : of_tensor_)
    if (plan_.tensors[tensor].spec.block == block && plan_.tensors[tensor].spec.shape.size() == 1)
      keep(*parts.front(), now);
}

void PartMaker::keep(const Part& part, const Part& now) {
  const std::uint64_t bytes = part.bytes();
  if (&part == &now || bytes > now.bytes() / 4 || bytes > room_ || !parts_.contains(part.spec.name) ||
      kept_.contains(part.spec.name))
    return;
  bool ignored = false;
  kept_[part.spec.name] = make(part, ignored);
  room_ -= bytes;
}

}  // namespace adze
