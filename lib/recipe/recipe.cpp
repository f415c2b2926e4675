#include "recipe/recipe.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/hash.h"
#include "recipe/paths.h"
#include "recipe/rules.h"
#include "recipe/scalars.h"
#include "recipe/schemes.h"

namespace adze {
namespace {

constexpr std::uint64_t kMostWindows = 1'000'000;
constexpr std::uint64_t kFewestTokens = 2;  // one to predict from, one to predict
constexpr std::uint64_t kMostTokens = 1'000'000;
constexpr double kMostBits = 64;
constexpr double kMostKl = 100;  // nats
constexpr std::uint64_t kMostContext = 1 << 30;

constexpr std::array kPropagateModes{Named<PropagateMode>{"compressed", PropagateMode::compressed},
                                     Named<PropagateMode>{"original", PropagateMode::original}};
constexpr std::array kWithoutText{Named<InputsFrom>{"none", InputsFrom::nothing},
                                  Named<InputsFrom>{"weights", InputsFrom::weights}};
constexpr std::array kStageModes{Named<StageMode>{"staged", StageMode::staged}, Named<StageMode>{"1", StageMode::once}};

/// Nothing is run: no windows, of a size that can be divided by.
void read_without_text(const Value& value, CalibrationSpec& spec) {
  const auto word = value.word();
  if (!word) return;
  const auto* const row = std::ranges::find(kWithoutText, *word, &Named<InputsFrom>::name);
  if (row == kWithoutText.end())
    return value.complain("must be a map with the key 'set'; or, where nothing is run, none or weights");
  spec.from = row->value;
  spec.windows = 0;
  spec.tokens = 1;
}

void read_calibration(const Value& value, Recipe& recipe) {
  CalibrationSpec& spec = recipe.calibration;
  if (value.is_scalar()) {
    spec.where = value.where();
    return read_without_text(value, spec);
  }
  auto read = value.map();
  if (!read) return;
  MapReader& map = *read;
  spec.where = map.where();
  spec.set = resolve(recipe.folder, map.required("set").word().value_or(""));
  spec.windows = map.optional("windows").count(1, kMostWindows).value_or(spec.windows);
  spec.tokens = map.optional("tokens").count(kFewestTokens, kMostTokens).value_or(spec.tokens);
  spec.seed = map.optional("seed").count(0, UINT64_MAX).value_or(spec.seed);
  spec.experts = map.optional("experts").one_of<ExpertInputs>(kExpertInputs).value_or(spec.experts);
  map.finish();
}

void read_fit(MapReader map, BudgetSpec& budget) {
  FitSpec spec;
  spec.ram = map.required("ram").bytes().value_or(0);
  spec.context = map.optional("context").count(1, kMostContext).value_or(spec.context);
  spec.reserve = map.optional("reserve").bytes().value_or(spec.reserve);
  map.finish();
  budget.fit = spec;
}

void read_budget(MapReader map, Recipe& recipe, Diagnostics& problems) {
  BudgetSpec spec;
  spec.where = map.where();
  const Value size = map.optional("size");
  const Value bits = map.optional("bits_per_weight");
  const Value kl = map.optional("kl");
  const Value fit = map.optional("fit");
  const Value of = map.optional("of");
  spec.bytes = size.bytes();
  spec.bits_per_weight = bits.real(0, kMostBits);
  spec.kl = kl.real(0, kMostKl);
  if (auto device = fit.map()) read_fit(std::move(*device), spec);
  spec.of = of.word().value_or("");
  spec.multiplications = map.optional("multiplications").percent();
  if (size.present() + bits.present() + kl.present() + fit.present() != 1)
    problems.add(map.where(), "'budget' needs one of 'size', 'bits_per_weight', 'kl' and 'fit'");
  if (kl.present() && spec.multiplications)
    problems.add(kl.key_where(), "a model is either the smallest for its 'kl' or within 'multiplications', not both");
  if (of.present() && bits.present())
    problems.add(of.key_where(), "'of' names the export whose size is meant; 'bits_per_weight' has none");
  std::vector<std::string> formats;
  for (const ExportSpec& target : recipe.exports) formats.push_back(target.format);
  if (!spec.of.empty() && std::ranges::find(formats, spec.of) == formats.end())
    problems.report(of.where(), "no export has the format {}{}", quoted_for_message(spec.of),
                    suggestion_or_list(spec.of, formats, "formats here:"));
  map.finish();
  recipe.budget = std::move(spec);
}

bool stays_below(const std::filesystem::path& path) {
  return path.is_relative() && std::ranges::find(path, std::filesystem::path("..")) == path.end();
}

void read_transform(MapReader map, Recipe& recipe) {
  TransformSpec spec;
  const Value kind = map.required("kind");
  spec.kind = kind.word().value_or("");
  spec.where = kind.where();
  spec.optional = map.optional("optional").boolean().value_or(false);
  spec.options = map.rest();
  recipe.transforms.push_back(std::move(spec));
}

void read_export(MapReader map, Recipe& recipe) {
  ExportSpec spec;
  const Value format = map.required("format");
  const Value file = map.required("file");
  spec.format = format.word().value_or("");
  spec.where = format.where();
  spec.file = std::filesystem::path(file.word().value_or("")).lexically_normal();
  if (!spec.file.empty() && !spec.file.has_filename()) spec.file = spec.file.parent_path();  // "folder/"
  spec.file_where = file.where();
  if (!stays_below(spec.file)) file.complain("must lie in the output folder: a relative path without '..'");
  if (!spec.file.empty() && std::ranges::find(recipe.exports, spec.file, &ExportSpec::file) != recipe.exports.end())
    file.complain("is written by another export already");
  for (const ExportSpec& other : recipe.exports) {
    const auto [mine, theirs] = std::ranges::mismatch(spec.file, other.file);
    if (spec.file != other.file && (mine == spec.file.end() || theirs == other.file.end()))
      file.complain(fmt::format("and '{}' lie in one another", other.file.string()));
  }
  if (const Value split = map.optional("split_max_size"); split.present()) {
    const auto bytes = split.bytes();
    if (bytes == 0) split.complain("must be above zero");
    spec.split_max_bytes = bytes.value_or(0);
    if (spec.split_max_bytes > 0 && spec.format == "gguf" && spec.file.extension() != ".gguf")
      file.complain("the name of a file that is split must end with .gguf");
  }
  const Value cache = map.optional("kv_cache");
  spec.kv_cache = cache.word();
  if (cache.present()) spec.kv_cache_where = cache.where();
  map.finish();
  recipe.exports.push_back(std::move(spec));
}

/// "lcpp-512" is protocol and context in one word.
void split_protocol(const Value& protocol, const Value& context, EvaluateSpec& spec) {
  const std::size_t dash = spec.protocol.rfind('-');
  if (dash == std::string::npos) return;
  const auto number = parse_core_integer(std::string_view(spec.protocol).substr(dash + 1));
  if (!number) return;
  if (number->negative || number->overflow || number->magnitude < kFewestTokens || number->magnitude > kMostTokens)
    return protocol.complain(fmt::format("names a context outside {} to {}", kFewestTokens, kMostTokens));
  if (context.present() && spec.context != number->magnitude)
    return protocol.complain(fmt::format("says context {}, the key 'context' {}", number->magnitude, spec.context));
  spec.context = number->magnitude;
  spec.protocol.resize(dash);
}

void read_evaluate(MapReader map, Recipe& recipe) {
  EvaluateSpec spec;
  spec.where = map.where();
  spec.text = resolve(recipe.folder, map.required("text").word().value_or(""));
  const Value context = map.optional("context");
  spec.context = context.count(kFewestTokens, kMostTokens).value_or(spec.context);
  const Value protocol = map.optional("protocol");
  spec.protocol = protocol.word().value_or(spec.protocol);
  spec.protocol_where = protocol.present() ? protocol.where() : map.where();
  split_protocol(protocol, context, spec);
  map.finish();
  recipe.evaluate = std::move(spec);
}

/// False when this program cannot read the version: then no other key is judged.
bool check_version(MapReader& map, Diagnostics& problems) {
  const Value version = map.optional("adze");
  if (map.is_map() && !version.present())
    problems.report(map.where(), "the key 'adze' is missing; a recipe says its version: adze: {}", kRecipeVersion);
  const auto number = version.count(0, UINT64_MAX);
  if (!number || *number == kRecipeVersion) return true;
  problems.report(version.where(), "recipe version {} is not supported; this program reads version {}", *number,
                  kRecipeVersion);
  return false;
}

void read_sections(MapReader& map, Recipe& recipe, Diagnostics& problems) {
  read_calibration(map.required("calibration"), recipe);
  for (const Value& item : map.optional("transform").items())
    if (auto transform = item.map()) read_transform(std::move(*transform), recipe);
  read_schemes(map.optional("schemes").entries(), recipe, problems);
  read_rules(map.required("rules").items(), recipe, problems);
  for (const Value& item : map.optional("export").items())
    if (auto target = item.map()) read_export(std::move(*target), recipe);
  if (auto budget = map.optional("budget").map()) read_budget(std::move(*budget), recipe, problems);
  if (auto evaluate = map.optional("evaluate").map()) read_evaluate(std::move(*evaluate), recipe);
  recipe.propagate = map.optional("propagate").one_of<PropagateMode>(kPropagateModes).value_or(recipe.propagate);
  recipe.stages = map.optional("stages").one_of<StageMode>(kStageModes).value_or(recipe.stages);
  map.finish();
}

Recipe read_recipe(Document document) {
  Recipe recipe;
  recipe.source = document.source();
  recipe.origin = recipe.source->origin();
  recipe.folder = std::filesystem::path(recipe.origin).parent_path();
  recipe.text_hash = hash_hex(recipe.source->text());
  recipe.warnings = Diagnostics(recipe.source);
  Diagnostics& problems = document.problems();
  MapReader map(document.root(), "the recipe", problems);
  if (check_version(map, problems)) read_sections(map, recipe, problems);
  problems.throw_if_any();
  warn_about_unused(recipe);
  return recipe;
}

}  // namespace

const SchemeSpec* Recipe::find_scheme(std::string_view name) const {
  const auto found = std::ranges::find(schemes, name, &SchemeSpec::name);
  return found == schemes.end() ? nullptr : &*found;
}

MapReader read_options(const TransformSpec& transform, Diagnostics& problems) {
  constexpr std::array<std::string_view, 2> kKnown{"kind", "optional"};
  MapReader reader(transform.options, fmt::format("transform {}", quoted_for_message(transform.kind)), problems);
  reader.also_known(kKnown);
  return reader;
}

Recipe load_recipe(const std::filesystem::path& path) { return read_recipe(Document::load(path)); }

Recipe parse_recipe(std::string text, std::string origin) {
  return read_recipe(Document::parse(std::move(text), std::move(origin)));
}

}  // namespace adze
