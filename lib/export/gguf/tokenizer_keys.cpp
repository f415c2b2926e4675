#include "export/gguf/tokenizer_keys.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>

#include "base/error.h"
#include "export/gguf/piece_scores.h"
#include "model/config_object.h"
#include "model/gguf_files.h"

namespace adze {
namespace {

using Json = nlohmann::json;

/// Values of tokenizer.ggml.token_type.
enum TokenType : std::int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

/// Tokens that end a turn, for runtimes that do not know them by name.
constexpr std::array<std::string_view, 2> kEndOfTurn = {"<|eot_id|>", "<|im_end|>"};

/// Texts that are markup even where the file does not call them special; converters make them control tokens.
struct MarkupForm {
  std::string_view start;
  std::string_view end;
};
constexpr std::array kMarkup = {MarkupForm{"<|", "|>"}, MarkupForm{"<｜", "｜>"}, MarkupForm{"<unused", ">"},
                                MarkupForm{"<pad", ">"}, MarkupForm{"<mask", ">"}};

constexpr float kFillerScore = -10000;  // what converters give to rows without a token

bool looks_special(std::string_view text) {
  return std::ranges::any_of(kMarkup, [&](const MarkupForm& form) {
    return text.size() >= form.start.size() + form.end.size() && text.starts_with(form.start) &&
           text.ends_with(form.end);
  });
}

TokenType type_of(const TokenEntry& token) {
  switch (token.kind) {
    case TokenKind::normal:
      return kNormal;
    case TokenKind::byte:
      return kByte;
    case TokenKind::control:
      return kControl;
    case TokenKind::user_defined:
      return looks_special(token.text) ? kControl : kUserDefined;
    case TokenKind::unused:
      break;
  }
  return kUnused;
}

bool is_added(const TokenEntry& token) {
  return token.kind == TokenKind::control || token.kind == TokenKind::user_defined;
}

void require_unique(std::span<const std::string> texts) {
  std::unordered_map<std::string_view, std::size_t> first;
  for (std::size_t id = 0; id < texts.size(); ++id) {
    if (texts[id].empty()) fail(ErrorKind::bad_data, "token {} has no text; GGUF runtimes refuse that", id);
    const auto [at, inserted] = first.emplace(texts[id], id);
    if (!inserted)
      fail(ErrorKind::bad_data, "tokens {} and {} have the same text '{}'; GGUF runtimes refuse that", at->second, id,
           texts[id]);
  }
}

/// Keys of the vocabulary itself.
class TokenizerKeys {
 public:
  TokenizerKeys(const Vocabulary& vocabulary, std::size_t rows, const FolderSettings& settings)
      : vocabulary_(vocabulary),
        rows_(rows),
        tokenizer_config_(settings.tokenizer_config, "tokenizer_config.json"),
        generation_config_(settings.generation_config, "generation_config.json"),
        config_(settings.config, "config.json"),
        gguf_keys_(settings.gguf_keys),
        template_file_(settings.chat_template) {}

  std::vector<GgufKeyValue> make() && {
    vocabulary_.kind == BpeAlphabet::bytes ? put_byte_level() : put_pieces();
    put_special_ids();
    put_chat_templates();
    return std::move(keys_);
  }

 private:
  void put(std::string key, GgufValue value) { keys_.push_back({std::move(key), std::move(value)}); }
  void put_id(std::string_view role, std::optional<std::int32_t> id) {
    if (id) put(gguf_id_key(role), static_cast<std::uint32_t>(*id));
  }

  void put_byte_level() {
    put("tokenizer.ggml.model", std::string("gpt2"));
    put("tokenizer.ggml.pre", pre_name());
    put_tokens();
    put_merges();
  }

  void put_pieces() {
    check_character_rules(vocabulary_);
    put("tokenizer.ggml.model", std::string("llama"));
    put("tokenizer.ggml.pre", std::string("default"));
    put_tokens();
    std::vector<float> scores = piece_scores(vocabulary_);
    scores.resize(rows_, kFillerScore);
    put("tokenizer.ggml.scores", std::move(scores));
    put("tokenizer.ggml.add_space_prefix", vocabulary_.characters.prefix != SpacePrefix::never);
  }

