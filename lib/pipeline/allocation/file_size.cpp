#include "pipeline/allocation/file_size.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"

namespace adze {

FileSize::FileSize(ExportPlan exported, std::shared_ptr<const Exporter> exporter)
    : exporter_(std::move(exporter)), exported_(std::move(exported)) {
  std::map<std::string_view, std::size_t> stacks;
  for (std::size_t i = 0; i < exported_.tensors.size(); ++i) {
    const TensorSpec& spec = exported_.tensors[i].spec;
    if (!spec.is_matrix()) continue;
    std::size_t at = members_.size();
    if (exporter_->stacks_experts() && spec.shares_gguf_tensor()) at = stacks.emplace(spec.gguf_name, at).first->second;
    if (at == members_.size()) members_.emplace_back();
    members_[at].push_back(i);
    place_.emplace(spec.module, at);
  }
}

std::size_t FileSize::place(const std::string& module) const {
  const auto at = place_.find(module);
  if (at == place_.end()) fail(ErrorKind::internal, "the export has no matrix '{}'", module);
  return at->second;
}

void FileSize::set(const std::string& module, const std::string& format) {
  for (const std::size_t i : members(module))
    if (exported_.tensors[i].spec.module == module) exported_.tensors[i].format = format;
}

std::uint64_t FileSize::own_bytes(const std::string& module, const std::string& format) {
  const std::size_t at = place(module);
  const auto [known, is_new] = known_.insert({{at, format}, 0});
  if (is_new) {
    if (!own_bytes_) own_bytes_ = exporter_->own_bytes(exported_);
    known->second = own_bytes_({exported_.tensors[members_[at].front()].spec, format});
  }
  return known->second;
}

void FileSize::check_mixture(const std::string& module, const std::string& format) {
  const std::vector<std::size_t>& changed = members(module);
  const PlannedTensor& first = exported_.tensors[changed.front()];
  if (format == first.format || !tried_.insert({first.spec.role, first.format, format}).second) return;
  ExportPlan mixed = exported_;
  for (const std::size_t i : changed) mixed.tensors[i].format = format;
  exporter_->predict_bytes(mixed);
}

std::uint64_t price_options(FileSize& file, std::vector<ModuleChoice>& modules) {
  std::uint64_t fixed = file.bytes();
  for (ModuleChoice& module : modules) {
    if (!module.chooses) continue;
    std::vector<std::uint64_t> sizes;
    for (const ModuleOption& option : module.options) {
      file.check_mixture(module.module, option.format);
      sizes.push_back(file.own_bytes(module.module, option.format));
    }
    const std::uint64_t least = std::ranges::min(sizes), together = file.together(module.module);
    fixed -= (sizes.front() - least) / together;  // the file is that of everyone's first option
    for (std::size_t o = 0; o < sizes.size(); ++o) module.options[o].cost = divide_up(sizes[o] - least, together);
  }
  return fixed;
}

}  // namespace adze
