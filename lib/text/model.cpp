#include "text/model.h"

#include <array>
#include <string_view>
#include <unordered_set>

#include "base/error.h"
#include "text/byte_alphabet.h"
#include "text/json_fields.h"
#include "text/utf8.h"

namespace adze {
namespace {

using nlohmann::json;

/// The model's type; old files leave it out and it follows from the other fields.
std::string model_type(const JsonFields& model) {
  if (model.find("type") != nullptr) return model.text("type");
  if (model.find("merges") != nullptr) return "BPE";
  const json* vocab = model.find("vocab");
  return vocab != nullptr && vocab->is_array() ? "Unigram" : "WordPiece or WordLevel";
}

/// True when an object anywhere below `value` has this "type".
bool mentions_type(const json& value, std::string_view type) {
  if (value.is_object()) {
    const auto found = value.find("type");
    if (found != value.end() && found->is_string() && found->get_ref<const std::string&>() == type) return true;
  }
  if (!value.is_structured()) return false;
  for (const json& part : value)
    if (mentions_type(part, type)) return true;
  return false;
}

constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kSentencePieceSigns = {{
    {"normalizer", "Prepend"},
    {"normalizer", "Precompiled"},
    {"pre_tokenizer", "Metaspace"},
    {"decoder", "ByteFallback"},
}};

[[noreturn]] void refuse_kind(std::string_view kind) {
  fail(ErrorKind::bad_data, "this is {}; byte-level BPE is what is supported so far", kind);
}

void require_absent(const JsonFields& model, std::string_view name) {
  if (!model.text_or(name, "").empty())
    model.refuse(fmt::format("'{}' is set; byte-level BPE models do not have it", name));
}

void check_dropout(const JsonFields& model) {
  const json* dropout = model.find("dropout");
  if (dropout == nullptr) return;
  if (!dropout->is_number()) model.refuse(fmt::format("'dropout' must be a number, not {}", dropout->type_name()));
  if (dropout->get<double>() != 0)
    model.refuse(fmt::format("'dropout' is {}: its tokens would be random; set it to null", dropout->dump()));
}

void parse_vocab(const json& vocab, BpeModel& model) {
  std::unordered_set<std::int32_t> ids;
  ids.reserve(vocab.size());
  model.vocab.reserve(vocab.size());
  for (const auto& [text, value] : vocab.items()) {
    const std::int32_t id =
        is_token_id(value) ? value.get<std::int32_t>() : token_id_from(value, fmt::format("model: vocab['{}']", text));
    if (text.empty()) fail(ErrorKind::bad_data, "model: vocab: token {} is empty", id);
    if (!ids.insert(id).second) fail(ErrorKind::bad_data, "model: vocab['{}']: id {} is there twice", text, id);
    model.vocab.emplace(text, id);
  }
}

/// The halves of merges[index]: "a b" or ["a", "b"]. Messages are made only when needed: there are many merges.
std::pair<std::string, std::string> halves_of(const json& value, std::size_t index) {
  if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string())
    return {value[0].get<std::string>(), value[1].get<std::string>()};
  if (!value.is_string()) fail(ErrorKind::bad_data, "model: merges[{}]: expected \"a b\" or [\"a\", \"b\"]", index);
  const std::string& text = value.get_ref<const std::string&>();
  const std::size_t space = text.find(' ');
  if (space == text.npos || text.find(' ', space + 1) != text.npos)
    fail(ErrorKind::bad_data, "model: merges[{}]: '{}' must be two tokens with one space between", index, text);
  return {text.substr(0, space), text.substr(space + 1)};
}

std::int32_t id_in_merge(const BpeModel& model, const std::string& text, std::size_t index) {
  const auto found = model.vocab.find(text);
  if (found == model.vocab.end())
    fail(ErrorKind::bad_data, "model: merges[{}]: '{}' is not in the vocabulary", index, text);
  return found->second;
}

std::int32_t id_of_unknown(const BpeModel& model, const std::string& text) {
  const auto found = model.vocab.find(text);
  if (found == model.vocab.end()) fail(ErrorKind::bad_data, "model: unk_token: '{}' is not in the vocabulary", text);
  return found->second;
}

bool is_version_line(const json& value) {
  return value.is_string() && value.get_ref<const std::string&>().starts_with("#version");
}

void parse_merges(const json& merges, BpeModel& model) {
  for (std::size_t i = 0; i < merges.size(); ++i) {
    if (is_version_line(merges[i])) continue;
    auto [left, right] = halves_of(merges[i], i);
    model.rules.merges.push_back(
        {id_in_merge(model, left, i), id_in_merge(model, right, i), id_in_merge(model, left + right, i)});
    model.merges.emplace_back(std::move(left), std::move(right));
  }
}

void fill_bytes(BpeModel& model) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string symbol;
    append_utf8(symbol, byte_symbol(static_cast<std::uint8_t>(byte)));
    const auto found = model.vocab.find(symbol);
    model.rules.id_of_byte[byte] = found == model.vocab.end() ? BpeRules::kNone : found->second;
  }
}

void fill_whole_words(BpeModel& model) {
  model.rules.whole_words.reserve(model.vocab.size());
  for (const auto& [text, id] : model.vocab)
    if (auto bytes = from_byte_alphabet(text)) model.rules.whole_words.emplace(std::move(*bytes), id);
}

}  // namespace

void require_byte_level_bpe(const json& root) {
  const JsonFields fields(root, "top level");
  const JsonFields model(fields.required("model"), "model");
  const std::string type = model_type(model);
  if (type != "BPE") refuse_kind(fmt::format("a {} tokenizer", type));
  if (model.flag("byte_fallback", false)) refuse_kind("a SentencePiece-style BPE tokenizer (byte_fallback)");
  for (const auto& [part, sign] : kSentencePieceSigns) {
    const json* component = fields.find(part);
    if (component != nullptr && mentions_type(*component, sign))
      refuse_kind(fmt::format("a SentencePiece-style BPE tokenizer ({} {})", part, sign));
  }
}

BpeModel parse_bpe_model(const json& value) {
  const JsonFields fields(value, "model");
  require_absent(fields, "continuing_subword_prefix");
  require_absent(fields, "end_of_word_suffix");
  check_dropout(fields);
  BpeModel model;
  parse_vocab(fields.object("vocab"), model);
  parse_merges(fields.array("merges"), model);
  fill_bytes(model);
  const std::string unknown = fields.text_or("unk_token", "");
  if (!unknown.empty()) model.rules.unknown_id = id_of_unknown(model, unknown);
  model.rules.fuse_unknown = fields.flag("fuse_unk", false);
  model.ignore_merges = fields.flag("ignore_merges", false);
  if (model.ignore_merges) fill_whole_words(model);
  return model;
}

}  // namespace adze
