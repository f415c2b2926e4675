#include "model/gguf_pieces.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/error.h"
#include "text/utf8.h"

namespace adze {
namespace {

using Json = nlohmann::json;
using Type = GgufTokenType;

constexpr std::size_t kMaxPieceBytes = 1024;  // bounds the splits to look at; published pieces have up to 100
/// Bounds what the merges take in memory. Published vocabularies make less than a million merges of some ten bytes.
constexpr std::size_t kMaxMergeBytes = std::size_t{256} << 20;
constexpr std::size_t kMergeOverhead = 128;  // of two texts in a list

constexpr std::string_view kMark = "\xE2\x96\x81";  // U+2581

/// One piece and where it can be cut into two.
struct Joined {
  std::size_t id = 0;
  float score = 0;
  std::vector<std::size_t> cuts;  ///< byte offsets, ascending
};

class PieceMerges {
 public:
  explicit PieceMerges(const GgufVocabulary& vocabulary)
      : vocabulary_(vocabulary), scores_(vocabulary.file().get<std::vector<float>>("tokenizer.ggml.scores")) {
    const std::size_t count = vocabulary.texts().size();
    if (scores_.size() != count)
      fail(ErrorKind::bad_data, "tokenizer.ggml.scores has {} entries for {} tokens", scores_.size(), count);
    for (std::size_t id = 0; id < count; ++id)
      if (is_piece(id)) add(id);
    std::ranges::sort(joined_, [](const Joined& a, const Joined& b) { return a.score > b.score; });
    check_order();
  }

  Json merges() const {
    Json list = Json::array();
    for (const Joined& piece : joined_)
      for (const std::size_t cut : piece.cuts) {
        const std::string& text = vocabulary_.texts()[piece.id];
        list.push_back(Json::array({text.substr(0, cut), text.substr(cut)}));
      }
    return list;
  }

 private:
  /// Special tokens are found in the text before; byte and unknown tokens stand for other text than their own.
  bool is_piece(std::size_t id) const {
    const Type type = vocabulary_.type(id);
    return !vocabulary_.is_gap(id) && (type == Type::normal || type == Type::undefined || type == Type::unused);
  }
  bool is_piece(std::string_view text) const {
    const auto id = vocabulary_.find(text);
    return id && is_piece(*id);
  }

  void add(std::size_t id) {
    const std::string_view text = vocabulary_.texts()[id];
    if (text.size() > kMaxPieceBytes)
      fail(ErrorKind::bad_data, "tokenizer.ggml.tokens[{}] has {} bytes; pieces have at most {}", id, text.size(),
           kMaxPieceBytes);
    Joined piece{id, scores_[id], {}};
    for (std::size_t cut = code_point_at(text, 0).length; cut < text.size(); cut += code_point_at(text, cut).length)
      if (can_join(id, text.substr(0, cut), text.substr(cut))) {
        count_merge(text);
        piece.cuts.push_back(cut);
      }
    if (piece.cuts.empty()) return;
    if (!std::isfinite(piece.score))
      fail(ErrorKind::bad_data, "tokenizer.ggml.scores[{}] of '{}' is not finite", id, text);
    joined_.push_back(std::move(piece));
  }

  void count_merge(std::string_view text) {
    merge_bytes_ += text.size() + kMergeOverhead;
    if (merge_bytes_ > kMaxMergeBytes)
      fail(ErrorKind::bad_data,
           "tokenizer.ggml.tokens: the pieces can be cut into others in so many ways that the merges take more than {} "
           "bytes",
           kMaxMergeBytes);
  }

  /// True for two pieces. A character that is no piece can be joined too, by the runtime, but by no merge.
  bool can_join(std::size_t id, std::string_view left, std::string_view right) const {
    const bool left_is_piece = is_piece(left), right_is_piece = is_piece(right);
    if (left_is_piece && right_is_piece) return true;
    const auto is_character = [](std::string_view half) { return code_point_at(half, 0).length == half.size(); };
    if ((left_is_piece || is_character(left)) && (right_is_piece || is_character(right)))
      fail(ErrorKind::bad_data,
           "tokenizer.ggml.tokens[{}] '{}' is made of '{}' and '{}', of which one is no piece; a runtime joins them, "
           "but no list of merges can",
           id, vocabulary_.texts()[id], left, right);
    return false;
  }

  void check_order() const {
    for (std::size_t i = 1; i < joined_.size(); ++i)
      if (joined_[i].score == joined_[i - 1].score)
        fail(ErrorKind::bad_data,
             "tokens '{}' and '{}' have the same score {}: a runtime then joins from left to right, which no list of "
             "merges can say",
             vocabulary_.texts()[joined_[i - 1].id], vocabulary_.texts()[joined_[i].id], joined_[i].score);
  }

  const GgufVocabulary& vocabulary_;
  const std::vector<float>& scores_;
  std::vector<Joined> joined_;
  std::size_t merge_bytes_ = 0;
};

Json vocabulary_json(const GgufVocabulary& vocabulary) {
  for (unsigned byte = 0; byte < 256; ++byte)
    if (const std::string text = fmt::format("<0x{:02X}>", byte); !vocabulary.find(text))
      fail(ErrorKind::bad_data, "tokenizer.ggml.tokens lacks the byte token '{}'", text);
  Json vocab = Json::object();
  for (std::size_t id = 0; id < vocabulary.texts().size(); ++id)
    if (!vocabulary.is_gap(id)) vocab[vocabulary.texts()[id]] = id;
  return vocab;
}

Json replace_step(std::string_view pattern, std::string_view content) {
  return {{"type", "Replace"}, {"pattern", {{"String", pattern}}}, {"content", content}};
}

Json normalizer_json(bool adds_space) {
  Json steps = Json::array();
  if (adds_space) steps.push_back({{"type", "Prepend"}, {"prepend", kMark}});
  steps.push_back(replace_step(" ", kMark));
  return {{"type", "Sequence"}, {"normalizers", std::move(steps)}};
}

Json decoder_json(bool adds_space) {
  Json steps = Json::array({replace_step(kMark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  if (adds_space) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", std::move(steps)}};
}

}  // namespace

GgufTokenizerParts piece_parts(const GgufVocabulary& vocabulary) {
  const bool* const stated = vocabulary.file().find<bool>("tokenizer.ggml.add_space_prefix");
  const bool adds_space = stated == nullptr || *stated;
  const auto unknown = vocabulary.special_id("unknown");
  GgufTokenizerParts parts;
  parts.normalizer = normalizer_json(adds_space);
  parts.decoder = decoder_json(adds_space);
  parts.model = {{"type", "BPE"},
                 {"dropout", nullptr},
                 {"unk_token", unknown ? Json(vocabulary.texts()[*unknown]) : Json()},
                 {"continuing_subword_prefix", nullptr},
                 {"end_of_word_suffix", nullptr},
                 {"fuse_unk", true},
                 {"byte_fallback", true},
                 {"ignore_merges", false},
                 {"vocab", vocabulary_json(vocabulary)},
                 {"merges", PieceMerges(vocabulary).merges()}};
  return parts;
}

}  // namespace adze
