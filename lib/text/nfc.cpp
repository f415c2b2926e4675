#include "text/nfc.h"

#include <algorithm>
#include <vector>

#include <utf8proc.h>

#include "base/error.h"
#include "text/char_class.h"
#include "text/utf8.h"

namespace adze {
namespace {

constexpr auto kCompose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
constexpr utf8proc_ssize_t kLongestDecomposition = 18;  // of one code point, in any form (UAX 15)

int combining_class(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

std::vector<utf8proc_int32_t> decompose(std::string_view text) {
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  utf8proc_int32_t buffer[kLongestDecomposition];
  int boundary = 0;
  for (std::size_t pos = 0; pos < text.size();) {
    const CodePoint point = code_point_at(text, pos);
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(point.value), buffer,
                                               kLongestDecomposition, kCompose, &boundary);
    if (count < 0 || count > kLongestDecomposition)
      fail(ErrorKind::internal, "no decomposition of U+{:04X}", static_cast<std::uint32_t>(point.value));
    points.insert(points.end(), buffer, buffer + count);
    pos += point.length;
  }
  return points;
}

/// Canonical ordering: each run of non-starters stably sorted by combining class.
void order_marks(std::vector<utf8proc_int32_t>& points) {
  const auto is_starter = [](utf8proc_int32_t c) { return combining_class(c) == 0; };
  for (auto first = points.begin(); first != points.end();) {
    first = std::find_if_not(first, points.end(), is_starter);
    const auto last = std::find_if(first, points.end(), is_starter);
    std::stable_sort(first, last, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    first = last;
  }
}

}  // namespace

bool is_surely_nfc(std::string_view text) {
  const CharClasses& classes = CharClasses::get();
  return classes.skip(text, 0, kNfcSafe) == text.size();
}

std::string to_nfc(std::string_view text) {
  if (is_surely_nfc(text)) return std::string(text);
  std::vector<utf8proc_int32_t> points = decompose(text);
  order_marks(points);
  const auto count = utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()), kCompose);
  if (count < 0) fail(ErrorKind::internal, "NFC: {}", utf8proc_errmsg(count));
  std::string out;
  out.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < count; ++i)
    append_utf8(out, static_cast<char32_t>(points[static_cast<std::size_t>(i)]));
  return out;
}

}  // namespace adze
