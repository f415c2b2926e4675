#include "text/normalizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "text/json_fields.h"
#include "text/nfc.h"

namespace adze {
namespace {

NormalizerStep parse_nfc(const JsonFields&) { return {}; }

NormalizerStep parse_prepend(const JsonFields& fields) { return {NormalizerKind::prepend, {}, fields.text("prepend")}; }

NormalizerStep parse_replace(const JsonFields& fields) {
  return {NormalizerKind::replace, literal_pattern(fields), fields.text("content")};
}

struct StepType {
  std::string_view name;
  NormalizerStep (*parse)(const JsonFields&);
};
constexpr std::array kStepTypes = {
    StepType{"NFC", parse_nfc},
    StepType{"Prepend", parse_prepend},
    StepType{"Replace", parse_replace},
};

NormalizerStep parse_step(const JsonFields& fields, const std::string& type) {
  for (const StepType& known : kStepTypes)
    if (known.name == type) return known.parse(fields);
  fields.refuse(fmt::format("normalizer type '{}' is not supported", type));
}

/// True when the step leaves `text` as it is, so that no copy is needed.
bool changes_nothing(const NormalizerStep& step, std::string_view text) {
  switch (step.kind) {
    case NormalizerKind::nfc:
      return is_surely_nfc(text);
    case NormalizerKind::prepend:
      return text.empty() || step.content.empty();
    case NormalizerKind::replace:
      break;
  }
  return text.find(step.pattern) == text.npos;
}

std::string applied(const NormalizerStep& step, std::string_view text) {
  switch (step.kind) {
    case NormalizerKind::nfc:
      return to_nfc(text);
    case NormalizerKind::prepend:
      return std::string(step.content).append(text);
    case NormalizerKind::replace:
      break;
  }
  return replace_all(text, step.pattern, step.content);
}

}  // namespace

Normalizer::Normalizer(const nlohmann::json* value) {
  if (value == nullptr) return;
  for_each_part(*value, "normalizer", "normalizers",
                [&](const JsonFields& fields, const std::string& type) { steps_.push_back(parse_step(fields, type)); });
}

bool Normalizer::has(NormalizerKind kind) const {
  return std::ranges::any_of(steps_, [&](const NormalizerStep& step) { return step.kind == kind; });
}

std::string_view Normalizer::apply(std::string_view text, std::string& buffer) const {
  for (const NormalizerStep& step : steps_) {
    if (changes_nothing(step, text)) continue;
    buffer = applied(step, text);  // `text` may lie in the buffer: it is read before the buffer is replaced
    text = buffer;
  }
  return text;
}

std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);  // a text of words has a space in six bytes or so
  for (std::size_t pos = 0;;) {
    const std::size_t found = text.find(pattern, pos);
    out.append(text, pos, found - pos);
    if (found == text.npos) return out;
    out.append(content);
    pos = found + pattern.size();
  }
}

}  // namespace adze
