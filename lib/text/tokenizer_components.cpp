#include "text/tokenizer_components.h"

#include <algorithm>

#include "base/error.h"
#include "text/space_boundary.h"

namespace adze {
namespace {

using nlohmann::json;

bool marks_spaces(const NormalizerStep& step) {
  return step.kind == NormalizerKind::replace && step.pattern == " " && step.content == kMetaspace;
}
bool puts_mark(const NormalizerStep& step) {
  return step.kind == NormalizerKind::prepend && (step.content == kMetaspace || step.content == " ");
}

Components byte_level_components(const JsonFields& fields) {
  Components components{
      Normalizer(fields.find("normalizer")), parse_byte_level_pre_tokenizer(fields.find("pre_tokenizer")), {}};
  for (const NormalizerStep& step : components.normalizer.steps())
    if (step.kind != NormalizerKind::nfc)
      fail(ErrorKind::bad_data, "normalizer: only NFC is supported for byte-level BPE");
  check_byte_level_decoder(fields.find("decoder"));
  return components;
}

/// A Split at spaces does nothing to text that has none left: Gemma's files have one.
const json* effective_pre_tokenizer(const JsonFields& fields, const Normalizer& normalizer) {
  const json* value = fields.find("pre_tokenizer");
  const bool has_spaces = std::ranges::none_of(normalizer.steps(), marks_spaces);
  if (value == nullptr || has_spaces || !value->is_object()) return value;
  const json split_pattern = {{"String", " "}};
  const bool is_split = value->value("type", json()) == "Split" && value->value("pattern", json()) == split_pattern;
  return is_split ? nullptr : value;
}

Components character_components(const JsonFields& fields) {
  Components components;
  components.normalizer = Normalizer(fields.find("normalizer"));
  components.pre_tokenizer = parse_character_pre_tokenizer(effective_pre_tokenizer(fields, components.normalizer));
  components.decoder = Decoder(fields.find("decoder"));
  return components;
}

}  // namespace

Components parse_components(const JsonFields& fields, BpeAlphabet kind) {
  return kind == BpeAlphabet::bytes ? byte_level_components(fields) : character_components(fields);
}

CharacterRules character_rules(const Components& components) {
  const Normalizer& normalizer = components.normalizer;
  const PreTokenizer& pre_tokenizer = components.pre_tokenizer;
  CharacterRules rules;
  for (const NormalizerStep& step : normalizer.steps()) {
    if (marks_spaces(step))
      rules.marks_spaces = true;
    else if (puts_mark(step) && rules.prefix == SpacePrefix::never)
      rules.prefix = SpacePrefix::always;
    else
      rules.others = true;
  }
  if (const auto& metaspace = pre_tokenizer.metaspace) {
    rules.others = rules.others || !normalizer.steps().empty() || metaspace->replacement != kMetaspace;
    rules.marks_spaces = true;
    rules.prefix = metaspace->prefix;
    rules.splits_at_marks = metaspace->split;
  } else {
    rules.others = rules.others || !pre_tokenizer.steps.empty();
  }
  return rules;
}

}  // namespace adze
