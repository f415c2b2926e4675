#include "recipe/rules.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <utility>

namespace adze {
namespace {

constexpr std::array kStoreDtypes{Named<DType>{"f32", DType::f32}, Named<DType>{"f16", DType::f16},
                                  Named<DType>{"bf16", DType::bf16}};

constexpr std::array kTies{Named<TieMode>{"input", TieMode::input}, Named<TieMode>{"block", TieMode::block},
                           Named<TieMode>{"all", TieMode::all}};

std::vector<std::string> scheme_names(const Recipe& recipe) {
  std::vector<std::string> names;
  for (const SchemeSpec& scheme : recipe.schemes) names.push_back(scheme.name);
  return names;
}

class RuleReader {
 public:
  RuleReader(Recipe& recipe, Diagnostics& problems)
      : recipe_(recipe), problems_(problems), names_(scheme_names(recipe)) {}

  void read(MapReader map) {
    RuleSpec rule;
    read_modules(map.required("modules"), rule);
    read_treatment(map, rule);
    read_fallback(map.optional("fallback"), rule);
    map.finish();
    recipe_.rules.push_back(std::move(rule));
  }

 private:
  void read_modules(const Value& modules, RuleSpec& rule) {
    rule.where = modules.where();
    rule.modules = modules.word().value_or("");
    constexpr std::string_view kGlobCharacters = "_.-*?";
    const bool is_glob = std::ranges::all_of(rule.modules, [&](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             kGlobCharacters.find(c) != std::string_view::npos;
    });
    if (!is_glob) modules.complain("is a glob of letters, digits, '_', '-', '.', '*', '**' and '?' only");
  }

  /// Exactly one of scheme, store and choose.
  void read_treatment(MapReader& map, RuleSpec& rule) {
    const Value scheme = map.optional("scheme");
    const Value store = map.optional("store");
    const Value choose = map.optional("choose");
    const Value* first = nullptr;
    for (const Value* value : {&scheme, &store, &choose}) {
      if (value->present() && first)
        problems_.add(value->key_where(), "a rule has one of 'scheme', 'store' and 'choose'; keep one of them");
      if (value->present() && !first) first = value;
    }
    if (!first && map.is_map()) problems_.add(map.where(), "a rule needs one of 'scheme', 'store' and 'choose'");
    if (first) rule.treatment_where = first->where();
    rule.scheme = known_scheme(scheme);
    rule.store = store.one_of<DType>(kStoreDtypes);
    for (const Value& item : choose.items()) add_choice(item, rule);
    const Value tie = map.optional("tie");
    rule.tie = tie.one_of<TieMode>(kTies).value_or(TieMode::none);
    if (tie.present() && !choose.present())
      problems_.add(tie.key_where(), "'tie' says which modules must choose alike; this rule leaves no choice");
  }

  void add_choice(const Value& item, RuleSpec& rule) {
    const auto name = known_scheme(item);
    if (!name) return;
    if (std::ranges::find(rule.choose, *name) != rule.choose.end())
      return item.complain(fmt::format("repeats {}", quoted_for_message(*name)));
    rule.choose.push_back(*name);
  }

  void read_fallback(const Value& value, RuleSpec& rule) {
    if (!value.present()) return;
    if (rule.store) problems_.add(value.key_where(), "a stored tensor needs no fallback: every shape can be stored");
    FallbackSpec fallback;
    fallback.where = value.where();
    const auto name = value.word();
    const auto dtype = name ? dtype_from_name(*name) : std::nullopt;
    if (dtype && is_weight_dtype(*dtype))
      fallback.store = dtype;
    else if (name)
      fallback.scheme = known_scheme(value);
    rule.fallback = std::move(fallback);
  }

  std::optional<std::string> known_scheme(const Value& value) {
    auto name = value.word();
    if (!name || recipe_.find_scheme(*name)) return name;
    problems_.report(value.where(), "there is no scheme {}{}", quoted_for_message(*name),
                     suggestion_or_list(*name, names_, "schemes here:"));
    return std::nullopt;
  }

  Recipe& recipe_;
  Diagnostics& problems_;
  std::vector<std::string> names_;
};

/// Every word of the recipe that may name a scheme: solvers may take one as an option (`then: w4`).
std::set<std::string> names_in_use(const Recipe& recipe) {
  std::set<std::string> used;
  for (const RuleSpec& rule : recipe.rules) {
    if (rule.scheme) used.insert(*rule.scheme);
    if (rule.fallback && rule.fallback->scheme) used.insert(*rule.fallback->scheme);
    used.insert(rule.choose.begin(), rule.choose.end());
  }
  for (const SchemeSpec& scheme : recipe.schemes)
    for (std::size_t i = 0; i < scheme.options.entry_count(); ++i) used.insert(scheme.options.value(i).text);
  return used;
}

}  // namespace

void read_rules(const std::vector<Value>& items, Recipe& recipe, Diagnostics& problems) {
  RuleReader reader(recipe, problems);
  for (const Value& item : items)
    if (auto map = item.map()) reader.read(std::move(*map));
}

void warn_about_unused(Recipe& recipe) {
  const std::set<std::string> used = names_in_use(recipe);
  for (const SchemeSpec& scheme : recipe.schemes)
    if (!used.contains(scheme.name)) recipe.warnings.report(scheme.where, "no rule uses scheme '{}'", scheme.name);
  std::set<std::string> globs;
  for (const RuleSpec& rule : recipe.rules)
    if (!globs.insert(rule.modules).second)
      recipe.warnings.report(rule.where, "an earlier rule has the modules '{}' already; the first match wins",
                             rule.modules);
}

}  // namespace adze
