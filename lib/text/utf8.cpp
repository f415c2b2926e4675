#include "text/utf8.h"

#include <array>
#include <cstring>

namespace adze {
namespace {

/// Rows of Unicode table 3-7: the lead bytes of a form, its length, and the range of its second byte.
struct Form {
  std::uint8_t first_lead, last_lead, length, low, high;
};
constexpr Form kForms[] = {
    {0x00, 0x7F, 1, 0x00, 0x00}, {0xC2, 0xDF, 2, 0x80, 0xBF}, {0xE0, 0xE0, 3, 0xA0, 0xBF},
    {0xE1, 0xEC, 3, 0x80, 0xBF}, {0xED, 0xED, 3, 0x80, 0x9F}, {0xEE, 0xEF, 3, 0x80, 0xBF},
    {0xF0, 0xF0, 4, 0x90, 0xBF}, {0xF1, 0xF3, 4, 0x80, 0xBF}, {0xF4, 0xF4, 4, 0x80, 0x8F},
};

/// Form of each lead byte; length 0 where a byte cannot lead.
constexpr auto kFormOfLead = [] {
  std::array<Form, 256> table{};
  for (const Form& form : kForms)
    for (unsigned lead = form.first_lead; lead <= form.last_lead; ++lead) table[lead] = form;
  return table;
}();

struct Sequence {
  std::size_t length;  ///< bytes of the character, or of the maximal subpart when ill-formed
  bool well_formed;
};

Sequence sequence_at(std::string_view text, std::size_t pos) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[pos + i]); };
  const Form& form = kFormOfLead[byte(0)];
  if (form.length == 0) return {1, false};
  if (form.length == 1) return {1, true};
  const std::size_t available = text.size() - pos;
  if (available < 2 || byte(1) < form.low || byte(1) > form.high) return {1, false};
  for (std::size_t i = 2; i < form.length; ++i)
    if (available <= i || (byte(i) & 0xC0) != 0x80) return {i, false};
  return {form.length, true};
}

/// End of the ASCII run at `pos`, eight bytes at a time.
std::size_t ascii_end(std::string_view text, std::size_t pos) {
  for (; text.size() - pos >= 8; pos += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + pos, 8);
    if (word & 0x8080808080808080ULL) break;
  }
  while (pos < text.size() && static_cast<unsigned char>(text[pos]) < 0x80) ++pos;
  return pos;
}

/// Position of the first ill-formed sequence, text.size() when there is none.
std::size_t first_invalid(std::string_view text, std::size_t pos) {
  while (pos < text.size()) {
    pos = ascii_end(text, pos);
    if (pos == text.size()) break;
    const Sequence sequence = sequence_at(text, pos);
    if (!sequence.well_formed) return pos;
    pos += sequence.length;
  }
  return text.size();
}

}  // namespace

bool is_valid_utf8(std::string_view text) { return first_invalid(text, 0) == text.size(); }

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::size_t pos = 0;
  while (pos < text.size()) {
    const std::size_t bad = first_invalid(text, pos);
    out.append(text.substr(pos, bad - pos));
    if (bad == text.size()) break;
    append_utf8(out, kReplacementCharacter);
    pos = bad + sequence_at(text, bad).length;
  }
  return out;
}

void append_utf8(std::string& out, char32_t code_point) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  const auto put_tail = [&](int shift) { put(0x80 | ((code_point >> shift) & 0x3F)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put_tail(0);
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put_tail(6);
    put_tail(0);
  } else {
    put(0xF0 | (code_point >> 18));
    put_tail(12);
    put_tail(6);
    put_tail(0);
  }
}

}  // namespace adze
