#include "calibrate/imatrix_statistics.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

namespace adze {
namespace {

constexpr std::string_view kHeadTensor = "output.weight";

std::vector<float> as_floats(std::span<const double> values, double factor) {
  std::vector<float> floats;
  for (const double value : values) floats.push_back(static_cast<float>(value * factor));
  return floats;
}

/// What the inputs measured, without a name.
ImatrixEntry entry_of(const InputDiagonal& input, ImatrixKind kind, std::uint64_t windows) {
  ImatrixEntry entry;
  const bool per_window = kind == ImatrixKind::dat;
  const double count = static_cast<double>(per_window ? windows : input.tokens);
  const double factor = input.tokens == 0 ? 1.0 : count / static_cast<double>(input.tokens);
  entry.sums = as_floats(input.squares, factor);
  entry.counts = {count};
  if (!per_window) entry.plain_sums = as_floats(input.sum, 1.0);
  return entry;
}

/// Experts come one after the other, and are stacked as their weights are.
void append_expert(ImatrixEntry& stack, const ImatrixEntry& entry) {
  for (auto [from, to] : {std::pair{&entry.sums, &stack.sums}, std::pair{&entry.plain_sums, &stack.plain_sums}})
    to->insert(to->end(), from->begin(), from->end());
  stack.counts.insert(stack.counts.end(), entry.counts.begin(), entry.counts.end());
}

/// The linears of a block as every GGUF that a model of these sizes may be in has them. Phi-3's q, k and v, which are
/// read as Mistral's, lie apart in one that we write and below each other in one that llama.cpp's converter wrote.
std::vector<LinearInfo> linears_of_files(const Architecture& sizes) {
  std::vector<LinearInfo> linears = block_linears(sizes);
  const std::string_view other = sizes.info().long_rope_class;
  if (!other.empty()) std::ranges::move(block_linears(sizes, family_of(other)), std::back_inserter(linears));
  return linears;
}

}  // namespace

Imatrix imatrix_of(const StatisticsFolder& statistics, ImatrixKind kind) {
  const StatisticsInfo& info = statistics.info();
  Imatrix imatrix;
  imatrix.datasets = {fmt::format("adze calibration {}", info.calibration)};
  imatrix.chunks = static_cast<std::uint32_t>(info.windows);
  if (kind == ImatrixKind::gguf && info.windows > 0)
    imatrix.chunk_tokens = static_cast<std::uint32_t>(info.tokens / info.windows);
  const auto add = [&](std::string tensor, ImatrixEntry entry) {
    entry.tensor = std::move(tensor);
    imatrix.entries.push_back(std::move(entry));
  };
  const Architecture sizes = sizes_of(info);
  const std::vector<LinearInfo> linears = linears_of_files(sizes);
  for (std::size_t block = 0; block < info.layers; ++block) {
    const StatisticsReader part = statistics.part(block);
    for (const Stage stage : stages_of(sizes)) {
      const ImatrixEntry entry = entry_of(part.diagonal(name_of(stage)), kind, info.windows);
      for (const LinearInfo& linear : linears) {
        if (linear.stage != stage) continue;
        const std::string tensor = fmt::format("blk.{}.{}.weight", block, linear.gguf);
        const auto known = std::ranges::find(imatrix.entries, tensor, &ImatrixEntry::tensor);
        if (known == imatrix.entries.end())
          add(tensor, entry);
        else if (linear.slot.expert > 0)
          append_expert(*known, entry);
        // and others that lie in a tensor read the same inputs
      }
    }
  }
  add(std::string(kHeadTensor), entry_of(statistics.part(info.layers).diagonal("head"), kind, info.windows));
  std::ranges::sort(imatrix.entries, {}, &ImatrixEntry::tensor);
  return imatrix;
}

}  // namespace adze
