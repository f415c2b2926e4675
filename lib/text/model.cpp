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

[[noreturn]] void refuse_kind(std::string_view kind) {
  fail(ErrorKind::bad_data, "this is {}; BPE is what is supported", kind);
}

void require_absent(const JsonFields& model, std::string_view name) {
  if (!model.text_or(name, "").empty())
    model.refuse(fmt::format("'{}' is set; no BPE model that is supported has it", name));
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

std::int32_t id_or_none(const BpeModel& model, const std::string& text) {
  const auto found = model.vocab.find(text);
  return found == model.vocab.end() ? BpeRules::kNone : found->second;
}

void fill_byte_alphabet(BpeModel& model) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string symbol;
    append_utf8(symbol, byte_symbol(static_cast<std::uint8_t>(byte)));
    model.rules.id_of_byte[byte] = id_or_none(model, symbol);
  }
}

void fill_characters(BpeModel& model) {
  model.rules.unit = SymbolUnit::character;
  for (unsigned byte = 0; byte < 256; ++byte)
    model.rules.id_of_byte[byte] = id_or_none(model, fmt::format("<0x{:02X}>", byte));
  for (const auto& [text, id] : model.vocab)
    if (const CodePoint point = code_point_at(text, 0); point.length == text.size())
      model.rules.id_of_character.insert(point.value, id);
}

void fill_whole_words(BpeModel& model, BpeAlphabet kind) {
  model.rules.whole_words.reserve(model.vocab.size());
  for (const auto& [text, id] : model.vocab) {
    auto word = kind == BpeAlphabet::bytes ? from_byte_alphabet(text) : std::optional(text);
    if (word) model.rules.whole_words.emplace(std::move(*word), id);
  }
}

}  // namespace

BpeAlphabet require_bpe(const json& root) {
  const JsonFields fields(root, "top level");
  const JsonFields model(fields.required("model"), "model");
  const std::string type = model_type(model);
  if (type != "BPE") refuse_kind(fmt::format("a {} tokenizer", type));
  for (const std::string_view part : {"pre_tokenizer", "decoder"}) {
    const json* component = fields.find(part);
    if (component != nullptr && mentions_type(*component, "ByteLevel")) return BpeAlphabet::bytes;
  }
  return BpeAlphabet::characters;
}

BpeModel parse_bpe_model(const json& value, BpeAlphabet kind) {
  const JsonFields fields(value, "model");
  require_absent(fields, "continuing_subword_prefix");
  require_absent(fields, "end_of_word_suffix");
  check_dropout(fields);
  BpeModel model;
  parse_vocab(fields.object("vocab"), model);
  parse_merges(fields.array("merges"), model);
  model.rules.byte_fallback = fields.flag("byte_fallback", false);
  if (model.rules.byte_fallback && kind == BpeAlphabet::bytes)
    fields.refuse("'byte_fallback' is set, but the tokenizer is ByteLevel: no byte is ever missing");
  kind == BpeAlphabet::bytes ? fill_byte_alphabet(model) : fill_characters(model);
  model.unknown = fields.text_or("unk_token", "");
  if (!model.unknown.empty()) model.rules.unknown_id = id_of_unknown(model, model.unknown);
  model.rules.fuse_unknown = fields.flag("fuse_unk", false);
  model.ignore_merges = fields.flag("ignore_merges", false);
  if (model.ignore_merges) fill_whole_words(model, kind);
  return model;
}

}  // namespace adze
