#include "model/architecture.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/dtype.h"
#include "base/error.h"
#include "base/words.h"
#include "linalg/convert.h"
#include "model/config_object.h"
#include "model/listing.h"
#include "model/multimodal.h"
#include "model/rope_config.h"

namespace adze {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxFfn = std::size_t{1} << 24;

/// Sizes far above any published model: they bound what a hostile config.json can make us allocate.
struct SizeLimit {
  std::string_view key;
  std::size_t Architecture::*member;
  std::size_t most;
};
constexpr std::array kSizeLimits = {
    SizeLimit{"hidden_size", &Architecture::hidden, std::size_t{1} << 20},
    SizeLimit{"intermediate_size", &Architecture::ffn, kMaxFfn},
    SizeLimit{"num_hidden_layers", &Architecture::layers, 10000},
    SizeLimit{"num_attention_heads", &Architecture::heads, std::size_t{1} << 16},
    SizeLimit{"num_key_value_heads", &Architecture::kv_heads, std::size_t{1} << 16},
    SizeLimit{"head_dim", &Architecture::head_dim, std::size_t{1} << 14},
    SizeLimit{"vocab_size", &Architecture::vocab, std::size_t{1} << 24},
    SizeLimit{"max_position_embeddings", &Architecture::max_positions, std::size_t{1} << 31},
};
constexpr std::size_t kMaxLearnedPositions = std::size_t{1} << 24;  // a row of a table each
constexpr std::size_t kMaxExpertsOfModel = std::size_t{1} << 17;    // of all blocks
constexpr std::size_t kMaxWidth = std::size_t{1} << 24;             // heads * head_dim
constexpr std::size_t kMaxWindow = std::size_t{1} << 31;
constexpr double kMaxScore = 1e6;  // soft caps, and what scores are divided by

struct ActivationName {
  std::string_view name;
  Activation activation;
};
/// Gemma's first checkpoints say "gelu" in hidden_act, which stood for the approximation; hidden_activation is what
/// counts.
constexpr std::array kActivations = {
    ActivationName{"silu", Activation::silu}, ActivationName{"swish", Activation::silu},
    ActivationName{"gelu_pytorch_tanh", Activation::gelu_tanh}, ActivationName{"gelu_new", Activation::gelu_tanh},
    ActivationName{"relu", Activation::relu}};

/// A model of text and more, whose text part has a configuration of its own.
void refuse_multimodal(const ConfigObject& config, const std::string& hf_class) {
  const auto known = families();
  if (!config.find("text_config") || std::ranges::find(known, hf_class, &FamilyInfo::hf_class) != known.end()) return;
  fail(ErrorKind::bad_data,
       "{}: architecture '{}' is of text and more, with a 'text_config' of its own; adze reads models of text, and of "
       "those the language model of {}: save this one's as a checkpoint of its own; {}",
       config.origin(), hf_class, multimodal_classes(), kWeightsOnlyHint);
}

/// The class named by `architectures`, or else the one whose model_type it is.
const FamilyInfo& find_family(const ConfigObject& config) {
  const Json* classes = config.find("architectures");
  if (classes && (!classes->is_array() || classes->size() != 1 || !classes->front().is_string()))
    config.wrong("architectures", "a list of one class name", *classes);
  if (classes) refuse_multimodal(config, classes->front().get<std::string>());
  if (classes)
    return with_context(config.origin(),
                        [&]() -> const FamilyInfo& { return family_of(classes->front().get<std::string>()); });
  const std::string type = config.text_or("model_type", "");
  std::vector<std::string> known;
  for (const FamilyInfo& family : families()) {
    if (family.model_type == type) return family;
    known.emplace_back(family.model_type);
  }
  fail(ErrorKind::bad_data, "{}: no 'architectures', and model_type '{}' is not supported{}; known: {}; {}",
       config.origin(), type, suggestion(type, known), join_words(known), kWeightsOnlyHint);
}

Activation parse_activation(const ConfigObject& config, const FamilyInfo& family) {
  if (!config.find(family.activation_key)) return family.activation;
  const std::string name = config.text_or(family.activation_key, "");
  std::vector<std::string> known;
  for (const ActivationName& row : kActivations) {
    if (row.name == name) return row.activation;
    known.emplace_back(row.name);
  }
  fail(ErrorKind::bad_data, "{}: {} '{}' is not supported; known: {}", config.origin(), family.activation_key, name,
       join_words(known));
}

/// A number of which null says that there is none (0).
double number_unless_null(const ConfigObject& config, std::string_view key, double when_absent) {
  return config.has(key) && !config.find(key) ? 0 : config.number_or(key, when_absent);
}

/// Which layers see all tokens, as `layer_types` or the rule of the family says.
std::vector<bool> parse_full_attention(const ConfigObject& config, const FamilyInfo& family, std::size_t layers) {
  const SlidingRule& rule = family.window;
  std::vector<bool> full(layers);
  const Json* types = config.find("layer_types");
  if (types) {
    if (!types->is_array() || types->empty()) config.wrong("layer_types", "a list of names", *types);
    const bool same = std::ranges::all_of(*types, [&](const Json& type) { return type == types->front(); });
    if (!same && types->size() != layers)
      fail(ErrorKind::bad_data, "{}: 'layer_types' has {} names for {} layers", config.origin(), types->size(), layers);
    for (std::size_t i = 0; i < layers; ++i) {
      const Json& type = same ? types->front() : (*types)[i];
      if (type != kFullAttention && (rule.key.empty() || type != kSlidingAttention))
        config.wrong("layer_types", "an attention that the family has", type);
      full[i] = type == kFullAttention;
    }
    return full;
  }
  const std::size_t every = config.size_or(rule.every_key, rule.every);
  const std::size_t first = rule.first_key.empty() ? 0 : config.size_or(rule.first_key, rule.first);
  for (std::size_t i = 0; i < layers; ++i) full[i] = i < first || (every > 0 && (i + 1) % every == 0);
  return full;
}

void parse_window(const ConfigObject& config, const FamilyInfo& family, Architecture& result) {
  const SlidingRule& rule = family.window;
  const std::vector<bool> full = parse_full_attention(config, family, result.layers);
  const bool enabled = rule.enabled_key.empty() || config.flag(rule.enabled_key);
  if (rule.key.empty() || !enabled) return;
  result.sliding_window = config.size_or(rule.key, config.has(rule.key) ? 0 : rule.width);
  if (std::ranges::all_of(full, std::identity())) result.sliding_window = 0;
  if (result.sliding_window > 0 && std::ranges::any_of(full, std::identity())) result.full_attention = full;
}

/// sqrt(hidden) in the dtype that the model computes in.
double embedding_scale(const ConfigObject& config, std::size_t hidden) {
  const std::string name = config.text_or("dtype", config.text_or("torch_dtype", "float32"));
  const auto root = static_cast<float>(std::sqrt(static_cast<double>(hidden)));
  const DType dtype = name == "bfloat16" ? DType::bf16 : name == "float16" ? DType::f16 : DType::f32;
  std::array<std::byte, sizeof(float)> stored{};
  float rounded = 0;
  const std::span<std::byte> bytes = std::span(stored).first(bytes_of(dtype));
  from_float(dtype, std::span(&root, 1), bytes);
  to_float(dtype, bytes, std::span(&rounded, 1));
  return rounded;
}

void parse_scores(const ConfigObject& config, const FamilyInfo& family, Architecture& result) {
  const ScoreRule& rule = family.scores;
  result.score_scalar = config.number_or(rule.scalar_key, rule.scalar);
  if (result.score_scalar == static_cast<double>(result.head_dim)) result.score_scalar = 0;
  result.attention_cap = number_unless_null(config, rule.attention_cap_key, rule.attention_cap);
  result.final_cap = number_unless_null(config, rule.final_cap_key, rule.final_cap);
}

/// Blocks of both kinds, with experts and without, are not read.
void require_experts_everywhere(const ConfigObject& config) {
  if (const std::size_t step = config.size_or("decoder_sparse_step", 1); step != 1)
    fail(ErrorKind::bad_data, "{}: decoder_sparse_step {} is not supported, only 1: experts in every layer",
         config.origin(), step);
  const Json* dense = config.find("mlp_only_layers");
  if (dense && (!dense->is_array() || !dense->empty()))
    config.wrong("mlp_only_layers", "an empty list: experts in every layer", *dense);
}

void parse_mixture(const ConfigObject& config, const FamilyInfo& family, Architecture& result) {
  const MixtureRule& rule = family.mixture;
  if (rule.count_key.empty()) return;
  require_experts_everywhere(config);
  if (const Json* clip = config.find("clip_qkv")) config.wrong("clip_qkv", "null", *clip);
  result.experts = config.size(rule.count_key);
  if (result.experts == 0) fail(ErrorKind::bad_data, "{}: {} is 0", config.origin(), rule.count_key);
  result.experts_per_token = config.size("num_experts_per_tok");
  result.expert_ffn = config.size(rule.width_key);
  if (!rule.shared_width_key.empty()) result.shared_ffn = config.size(rule.shared_width_key);
  result.renormalised = !rule.renormalise_key.empty() && config.find(rule.renormalise_key)
                            ? config.flag(rule.renormalise_key)
                            : rule.renormalise;
}

/// As Transformers counts them: rounded down. Throws bad_data for a part that is none.
std::size_t rotary_dim(double part, std::size_t head_dim, std::string_view origin) {
  check_range(origin, "partial_rotary_factor", part, 0.0, 1.0);
  const auto elements = static_cast<std::size_t>(part * static_cast<double>(head_dim));
  if (elements == 0)
    fail(ErrorKind::bad_data, "{}: partial_rotary_factor {} leaves none of the {} elements of a head to rotate", origin,
         part, head_dim);
  return elements == head_dim ? 0 : elements;
}

void check_rotation(const Architecture& a, std::string_view origin) {
  if (a.rotary_dim == 0) return;
  if (a.rotary_dim >= a.head_dim)
    fail(ErrorKind::bad_data, "{}: {} rotated elements of heads of {}", origin, a.rotary_dim, a.head_dim);
  if (a.rotary_dim % 2 != 0)
    fail(ErrorKind::bad_data,
         "{}: partial_rotary_factor rotates {} of {} elements of a head, which is odd; RoPE needs pairs", origin,
         a.rotary_dim, a.head_dim);
}

void check_mixture(const Architecture& a, std::string_view origin) {
  if (!a.is_mixture()) {
    if (a.experts_per_token > 0 || a.expert_ffn > 0 || a.shared_ffn > 0)
      fail(ErrorKind::bad_data, "{}: sizes of experts, and no experts", origin);
    return;
  }
  if (a.info().mixture.count_key.empty()) fail(ErrorKind::bad_data, "{}: {} has no experts", origin, a.family);
  if (a.experts > kMostExperts || a.experts * a.layers > kMaxExpertsOfModel)
    fail(ErrorKind::bad_data, "{}: {} experts in each of {} layers are too many", origin, a.experts, a.layers);
  if (a.experts_per_token < 1 || a.experts_per_token > a.experts)
    fail(ErrorKind::bad_data, "{}: num_experts_per_tok is {}, not within 1 to the {} experts", origin,
         a.experts_per_token, a.experts);
  if (a.expert_ffn < 1 || a.expert_ffn > kMaxFfn)
    fail(ErrorKind::bad_data, "{}: {} is {}, not within 1 to {}", origin, a.info().mixture.width_key, a.expert_ffn,
         kMaxFfn);
  if (a.shared_ffn > kMaxFfn)
    fail(ErrorKind::bad_data, "{}: {} is {}, above {}", origin, a.info().mixture.shared_width_key, a.shared_ffn,
         kMaxFfn);
}

/// What the family takes for granted, and config.json may contradict.
void check_fixed_settings(const ConfigObject& config, const FamilyInfo& family, std::size_t hidden) {
  for (const FixedFlag& fixed : family.fixed_flags)
    if (config.find(fixed.key) && config.flag(fixed.key) != fixed.value)
      fail(ErrorKind::bad_data, "{}: {} {} is not supported: {}", config.origin(), fixed.key, !fixed.value, fixed.what);
  const std::string_view key = family.equal_to_hidden_key;
  if (const std::size_t size = config.size_or(key, hidden); size != hidden)
    fail(ErrorKind::bad_data, "{}: {} {} is not supported, only {}, the size of the states", config.origin(), key, size,
         hidden);
}

/// Of a family whose heads, positions or norms leave less free than others do.
void check_family(const Architecture& a, std::string_view origin) {
  const FamilyInfo& family = a.info();
  if (family.norm_eps_key.empty() && a.norm_eps != family.norm_eps)
    fail(ErrorKind::bad_data, "{}: an epsilon of norms of {} is not supported, {} has {}", origin, a.norm_eps, a.family,
         family.norm_eps);
  if (family.sizes.head_dim.empty() && a.q_width() != a.hidden)
    fail(ErrorKind::bad_data, "{}: {} heads of {} are not as wide as the {} of the states, which {} asks for", origin,
         a.heads, a.head_dim, a.hidden, a.family);
  if (family.sizes.kv_heads.empty() && a.kv_heads != a.heads)
    fail(ErrorKind::bad_data, "{}: {} heads of keys for {} of queries; {} has as many", origin, a.kv_heads, a.heads,
         a.family);
  if (!family.positions.learned) return;
  if (a.max_positions > kMaxLearnedPositions)
    fail(ErrorKind::bad_data, "{}: {} is {}, which is too many positions to be learned", origin, family.sizes.positions,
         a.max_positions);
  if (a.rope != RopeSpec() || a.sliding_rope || a.rotary_dim > 0)
    fail(ErrorKind::bad_data, "{}: a RoPE, and positions that are learned", origin);
}

/// 0 stands for a setting that is not there.
void check_optional(std::string_view origin, std::string_view what, double value) {
  if (value != 0) check_range(origin, what, value, 0.0, kMaxScore);
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
std::size_t derived_head_dim(const Architecture& architecture, const SizeKeys& keys, std::string_view origin) {
  if (architecture.heads == 0 || architecture.hidden % architecture.heads != 0)
    fail(ErrorKind::bad_data, "{}: {} {} is not a multiple of {} {}, and there is no head_dim", origin, keys.hidden,
         architecture.hidden, keys.heads, architecture.heads);
  return architecture.hidden / architecture.heads;
}

void parse_sizes(const ConfigObject& config, const FamilyInfo& family, Architecture& result) {
  const SizeKeys& keys = family.sizes;
  result.hidden = config.size(keys.hidden);
  // Before anything is multiplied by it.
  if (keys.ffn_per_hidden > 0)
    check_range(config.origin(), keys.hidden, static_cast<double>(result.hidden), 0, kMaxFfn);
  result.ffn =
      keys.ffn_per_hidden > 0 ? config.size_or(keys.ffn, keys.ffn_per_hidden * result.hidden) : config.size(keys.ffn);
  result.layers = config.size(keys.layers);
  result.heads = config.size(keys.heads);
  result.kv_heads = config.size_or(keys.kv_heads, result.heads);
  result.head_dim =
      config.find(keys.head_dim) ? config.size(keys.head_dim) : derived_head_dim(result, keys, config.origin());
  result.vocab = config.size("vocab_size");
  result.max_positions = config.size_or(keys.positions, family.max_positions);
}

}  // namespace

bool Architecture::has_norm(NormSlot slot) const {
  return std::ranges::find(info().norms, slot, &NormInfo::slot) != info().norms.end();
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
  if (architecture.head_dim % 2 != 0 && !architecture.learns_positions())
    fail(ErrorKind::bad_data, "{}: head_dim {} is odd; RoPE needs pairs", origin, architecture.head_dim);
  if (architecture.q_width() > kMaxWidth)
    fail(ErrorKind::bad_data, "{}: {} heads of {} are wider than {}", origin, architecture.heads, architecture.head_dim,
         kMaxWidth);
  if (architecture.sliding_window > kMaxWindow)
    fail(ErrorKind::bad_data, "{}: sliding_window {} is above {}", origin, architecture.sliding_window, kMaxWindow);
  if (!architecture.full_attention.empty() && architecture.full_attention.size() != architecture.layers)
    fail(ErrorKind::bad_data, "{}: kinds of attention for {} of {} layers", origin, architecture.full_attention.size(),
         architecture.layers);
  check_rotation(architecture, origin);
  check_mixture(architecture, origin);
  check_family(architecture, origin);
  check_range(origin, "rms_norm_eps", architecture.norm_eps, 0.0, 1.0);
  check_range(origin, "embedding scale", architecture.embedding_scale, 0.0, kMaxScore);
  check_optional(origin, "query_pre_attn_scalar", architecture.score_scalar);
  check_optional(origin, "attn_logit_softcapping", architecture.attention_cap);
  check_optional(origin, "final_logit_softcapping", architecture.final_cap);
  if (!architecture.learns_positions()) check_rope(architecture.rope, architecture.rotated() / 2, origin);
  if (architecture.sliding_rope) check_rope(*architecture.sliding_rope, architecture.rotated() / 2, origin);
  check_ids(architecture, origin);
}

Architecture parse_architecture(const Json& json, std::string_view origin) {
  if (is_multimodal(json)) return parse_architecture(language_config(json, origin), origin);
  const ConfigObject config(json, origin);
  const FamilyInfo& family = find_family(config);
  Architecture result;
  result.family = family.read_as.empty() ? family.hf_class : family.read_as;
  parse_sizes(config, family, result);
  check_fixed_settings(config, family, result.hidden);
  result.norm_eps = config.number_or(family.norm_eps_key, family.norm_eps);
  result.activation = parse_activation(config, family);
  result.tied = config.find("tie_word_embeddings") ? config.flag("tie_word_embeddings") : family.tied;
  result.tied_stated = config.find("tie_word_embeddings") != nullptr;
  result.o_bias = family.o_bias || config.flag(family.attention_bias_key);
  result.qkv_bias = family.qkv_bias || result.o_bias;
  result.mlp_bias = family.mlp_bias || config.flag(family.mlp_bias_key);
  if (family.scales_embedding) result.embedding_scale = embedding_scale(config, result.hidden);
  parse_scores(config, family, result);
  parse_mixture(config, family, result);
  check_architecture(result, origin);  // before lists of as many entries as there are layers
  RopePair rope = result.learns_positions() ? RopePair() : parse_rope(config, family, result.max_positions);
  parse_window(config, family, result);
  if (result.sliding_window > 0 && rope.sliding != rope.rope) result.sliding_rope = std::move(rope.sliding);
  result.rotary_dim = rotary_dim(rope.rotated, result.head_dim, origin);
  result.rope = std::move(rope.rope);
  const auto bos = config.ids("bos_token_id");
  if (!bos.empty()) result.bos_id = bos.front();
  result.eos_ids = config.ids("eos_token_id");
  check_architecture(result, origin);
  return result;
}

}  // namespace adze
