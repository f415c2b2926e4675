#include "model/gguf_files.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/gguf_writer.h"
#include "model/architecture.h"
#include "model/rope_config.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kNameKey = "general.name";
constexpr std::string_view kLicenseKey = "general.license";

/// What an export derives from the model itself, or what is in config.json.
constexpr std::array<std::string_view, 7> kNotKept = {
    "general.architecture",         "general.type",      "general.size_label", "general.file_type",
    "general.quantization_version", "general.alignment", kLicenseKey};

/// Special tokens that config.json may name beside BOS and EOS.
struct SpecialId {
  const char* config_key;
  const char* gguf_key;
};
constexpr std::array kSpecialIds = {SpecialId{"pad_token_id", "tokenizer.ggml.padding_token_id"},
                                    SpecialId{"unk_token_id", "tokenizer.ggml.unknown_token_id"}};

void add_window(const Architecture& a, Json& config) {
  const SlidingRule& rule = a.info().window;
  if (rule.key.empty()) return;
  if (!rule.enabled_key.empty()) config[std::string(rule.enabled_key)] = a.sliding_window > 0;
  config[std::string(rule.key)] = a.sliding_window > 0 ? Json(a.sliding_window) : Json(nullptr);
  if (a.sliding_window == 0) return;
  Json types = Json::array();
  for (std::size_t i = 0; i < a.layers; ++i) types.push_back(a.sees_all(i) ? kFullAttention : kSlidingAttention);
  config["layer_types"] = std::move(types);
  if (!rule.theta_key.empty()) config[std::string(rule.theta_key)] = (a.sliding_rope ? *a.sliding_rope : a.rope).theta;
}

void add_scores(const Architecture& a, Json& config) {
  const ScoreRule& rule = a.info().scores;
  const auto cap = [](double value) { return value != 0 ? Json(value) : Json(nullptr); };
  if (!rule.scalar_key.empty())
    config[std::string(rule.scalar_key)] = a.score_scalar != 0 ? a.score_scalar : static_cast<double>(a.head_dim);
  if (!rule.attention_cap_key.empty()) config[std::string(rule.attention_cap_key)] = cap(a.attention_cap);
  if (!rule.final_cap_key.empty()) config[std::string(rule.final_cap_key)] = cap(a.final_cap);
}

/// Under the keys that the family has: what it has none for follows from the rest.
void add_sizes(const Architecture& a, Json& config) {
  const SizeKeys& keys = a.info().sizes;
  const auto put = [&](std::string_view key, std::size_t size) {
    if (!key.empty()) config[std::string(key)] = size;
  };
  put(keys.hidden, a.hidden);
  put(keys.ffn, a.ffn);
  put(keys.layers, a.layers);
  put(keys.heads, a.heads);
  put(keys.kv_heads, a.kv_heads);
  put(keys.head_dim, a.head_dim);
  put("vocab_size", a.vocab);
  put(keys.positions, a.max_positions);
  put(a.info().equal_to_hidden_key, a.hidden);
}

/// What runtimes of the family would take for granted otherwise.
void add_flags(const FamilyInfo& family, Json& config) {
  for (const FixedFlag& fixed : family.fixed_flags) config[std::string(fixed.key)] = fixed.value;
}

Json config_of(const Architecture& a) {
  Json config{{"architectures", {a.family}}, {"model_type", family_of(a.family).model_type}};
  add_sizes(a, config);
  add_flags(a.info(), config);
  if (!a.info().norm_eps_key.empty()) config[std::string(a.info().norm_eps_key)] = a.norm_eps;
  if (!a.learns_positions()) config["rope_theta"] = a.rope.theta;
  config[std::string(a.info().activation_key)] = name_of(a.activation);
  config["tie_word_embeddings"] = a.tied;
  if (!a.info().attention_bias_key.empty()) config[std::string(a.info().attention_bias_key)] = a.qkv_bias;
  if (!a.info().mlp_bias_key.empty()) config[std::string(a.info().mlp_bias_key)] = a.mlp_bias;
  add_window(a, config);
  add_scores(a, config);
  if (a.rotary_dim > 0) config["partial_rotary_factor"] = partial_rotary_factor(a);
  if (a.rope.kind != RopeKind::none) config["rope_scaling"] = rope_scaling(a);
  if (a.bos_id) config["bos_token_id"] = *a.bos_id;
  if (!a.eos_ids.empty()) config["eos_token_id"] = a.eos_ids.front();
  return config;
}

