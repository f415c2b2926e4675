// What a decoder-only transformer is made of: its family, sizes, RoPE, biases, attention spans. A value, read from
// config.json by the rules of its family (model/family.h).
//
// Refuses what the forward pass would compute wrongly: an unknown class, RoPE kind or activation, and sizes that
// contradict each other. Quantization settings and generation defaults in config.json are not looked at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/dtype.h"
#include "model/family.h"

namespace adze {

enum class RopeKind : std::uint8_t { none, linear, llama3, longrope, yarn };

/// Rotary embedding of the first d = Architecture::rotated() elements of a head, half-split pairs (i, i + d / 2). Only
/// `theta` matters for `none`, `factor` for `linear`, and `divisors` for `longrope`: one for each pair, so that it can
/// state any frequencies, and others for windows longer than the original context.
struct RopeSpec {
  double theta = 10000.0;
  RopeKind kind = RopeKind::none;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  std::size_t original_max_positions = 8192;
  std::vector<double> divisors = {};  ///< [d / 2]; empty but for longrope
  double beta_fast = 32.0;            ///< yarn: turns within original_max_positions from which pairs stay as they are
  double beta_slow = 1.0;             ///< yarn: turns up to which they are divided by `factor`
  double attention_factor = 1.0;      ///< yarn, longrope: of cosines and sines
  std::vector<double> long_divisors = {};  ///< longrope: of windows beyond original_max_positions; empty: the same
  bool operator==(const RopeSpec&) const = default;
};

/// The attention factor of yarn where nothing states it: 0.1 ln(factor) + 1, and 1 up to a factor of 1 (YaRN, arXiv
/// 2309.00071, equation 22).
double yarn_attention_factor(double factor);

/// That of longrope: sqrt(1 + ln(factor) / ln(original context)), and 1 up to a factor of 1 (LongRoPE, arXiv
/// 2402.13753).
double longrope_attention_factor(double factor, std::size_t original_max_positions);

inline constexpr std::size_t kMostExperts = 4096;  ///< of a block; files that claim more are refused

/// A tensor as a checkpoint has it. shape: row-major, slowest dimension first.
struct ListedTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::uint64_t> shape;
  bool operator==(const ListedTensor&) const = default;
};

/// What stands in for the family of a model whose architecture is not known: it has no part that could be named.
inline constexpr FamilyInfo kNoFamily{.hf_class = "", .model_type = "", .gguf_name = ""};

/// Sizes are counts of elements. Fill it from config.json with parse_architecture, or by hand and check_architecture.
struct Architecture {
  std::string family = "LlamaForCausalLM";  ///< FamilyInfo::hf_class
  std::size_t hidden = 0;
  std::size_t ffn = 0;
  std::size_t layers = 0;
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;
  std::size_t vocab = 0;
  std::size_t max_positions = 0;
  double norm_eps = 1e-6;
  RopeSpec rope;
  bool tied = false;         ///< the head is the embedding table
  bool tied_stated = false;  ///< config.json said so; otherwise the tensors decide (resolve_tying)
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  std::size_t sliding_window = 0;  ///< a token sees itself and the window - 1 tokens before it; 0: all of them
  std::optional<std::int32_t> bos_id;
  std::vector<std::int32_t> eos_ids;
  std::vector<bool> full_attention;  ///< [layers]: where all tokens are seen although there is a window; empty: nowhere
  std::optional<RopeSpec> sliding_rope;  ///< of layers with a window, where it is another
  std::size_t rotary_dim = 0;            ///< elements of a head that RoPE rotates, the first ones; 0: all of them
  Activation activation = Activation::silu;
  double embedding_scale = 1.0;  ///< of the table's rows as the first states
  double score_scalar = 0;       ///< scores are divided by its root; 0: head_dim
  double attention_cap = 0;      ///< scores s become cap tanh(s / cap); 0: they stay
  double final_cap = 0;          ///< the same of logits

  std::size_t experts = 0;            ///< in the place of the FFN; 0: there is one FFN
  std::size_t experts_per_token = 0;  ///< those of the largest scores
  std::size_t expert_ffn = 0;         ///< width of each
  std::size_t shared_ffn = 0;         ///< width of the expert that all tokens share; 0: there is none
  bool renormalised = false;          ///< weights of the chosen experts are divided by their sum

  /// All tensors, sorted by name, of a model whose architecture is not known (model/listing.h): then nothing else is
  /// said here but `layers`, the number of blocks that names tell apart, and nothing can be computed.
  std::vector<ListedTensor> listed = {};

  bool is_listed() const { return !listed.empty(); }
  std::size_t q_width() const { return heads * head_dim; }
  std::size_t kv_width() const { return kv_heads * head_dim; }
  /// Elements of a head that RoPE rotates, from the first on; the others pass as they are.
  std::size_t rotated() const { return rotary_dim > 0 ? rotary_dim : head_dim; }
  bool is_mixture() const { return experts > 0; }
  /// Rows of a table instead of a RoPE, which `rope` then says nothing of.
  bool learns_positions() const { return info().positions.learned; }
  /// Of the table of positions; 0: there is none.
  std::size_t position_rows() const { return learns_positions() ? max_positions + info().positions.offset : 0; }
  /// Width of the FFN that all tokens go through; 0: there is none.
  std::size_t common_ffn() const { return is_mixture() ? shared_ffn : ffn; }
  const FamilyInfo& info() const { return is_listed() ? kNoFamily : family_of(family); }
  bool has_norm(NormSlot slot) const;
  bool sees_all(std::size_t layer) const { return !full_attention.empty() && full_attention[layer]; }
  bool operator==(const Architecture&) const = default;
};

/// Reads config.json of a supported family, or of a model of text and images whose language model is of one
/// (model/multimodal.h). `origin` (its path) leads every message. Accepts the spellings of Transformers 4 (rope_theta,
/// rope_scaling with type or rope_type) and 5 (rope_parameters). Throws bad_data.
Architecture parse_architecture(const nlohmann::json& config, std::string_view origin);

/// Throws bad_data unless every size is within its limits and they fit each other.
void check_architecture(const Architecture& architecture, std::string_view origin);

}  // namespace adze
