#include "recipe/schemes.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "recipe/scalars.h"

namespace adze {
namespace {

constexpr std::uint64_t kLargestGroup = 1 << 20;  // wider than any layer; 0 would divide by zero
constexpr std::array<std::string_view, 4> kSchemeKeys{"grid", "solver", "group", "symmetric"};

bool is_name(std::string_view text) {
  constexpr std::string_view kOthers = "_-.";
  return !text.empty() && text.size() <= 64 && std::ranges::all_of(text, [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kOthers.find(c) != std::string_view::npos;
  });
}

void check_name(const Node& key, Diagnostics& problems) {
  if (!is_name(key.text) || scalar_type(key) != ScalarType::text)
    problems.report(key.where, "a scheme's name is a word of letters, digits, '_', '-' and '.', not {}", describe(key));
  else if (const auto dtype = dtype_from_name(key.text); dtype && is_weight_dtype(*dtype))
    problems.report(key.where, "'{}' is a dtype and cannot name a scheme", key.text);
}

/// Grids and solvers judge the values; here each option is one scalar.
void check_options(const Node& options, Diagnostics& problems) {
  for (std::size_t i = 0; i < options.entry_count(); ++i) {
    const Node& value = options.value(i);
    if (value.kind == NodeKind::scalar || value.kind == NodeKind::refused) continue;
    const Mark where = value.kind == NodeKind::null ? options.key(i).where : value.where;
    problems.report(where, "{} must be one value, found {}", quoted_for_message(options.key(i).text), describe(value));
  }
}

SchemeSpec read_scheme(MapReader map, SchemeSpec spec, Diagnostics& problems) {
  const Value grid = map.optional("grid");
  const Value solver = map.optional("solver");
  spec.grid = grid.word().value_or("");
  spec.grid_where = grid.present() ? grid.where() : spec.where;
  spec.solver = solver.word().value_or(spec.solver);
  spec.solver_where = solver.present() ? solver.where() : spec.where;
  if (const auto group = map.optional("group").count(1, kLargestGroup)) spec.group = *group;
  spec.symmetric = map.optional("symmetric").boolean();
  if (!grid.present() && !solver.present())
    problems.report(spec.where, "scheme {} needs a grid, a solver or both", quoted_for_message(spec.name));
  spec.options = map.rest();
  check_options(spec.options, problems);
  return spec;
}

}  // namespace

void read_schemes(const std::vector<MapEntry>& entries, Recipe& recipe, Diagnostics& problems) {
  for (const MapEntry& entry : entries) {
    check_name(*entry.key, problems);
    SchemeSpec spec;
    spec.name = entry.key->text;
    spec.where = entry.key->where;
    if (auto map = entry.value.map()) spec = read_scheme(std::move(*map), std::move(spec), problems);
    recipe.schemes.push_back(std::move(spec));
  }
}

bool has_option(const SchemeSpec& scheme, std::string_view key) {
  for (std::size_t i = 0; i < scheme.options.entry_count(); ++i)
    if (scheme.options.key(i).text == key) return true;
  return false;
}

MapReader read_options(const SchemeSpec& scheme, Diagnostics& problems) {
  MapReader reader(scheme.options, fmt::format("scheme {}", quoted_for_message(scheme.name)), problems);
  reader.also_known(kSchemeKeys);
  return reader;
}

}  // namespace adze
