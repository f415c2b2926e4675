#include "text/tokenizer.h"

#include <list>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "text/added_tokens.h"
#include "text/byte_alphabet.h"
#include "text/components.h"
#include "text/json_fields.h"
#include "text/model.h"
#include "text/nfc.h"
#include "text/utf8.h"
#include "text/word_cache.h"

namespace adze {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxTextBytes = INT32_MAX;  // positions in a word are 32 bits
constexpr std::size_t kMaxGaps = 1 << 16;  // ids without a token beyond the number of tokens: no real file has more

/// End of the chain of splitters: words become ids.
class WordEncoder : public PieceSink {
 public:
  WordEncoder(const Bpe& bpe, std::vector<std::int32_t>& ids) : bpe_(bpe), ids_(ids) {}

  void take(std::string_view word) override {
    if (word.size() > WordCache::kMaxWordBytes) return bpe_.encode_word(word, ids_);
    const auto known = cache_.find(word);
    if (!known.empty()) {
      ids_.insert(ids_.end(), known.begin(), known.end());
      return;
    }
    const std::size_t first = ids_.size();
    bpe_.encode_word(word, ids_);
    cache_.insert(word, std::span(ids_).subspan(first));
  }

 private:
  const Bpe& bpe_;
  std::vector<std::int32_t>& ids_;
  WordCache cache_;
};

/// Link of the chain: splits each piece and passes the parts on.
class Stage : public PieceSink {
 public:
  Stage(const Splitter& splitter, PieceSink& next) : splitter_(splitter), next_(next) {}
  void take(std::string_view piece) override { splitter_.split(piece, next_); }

 private:
  const Splitter& splitter_;
  PieceSink& next_;
};

/// Ids and texts of model and added tokens put together in `tokens`; the model's tokens are there already.
void place_added_token(const AddedToken& added, const BpeModel& model, std::vector<TokenEntry>& tokens) {
  const auto in_vocab = model.vocab.find(added.content);
  if (in_vocab != model.vocab.end() && in_vocab->second != added.id)
    fail(ErrorKind::bad_data, "added token '{}' has id {}, but {} in the vocabulary", added.content, added.id,
         in_vocab->second);
  TokenEntry& entry = tokens[static_cast<std::size_t>(added.id)];
  if (entry.kind != TokenKind::unused && in_vocab == model.vocab.end())
    fail(ErrorKind::bad_data, "added token '{}' has id {}, which is '{}' in the vocabulary", added.content, added.id,
         entry.text);
  entry = {added.content, added.special ? TokenKind::control : TokenKind::user_defined};
}

std::vector<TokenEntry> token_table(const BpeModel& model, const std::vector<AddedToken>& added_tokens) {
  std::size_t size = 0;
  for (const auto& [text, id] : model.vocab) size = std::max(size, static_cast<std::size_t>(id) + 1);
  for (const AddedToken& token : added_tokens) size = std::max(size, static_cast<std::size_t>(token.id) + 1);
  const std::size_t known = model.vocab.size() + added_tokens.size();
  if (size > 2 * known + kMaxGaps)
    fail(ErrorKind::bad_data, "the largest token id is {}, but there are only {} tokens", size - 1, known);
  std::vector<TokenEntry> tokens(size);
  for (const auto& [text, id] : model.vocab) tokens[static_cast<std::size_t>(id)] = {text, TokenKind::normal};
  for (const AddedToken& token : added_tokens) place_added_token(token, model, tokens);
  return tokens;
}

std::vector<std::string> bytes_of_tokens(const std::vector<TokenEntry>& tokens) {
  std::vector<std::string> bytes;
  bytes.reserve(tokens.size());
  for (const TokenEntry& token : tokens) {
    const bool is_model_token = token.kind == TokenKind::normal;
    bytes.push_back(is_model_token ? from_byte_alphabet(token.text).value_or(token.text) : token.text);
  }
  return bytes;
}

/// Finder of the added tokens that are looked for in the raw or in the normalized text.
AddedTokenFinder finder_of(const std::vector<AddedToken>& added_tokens, bool normalized, bool nfc) {
  std::vector<std::pair<std::string, AddedToken>> patterns;
  for (const AddedToken& token : added_tokens)
    if (token.normalized == normalized)
      patterns.emplace_back(normalized && nfc ? to_nfc(token.content) : token.content, token);
  return AddedTokenFinder(patterns);
}

void check_affix(const std::vector<std::int32_t>& ids, const std::vector<TokenEntry>& tokens) {
  for (const std::int32_t id : ids)
    if (static_cast<std::size_t>(id) >= tokens.size() || tokens[static_cast<std::size_t>(id)].kind == TokenKind::unused)
      fail(ErrorKind::bad_data, "post_processor adds id {}, which no token has", id);
}

void check_version(const JsonFields& fields) {
  const std::string version = fields.text_or("version", "1.0");
  if (version != "1.0") fields.refuse(fmt::format("version '{}' is not supported, only '1.0' is", version));
}

}  // namespace

