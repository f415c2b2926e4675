#include "text/space_boundary.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "text/decoder.h"
#include "text/utf8.h"

namespace adze {
namespace {

class SpaceBoundarySplitter final : public Splitter {
 public:
  explicit SpaceBoundarySplitter(std::vector<char32_t> joined) : joined_(std::move(joined)) {}

  void split(std::string_view text, PieceSink& sink) const override {
    std::size_t begin = 0;
    for (std::size_t pos = text.find(kMetaspace, 1); pos < text.size(); pos = text.find(kMetaspace, pos + 1)) {
      if (joins(code_point_at(text, previous_code_point(text, pos)).value)) continue;
      sink.take(text.substr(begin, pos - begin));
      begin = pos;
    }
    if (begin < text.size()) sink.take(text.substr(begin));
  }

 private:
  bool joins(char32_t previous) const { return std::ranges::binary_search(joined_, previous); }

  std::vector<char32_t> joined_;  ///< sorted: last characters of left halves whose right half starts with "▁"
};

/// True when the text ends with a token that stands for characters other than its own.
bool ends_with_stand_in(std::string_view text, const std::string& unknown) {
  if (text.size() >= 6 && byte_of_token(text.substr(text.size() - 6)) >= 0) return true;
  return !unknown.empty() && text.ends_with(unknown);
}

bool drops_characters(const BpeRules& rules) {
  if (rules.unknown_id != BpeRules::kNone) return false;
  return !rules.byte_fallback || std::ranges::count(rules.id_of_byte, BpeRules::kNone) > 0;
}

}  // namespace

std::unique_ptr<const Splitter> make_space_boundary_splitter(const BpeModel& model) {
  if (model.ignore_merges || drops_characters(model.rules) || !model.vocab.contains(std::string(kMetaspace)))
    return nullptr;
  std::vector<char32_t> joined;
  for (const auto& [left, right] : model.merges) {
    if (!right.starts_with(kMetaspace)) continue;
    if (ends_with_stand_in(left, model.unknown)) return nullptr;
    joined.push_back(code_point_at(left, previous_code_point(left, left.size())).value);
  }
  std::ranges::sort(joined);
  joined.erase(std::unique(joined.begin(), joined.end()), joined.end());
  return std::make_unique<SpaceBoundarySplitter>(std::move(joined));
}

}  // namespace adze
