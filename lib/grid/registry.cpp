#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/words.h"
#include "grid/float_grid.h"
#include "grid/gguf/gguf_grids.h"
#include "grid/grid.h"
#include "grid/integer/integer.h"

namespace adze {
namespace {

/// One row per name that a recipe may use. Integer grids take options, GGUF grids are what they are.
struct GridRow {
  const char* name;
  int integer_bits;  ///< 0 for grids without options
  std::shared_ptr<const Grid> (*make)();
};

constexpr std::array kGrids{GridRow{"int2", 2, nullptr},
                            GridRow{"int3", 3, nullptr},
                            GridRow{"int4", 4, nullptr},
                            GridRow{"int5", 5, nullptr},
                            GridRow{"int6", 6, nullptr},
                            GridRow{"int8", 8, nullptr},
                            GridRow{"gguf/q4_0", 0, &make_q4_0_grid},
                            GridRow{"gguf/q4_1", 0, &make_q4_1_grid},
                            GridRow{"gguf/q5_0", 0, &make_q5_0_grid},
                            GridRow{"gguf/q5_1", 0, &make_q5_1_grid},
                            GridRow{"gguf/q8_0", 0, &make_q8_0_grid},
                            GridRow{"gguf/q2_k", 0, &make_q2_k_grid},
                            GridRow{"gguf/q3_k", 0, &make_q3_k_grid},
                            GridRow{"gguf/q4_k", 0, &make_q4_k_grid},
                            GridRow{"gguf/q5_k", 0, &make_q5_k_grid},
                            GridRow{"gguf/q6_k", 0, &make_q6_k_grid},
                            GridRow{"gguf/iq4_nl", 0, &make_iq4_nl_grid},
                            GridRow{"gguf/iq4_xs", 0, &make_iq4_xs_grid},
                            GridRow{"gguf/mxfp4", 0, &make_mxfp4_grid},
                            GridRow{"gguf/tq1_0", 0, &make_tq1_0_grid},
                            GridRow{"gguf/tq2_0", 0, &make_tq2_0_grid}};

const GridRow* find_row(std::string_view name) {
  for (const GridRow& row : kGrids)
    if (name == row.name) return &row;
  return nullptr;
}

struct ScopeName {
  const char* name;
  ScaleScope scope;
};
constexpr std::array kScopes{ScopeName{"group", ScaleScope::group}, ScopeName{"channel", ScaleScope::channel},
                             ScopeName{"tensor", ScaleScope::tensor}};

ScaleScope scope_from_name(const std::string& name) {
  for (const ScopeName& known : kScopes)
    if (name == known.name) return known.scope;
  fail(ErrorKind::bad_recipe, "scope '{}' is not group, channel or tensor", name);
}

std::vector<std::string> split_words(const std::string& text) {
  std::vector<std::string> words;
  std::size_t start = 0;
  while (start < text.size()) {
    const std::size_t end = std::min(text.find(' ', start), text.size());
    if (end > start) words.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return words;
}

}  // namespace

std::span<const std::string> grid_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const GridRow& row : kGrids) all.emplace_back(row.name);
    return all;
  }();
  return names;
}

namespace {

/// Runtimes write Q4_K what is gguf/q4_k here; else the nearest name.
std::string grid_suggestion(std::string name) {
  std::ranges::transform(name, name.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  for (const std::string& meant : {name, "gguf/" + name})
    if (find_row(meant) != nullptr) return fmt::format("; did you mean '{}'?", meant);
  return suggestion(name, grid_names());
}

}  // namespace

std::shared_ptr<const Grid> make_grid(const GridRequest& request) {
  const GridRow* row = find_row(request.name);
  if (row == nullptr) fail(ErrorKind::bad_recipe, "unknown grid '{}'{}", request.name, grid_suggestion(request.name));
  if (row->integer_bits == 0) {
    if (request.group || request.symmetric || request.scope != "group" || request.scales != "f16")
      fail(ErrorKind::bad_recipe, "grid {} is fixed: it takes no group, symmetric, scope or scales", request.name);
    return row->make();
  }
  IntegerGridSpec spec;
  spec.bits = row->integer_bits;
  spec.symmetric = request.symmetric.value_or(true);
  spec.scope = scope_from_name(request.scope);
  spec.group = request.group.value_or(spec.group);
  if (spec.scope != ScaleScope::group && request.group)
    fail(ErrorKind::bad_recipe, "grid {}: scope {} has no groups; drop group: {}", request.name, request.scope,
         *request.group);
  const auto scales = dtype_from_name(request.scales);
  if (!scales) fail(ErrorKind::bad_recipe, "scales '{}' are not f16, bf16 or f32", request.scales);
  spec.scale_dtype = *scales;
  return make_integer_grid(spec);
}

std::shared_ptr<const Grid> grid_from_name(const std::string& name) {
  const std::vector<std::string> words = split_words(name);
  GridRequest request;
  request.name = words.empty() ? "" : words[0];
  if (words.size() >= 3) {
    if (words[1].starts_with('g') && words[1] != "group") {
      std::size_t group = 0;
      const auto [end, error] = std::from_chars(words[1].data() + 1, words[1].data() + words[1].size(), group);
      if (error != std::errc() || *end != '\0') fail(ErrorKind::bad_data, "unknown grid '{}'", name);
      request.group = group;
    } else {
      request.scope = words[1];
    }
    request.symmetric = words[2] == "sym";
    if (words.size() > 3) request.scales = words[3];
  }
  const auto grid = [&] {
    try {
      return make_grid(request);
    } catch (const Error& error) {
      fail(ErrorKind::bad_data, "unknown grid '{}': {}", name, error.message());
    }
  }();
  if (grid->name() != name) fail(ErrorKind::bad_data, "unknown grid '{}'", name);
  return grid;
}

std::shared_ptr<const Grid> value_grid_from_name(const std::string& name) {
  const auto dtype = dtype_from_name(name);
  return dtype ? make_float_grid(*dtype) : grid_from_name(name);
}

}  // namespace adze
