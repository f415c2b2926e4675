#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "base/error.h"
#include "pipeline/allocation.h"
#include "recipe/document.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

/// The lines of each top-level entry, with what follows it up to the next one.
struct Section {
  std::string key;
  std::string text;
};

std::vector<Section> sections_of(const Recipe& recipe) {
  const std::string& text = recipe.source->text();
  Document document = Document::parse(text, recipe.origin);
  std::vector<std::pair<std::size_t, std::string>> starts;
  for (std::size_t i = 0; i < document.root().entry_count(); ++i) {
    const Node& key = document.root().key(i);
    const std::size_t line = text.rfind('\n', key.where.offset) + 1;  // npos + 1 is the first
    if (line != key.where.offset)
      fail(ErrorKind::bad_recipe,
           "{}: '{}' does not start a line; a recipe that is rewritten has its keys at the margin", recipe.origin,
           key.text);
    starts.emplace_back(line, key.text);
  }
  std::vector<Section> sections;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::size_t end = i + 1 < starts.size() ? starts[i + 1].first : text.size();
    sections.push_back({starts[i].second, text.substr(starts[i].first, end - starts[i].first)});
    if (!sections.back().text.ends_with('\n')) sections.back().text += '\n';
  }
  return sections;
}

/// A double-quoted YAML text.
std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

std::string relative_to(const fs::path& file, const fs::path& folder) {
  return quoted(fs::absolute(file)
                    .lexically_normal()
                    .lexically_proximate(fs::absolute(folder).lexically_normal())
                    .generic_string());
}

std::string calibration_text(const Recipe& recipe, const fs::path& folder) {
  const CalibrationSpec& spec = recipe.calibration;
  return fmt::format("calibration:\n  set: {}\n  windows: {}\n  tokens: {}\n  seed: {}\n\n",
                     relative_to(spec.set, folder), spec.windows, spec.tokens, spec.seed);
}

std::string evaluate_text(const Recipe& recipe, const fs::path& folder) {
  const EvaluateSpec& spec = *recipe.evaluate;
  return fmt::format("evaluate:\n  text: {}\n  context: {}\n  protocol: {}\n\n", relative_to(spec.text, folder),
                     spec.context, spec.protocol);
}

std::string treatment(const RuleSpec& rule) {
  std::string text = rule.scheme ? "scheme: " + *rule.scheme : fmt::format("store: {}", name_of(*rule.store));
  if (rule.fallback)
    text +=
        ", fallback: " + (rule.fallback->scheme ? *rule.fallback->scheme : std::string(name_of(*rule.fallback->store)));
  return text;
}

/// What the next better option would have cost, if there is one.
std::string next_better(const ModuleChoice& module) {
  const ModuleOption& now = module.option();
  const ModuleOption* next = nullptr;
  for (const ModuleOption& option : module.options)
    if (option.predicted < now.predicted && option.cost > now.cost && (next == nullptr || option.cost < next->cost))
      next = &option;
  if (next == nullptr) return "the best there is";
  return fmt::format("{} would be {} bytes more and {:.3g} less", next->scheme, next->cost - now.cost,
                     now.predicted - next->predicted);
}

std::string rules_text(const Recipe& recipe, const AllocationResult& result) {
  std::string text = "rules:\n";
  for (const ModuleChoice& module : result.modules) {
    const ModuleOption& option = module.option();
    text += fmt::format("  - {{ modules: \"{}\", scheme: {} }}  # {} bytes, loss {:.3g}; {}\n", module.module,
                        option.scheme, option.bytes, option.predicted, next_better(module));
  }
  for (const RuleSpec& rule : recipe.rules)
    if (rule.choose.empty()) text += fmt::format("  - {{ modules: {}, {} }}\n", quoted(rule.modules), treatment(rule));
  return text + "\n";
}

}  // namespace

std::string allocated_recipe(const Recipe& recipe, const AllocationResult& result, const fs::path& path) {
  const fs::path folder = fs::absolute(path).parent_path();
  std::string text =
      fmt::format("# Allocated by adze {}: {} bytes, predicted loss {:.4g}, no choice loses less than {:.4g}.\n",
                  ADZE_VERSION, result.cost, result.allocation.loss, result.allocation.bound);
  for (const Section& section : sections_of(recipe)) {
    if (section.key == "budget") continue;
    if (section.key == "calibration")
      text += calibration_text(recipe, folder);
    else if (section.key == "evaluate")
      text += evaluate_text(recipe, folder);
    else if (section.key == "rules")
      text += rules_text(recipe, result);
    else
      text += section.text;
  }
  return text;
}

}  // namespace adze
