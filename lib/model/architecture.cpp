#include "model/architecture.h"

#include <array>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/words.h"
#include "model/config_object.h"

namespace adze {
namespace {

using Json = nlohmann::json;

constexpr std::array kFamilies = {
    FamilyInfo{.hf_class = "LlamaForCausalLM",
               .model_type = "llama",
               .gguf_name = "llama",
               .qk_rows_permuted_in_gguf = true,
               .attention_bias_key = "attention_bias",
               .mlp_bias_key = "mlp_bias",
               .sliding_window_key = "",
               .sliding_window_default = 0,
               .max_positions_default = 2048},
    FamilyInfo{.hf_class = "MistralForCausalLM",
               .model_type = "mistral",
               .gguf_name = "llama",
               .qk_rows_permuted_in_gguf = true,
               .attention_bias_key = "",
               .mlp_bias_key = "",
               .sliding_window_key = "sliding_window",
               .sliding_window_default = 4096,
               .max_positions_default = 131072},
};

/// Sizes far above any published model: they bound what a hostile config.json can make us allocate.
struct SizeLimit {
  std::string_view key;
  std::size_t Architecture::*member;
  std::size_t most;
};
constexpr std::array kSizeLimits = {
    SizeLimit{"hidden_size", &Architecture::hidden, std::size_t{1} << 20},
    SizeLimit{"intermediate_size", &Architecture::ffn, std::size_t{1} << 24},
    SizeLimit{"num_hidden_layers", &Architecture::layers, 10000},
    SizeLimit{"num_attention_heads", &Architecture::heads, std::size_t{1} << 16},
    SizeLimit{"num_key_value_heads", &Architecture::kv_heads, std::size_t{1} << 16},
    SizeLimit{"head_dim", &Architecture::head_dim, std::size_t{1} << 14},
    SizeLimit{"vocab_size", &Architecture::vocab, std::size_t{1} << 24},
    SizeLimit{"max_position_embeddings", &Architecture::max_positions, std::size_t{1} << 31},
};
constexpr std::size_t kMaxWidth = std::size_t{1} << 24;   // heads * head_dim
constexpr std::size_t kMaxWindow = std::size_t{1} << 31;  // sliding window and RoPE context
constexpr double kMaxTheta = 1e12;
constexpr double kMaxFactor = 1e6;
constexpr double kMaxDivisor = 1e12;  // as theta, whose powers it may have to turn into others

struct RopeName {
  std::string_view name;
  RopeKind kind;
};
constexpr std::array kRopeNames = {RopeName{"default", RopeKind::none}, RopeName{"linear", RopeKind::linear},
                                   RopeName{"llama3", RopeKind::llama3}, RopeName{"longrope", RopeKind::longrope}};
constexpr std::array<std::string_view, 2> kActivations = {"silu", "swish"};  // two names of one function

template <typename Row>
std::vector<std::string> names(const auto& rows, std::string_view Row::*member) {
  std::vector<std::string> all;
  for (const Row& row : rows) all.emplace_back(row.*member);
  return all;
}

/// The class named by `architectures`, or else the one whose model_type it is.
const FamilyInfo& find_family(const ConfigObject& config) {
  const Json* classes = config.find("architectures");
  if (classes && (!classes->is_array() || classes->size() != 1 || !classes->front().is_string()))
    config.wrong("architectures", "a list of one class name", *classes);
  if (classes)
    return with_context(config.origin(),
                        [&]() -> const FamilyInfo& { return family_of(classes->front().get<std::string>()); });
  const std::string type = config.text_or("model_type", "");
  for (const FamilyInfo& family : kFamilies)
    if (family.model_type == type) return family;
  const auto known = names(kFamilies, &FamilyInfo::model_type);
  fail(ErrorKind::bad_data, "{}: no 'architectures', and model_type '{}' is not supported{}; known: {}",
       config.origin(), type, suggestion(type, known), join_words(known));
}

RopeKind parse_rope_kind(const ConfigObject& rope) {
  const std::string name = rope.text_or("rope_type", rope.text_or("type", "default"));
  for (const RopeName& row : kRopeNames)
    if (row.name == name) return row.kind;
  const auto known = names(kRopeNames, &RopeName::name);
  fail(ErrorKind::bad_data, "{}: RoPE type '{}' is not supported{}; known: {}", rope.origin(), name,
       suggestion(name, known), join_words(known));
}

/// Of long RoPE, where neither the divisors nor the size of attention scores change with the length of the context.
std::vector<double> parse_divisors(const ConfigObject& rope) {
  std::vector<double> divisors = rope.numbers("short_factor");
  if (divisors != rope.numbers("long_factor"))
    fail(ErrorKind::bad_data, "{}: long_factor differs from short_factor; only one set of factors is supported",
         rope.origin());
  // Without attention_factor it is derived from `factor`, and 1 up to a factor of 1.
  const double scale = rope.number_or("attention_factor", rope.number_or("factor", 1.0) > 1 ? 0.0 : 1.0);
  if (scale != 1)
    fail(ErrorKind::bad_data, "{}: longrope that scales attention is not supported; attention_factor must be 1",
         rope.origin());
  return divisors;
}

RopeSpec parse_rope(const ConfigObject& config) {
  RopeSpec spec;
  spec.theta = config.number_or("rope_theta", spec.theta);
  const std::string_view key = config.find("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const Json* object = config.find(key);
  if (!object) return spec;
  const std::string place = fmt::format("{}: {}", config.origin(), key);
  const ConfigObject rope(*object, place);
  spec.kind = parse_rope_kind(rope);
  spec.theta = rope.number_or("rope_theta", spec.theta);
  if (spec.kind == RopeKind::longrope) {
    spec.divisors = parse_divisors(rope);
    return spec;
  }
  if (spec.kind != RopeKind::none) spec.factor = rope.number("factor");
  if (spec.kind != RopeKind::llama3) return spec;
  spec.low_freq_factor = rope.number("low_freq_factor");
  spec.high_freq_factor = rope.number("high_freq_factor");
  spec.original_max_positions = rope.size("original_max_position_embeddings");
  return spec;
}

/// Settings that change the arithmetic and that the forward pass does not have.
void refuse_unsupported(const ConfigObject& config) {
  const std::string activation = config.text_or("hidden_act", "silu");
  if (activation != kActivations[0] && activation != kActivations[1])
    fail(ErrorKind::bad_data, "{}: hidden_act '{}' is not supported; known: silu", config.origin(), activation);
  const double rotated = config.number_or("partial_rotary_factor", 1.0);
  if (rotated != 1.0)
    fail(ErrorKind::bad_data, "{}: partial_rotary_factor {} is not supported, only 1", config.origin(), rotated);
}

/// `layer_types` may name one kind of attention for all layers, one that the family has; a mixture is refused.
void check_layer_types(const ConfigObject& config, const Json& types, const FamilyInfo& family) {
  if (!types.is_array() || types.empty()) config.wrong("layer_types", "a list of names", types);
  for (const Json& type : types)
    if (type != types.front()) config.wrong("layer_types", "the same for all layers", types);
  const bool has_window = !family.sliding_window_key.empty();
  if (types.front() != "full_attention" && !(has_window && types.front() == "sliding_attention"))
    config.wrong("layer_types", "an attention that the family has", types);
}

std::size_t parse_sliding_window(const ConfigObject& config, const FamilyInfo& family) {
  const Json* types = config.find("layer_types");
  if (types) check_layer_types(config, *types, family);
  const bool all_full = types && types->front() == "full_attention";
  if (family.sliding_window_key.empty() || all_full) return 0;
  const std::size_t when_absent = config.has(family.sliding_window_key) ? 0 : family.sliding_window_default;
  return config.size_or(family.sliding_window_key, when_absent);
}

void check_range(std::string_view origin, std::string_view what, double value, double above, double most) {
  if (!(value > above && value <= most))  // false for NaN
    fail(ErrorKind::bad_data, "{}: {} must be above {} and at most {}, not {}", origin, what, above, most, value);
}

void check_rope(const RopeSpec& rope, std::size_t pairs, std::string_view origin) {
  check_range(origin, "rope_theta", rope.theta, 1.0, kMaxTheta);
  check_range(origin, "RoPE factor", rope.factor, 0.0, kMaxFactor);
  if (rope.kind == RopeKind::longrope && rope.divisors.size() != pairs)
    fail(ErrorKind::bad_data, "{}: {} RoPE factors for {} pairs of a head", origin, rope.divisors.size(), pairs);
  for (const double divisor : rope.divisors) check_range(origin, "RoPE factor", divisor, 0.0, kMaxDivisor);
  if (rope.kind != RopeKind::llama3) return;
  check_range(origin, "low_freq_factor", rope.low_freq_factor, 0.0, kMaxFactor);
  check_range(origin, "high_freq_factor", rope.high_freq_factor, rope.low_freq_factor, kMaxFactor);
  check_range(origin, "original_max_position_embeddings", static_cast<double>(rope.original_max_positions), 0.0,
              static_cast<double>(kMaxWindow));
}

void check_ids(const Architecture& architecture, std::string_view origin) {
  std::vector<std::int32_t> ids = architecture.eos_ids;
  if (architecture.bos_id) ids.push_back(*architecture.bos_id);
  for (const std::int32_t id : ids)
    if (id < 0 || static_cast<std::size_t>(id) >= architecture.vocab)
      fail(ErrorKind::bad_data, "{}: special token id {} is outside the vocabulary of {}", origin, id,
           architecture.vocab);
}

/// head_dim of a config that does not state it.
std::size_t derived_head_dim(const Architecture& architecture, std::string_view origin) {
  if (architecture.heads == 0 || architecture.hidden % architecture.heads != 0)
    fail(ErrorKind::bad_data,
         "{}: hidden_size {} is not a multiple of num_attention_heads {}, and there is no head_dim", origin,
         architecture.hidden, architecture.heads);
  return architecture.hidden / architecture.heads;
}

}  // namespace

std::span<const FamilyInfo> families() { return kFamilies; }

const FamilyInfo& family_of(std::string_view hf_class) {
  for (const FamilyInfo& family : kFamilies)
    if (family.hf_class == hf_class) return family;
  const auto known = names(kFamilies, &FamilyInfo::hf_class);
  fail(ErrorKind::bad_data, "architecture '{}' is not supported{}; known: {}", hf_class, suggestion(hf_class, known),
       join_words(known));
}

nlohmann::ordered_json rope_scaling(const Architecture& architecture) {
  const RopeSpec& rope = architecture.rope;
  switch (rope.kind) {
    case RopeKind::none:
      return nullptr;
    case RopeKind::linear:
      return {{"rope_type", "linear"}, {"factor", rope.factor}};
    case RopeKind::llama3:
      return {{"rope_type", "llama3"},
              {"factor", rope.factor},
              {"low_freq_factor", rope.low_freq_factor},
              {"high_freq_factor", rope.high_freq_factor},
              {"original_max_position_embeddings", rope.original_max_positions}};
    case RopeKind::longrope:
      return {{"rope_type", "longrope"},       {"factor", 1.0},
              {"attention_factor", 1.0},       {"original_max_position_embeddings", architecture.max_positions},
              {"short_factor", rope.divisors}, {"long_factor", rope.divisors}};
  }
  return nullptr;
}

void check_architecture(const Architecture& architecture, std::string_view origin) {
  for (const SizeLimit& limit : kSizeLimits) {
    const std::size_t value = architecture.*limit.member;
    if (value < 1 || value > limit.most)
      fail(ErrorKind::bad_data, "{}: {} is {}, not within 1 to {}", origin, limit.key, value, limit.most);
  }
  if (architecture.heads % architecture.kv_heads != 0)
    fail(ErrorKind::bad_data, "{}: num_attention_heads {} is not a multiple of num_key_value_heads {}", origin,
         architecture.heads, architecture.kv_heads);
  if (architecture.head_dim % 2 != 0)
    fail(ErrorKind::bad_data, "{}: head_dim {} is odd; RoPE needs pairs", origin, architecture.head_dim);
  if (architecture.q_width() > kMaxWidth)
    fail(ErrorKind::bad_data, "{}: {} heads of {} are wider than {}", origin, architecture.heads, architecture.head_dim,
         kMaxWidth);
  if (architecture.sliding_window > kMaxWindow)
    fail(ErrorKind::bad_data, "{}: sliding_window {} is above {}", origin, architecture.sliding_window, kMaxWindow);
  check_range(origin, "rms_norm_eps", architecture.norm_eps, 0.0, 1.0);
  check_rope(architecture.rope, architecture.head_dim / 2, origin);
  check_ids(architecture, origin);
}

Architecture parse_architecture(const nlohmann::json& json, std::string_view origin) {
  const ConfigObject config(json, origin);
  const FamilyInfo& family = find_family(config);
  refuse_unsupported(config);
  Architecture result;
  result.family = family.hf_class;
  result.hidden = config.size("hidden_size");
  result.ffn = config.size("intermediate_size");
  result.layers = config.size("num_hidden_layers");
  result.heads = config.size("num_attention_heads");
  result.kv_heads = config.size_or("num_key_value_heads", result.heads);
  result.head_dim = config.find("head_dim") ? config.size("head_dim") : derived_head_dim(result, origin);
  result.vocab = config.size("vocab_size");
  result.max_positions = config.size_or("max_position_embeddings", family.max_positions_default);
  result.norm_eps = config.number_or("rms_norm_eps", result.norm_eps);
  result.rope = parse_rope(config);
  result.tied = config.flag("tie_word_embeddings");
  result.tied_stated = config.find("tie_word_embeddings") != nullptr;
  result.qkv_bias = result.o_bias = config.flag(family.attention_bias_key);
  result.mlp_bias = config.flag(family.mlp_bias_key);
  result.sliding_window = parse_sliding_window(config, family);
  const auto bos = config.ids("bos_token_id");
  if (!bos.empty()) result.bos_id = bos.front();
  result.eos_ids = config.ids("eos_token_id");
  check_architecture(result, origin);
  return result;
}

}  // namespace adze
