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
#include "grid/minifloat/minifloat.h"

namespace adze {
namespace {

using GridPtr = std::shared_ptr<const Grid>;

void refuse_options(const GridRequest& request) {
  if (request.group || request.symmetric || request.scope != "group" || request.scales != "f16")
    fail(ErrorKind::bad_recipe, "grid {} is fixed: it takes no group, symmetric, scope or scales", request.name);
}

template <auto kMake>
GridPtr fixed(const GridRequest& request) {
  refuse_options(request);
  return kMake();
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

template <int kBits>
GridPtr integer(const GridRequest& request) {
  IntegerGridSpec spec;
  spec.bits = kBits;
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

GridPtr fp8(const GridRequest& request) {
  if (request.symmetric || request.scope != "group" || request.scales != "f16")
    fail(ErrorKind::bad_recipe,
         "grid fp8 has f32 scales, one a row or, with group:, one for so many columns; it takes "
         "no symmetric, scope or scales");
  if (request.group && *request.group < 2) fail(ErrorKind::bad_recipe, "group: {} is less than 2", *request.group);
  return make_minifloat_grid({8, MinifloatScale::f32, request.group.value_or(0), 1});
}

GridPtr make_mxfp8() { return make_minifloat_grid(*minifloat_spec_from_name("mxfp8")); }
GridPtr make_nvfp4() { return make_minifloat_grid(*minifloat_spec_from_name("nvfp4")); }

/// One row per name that a recipe may use; `make` reads the options that the grid has.
struct GridRow {
  const char* name;
  GridPtr (*make)(const GridRequest& request);
};

constexpr std::array kGrids{GridRow{"int2", &integer<2>},
                            GridRow{"int3", &integer<3>},
                            GridRow{"int4", &integer<4>},
                            GridRow{"int5", &integer<5>},
                            GridRow{"int6", &integer<6>},
                            GridRow{"int8", &integer<8>},
                            GridRow{"fp8", &fp8},
                            GridRow{"mxfp8", &fixed<&make_mxfp8>},
                            GridRow{"nvfp4", &fixed<&make_nvfp4>},
                            GridRow{"gguf/q4_0", &fixed<&make_q4_0_grid>},
                            GridRow{"gguf/q4_1", &fixed<&make_q4_1_grid>},
                            GridRow{"gguf/q5_0", &fixed<&make_q5_0_grid>},
                            GridRow{"gguf/q5_1", &fixed<&make_q5_1_grid>},
                            GridRow{"gguf/q8_0", &fixed<&make_q8_0_grid>},
                            GridRow{"gguf/q2_k", &fixed<&make_q2_k_grid>},
                            GridRow{"gguf/q3_k", &fixed<&make_q3_k_grid>},
                            GridRow{"gguf/q4_k", &fixed<&make_q4_k_grid>},
                            GridRow{"gguf/q5_k", &fixed<&make_q5_k_grid>},
                            GridRow{"gguf/q6_k", &fixed<&make_q6_k_grid>},
                            GridRow{"gguf/iq4_nl", &fixed<&make_iq4_nl_grid>},
                            GridRow{"gguf/iq4_xs", &fixed<&make_iq4_xs_grid>},
                            GridRow{"gguf/mxfp4", &fixed<&make_mxfp4_grid>},
                            GridRow{"gguf/tq1_0", &fixed<&make_tq1_0_grid>},
                            GridRow{"gguf/tq2_0", &fixed<&make_tq2_0_grid>}};

const GridRow* find_row(std::string_view name) {
  for (const GridRow& row : kGrids)
    if (name == row.name) return &row;
  return nullptr;
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
  return row->make(request);
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
  const auto minifloats = minifloat_spec_from_name(name);
  const auto grid = [&] {
    try {
      return minifloats && find_row(name) == nullptr ? make_minifloat_grid(*minifloats) : make_grid(request);
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
