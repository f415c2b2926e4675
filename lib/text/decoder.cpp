#include "text/decoder.h"

#include <array>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "text/json_fields.h"
#include "text/normalizer.h"
#include "text/utf8.h"

namespace adze {
namespace {

using Tokens = std::vector<std::string>;

DecoderStep parse_replace(const JsonFields& fields) {
  DecoderStep step;
  step.kind = DecoderKind::replace;
  step.pattern = literal_pattern(fields);
  step.content = fields.text("content");
  return step;
}

DecoderStep parse_metaspace(const JsonFields& fields) {
  DecoderStep step;
  step.kind = DecoderKind::metaspace;
  step.pattern = fields.text_or("replacement", "\u2581");
  step.content.assign(1, ' ');
  if (step.pattern.empty()) fields.refuse("'replacement' is empty");
  step.strips_first = fields.text_or("prepend_scheme", "always") != "never" && fields.flag("add_prefix_space", true);
  return step;
}

template <DecoderKind kind>
DecoderStep parse_plain(const JsonFields&) {
  DecoderStep step;
  step.kind = kind;
  return step;
}

DecoderStep parse_strip(const JsonFields& fields) {
  DecoderStep step;
  step.kind = DecoderKind::strip;
  step.content = fields.text("content");
  if (step.content.empty() || code_point_at(step.content, 0).length != step.content.size())
    fields.refuse("'content' must be one character");
  step.start = fields.count("start");
  step.stop = fields.count("stop");
  return step;
}

struct StepType {
  std::string_view name;
  DecoderStep (*parse)(const JsonFields&);
};
constexpr std::array kStepTypes = {
    StepType{"Replace", parse_replace},
    StepType{"Metaspace", parse_metaspace},
    StepType{"ByteFallback", parse_plain<DecoderKind::byte_fallback>},
    StepType{"Fuse", parse_plain<DecoderKind::fuse>},
    StepType{"Strip", parse_strip},
};

DecoderStep parse_step(const JsonFields& fields, const std::string& type) {
  for (const StepType& known : kStepTypes)
    if (known.name == type) return known.parse(fields);
  fields.refuse(fmt::format("decoder type '{}' is not supported for a vocabulary of characters", type));
}

void replace_in(const DecoderStep& step, std::string_view content, std::string& token) {
  if (token.find(step.pattern) != token.npos) token = replace_all(token, step.pattern, content);
}

void replace(const DecoderStep& step, Tokens& tokens) {
  for (std::size_t i = 0; i < tokens.size(); ++i)
    replace_in(step, step.strips_first && i == 0 ? std::string_view() : step.content, tokens[i]);
}

/// A run of bytes as text.
std::string text_of_run(std::string bytes) {
  if (is_valid_utf8(bytes)) return bytes;
  std::string replaced;
  for (std::size_t i = 0; i < bytes.size(); ++i) append_utf8(replaced, kReplacementCharacter);
  return replaced;
}

void join_bytes(const DecoderStep&, Tokens& tokens) {
  Tokens out;
  std::string run;
  const auto flush = [&] {
    if (!run.empty()) out.push_back(text_of_run(std::exchange(run, {})));
  };
  for (std::string& token : tokens) {
    const int byte = byte_of_token(token);
    if (byte >= 0) {
      run += static_cast<char>(byte);
      continue;
    }
    flush();
    out.push_back(std::move(token));
  }
  flush();
  tokens = std::move(out);
}

void fuse(const DecoderStep&, Tokens& tokens) {
  std::string all;
  for (const std::string& token : tokens) all += token;
  tokens.assign(1, std::move(all));
}

void strip(const DecoderStep& step, Tokens& tokens) {
  for (std::string& token : tokens) {
    std::string_view left = token;
    for (std::uint64_t i = 0; i < step.start && left.starts_with(step.content); ++i)
      left.remove_prefix(step.content.size());
    for (std::uint64_t i = 0; i < step.stop && left.ends_with(step.content); ++i)
      left.remove_suffix(step.content.size());
    if (left.size() != token.size()) token = std::string(left);
  }
}

struct KindAction {
  DecoderKind kind;
  void (*apply)(const DecoderStep&, Tokens&);
};
constexpr std::array kActions = {
    KindAction{DecoderKind::replace, replace},
    KindAction{DecoderKind::metaspace, replace},
    KindAction{DecoderKind::byte_fallback, join_bytes},
    KindAction{DecoderKind::fuse, fuse},
    KindAction{DecoderKind::strip, strip},
};

}  // namespace

int byte_of_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  int value = 0;
  const auto [end, error] = std::from_chars(text.data() + 3, text.data() + 5, value, 16);
  return error == std::errc() && end == text.data() + 5 && value >= 0 ? value : -1;
}

Decoder::Decoder(const nlohmann::json* value) {
  if (value == nullptr) fail(ErrorKind::bad_data, "decoder is null; a vocabulary of characters needs one");
  for_each_part(*value, "decoder", "decoders",
                [&](const JsonFields& fields, const std::string& type) { steps_.push_back(parse_step(fields, type)); });
}

std::string Decoder::decode(std::vector<std::string> tokens) const {
  for (const DecoderStep& step : steps_)
    for (const KindAction& action : kActions)
      if (action.kind == step.kind) action.apply(step, tokens);
  fuse({}, tokens);
  return std::move(tokens.front());
}

std::string Decoder::inside(std::string token) const {
  for (const DecoderStep& step : steps_)
    if (step.kind == DecoderKind::replace || step.kind == DecoderKind::metaspace) replace_in(step, step.content, token);
  return token;
}

}  // namespace adze
