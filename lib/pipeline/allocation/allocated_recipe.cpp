#include <algorithm>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "base/words.h"
#include "pipeline/allocation/allocation.h"
#include "recipe/document.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

/// The lines of one entry of a map, with what follows them up to the next one.
struct Entry {
  std::string key;
  const Node* value = nullptr;
  std::size_t first = 0, last = 0;  ///< of the text, [first, last)
};

/// Nothing where two entries share a line. `end`: where the map's lines end.
std::optional<std::vector<Entry>> entries_of(const Node& map, const std::string& text, std::size_t end) {
  std::vector<Entry> entries;
  for (std::size_t i = 0; i < map.entry_count(); ++i) {
    const std::size_t at = map.key(i).where.offset;
    const std::size_t line = text.rfind('\n', at) + 1;  // npos + 1 is the first
    if (text.find_first_not_of(' ', line) != at) return std::nullopt;
    if (!entries.empty()) entries.back().last = line;
    entries.push_back({map.key(i).text, &map.value(i), line, end});
  }
  return entries;
}

std::string lines(const std::string& text, const Entry& entry) {
  std::string part = text.substr(entry.first, entry.last - entry.first);
  return part.ends_with('\n') ? part : part + '\n';
}

/// Names of schemes that something still refers to.
std::set<std::string> schemes_in_use(const Recipe& recipe, const AllocationResult& result) {
  std::set<std::string> used;
  for (const ModuleChoice& module : result.modules) used.insert(module.option().scheme);
  for (const RuleSpec& rule : recipe.rules) {
    if (rule.choose.empty() && rule.scheme) used.insert(*rule.scheme);
    if (rule.fallback && rule.fallback->scheme) used.insert(*rule.fallback->scheme);
  }
  return used;
}

/// Without those that nothing takes any more; as it is where they share lines.
std::string schemes_text(const std::string& text, const Entry& section, const std::set<std::string>& used) {
  const auto schemes = entries_of(*section.value, text, section.last);
  if (!schemes || schemes->empty()) return lines(text, section);
  std::string kept = text.substr(section.first, schemes->front().first - section.first);
  for (const Entry& scheme : *schemes)
    if (used.contains(scheme.key)) kept += lines(text, scheme);
  return kept.ends_with("\n\n") ? kept : kept + "\n";
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

/// A value as one line of YAML.
std::string yaml_of(const Node& node) {
  if (node.kind == NodeKind::scalar) return node.quoted ? quoted(node.text) : node.text;
  if (node.kind != NodeKind::list && node.kind != NodeKind::map) return "~";
  std::vector<std::string> parts;
  if (node.kind == NodeKind::list)
    for (const Node& item : node.children) parts.push_back(yaml_of(item));
  else
    for (std::size_t i = 0; i < node.entry_count(); ++i)
      parts.push_back(fmt::format("{}: {}", node.key(i).text, yaml_of(node.value(i))));
  const bool is_list = node.kind == NodeKind::list;
  return fmt::format("{} {} {}", is_list ? "[" : "{", fmt::join(parts, ", "), is_list ? "]" : "}");
}

/// Those that are done: optional ones were decided on.
std::string transforms_text(const Recipe& recipe) {
  if (recipe.transforms.empty()) return "";
  std::string text = "transform:\n";
  for (const TransformSpec& transform : recipe.transforms) {
    text += "  - kind: " + transform.kind + "\n";
    for (std::size_t i = 0; i < transform.options.entry_count(); ++i)
      text += fmt::format("    {}: {}\n", transform.options.key(i).text, yaml_of(transform.options.value(i)));
  }
  return text + "\n";
}

std::string relative_to(const fs::path& file, const fs::path& folder) {
  return quoted(fs::absolute(file)
                    .lexically_normal()
                    .lexically_proximate(fs::absolute(folder).lexically_normal())
                    .generic_string());
}

std::string calibration_text(const Recipe& recipe, const fs::path& folder) {
  const CalibrationSpec& spec = recipe.calibration;
  return fmt::format("calibration:\n  set: {}\n  windows: {}\n  tokens: {}\n  seed: {}\n{}\n",
                     relative_to(spec.set, folder), spec.windows, spec.tokens, spec.seed,
                     spec.experts == ExpertInputs::routed ? "" : fmt::format("  experts: {}\n", name_of(spec.experts)));
}

std::string evaluate_text(const Recipe& recipe, const fs::path& folder) {
  const EvaluateSpec& spec = *recipe.evaluate;
  return fmt::format("evaluate:\n  text: {}\n  context: {}\n  protocol: {}\n\n", relative_to(spec.text, folder),
                     spec.context, spec.protocol);
}

/// ", fallback: f16" of a rule that has one.
std::string fallback_text(const RuleSpec& rule) {
  if (!rule.fallback) return "";
  return ", fallback: " +
         (rule.fallback->scheme ? *rule.fallback->scheme : std::string(name_of(*rule.fallback->store)));
}

std::string treatment(const RuleSpec& rule) {
  return (rule.scheme ? "scheme: " + *rule.scheme : fmt::format("store: {}", name_of(*rule.store))) +
         fallback_text(rule);
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
    if (!module.chooses) continue;
    const ModuleOption& option = module.option();
    if (module.module == "embed_tokens" && result.tied)  // one table: both of its names
      text += fmt::format("  - {{ modules: \"lm_head\", scheme: {}{} }}\n", option.scheme,
                          fallback_text(recipe.rules[module.rule]));
    text += fmt::format("  - {{ modules: \"{}\", scheme: {}{} }}  # {} bytes, loss {:.3g}; {}\n", module.module,
                        option.scheme, fallback_text(recipe.rules[module.rule]), option.bytes, option.predicted,
                        next_better(module));
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
  const std::string& source = recipe.source->text();
  const Document document = Document::parse(source, recipe.origin);
  const auto sections = entries_of(document.root(), source, source.size());
  if (!sections)
    fail(ErrorKind::bad_recipe, "{}: a recipe that is rewritten has each of its keys on a line of its own",
         recipe.origin);
  for (const Entry& section : *sections) {
    if (section.key == "budget") continue;
    if (section.key == "calibration")
      text += calibration_text(recipe, folder);
    else if (section.key == "evaluate")
      text += evaluate_text(recipe, folder);
    else if (section.key == "transform")
      text += transforms_text(recipe);
    else if (section.key == "rules")
      text += rules_text(recipe, result);
    else if (section.key == "schemes")
      text += schemes_text(source, section, schemes_in_use(recipe, result));
    else
      text += lines(source, section);
  }
  return text;
}

}  // namespace adze
