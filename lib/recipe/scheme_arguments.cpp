#include "recipe/scheme_arguments.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "recipe/rules.h"
#include "recipe/schemes.h"

namespace adze {
namespace {

constexpr const char* kSchemeName = "scheme";

/// The command line as messages show it, and where its words stand.
class CommandLine {
 public:
  struct Words {
    Node key;
    Node value;
  };

  Words add(const SchemeArgument& argument) {
    if (!text_.empty()) text_ += ' ';
    const Mark option{text_.size()};
    text_ += argument.option + ' ';
    Words words{scalar(argument.key, true), scalar(argument.value, argument.is_text)};
    words.key.where = option;
    if (argument.option == "--option") {
      words.key.where = {text_.size()};
      text_ += argument.key + '=';
    }
    // A shell needs quotes around blanks; the caret stands below the value itself.
    const bool quotes = argument.value.empty() || argument.value.find(' ') != std::string::npos;
    if (quotes) text_ += '\'';
    words.value.where = {text_.size()};
    text_ += argument.value;
    if (quotes) text_ += '\'';
    return words;
  }
  const std::string& text() const { return text_; }

  static Node scalar(std::string text, bool is_text) {
    Node node;
    node.kind = NodeKind::scalar;
    node.quoted = is_text;
    node.text = std::move(text);
    return node;
  }

 private:
  std::string text_;
};

bool has_key(const Node& map, std::string_view key) {
  for (std::size_t i = 0; i < map.entry_count(); ++i)
    if (map.key(i).text == key) return true;
  return false;
}

void add_entry(Node& map, CommandLine::Words words) {
  if (map.children.empty()) map.where = words.value.where;
  map.children.push_back(std::move(words.key));
  map.children.push_back(std::move(words.value));
}

/// What a recipe file would hold: the scheme's keys, and those of the rule that applies it.
struct Sections {
  Node scheme;
  Node rule;
};

Sections read_sections(const std::vector<SchemeArgument>& arguments, CommandLine& line,
                       std::vector<Diagnostic>& problems) {
  Sections sections;
  sections.scheme.kind = sections.rule.kind = NodeKind::map;
  for (const SchemeArgument& argument : arguments) {
    const bool of_rule = argument.option == "--modules" || argument.option == "--fallback";
    Node& map = of_rule ? sections.rule : sections.scheme;
    CommandLine::Words words = line.add(argument);
    if (has_key(map, argument.key))
      problems.push_back({fmt::format("{} is given twice", quoted_for_message(argument.key)), words.key.where});
    else
      add_entry(map, std::move(words));
  }
  Node name = CommandLine::scalar(kSchemeName, true);
  name.where = sections.scheme.where;  // what a scheme cannot take is said below its first option
  add_entry(sections.rule, {CommandLine::scalar("scheme", true), std::move(name)});
  return sections;
}

}  // namespace

SchemeArgument parse_scheme_option(const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0)
    fail(ErrorKind::usage, "--option {}: write KEY=VALUE, such as damp=0.05", quoted_for_message(assignment));
  return {"--option", assignment.substr(0, equals), assignment.substr(equals + 1)};
}

Recipe recipe_of(const std::vector<SchemeArgument>& arguments) {
  CommandLine line;
  std::vector<Diagnostic> found;
  const Sections sections = read_sections(arguments, line, found);
  Recipe recipe;
  recipe.source = std::make_shared<const Source>(line.text(), "");  // no file: places are shown, not numbered
  recipe.text_hash = hash_hex(line.text());
  recipe.warnings = Diagnostics(recipe.source);
  recipe.calibration.from = InputsFrom::nothing;
  recipe.calibration.windows = 0;
  recipe.calibration.tokens = 1;  // the size of no window is divided by
  recipe.propagate = PropagateMode::original;
  recipe.stages = StageMode::once;
  Diagnostics problems(recipe.source);
  for (Diagnostic& problem : found) problems.add(problem.where, std::move(problem.message));
  Node name = CommandLine::scalar(kSchemeName, true);
  name.where = sections.scheme.where;
  read_schemes({{&name, Value(sections.scheme, name.where, "the scheme", problems)}}, recipe, problems);
  read_rules({Value(sections.rule, sections.rule.where, "the rule", problems)}, recipe, problems);
  problems.throw_if_any();
  return recipe;
}

}  // namespace adze
