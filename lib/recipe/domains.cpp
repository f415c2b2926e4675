#include "recipe/domains.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <utility>

#include "base/error.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

struct Argument {
  std::string name;  // empty: none was given
  fs::path file;
};

Argument split(const std::string& argument) {
  const std::size_t equals = argument.find('=');
  if (equals == std::string::npos || fs::exists(argument)) return {"", argument};
  if (equals == 0) fail(ErrorKind::usage, "'{}': a domain has a name: NAME=FILE", argument);
  return {argument.substr(0, equals), argument.substr(equals + 1)};
}

/// The set by the domains of its texts; nothing where they have none.
std::vector<Domain> cut(const TextSet& set) {
  std::vector<Domain> domains;
  for (const TextSpec& text : set.texts) {
    if (text.domain.empty()) return {};  // of all or of none
    auto at = std::ranges::find(domains, text.domain, &Domain::name);
    if (at == domains.end()) {
      domains.push_back({text.domain, set});
      domains.back().texts.texts.clear();
      at = domains.end() - 1;
    }
    at->texts.texts.push_back(text);
  }
  return domains;
}

void check_names(const std::vector<Domain>& domains) {
  for (auto at = domains.begin(); at != domains.end(); ++at)
    if (std::ranges::find(at + 1, domains.end(), at->name, &Domain::name) != domains.end())
      fail(ErrorKind::usage, "the domain '{}' is given twice; name texts with NAME=FILE", at->name);
}

}  // namespace

std::vector<Domain> load_domains(std::span<const std::string> arguments) {
  std::vector<Domain> domains;
  for (const std::string& given : arguments) {
    const Argument argument = split(given);
    const TextSet set = load_text_set(argument.file);
    std::vector<Domain> parts = cut(set);
    if (parts.empty()) {
      const std::string unnamed = arguments.size() > 1 ? argument.file.stem().string() : argument.file.string();
      parts.push_back({argument.name.empty() ? unnamed : argument.name, set});
    } else if (!argument.name.empty()) {
      fail(ErrorKind::usage, "{}: a text set with domains of its own cannot be called '{}'", argument.file.string(),
           argument.name);
    }
    std::ranges::move(parts, std::back_inserter(domains));
  }
  check_names(domains);
  return domains;
}

}  // namespace adze
