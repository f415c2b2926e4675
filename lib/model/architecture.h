// What a decoder-only transformer is made of: sizes, RoPE, biases, attention span. A value, read from config.json
// through one table of families; a new family that differs in names, defaults, biases or window is one row of it.
//
// Refuses what the forward pass would compute wrongly: an unknown class, RoPE kind or activation, partial rotation, and
// sizes that contradict each other. Quantization settings and generation defaults in config.json are not looked at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace adze {

enum class RopeKind : std::uint8_t { none, linear, llama3, longrope };

/// Rotary embedding over the whole head, half-split pairs (i, i + head_dim / 2). Only `theta` matters for `none`,
/// `factor` for `linear`, and `divisors` for `longrope`: one for each pair, the same for short and long contexts, so
/// that it can state any frequencies.
struct RopeSpec {
  double theta = 10000.0;
  RopeKind kind = RopeKind::none;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  std::size_t original_max_positions = 8192;
  std::vector<double> divisors = {};  ///< [head_dim / 2]; empty but for longrope
  bool operator==(const RopeSpec&) const = default;
};

/// One row of the family table. A key of "" means that the family has no such setting.
struct FamilyInfo {
  std::string_view hf_class;            ///< in config.json `architectures`
  std::string_view model_type;          ///< in config.json `model_type`
  std::string_view gguf_name;           ///< in GGUF general.architecture
  bool qk_rows_permuted_in_gguf;        ///< the runtime rotates neighbouring elements, so q/k rows are reordered
  std::string_view attention_bias_key;  ///< q, k, v and o have biases when it is true
  std::string_view mlp_bias_key;        ///< gate, up and down have biases when it is true
  std::string_view sliding_window_key;  ///< null or 0: full attention
  std::size_t sliding_window_default;   ///< when the key is absent; 0: full attention
  std::size_t max_positions_default;
};

std::span<const FamilyInfo> families();
/// Throws bad_data for an unknown class, naming the nearest known one and all known ones.
const FamilyInfo& family_of(std::string_view hf_class);

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

  std::size_t q_width() const { return heads * head_dim; }
  std::size_t kv_width() const { return kv_heads * head_dim; }
  bool operator==(const Architecture&) const = default;
};

/// Reads config.json of a supported family. `origin` (its path) leads every message. Accepts the spellings of
/// Transformers 4 (rope_theta, rope_scaling with type or rope_type) and 5 (rope_parameters). Throws bad_data.
Architecture parse_architecture(const nlohmann::json& config, std::string_view origin);

/// The `rope_scaling` object of config.json that parse_architecture() reads as this RoPE; null for a plain one.
nlohmann::ordered_json rope_scaling(const Architecture& architecture);

/// Throws bad_data unless every size is within its limits and they fit each other.
void check_architecture(const Architecture& architecture, std::string_view origin);

}  // namespace adze
