#include "text/added_tokens.h"

#include <algorithm>
#include <unordered_set>

#include "base/error.h"
#include "text/char_class.h"
#include "text/json_fields.h"

namespace adze {
namespace {

constexpr std::size_t kMaxContentBytes = 1024;  // bounds the cost of a match at each position

AddedToken parse_added_token(const nlohmann::json& value, const std::string& where) {
  const JsonFields fields(value, where);
  AddedToken token;
  token.id = fields.token_id("id");
  token.content = fields.text("content");
  token.single_word = fields.flag("single_word", false);
  token.lstrip = fields.flag("lstrip", false);
  token.rstrip = fields.flag("rstrip", false);
  token.special = fields.flag("special", false);
  token.normalized = fields.flag("normalized", !token.special);
  if (token.content.empty() || token.content.size() > kMaxContentBytes)
    fields.refuse(fmt::format("content has {} bytes; it must have 1 to {}", token.content.size(), kMaxContentBytes));
  return token;
}

bool is_single_word(std::string_view text, std::size_t begin, std::size_t end) {
  const CharClasses& classes = CharClasses::get();
  if (classes.at(text, end).flags & kWordChar) return false;
  return begin == 0 || !(classes.at(text, previous_code_point(text, begin)).flags & kWordChar);
}

/// Start of the run of spaces that ends at `end`, not before `floor`.
std::size_t spaces_begin(std::string_view text, std::size_t floor, std::size_t end) {
  const CharClasses& classes = CharClasses::get();
  while (end > floor) {
    const std::size_t previous = previous_code_point(text, end);
    if (!(classes.at(text, previous).flags & kSpace)) break;
    end = previous;
  }
  return end;
}

}  // namespace

std::vector<AddedToken> parse_added_tokens(const nlohmann::json& value) {
  if (!value.is_array()) fail(ErrorKind::bad_data, "'added_tokens' must be an array, not {}", value.type_name());
  std::vector<AddedToken> tokens;
  std::unordered_set<std::int32_t> ids;
  std::unordered_set<std::string> contents;
  for (std::size_t i = 0; i < value.size(); ++i) {
    tokens.push_back(parse_added_token(value[i], fmt::format("added_tokens[{}]", i)));
    const AddedToken& token = tokens.back();
    if (!ids.insert(token.id).second) fail(ErrorKind::bad_data, "added_tokens[{}]: id {} is there twice", i, token.id);
    if (!contents.insert(token.content).second)
      fail(ErrorKind::bad_data, "added_tokens[{}]: '{}' is there twice", i, token.content);
  }
  return tokens;
}

AddedTokenFinder::AddedTokenFinder(const std::vector<std::pair<std::string, AddedToken>>& patterns) : nodes_(1) {
  for (const auto& [pattern, token] : patterns) {
    if (pattern.empty()) continue;  // the normalizer may leave nothing of a content
    starts_[static_cast<unsigned char>(pattern[0])] = true;
    insert(pattern, static_cast<std::int32_t>(tokens_.size()));
    tokens_.push_back(token);
  }
}

const std::uint32_t* AddedTokenFinder::child(std::uint32_t node, unsigned char byte) const {
  const auto& children = nodes_[node].children;
  const auto found = std::lower_bound(children.begin(), children.end(), byte,
                                      [](const auto& c, unsigned char b) { return c.first < b; });
  return found != children.end() && found->first == byte ? &found->second : nullptr;
}

void AddedTokenFinder::insert(std::string_view pattern, std::int32_t token) {
  std::uint32_t node = 0;
  for (const char c : pattern) {
    const auto byte = static_cast<unsigned char>(c);
    if (const std::uint32_t* next = child(node, byte)) {
      node = *next;
      continue;
    }
    const auto fresh = static_cast<std::uint32_t>(nodes_.size());
    nodes_.emplace_back();
    auto& children = nodes_[node].children;
    const std::pair<unsigned char, std::uint32_t> entry{byte, fresh};
    children.insert(std::upper_bound(children.begin(), children.end(), entry), entry);
    node = fresh;
  }
  if (nodes_[node].token < 0) nodes_[node].token = token;
}

AddedTokenFinder::Found AddedTokenFinder::longest_at(std::string_view text, std::size_t pos) const {
  Found found;
  std::uint32_t node = 0;
  for (; pos < text.size(); ++pos) {
    const std::uint32_t* next = child(node, static_cast<unsigned char>(text[pos]));
    if (next == nullptr) break;
    node = *next;
    if (nodes_[node].token >= 0) found = {pos + 1, &tokens_[static_cast<std::size_t>(nodes_[node].token)]};
  }
  return found;
}

void AddedTokenFinder::split(std::string_view text, bool with_special,
                             const std::function<void(const Piece&)>& take) const {
  std::size_t gap_begin = 0;
  const auto take_gap = [&](std::size_t end) {
    if (gap_begin < end) take({text.substr(gap_begin, end - gap_begin), nullptr});
  };
  for (std::size_t pos = 0; pos < text.size();) {
    const Found found = starts_[static_cast<unsigned char>(text[pos])] ? longest_at(text, pos) : Found{};
    if (found.token == nullptr) {
      ++pos;
      continue;
    }
    const AddedToken& token = *found.token;
    std::size_t begin = pos;
    std::size_t end = found.end;
    pos = end;  // a rejected match is passed over whole, without trying a shorter token
    if ((token.special && !with_special) || (token.single_word && !is_single_word(text, begin, end))) continue;
    if (token.lstrip) begin = spaces_begin(text, gap_begin, begin);
    if (token.rstrip) end = CharClasses::get().skip(text, end, kSpace);
    take_gap(begin);
    take({text.substr(begin, end - begin), &token});
    gap_begin = pos = end;
  }
  take_gap(text.size());
}

}  // namespace adze
