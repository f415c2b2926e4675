#include "report/choice_table.h"

#include <fmt/format.h>

#include "report/table.h"

namespace adze {
namespace {

/// What a table calls the rules.
std::string_view words_of(ChoiceRule rule) { return rule == ChoiceRule::sum ? "sum" : "per byte"; }

std::vector<std::string> accuracy_cells(const std::string& name, ChoiceRule rule, const Accuracy& accuracy) {
  const Interval interval = accuracy.interval_95();
  return {name, std::string(words_of(rule)), fmt::format("{:.1f}", 100 * accuracy.share()),
          fmt::format("{:.1f} to {:.1f}", 100 * interval.low, 100 * interval.high)};
}

}  // namespace

std::string choice_table(std::span<const NamedChoices> models, const std::string& reference) {
  Table table({{"model", Align::left},
               {"score", Align::left},
               {"accuracy %"},
               {"95 %"},
               {"right to wrong"},
               {"wrong to right"},
               {"wrong to other wrong"},
               {"McNemar p"}});
  if (!models.empty())
    for (std::size_t r = 0; r < kChoiceRules.size(); ++r)
      if (const auto& base = models.front().result.rules[r].reference)
        table.add_row(accuracy_cells(reference, kChoiceRules[r], *base));
  for (const NamedChoices& model : models)
    for (std::size_t r = 0; r < kChoiceRules.size(); ++r) {
      const ChoiceResult::ByRule& rule = model.result.rules[r];
      std::vector<std::string> cells = accuracy_cells(model.name, kChoiceRules[r], rule.accuracy);
      if (rule.flips)
        for (const std::string& cell :
             {fmt::format("{}", rule.flips->right_to_wrong), fmt::format("{}", rule.flips->wrong_to_right),
              fmt::format("{}", rule.flips->wrong_to_other_wrong), fmt::format("{:.4f}", rule.flips->p)})
          cells.push_back(cell);
      table.add_row(std::move(cells));
    }
  return table.text();
}

}  // namespace adze
