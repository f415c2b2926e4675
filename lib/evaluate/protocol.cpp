#include "evaluate/protocol.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "base/error.h"

namespace adze {
namespace {

constexpr std::size_t kLeastWindow = 8;
constexpr std::size_t kMostWindow = std::size_t{1} << 20;

struct Preset {
  std::string_view prefix;
  bool second_half_only;
  BosPolicy bos;
};
constexpr std::array kPresets = {Preset{"lcpp-", true, BosPolicy::each}, Preset{"gptq-", false, BosPolicy::first}};

std::optional<std::size_t> parse_window(std::string_view digits) {
  std::size_t window = 0;
  const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), window);
  const bool whole = status == std::errc{} && end == digits.data() + digits.size();
  return whole && window >= kLeastWindow && window <= kMostWindow ? std::optional(window) : std::nullopt;
}

}  // namespace

Protocol parse_protocol(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (!name.starts_with(preset.prefix)) continue;
    const auto window = parse_window(name.substr(preset.prefix.size()));
    if (!window) break;
    return {std::string(name), *window, preset.second_half_only ? *window / 2 : 0, preset.bos};
  }
  fail(ErrorKind::usage, "unknown perplexity protocol '{}'; use lcpp-N or gptq-N with a window N of {} to {} tokens",
       name, kLeastWindow, kMostWindow);
}

void check_protocol(const Protocol& protocol) {
  if (protocol.window < 3 || protocol.score_from > protocol.window - 3)
    fail(ErrorKind::internal, "protocol {}: window {} scored from {} leaves fewer than 2 predictions", protocol.name,
         protocol.window, protocol.score_from);
}

Matrix<std::int32_t> make_windows(std::span<const std::int32_t> ids, std::optional<std::int32_t> bos,
                                  const Protocol& protocol) {
  check_protocol(protocol);
  const bool with_bos = bos && protocol.bos != BosPolicy::none;
  std::vector<std::int32_t> text;
  if (with_bos) text.push_back(*bos);
  text.insert(text.end(), ids.begin(), ids.end());
  if (text.size() < protocol.window)
    fail(ErrorKind::bad_data,
         "the text has {} tokens, but {} needs at least {}; give a longer text or a smaller window", text.size(),
         protocol.name, protocol.window);
  Matrix<std::int32_t> windows(text.size() / protocol.window, protocol.window);
  std::copy_n(text.begin(), windows.shape().count(), windows.values().begin());
  if (with_bos && protocol.bos == BosPolicy::each)
    for (std::size_t w = 0; w < windows.rows(); ++w) windows(w, 0) = *bos;
  return windows;
}

}  // namespace adze