  std::string pre_name() const {
    if (vocabulary_.adds_prefix_space)
      fail(ErrorKind::bad_data, "tokenizer.json puts a space before every text; GGUF runtimes do not do that for BPE");
    const auto name = gguf_pre_name(vocabulary_);
    if (!name)
      fail(ErrorKind::bad_data,
           "tokenizer.json splits text by rules that GGUF runtimes do not know (family '{}', ignore_merges {}); the "
           "file would load and read another text",
           name_of(vocabulary_.split), vocabulary_.ignore_merges);
    return std::string(*name);
  }

  void put_tokens() {
    if (vocabulary_.tokens.size() > rows_)
      fail(ErrorKind::bad_data, "tokenizer.json has ids up to {}, but the embedding has {} rows",
           vocabulary_.tokens.size() - 1, rows_);
    std::vector<std::string> texts;
    std::vector<std::int32_t> types;
    for (std::size_t id = 0; id < rows_; ++id) {
      const TokenEntry token = id < vocabulary_.tokens.size() ? vocabulary_.tokens[id] : TokenEntry{};
      const bool is_unknown = vocabulary_.kind == BpeAlphabet::characters && vocabulary_.unknown_id &&
                              static_cast<std::size_t>(*vocabulary_.unknown_id) == id;
      types.push_back(is_unknown ? kUnknown : type_of(token));
      texts.push_back(token.kind == TokenKind::unused ? fmt::format("[PAD{}]", id) : token.text);
    }
    require_unique(texts);
    put("tokenizer.ggml.tokens", std::move(texts));
    put("tokenizer.ggml.token_type", std::move(types));
  }

  void put_merges() {
    std::vector<std::string> merges;
    for (const auto& [left, right] : vocabulary_.merges) {
      if (left.find(' ') != std::string::npos || right.find(' ') != std::string::npos)
        fail(ErrorKind::bad_data, "merge '{}' + '{}' has a plain space, which separates the halves in GGUF", left,
             right);
      merges.push_back(left + " " + right);
    }
    put("tokenizer.ggml.merges", std::move(merges));
  }

  template <typename Accept>
  std::optional<std::int32_t> find_token(std::string_view text, const Accept& accept) const {
    const auto& tokens = vocabulary_.tokens;
    const auto at =
        std::ranges::find_if(tokens, [&](const TokenEntry& token) { return token.text == text && accept(token); });
    return at == tokens.end() ? std::nullopt : std::optional(static_cast<std::int32_t>(at - tokens.begin()));
  }
  std::optional<std::int32_t> find_added(std::string_view text) const { return find_token(text, is_added); }
  /// A GGUF may have made a plain token the end of a text.
  std::optional<std::int32_t> find_any(std::string_view text) const {
    if (const auto id = find_added(text)) return id;
    return find_token(text, [](const TokenEntry& token) { return token.kind != TokenKind::unused; });
  }

  /// Text of tokenizer_config.json's `key`: a string, or an object with its content; "" when absent.
  std::string stated_text(const std::string& key) const {
    const Json* value = tokenizer_config_.find(key);
    if (value && value->is_object() && value->contains("content")) value = &value->at("content");
    if (value && !value->is_string()) tokenizer_config_.wrong(key, "a text", *value);
    return value ? value->get<std::string>() : "";
  }

  /// "bos", "eos": the text in tokenizer_config.json, then the ids of the other two files; of a list the first.
  std::optional<std::int32_t> special_id(std::string_view role) const {
    const std::string key = fmt::format("{}_token", role);
    if (const std::string text = stated_text(key); !text.empty())
      if (const auto id = find_any(text)) return id;
    for (const ConfigObject* const file : {&generation_config_, &config_}) {
      const std::vector<std::int32_t> ids = file->ids(key + "_id");
      if (ids.empty()) continue;
      if (ids.front() < 0 || static_cast<std::size_t>(ids.front()) >= rows_)
        fail(ErrorKind::bad_data, "{}: {}_id {} is outside the vocabulary of {}", file->origin(), key, ids.front(),
             rows_);
      return ids.front();
    }
    return std::nullopt;
  }

  /// Whether `special` goes to the end of a text that post-processing puts `ids` at. GGUF knows one token there.
  bool adds(std::string_view role, std::span<const std::int32_t> ids, std::int32_t special) const {
    const std::string key = fmt::format("add_{}_token", role);
    if (const Json* const stated = tokenizer_config_.find(key); stated && stated->is_boolean())
      return stated->get<bool>();
    if (ids.empty()) return false;
    if (ids.size() == 1 && ids.front() == special) return true;
    fail(ErrorKind::bad_data,
         "tokenizer.json puts {} token(s) around a text, the first with id {}; GGUF can only put the {} token ({})",
         ids.size(), ids.front(), role, special);
  }

