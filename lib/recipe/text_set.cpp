#include "recipe/text_set.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "recipe/document.h"
#include "recipe/paths.h"
#include "recipe/reader.h"

namespace adze {
namespace {

constexpr std::uint64_t kTextSetVersion = 1;
constexpr std::uint64_t kMostInterleave = 1'000'000'000;
constexpr std::string_view kDefaultField = "text";

/// What the ending of a file's name says about it.
constexpr std::array kKindsByEnding{Named<TextKind>{".txt", TextKind::plain},
                                    Named<TextKind>{".jsonl", TextKind::jsonl},
                                    Named<TextKind>{".json", TextKind::ids}};

std::optional<TextKind> kind_by_ending(const std::filesystem::path& file) {
  const std::string ending = file.extension().string();
  const auto* row = std::ranges::find(kKindsByEnding, ending, &Named<TextKind>::name);
  if (row == kKindsByEnding.end()) return std::nullopt;
  return row->value;
}

/// `field` and `ids: true` say what a file is; otherwise its ending does, and any other ending is plain text.
TextKind kind_of(const TextSpec& spec, const Value& field, bool ids) {
  if (field.present()) return TextKind::jsonl;
  if (ids) return TextKind::ids;
  return kind_by_ending(spec.file).value_or(TextKind::plain);
}

TextSpec read_text(MapReader map, const std::filesystem::path& folder) {
  const Value file = map.required("file");
  const Value field = map.optional("field");
  const Value ids = map.optional("ids");
  const bool is_ids = ids.boolean().value_or(false);
  if (field.present() && is_ids) ids.complain("and 'field' exclude each other: token ids have no fields");
  TextSpec spec;
  spec.file = resolve(folder, file.word().value_or(""));
  spec.where = file.where();
  spec.kind = kind_of(spec, field, is_ids);
  const std::string name = field.word().value_or(std::string(kDefaultField));
  if (spec.kind == TextKind::jsonl) spec.field = name;
  spec.domain = map.optional("domain").word().value_or("");
  map.finish();
  return spec;
}

void read_interleave(const Value& value, TextSet& set) {
  set.interleave = value.count(1, kMostInterleave);
  const bool has_ids = std::ranges::find(set.texts, TextKind::ids, &TextSpec::kind) != set.texts.end();
  if (set.interleave && has_ids) value.complain("counts characters; a set with token ids has none");
}

/// False when this program cannot read the version: then no other key is judged.
bool check_version(MapReader& map, Diagnostics& problems) {
  const Value version = map.optional("adze_text");
  if (map.is_map() && !version.present())
    problems.report(map.where(), "the key 'adze_text' is missing; a text set says its version: adze_text: {}",
                    kTextSetVersion);
  const auto number = version.count(0, UINT64_MAX);
  if (!number || *number == kTextSetVersion) return true;
  problems.report(version.where(), "text set version {} is not supported; this program reads version {}", *number,
                  kTextSetVersion);
  return false;
}

void read_set(MapReader& map, TextSet& set) {
  const std::filesystem::path folder = std::filesystem::path(set.origin).parent_path();
  set.description = map.optional("description").text().value_or("");
  set.licence = map.optional("licence").text().value_or("");
  const Value texts = map.required("texts");
  for (const Value& item : texts.items())
    if (auto text = item.map()) set.texts.push_back(read_text(std::move(*text), folder));
  const auto named = std::ranges::count_if(set.texts, [](const TextSpec& text) { return !text.domain.empty(); });
  if (named != 0 && std::cmp_not_equal(named, set.texts.size()))
    texts.complain("either all have a 'domain' or none has");
  read_interleave(map.optional("interleave"), set);
  map.finish();
}

TextSet read_descriptor(Document document) {
  TextSet set;
  set.source = document.source();
  set.origin = set.source->origin();
  MapReader map(document.root(), "the text set", document.problems());
  if (check_version(map, document.problems())) read_set(map, set);
  document.problems().throw_if_any();
  return set;
}

TextSet single_text(const std::filesystem::path& path) {
  const auto kind = kind_by_ending(path);
  if (!kind)
    fail(ErrorKind::bad_recipe,
         "{}: not a text set; a .yaml descriptor or a text ending in .txt, .jsonl or .json (ids)", path.string());
  TextSet set;
  set.origin = path.string();
  set.texts.push_back({path, *kind, *kind == TextKind::jsonl ? std::string(kDefaultField) : "", "", {}});
  return set;
}

}  // namespace

TextSet load_text_set(const std::filesystem::path& path) {
  const std::string ending = path.extension().string();
  if (ending == ".yaml" || ending == ".yml") return read_descriptor(Document::load(path));
  return single_text(path);
}

TextSet parse_text_set(std::string text, std::string origin) {
  return read_descriptor(Document::parse(std::move(text), std::move(origin)));
}

}  // namespace adze
