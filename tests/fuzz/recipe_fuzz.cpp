// Recipes and text sets from arbitrary bytes: only adze::Error may leave the parsers, and what they accept must be
// whole enough to be used: every place lies in the file, every rule has its treatment, every message can be formatted.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "recipe/recipe.h"
#include "recipe/text_set.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void use_options(const adze::SchemeSpec& scheme, adze::Diagnostics& problems) {
  adze::MapReader options = adze::read_options(scheme, problems);
  options.optional("damp").real(0, 1);
  options.optional("sparsity").percent();
  options.optional("steps").integer(-5, 5);
  options.optional("act_order").boolean();
  options.finish();
}

void parse_as_recipe(const std::string& text) {
  const adze::Recipe recipe = adze::parse_recipe(text, "fuzz.yaml");
  require(!recipe.rules.empty() && !recipe.calibration.set.empty());
  adze::Diagnostics problems(recipe.source);
  for (const adze::SchemeSpec& scheme : recipe.schemes) {
    problems.add(scheme.grid_where, "place");
    use_options(scheme, problems);
  }
  for (const adze::RuleSpec& rule : recipe.rules) {
    require(rule.scheme.has_value() + rule.store.has_value() + !rule.choose.empty() == 1);
    require(!rule.scheme || recipe.find_scheme(*rule.scheme));
    problems.add(rule.treatment_where, "place");
  }
  require(problems.format_all().size() < (std::size_t{1} << 20));
  require(recipe.warnings.format_all().size() < (std::size_t{1} << 20));
}

void parse_as_text_set(const std::string& text) {
  const adze::TextSet set = adze::parse_text_set(text, "fuzz.yaml");
  require(!set.texts.empty());
  for (const adze::TextSpec& spec : set.texts) require(!spec.file.empty());
}

template <typename Parse>
void expect_only_bad_recipe(Parse&& parse) {
  try {
    parse();
  } catch (const adze::Error& error) {
    require(error.kind() == adze::ErrorKind::bad_recipe && !error.message().empty());
    require(error.message().size() < (std::size_t{1} << 20));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  expect_only_bad_recipe([&] { parse_as_recipe(text); });
  expect_only_bad_recipe([&] { parse_as_text_set(text); });
  return 0;
}
