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
  // Experts come one after the other, and are stacked as their weights are.
  const auto add_expert = [&](const std::string& tensor, const ImatrixEntry& entry) {
    ImatrixEntry& stack = *std::ranges::find(imatrix.entries, tensor, &ImatrixEntry::tensor);
    for (auto [from, to] : {std::pair{&entry.sums, &stack.sums}, std::pair{&entry.plain_sums, &stack.plain_sums}})
      to->insert(to->end(), from->begin(), from->end());
    stack.counts.insert(stack.counts.end(), entry.counts.begin(), entry.counts.end());
  };
  const Architecture sizes = sizes_of(info);
  for (std::size_t block = 0; block < info.layers; ++block) {
    const StatisticsReader part = statistics.part(block);
    for (const Stage stage : stages_of(sizes)) {
      const ImatrixEntry entry = entry_of(part.diagonal(name_of(stage)), kind, info.windows);
      for (const LinearInfo& linear : linears_of(sizes, stage)) {
        const std::string tensor = fmt::format("blk.{}.{}.weight", block, linear.gguf);
        if (linear.slot.expert > 0)
          add_expert(tensor, entry);
        else if (linear.gguf_rows.first == 0)  // others that lie in its tensor read the same inputs
          add(tensor, entry);
      }
    }
  }
  add(std::string(kHeadTensor), entry_of(statistics.part(info.layers).diagonal("head"), kind, info.windows));
  std::ranges::sort(imatrix.entries, {}, &ImatrixEntry::tensor);
  return imatrix;
}

}  // namespace adze
