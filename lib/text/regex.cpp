#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "text/utf8.h"

namespace adze {
namespace {

constexpr std::size_t kMaxPatternBytes = 16384;    // the longest pattern seen in use has about 600
constexpr std::uint32_t kMaxNesting = 50;          // of parentheses
constexpr std::uint32_t kMatchLimit = 10'000'000;  // backtracking points for one match, PCRE2's own default
constexpr std::uint32_t kHeapLimitKib = 256 * 1024;

template <typename T, void (*release)(T*)>
struct Release {
  void operator()(T* object) const { release(object); }
};
using CompileContext =
    std::unique_ptr<pcre2_compile_context, Release<pcre2_compile_context, pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Release<pcre2_match_context, pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Release<pcre2_match_data, pcre2_match_data_free>>;
using CodePointer = std::unique_ptr<pcre2_code, Release<pcre2_code, pcre2_code_free>>;

std::string message_of(int code) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

CodePointer compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes)
    fail(ErrorKind::bad_data, "split pattern has {} bytes, more than {}", pattern.size(), kMaxPatternBytes);
  const CompileContext context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), kMaxNesting);
  int error = 0;
  PCRE2_SIZE offset = 0;
  CodePointer code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                                 context.get()));
  if (!code) fail(ErrorKind::bad_data, "split pattern '{}': byte {}: {}", pattern, offset, message_of(error));
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // without it the interpreter does the same, slower
  return code;
}

}  // namespace

struct Regex::Code {
  CodePointer pointer;
};

Regex::Regex(std::string_view pattern) : code_(std::make_shared<const Code>(Code{compile(pattern)})) {}

struct Regex::Matcher::State {
  std::shared_ptr<const Code> code;
  std::string_view text;
  MatchContext context;
  MatchData data;
  std::size_t from = 0;
  bool finished = false;

  int match(std::uint32_t options) const {
    return pcre2_match(code->pointer.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                       options | PCRE2_NO_UTF_CHECK, data.get(), context.get());
  }
};

Regex::Matcher::Matcher(const Regex& regex, std::string_view text) : state_(std::make_unique<State>()) {
  state_->code = regex.code_;
  state_->text = text;
  state_->context.reset(pcre2_match_context_create(nullptr));
  state_->data.reset(pcre2_match_data_create_from_pattern(regex.code_->pointer.get(), nullptr));
  // One match may walk back over a run as long as the text, so the limit grows with it.
  const std::uint64_t limit = std::min<std::uint64_t>(kMatchLimit + std::uint64_t{4} * text.size(), UINT32_MAX);
  pcre2_set_match_limit(state_->context.get(), static_cast<std::uint32_t>(limit));
  pcre2_set_heap_limit(state_->context.get(), kHeapLimitKib);
}

Regex::Matcher::~Matcher() = default;

std::optional<Regex::Match> Regex::Matcher::next() {
  State& state = *state_;
  if (state.finished) return std::nullopt;
  int result = state.match(0);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = state.match(PCRE2_NO_JIT);
  if (result < 0) {
    state.finished = true;
    if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
    fail(ErrorKind::bad_data, "split pattern failed at byte {} of a text of {}: {}", state.from, state.text.size(),
         message_of(result));
  }
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(state.data.get());
  const Match match{ends[0], ends[1]};
  if (match.end > match.begin) {
    state.from = match.end;
  } else if (match.end < state.text.size()) {
    state.from = match.end + code_point_at(state.text, match.end).length;
  } else {
    state.finished = true;
  }
  return match;
}

}  // namespace adze
