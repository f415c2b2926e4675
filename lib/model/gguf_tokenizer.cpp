#include "model/gguf_tokenizer.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/gguf_vocabulary.h"
#include "text/tokenizer.h"

namespace adze {
namespace {

using Json = nlohmann::json;

/// Roles of special tokens: in GGUF keys and in tokenizer_config.json.
struct Role {
  std::string_view key;
  std::string_view config;
};
constexpr Role kRoles[] = {
    {"bos", "bos_token"},     {"eos", "eos_token"},       {"unknown", "unk_token"},
    {"padding", "pad_token"}, {"seperator", "sep_token"},  // the format's spelling
};

Json chat_templates(const GgufFile& file) {
  const auto* const plain = file.find<std::string>("tokenizer.chat_template");
  const auto* const names = file.find<std::vector<std::string>>("tokenizer.chat_templates");
  if (names == nullptr) return plain == nullptr ? Json() : Json(*plain);
  Json list = Json::array();
  if (plain != nullptr) list.push_back({{"name", "default"}, {"template", *plain}});
  for (const std::string& name : *names)
    list.push_back({{"name", name}, {"template", file.get<std::string>("tokenizer.chat_template." + name)}});
  return list;
}

/// Dumps foreign text; JSON holds UTF-8 only.
std::string dump(const Json& value, std::string_view what) {
  try {
    return value.dump();
  } catch (const Json::type_error&) {
    fail(ErrorKind::bad_data, "{} has a text that is no UTF-8", what);
  }
}

Json tokenizer_config(const GgufFile& file, const GgufVocabulary& vocabulary) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"add_bos_token", vocabulary.adds_bos()},
                 {"add_eos_token", vocabulary.adds_eos()}};
  for (const Role& role : kRoles)
    if (const auto id = vocabulary.special_id(role.key)) config[role.config] = vocabulary.texts()[*id];
  if (Json templates = chat_templates(file); !templates.is_null()) config["chat_template"] = std::move(templates);
  return config;
}

/// TemplateProcessing with one token before, after, or none around a text.
Json post_processor(const GgufVocabulary& vocabulary) {
  Json single = Json::array(), specials = Json::object();
  const auto put = [&](std::string_view role) {
    const std::uint32_t id = *vocabulary.special_id(role);
    const std::string& text = vocabulary.texts()[id];
    single.push_back({{"SpecialToken", {{"id", text}, {"type_id", 0}}}});
    specials[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
  };
  if (vocabulary.adds_bos()) put("bos");
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  if (vocabulary.adds_eos()) put("eos");
  if (specials.empty()) return nullptr;
  Json pair = single;
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(specials)}};
}

Json tokenizer(const GgufVocabulary& vocabulary) {
  const GgufTokenizerParts parts = vocabulary.parts();
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", vocabulary.added_tokens()},
          {"normalizer", parts.normalizer},
          {"pre_tokenizer", parts.pre_tokenizer},
          {"post_processor", post_processor(vocabulary)},
          {"decoder", parts.decoder},
          {"model", parts.model}};
}

/// Whether an id means the same in both. A filler of the GGUF, "[PAD7]", may be no token of the other.
bool is_same_token(const GgufVocabulary& vocabulary, std::size_t id, const TokenEntry& other) {
  const std::string filler = fmt::format("[PAD{}]", id);
  const bool within = id < vocabulary.texts().size();
  const std::string& text = within ? vocabulary.texts()[id] : filler;
  if (other.kind == TokenKind::unused) return !within || vocabulary.is_gap(id) || text == filler;
  return within && text == other.text;
}

/// Runtimes go by the keys: a tokenizer.json of other tokens would give ids that mean something else to the model.
void require_same_tokens(const GgufVocabulary& vocabulary, const std::string& verbatim) {
  const Tokenizer tokenizer = Tokenizer::from_json(verbatim, "tokenizer.huggingface.json");
  const std::vector<TokenEntry>& tokens = tokenizer.vocabulary().tokens;
  const std::size_t count = std::max(tokens.size(), vocabulary.texts().size());
  for (std::size_t id = 0; id < count; ++id) {
    const TokenEntry other = id < tokens.size() ? tokens[id] : TokenEntry{};
    if (!is_same_token(vocabulary, id, other))
      fail(ErrorKind::bad_data, "token {} is '{}' in tokenizer.ggml.tokens, but '{}' in tokenizer.huggingface.json", id,
           id < vocabulary.texts().size() ? vocabulary.texts()[id].substr(0, 100) : "", other.text.substr(0, 100));
  }
}

GgufTokenizerFiles read_files(const GgufFile& file) {
  const GgufVocabulary vocabulary(file);
  GgufTokenizerFiles files;
  const auto* const verbatim = file.find<std::string>("tokenizer.huggingface.json");
  if (verbatim != nullptr) require_same_tokens(vocabulary, *verbatim);
  files.tokenizer_json = verbatim != nullptr ? *verbatim : dump(tokenizer(vocabulary), "the vocabulary");
  files.tokenizer_config_json = dump(tokenizer_config(file, vocabulary), "a chat template");
  return files;
}

}  // namespace

GgufTokenizerFiles tokenizer_from_gguf(const GgufFile& file) {
  return with_context(file.path().string(), [&] { return read_files(file); });
}

}  // namespace adze
