#include "export/folder/model_card.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

namespace adze {
namespace {

/// From the first "---" line to the next, if a card begins so.
std::string front_matter(const std::string& card) {
  if (!card.starts_with("---\n")) return "";
  const std::size_t end = card.find("\n---\n", 3);
  return end == std::string::npos ? "" : card.substr(0, end + 5) + "\n";
}

}  // namespace

std::string model_card(const ExportPlan& plan, std::string_view format) {
  std::string text;
  const auto card = std::ranges::find(plan.files, "README.md", &StoreFile::name);
  if (card != plan.files.end()) text = front_matter(card->text);
  text += fmt::format("# {}\n\nCompressed with adze, in the format `{}`.\n\n", plan.name.empty() ? "Model" : plan.name,
                      format);
  std::map<std::string, std::size_t> counts;
  for (const PlannedTensor& tensor : plan.tensors)
    if (tensor.spec.is_matrix()) ++counts[tensor.format];
  text += "| matrices | stored as |\n|---|---|\n";
  for (const auto& [stored, count] : counts) text += fmt::format("| {} | `{}` |\n", count, stored);
  text += "\n";
  for (const auto& [key, value] : plan.provenance)
    if (!value.empty()) text += fmt::format("- {}: `{}`\n", key, value);
  return text;
}

}  // namespace adze