struct Tokenizer::Parts {
  Vocabulary vocabulary;
  std::vector<std::string> bytes;  ///< of each token
  AddedTokenFinder raw_tokens, normalized_tokens;
  std::vector<std::shared_ptr<const Splitter>> steps;
  Bpe bpe;

  static Parts parse(const json& root);
  void encode_plain(std::string_view text, SpecialText special_text, std::vector<std::int32_t>& ids) const;
};

Tokenizer::Parts Tokenizer::Parts::parse(const json& root) {
  require_byte_level_bpe(root);
  const JsonFields fields(root, "top level");
  check_version(fields);
  const json* added = fields.find("added_tokens");
  const std::vector<AddedToken> added_tokens =
      added == nullptr ? std::vector<AddedToken>{} : parse_added_tokens(*added);
  const bool nfc = parse_normalizer(fields.find("normalizer"));
  PreTokenizer pre_tokenizer = parse_pre_tokenizer(fields.find("pre_tokenizer"));
  Affixes affixes = parse_post_processor(fields.find("post_processor"));
  check_decoder(fields.find("decoder"));
  BpeModel model = parse_bpe_model(fields.required("model"));

  Vocabulary vocabulary;
  vocabulary.tokens = token_table(model, added_tokens);
  check_affix(affixes.prefix, vocabulary.tokens);
  check_affix(affixes.suffix, vocabulary.tokens);
  vocabulary.merges = std::move(model.merges);
  vocabulary.split = pre_tokenizer.family;
  vocabulary.ignore_merges = model.ignore_merges;
  vocabulary.normalizes_nfc = nfc;
  vocabulary.adds_prefix_space = pre_tokenizer.adds_prefix_space;
  vocabulary.prefix_ids = std::move(affixes.prefix);
  vocabulary.suffix_ids = std::move(affixes.suffix);
  std::vector<std::string> bytes = bytes_of_tokens(vocabulary.tokens);
  return {std::move(vocabulary),
          std::move(bytes),
          finder_of(added_tokens, /*normalized=*/false, nfc),
          finder_of(added_tokens, /*normalized=*/true, nfc),
          std::move(pre_tokenizer.steps),
          Bpe(std::move(model.rules))};
}

void Tokenizer::Parts::encode_plain(std::string_view text, SpecialText special_text,
                                    std::vector<std::int32_t>& ids) const {
  if (text.size() > kMaxTextBytes)
    fail(ErrorKind::bad_data, "text of {} bytes; at most {} can be encoded at once", text.size(), kMaxTextBytes);
  const bool with_special = special_text == SpecialText::match;
  WordEncoder encoder(bpe, ids);
  std::list<Stage> stages;
  PieceSink* first = &encoder;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) first = &stages.emplace_back(**step, *first);

  const auto take_normalized = [&](const AddedTokenFinder::Piece& piece) {
    piece.token != nullptr ? ids.push_back(piece.token->id) : first->take(piece.text);
  };
  const auto take_raw = [&](const AddedTokenFinder::Piece& piece) {
    if (piece.token != nullptr) return ids.push_back(piece.token->id);
    if (!vocabulary.normalizes_nfc || is_surely_nfc(piece.text))
      return normalized_tokens.split(piece.text, with_special, take_normalized);
    normalized_tokens.split(to_nfc(piece.text), with_special, take_normalized);
  };
  raw_tokens.split(text, with_special, take_raw);
}

Tokenizer Tokenizer::from_json(std::string_view json_text, const std::string& origin) {
  const json root = parse_json(json_text, origin);
  return with_context(origin, [&] { return Tokenizer(std::make_shared<const Parts>(Parts::parse(root))); });
}

Tokenizer Tokenizer::from_file(const std::filesystem::path& path) { return from_json(read_file(path), path.string()); }

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special, SpecialText special_text) const {
  const Vocabulary& vocabulary = parts_->vocabulary;
  std::vector<std::int32_t> ids;
  if (add_special) ids = vocabulary.prefix_ids;
  if (is_valid_utf8(text))
    parts_->encode_plain(text, special_text, ids);
  else
    parts_->encode_plain(replace_invalid_utf8(text), special_text, ids);
  if (add_special) ids.insert(ids.end(), vocabulary.suffix_ids.begin(), vocabulary.suffix_ids.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const std::int32_t id : ids) {
    const std::string_view token = token_bytes(id);
    if (token.empty()) continue;
    const TokenKind kind = parts_->vocabulary.tokens[static_cast<std::size_t>(id)].kind;
    if (!skip_special || kind != TokenKind::control) bytes += token;
  }
  return is_valid_utf8(bytes) ? bytes : replace_invalid_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(std::int32_t id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= parts_->bytes.size()) return {};
  return parts_->bytes[static_cast<std::size_t>(id)];
}

const Vocabulary& Tokenizer::vocabulary() const { return parts_->vocabulary; }

}  // namespace adze