  /// A runtime takes id 11 where none is written, so both are always written: without a BOS it is the EOS, unused.
  void put_special_ids() {
    const std::optional<std::int32_t> eos = special_id("eos");
    if (!eos)
      fail(
          ErrorKind::bad_data,
          "no end-of-text token: neither eos_token in tokenizer_config.json nor eos_token_id in generation_config.json "
          "or config.json; a GGUF runtime would take token 11 for it");
    std::optional<std::int32_t> bos = special_id("bos");
    if (!bos && !vocabulary_.prefix_ids.empty()) bos = vocabulary_.prefix_ids.front();
    put_id("bos", bos.value_or(*eos));
    put_id("eos", eos);
    put_kept_ids();
    put_id("unknown", vocabulary_.unknown_id ? vocabulary_.unknown_id : special_id("unk"));
    put_id("padding", special_id("pad"));
    put("tokenizer.ggml.add_bos_token", adds("bos", vocabulary_.prefix_ids, bos.value_or(*eos)));
    put("tokenizer.ggml.add_eos_token", adds("eos", vocabulary_.suffix_ids, *eos));
  }

  /// Those of the GGUF that the model came from; the end of a turn is known by its text too.
  void put_kept_ids() {
    if (!gguf_keys_.contains(gguf_id_key("eot"))) put_id("eot", end_of_turn());
    for (const auto& [key, id] : gguf_keys_.items()) {
      if (!is_kept_gguf_id(key)) continue;
      if (!id.is_number_unsigned() || id >= rows_)
        fail(ErrorKind::bad_data, "{}: {} is {}, no id in the vocabulary of {}", kGgufKeysFile, key,
             id.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 100), rows_);
      put(key, id.get<std::uint32_t>());
    }
  }
  std::optional<std::int32_t> end_of_turn() const {
    for (const std::string_view text : kEndOfTurn)
      if (const auto id = find_added(text)) return id;
    return std::nullopt;
  }

  /// Keys are lower case; anything else becomes '_'.
  static std::string key_part(std::string name) {
    for (char& c : name) {
      const auto u = static_cast<unsigned char>(c);
      c = u < 128 && std::isalnum(u) ? static_cast<char>(std::tolower(u)) : '_';
    }
    return name;
  }

  /// chat_template.jinja comes before the text in tokenizer_config.json, as in Transformers.
  void put_chat_templates() {
    const Json* const stated = tokenizer_config_.find("chat_template");
    if (!template_file_.empty()) return put("tokenizer.chat_template", template_file_);
    if (!stated) return;
    if (stated->is_string()) {
      if (auto text = stated->get<std::string>(); !text.empty()) put("tokenizer.chat_template", std::move(text));
      return;
    }
    if (!stated->is_array()) tokenizer_config_.wrong("chat_template", "a text or a list", *stated);
    put_named_templates(*stated);
  }

  void put_named_templates(const Json& list) {
    std::vector<std::string> names;
    for (const Json& entry : list) {
      if (!entry.is_object()) tokenizer_config_.wrong("chat_template", "a list of objects", entry);
      const ConfigObject fields(entry, "tokenizer_config.json: chat_template");
      const std::string name = fields.text_or("name", "default");
      const std::string text = fields.text_or("template", "");
      if (text.empty()) continue;
      if (name == "default") {
        put("tokenizer.chat_template", text);
        continue;
      }
      names.push_back(key_part(name));
      put("tokenizer.chat_template." + names.back(), text);
    }
    if (!names.empty()) put("tokenizer.chat_templates", names);
  }

  const Vocabulary& vocabulary_;
  std::size_t rows_;
  ConfigObject tokenizer_config_, generation_config_, config_;
  const Json& gguf_keys_;
  const std::string& template_file_;
  std::vector<GgufKeyValue> keys_;
};

}  // namespace

std::vector<GgufKeyValue> tokenizer_metadata(const Vocabulary& vocabulary, std::size_t rows,
                                             const FolderSettings& settings) {
  return TokenizerKeys(vocabulary, rows, settings).make();
}

}  // namespace adze
