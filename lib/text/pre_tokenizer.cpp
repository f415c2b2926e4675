#include "text/components.h"

#include <array>
#include <string>
#include <utility>

#include "base/error.h"
#include "text/char_class.h"
#include "text/json_fields.h"
#include "text/normalizer.h"
#include "text/space_boundary.h"
#include "text/split_family.h"

namespace adze {
namespace {

using nlohmann::json;

/// One step as the file states it, before ByteLevel's own parts are appended.
struct Step {
  std::shared_ptr<const Splitter> splitter;
  SplitFamily family = SplitFamily::other;  ///< of a Split with a known pattern
  std::string pattern;                      ///< of an isolating Split with a regex
  bool single_digits = false;               ///< Digits that isolates each digit
};

struct Parts {
  std::vector<Step> steps;
  std::optional<Metaspace> metaspace;
  bool byte_level = false, use_regex = true, prefix_space = false;
};

SplitRule parse_rule(const JsonFields& fields) {
  const std::string name = fields.text("behavior");
  const auto behavior = split_behavior_from_name(name);
  if (!behavior) fields.refuse(fmt::format("unknown split behavior '{}'", name));
  return {*behavior, fields.flag("invert", false)};
}

Step parse_split_regex(const std::string& pattern, SplitRule rule) {
  Step step;
  if (rule.behavior == SplitBehavior::isolated && !rule.invert) {
    step.pattern = pattern;
    step.family = family_of_pattern(pattern).value_or(SplitFamily::other);
    step.splitter = make_scanner(step.family);
  }
  if (step.splitter == nullptr) step.splitter = make_regex_splitter(pattern, rule);
  return step;
}

void add_split(const JsonFields& fields, Parts& parts) {
  const SplitRule rule = parse_rule(fields);
  const JsonFields pattern(fields.required("pattern"), fields.where() + ": 'pattern'");
  if (pattern.find("Regex") != nullptr) {
    parts.steps.push_back(parse_split_regex(pattern.text("Regex"), rule));
  } else {
    Step step;
    step.splitter = make_literal_splitter(pattern.text("String"), rule);
    parts.steps.push_back(std::move(step));
  }
}

void add_digits(const JsonFields& fields, Parts& parts) {
  Step step;
  step.single_digits = fields.flag("individual_digits", false);
  const auto behavior = step.single_digits ? SplitBehavior::isolated : SplitBehavior::contiguous;
  step.splitter = make_char_splitter(kNumber, {behavior, false});
  parts.steps.push_back(std::move(step));
}

void add_punctuation(const JsonFields& fields, Parts& parts) {
  const SplitRule rule = fields.find("behavior") == nullptr ? SplitRule{} : parse_rule(fields);
  Step step;
  step.splitter = make_char_splitter(kPunctuation, rule);
  parts.steps.push_back(std::move(step));
}

void add_byte_level(const JsonFields& fields, Parts& parts) {
  parts.byte_level = true;
  parts.use_regex = fields.flag("use_regex", true);
  parts.prefix_space = fields.flag("add_prefix_space", false);
}

struct SchemeName {
  std::string_view name;
  SpacePrefix prefix;
};
constexpr std::array kSchemes = {SchemeName{"always", SpacePrefix::always_if_missing},
                                 SchemeName{"first", SpacePrefix::first_if_missing},
                                 SchemeName{"never", SpacePrefix::never}};

/// Older files have add_prefix_space instead of prepend_scheme; newer ones may have both.
SpacePrefix parse_scheme(const JsonFields& fields) {
  const bool prefixes = fields.flag("add_prefix_space", true);
  const std::string name = fields.text_or("prepend_scheme", prefixes ? "always" : "never");
  if (!prefixes && name != "never")
    fields.refuse(fmt::format("add_prefix_space is false, but prepend_scheme is '{}'", name));
  for (const SchemeName& scheme : kSchemes)
    if (scheme.name == name) return scheme.prefix;
  fields.refuse(fmt::format("unknown prepend_scheme '{}'", name));
}

void add_metaspace(const JsonFields& fields, Parts& parts) {
  Metaspace metaspace;
  metaspace.replacement = fields.text_or("replacement", kMetaspace);
  if (metaspace.replacement.empty()) fields.refuse("'replacement' is empty");
  metaspace.prefix = parse_scheme(fields);
  metaspace.split = fields.flag("split", true);
  parts.metaspace = std::move(metaspace);
}

struct StepType {
  std::string_view name;
  bool bytes, characters;  ///< kinds of model that may have it
  void (*add)(const JsonFields&, Parts&);
};
constexpr std::array kStepTypes = {
    StepType{"Split", true, true, add_split},
    StepType{"Digits", true, true, add_digits},
    StepType{"Punctuation", true, true, add_punctuation},
    StepType{"ByteLevel", true, false, add_byte_level},
    StepType{"Metaspace", false, true, add_metaspace},
};

Parts parse_parts(const json& value, BpeAlphabet kind) {
  Parts parts;
  for_each_part(value, "pre_tokenizer", "pretokenizers", [&](const JsonFields& fields, const std::string& type) {
    if (parts.byte_level) fields.refuse(fmt::format("'{}' after ByteLevel is not supported", type));
    if (parts.metaspace) fields.refuse(fmt::format("'{}' after Metaspace is not supported", type));
    for (const StepType& known : kStepTypes)
      if (known.name == type && (kind == BpeAlphabet::bytes ? known.bytes : known.characters))
        return known.add(fields, parts);
    fields.refuse(fmt::format("pre-tokenizer type '{}' is not supported for {} BPE", type, name_of(kind)));
  });
  return parts;
}

constexpr std::array<std::string_view, 3> kDeepSeekPatterns = {
    "\\p{N}{1,3}",
    "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+",  // CJK and kana
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
};

bool is_deepseek(const std::vector<Step>& steps) {
  if (steps.size() != kDeepSeekPatterns.size()) return false;
  for (std::size_t i = 0; i < steps.size(); ++i)
    if (with_escaped_newlines(steps[i].pattern) != kDeepSeekPatterns[i]) return false;
  return true;
}

SplitFamily family_of(const Parts& parts) {
  if (parts.use_regex) {
    if (parts.steps.empty()) return SplitFamily::gpt2;
    return parts.steps.size() == 1 && parts.steps[0].single_digits ? SplitFamily::digits_gpt2 : SplitFamily::other;
  }
  if (parts.steps.size() == 1) return parts.steps[0].family;
  return is_deepseek(parts.steps) ? SplitFamily::deepseek_v3 : SplitFamily::other;
}

json isolating_split(std::string_view pattern) {
  const json regex = {{"Regex", std::string(pattern)}};
  return {{"type", "Split"}, {"pattern", regex}, {"behavior", "Isolated"}, {"invert", false}};
}

json byte_level_step(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

}  // namespace

json pre_tokenizer_json(SplitFamily family) {
  if (family == SplitFamily::gpt2) return byte_level_step(/*use_regex=*/true);
  json steps = json::array();
  if (family == SplitFamily::digits_gpt2) {
    steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  } else if (family == SplitFamily::deepseek_v3) {
    for (const std::string_view pattern : kDeepSeekPatterns) steps.push_back(isolating_split(pattern));
  } else {
    steps.push_back(isolating_split(split_pattern(family)));
  }
  steps.push_back(byte_level_step(/*use_regex=*/family == SplitFamily::digits_gpt2));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

std::string Metaspace::apply(std::string_view piece, bool is_first) const {
  std::string text = replace_all(piece, " ", replacement);
  const bool wanted = prefix == SpacePrefix::always_if_missing || (prefix == SpacePrefix::first_if_missing && is_first);
  if (wanted && !text.starts_with(replacement)) text.insert(0, replacement);
  return text;
}

PreTokenizer parse_byte_level_pre_tokenizer(const json* value) {
  if (value == nullptr) fail(ErrorKind::bad_data, "pre_tokenizer is null; byte-level BPE needs ByteLevel there");
  Parts parts = parse_parts(*value, BpeAlphabet::bytes);
  if (!parts.byte_level) fail(ErrorKind::bad_data, "pre_tokenizer has no ByteLevel step; byte-level BPE needs one");
  PreTokenizer result;
  result.family = family_of(parts);
  result.adds_prefix_space = parts.prefix_space;
  for (Step& step : parts.steps) result.steps.push_back(std::move(step.splitter));
  if (parts.prefix_space) result.steps.push_back(make_space_prefixer());
  if (parts.use_regex) result.steps.push_back(make_scanner(SplitFamily::gpt2));
  return result;
}

PreTokenizer parse_character_pre_tokenizer(const json* value) {
  PreTokenizer result;
  if (value == nullptr) return result;
  Parts parts = parse_parts(*value, BpeAlphabet::characters);
  if (parts.metaspace && !parts.steps.empty())
    fail(ErrorKind::bad_data, "pre_tokenizer: Metaspace after other steps is not supported");
  result.metaspace = std::move(parts.metaspace);
  for (Step& step : parts.steps) result.steps.push_back(std::move(step.splitter));
  if (result.metaspace && result.metaspace->split)
    result.steps.push_back(
        make_literal_splitter(result.metaspace->replacement, {SplitBehavior::merged_with_next, false}));
  return result;
}

}  // namespace adze
