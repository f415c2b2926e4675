#include "model/gguf_vocabulary.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include <fmt/format.h>

#include "base/error.h"
#include "model/gguf_pieces.h"
#include "text/split_family.h"
#include "text/utf8.h"

namespace adze {
namespace {

using Json = nlohmann::json;
using Type = GgufTokenType;

constexpr auto kLastType = static_cast<std::int32_t>(Type::byte);

std::string model_name(const GgufFile& file) { return file.get<std::string>("tokenizer.ggml.model"); }

SplitRules split_rules(const GgufFile& file) {
  const auto* const name = file.find<std::string>("tokenizer.ggml.pre");
  const auto rules = rules_of_gguf_pre(name == nullptr ? "default" : *name);
  if (!rules)
    fail(ErrorKind::bad_data,
         "tokenizer.ggml.pre is '{}', whose splitting rules cannot be reproduced; those of these names can: {}",
         name == nullptr ? "(missing)" : *name, known_gguf_pre_names());
  return *rules;
}

struct Halves {
  std::string left, right;
};

/// The runtime splits at the first space that is not the first character.
Halves halves_of(const GgufVocabulary& vocabulary, const std::string& merge, std::size_t index) {
  const std::size_t space = merge.find(' ', 1);
  if (space == merge.npos) fail(ErrorKind::bad_data, "tokenizer.ggml.merges[{}] has no space between halves", index);
  Halves halves{merge.substr(0, space), merge.substr(space + 1)};
  for (const std::string& piece : {halves.left, halves.right, halves.left + halves.right})
    if (!vocabulary.find(piece))
      fail(ErrorKind::bad_data, "tokenizer.ggml.merges[{}]: '{}' is not in the vocabulary", index,
           replace_invalid_utf8(std::string_view(piece).substr(0, 100)));
  return halves;
}

/// Fields "vocab" and "merges" of byte-level BPE. Added tokens are no words of the model unless a merge needs them.
Json byte_level_model(const GgufVocabulary& vocabulary, bool ignore_merges) {
  Json merges = Json::array(), vocab = Json::object();
  std::unordered_set<std::string_view> seen;
  const auto& stated = vocabulary.file().get<std::vector<std::string>>("tokenizer.ggml.merges");
  for (std::size_t i = 0; i < stated.size(); ++i) {
    Halves halves = halves_of(vocabulary, stated[i], i);
    if (!seen.insert(stated[i]).second) continue;  // of equal merges the runtime takes the first, a reader the last
    for (const std::string& piece : {halves.left, halves.right, halves.left + halves.right})
      vocab[piece] = *vocabulary.find(piece);
    merges.push_back({std::move(halves.left), std::move(halves.right)});
  }
  for (std::size_t id = 0; id < vocabulary.texts().size(); ++id)
    if (!vocabulary.is_added(id) && !vocabulary.is_gap(id)) vocab[vocabulary.texts()[id]] = id;
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", ignore_merges},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

GgufTokenizerParts byte_level_parts(const GgufVocabulary& vocabulary) {
  const SplitRules rules = split_rules(vocabulary.file());
  GgufTokenizerParts parts;
  parts.pre_tokenizer = pre_tokenizer_json(rules.family);
  parts.decoder = pre_tokenizer_json(SplitFamily::gpt2);  // the fields of ByteLevel are the same
  parts.model = byte_level_model(vocabulary, rules.ignore_merges);
  return parts;
}

struct ModelParts {
  std::string_view name;
  GgufTokenizerParts (*parts)(const GgufVocabulary&);
};
constexpr std::array kModels = {ModelParts{"gpt2", byte_level_parts}, ModelParts{"llama", piece_parts}};

[[noreturn]] void refuse_model(const std::string& name) {
  std::string known;
  for (const ModelParts& kind : kModels) known += fmt::format("{}'{}'", known.empty() ? "" : ", ", kind.name);
  fail(ErrorKind::bad_data, "tokenizer.ggml.model is '{}', which cannot be reproduced; {} can", name, known);
}

/// What runtimes do where tokenizer.ggml.add_bos_token is missing.
bool adds_bos_by_default(const GgufFile& file) {
  if (model_name(file) == "llama") return true;
  const auto* const pre = file.find<std::string>("tokenizer.ggml.pre");
  const auto rules = pre == nullptr ? std::nullopt : rules_of_gguf_pre(*pre);
  return rules && rules->ignore_merges;  // Llama 3 and Tekken, which have both
}

/// What runtimes take for SentencePiece vocabularies where the key is missing. (Of byte-level ones they take 11, which
/// means nothing.)
struct DefaultId {
  std::string_view role;
  std::uint32_t id;
};
constexpr std::array kDefaultIds = {DefaultId{"unknown", 0}, DefaultId{"bos", 1}, DefaultId{"eos", 2}};

const std::uint32_t* default_id(const GgufFile& file, std::string_view role) {
  if (model_name(file) != "llama") return nullptr;
  const auto* const at = std::ranges::find(kDefaultIds, role, &DefaultId::role);
  return at == kDefaultIds.end() ? nullptr : &at->id;
}

}  // namespace

GgufVocabulary::GgufVocabulary(const GgufFile& file)
    : file_(file), texts_(file.get<std::vector<std::string>>("tokenizer.ggml.tokens")) {
  types_ = file.find<std::vector<std::int32_t>>("tokenizer.ggml.token_type");
  if (types_ != nullptr && types_->size() != texts_.size())
    fail(ErrorKind::bad_data, "tokenizer.ggml.token_type has {} entries for {} tokens", types_->size(), texts_.size());
  ids_.reserve(texts_.size());
  for (std::size_t id = 0; id < texts_.size(); ++id) {
    if (!is_valid_utf8(texts_[id])) fail(ErrorKind::bad_data, "tokenizer.ggml.tokens[{}] is no UTF-8", id);
    if (types_ != nullptr && ((*types_)[id] < 0 || (*types_)[id] > kLastType))
      fail(ErrorKind::bad_data, "tokenizer.ggml.token_type[{}] is {}; 0 to {} exist", id, (*types_)[id], kLastType);
    if (texts_[id].empty()) continue;
    const auto [at, fresh] = ids_.emplace(texts_[id], static_cast<std::uint32_t>(id));
    if (!fresh)
      fail(ErrorKind::bad_data, "tokenizer.ggml.tokens: {} and {} are both '{}'", at->second, id,
           texts_[id].substr(0, 100));
  }
}

GgufTokenType GgufVocabulary::type(std::size_t id) const {
  return types_ == nullptr ? Type::normal : static_cast<Type>((*types_)[id]);
}

bool GgufVocabulary::is_gap(std::size_t id) const {
  return texts_[id].empty() || (type(id) == Type::unused && texts_[id] == fmt::format("[PAD{}]", id));
}

bool GgufVocabulary::is_added(std::size_t id) const {
  const Type kind = type(id);
  return !texts_[id].empty() && (kind == Type::control || kind == Type::user_defined || kind == Type::unknown);
}

std::optional<std::uint32_t> GgufVocabulary::find(std::string_view text) const {
  const auto at = ids_.find(text);
  return at == ids_.end() ? std::nullopt : std::optional(at->second);
}

std::optional<std::uint32_t> GgufVocabulary::special_id(std::string_view role) const {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", role);
  const auto* id = file_.find<std::uint32_t>(key);
  if (id == nullptr) id = default_id(file_, role);
  if (id == nullptr) return std::nullopt;
  if (*id >= texts_.size())
    fail(ErrorKind::bad_data, "{} is {}, outside the vocabulary of {}", key, *id, texts_.size());
  return is_gap(*id) ? std::nullopt : std::optional(*id);
}

bool GgufVocabulary::adds(std::string_view role) const {
  const std::string key = fmt::format("tokenizer.ggml.add_{}_token", role);
  const bool* const stated = file_.find<bool>(key);
  if (!(stated != nullptr ? *stated : role == "bos" && adds_bos_by_default(file_))) return false;
  if (!special_id(role))
    fail(ErrorKind::bad_data, "{} is true or true by default, but tokenizer.ggml.{}_token_id names no token", key,
         role);
  return true;
}

Json GgufVocabulary::added_tokens() const {
  Json list = Json::array();
  for (std::size_t id = 0; id < texts_.size(); ++id)
    if (is_added(id))
      list.push_back({{"id", id},
                      {"content", texts_[id]},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", type(id) != Type::user_defined}});
  return list;
}

GgufTokenizerParts GgufVocabulary::parts() const {
  const std::string name = model_name(file_);
  for (const ModelParts& kind : kModels)
    if (kind.name == name) return kind.parts(*this);
  refuse_model(name);
}

}  // namespace adze