/// Whether the text says all of the architecture: a setting that it lost would change the arithmetic.
void require_same(const Architecture& meant, const std::string& text) {
  Architecture said = parse_architecture(nlohmann::json::parse(text), "config.json");
  said.tied_stated = meant.tied_stated;
  if (said == meant) return;
  if (meant.qkv_bias != meant.o_bias)
    fail(ErrorKind::bad_data,
         "q, k and v {} biases and the output projection {}; {} has them on all four or on none, so the model can be "
         "judged, but neither imported nor compressed",
         meant.qkv_bias ? "have" : "have no", meant.o_bias ? "has" : "has none", meant.family);
  fail(ErrorKind::internal, "config.json does not say what the GGUF's metadata say");
}

std::string config_text(const GgufWeights& weights) {
  const GgufFile& file = weights.files().front();
  Json config = config_of(weights.architecture());
  for (const SpecialId& special : kSpecialIds)
    if (const auto* const id = file.find<std::uint32_t>(special.gguf_key)) config[special.config_key] = *id;
  if (const auto* const license = file.find<std::string>(kLicenseKey)) config["license"] = *license;
  return config.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

/// Texts, 32-bit counts, floats, flags and lists of texts: all that the format documents for these keys. Null for what
/// no file can say again: what is empty, no number, negative, or of another type.
struct KeptValue {
  template <typename T>
  nlohmann::json operator()(const T&) const {
    return nullptr;
  }
  nlohmann::json operator()(bool value) const { return value; }
  nlohmann::json operator()(std::uint32_t value) const { return value; }
  nlohmann::json operator()(std::int32_t value) const { return value < 0 ? nlohmann::json() : nlohmann::json(value); }
  nlohmann::json operator()(float value) const { return std::isfinite(value) ? nlohmann::json(value) : nullptr; }
  nlohmann::json operator()(const std::string& value) const { return value.empty() ? nullptr : nlohmann::json(value); }
  nlohmann::json operator()(const std::vector<std::string>& value) const {
    return value.empty() ? nullptr : nlohmann::json(value);
  }
};

bool is_kept(std::string_view key, const Architecture& architecture, const GgufFile& file) {
  if (is_kept_gguf_id(key)) {
    const auto* const id = std::get_if<std::uint32_t>(file.find_value(key));
    return id != nullptr && *id < architecture.vocab;
  }
  return is_kept_gguf_text(key) && is_gguf_key(key) && std::ranges::find(kNotKept, key) == kNotKept.end();
}

/// A sorted object: a file may have any number of keys, which one in their order would search through for each.
std::string kept_keys_text(const GgufWeights& weights) {
  const GgufFile& file = weights.files().front();
  nlohmann::json kept = nlohmann::json::object();
  for (const GgufKeyValue& pair : file.metadata()) {
    if (!is_kept(pair.key, weights.architecture(), file)) continue;
    if (nlohmann::json value = std::visit(KeptValue(), pair.value); !value.is_null()) kept[pair.key] = std::move(value);
  }
  return kept.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

/// Beside those that config.json and tokenizer_config.json state.
constexpr std::array<std::string_view, 11> kKeptIds = {
    "eot", "eom", "mask", "seperator", "cls", "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep"};

}  // namespace

bool is_kept_gguf_text(std::string_view key) { return key.starts_with("general.") || key.starts_with("quantize."); }

bool is_kept_gguf_id(std::string_view key) {
  return std::ranges::any_of(kKeptIds, [&](std::string_view role) { return key == gguf_id_key(role); });
}

std::string gguf_id_key(std::string_view role) { return fmt::format("tokenizer.ggml.{}_token_id", role); }

std::string gguf_model_name(const GgufFile& file) {
  const auto* const name = file.find<std::string>(kNameKey);
  return name ? *name : "";
}

std::vector<StoreFile> gguf_settings_files(const GgufWeights& weights) {
  const GgufFile& file = weights.files().front();
  return with_context(file.path().string(), [&] {
    std::vector<StoreFile> files{{"config.json", config_text(weights)}};
    require_same(weights.architecture(), files.front().text);
    files.push_back({std::string(kGgufKeysFile), kept_keys_text(weights)});
    return files;
  });
}

}  // namespace adze
