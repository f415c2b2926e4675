// Families of decoder-only transformers: one row each says what its checkpoints call things, which parts its blocks
// have and what holds where config.json says nothing. A family whose parts exist is one row
// (docs/adding-an-architecture.md); nothing else knows a family by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace adze {

/// Where a block normalises, in the order of computation.
enum class NormSlot : std::uint8_t {
  before_attention,  ///< input of {q, k, v}; without it they read the states themselves
  queries,           ///< q before RoPE
  keys,              ///< k before RoPE
  after_attention,   ///< output of {o}, before it joins the states
  before_ffn,        ///< input of {gate, up}
  after_ffn,         ///< output of {down}, before it joins the states
};
inline constexpr std::size_t kNormCount = 6;

/// What norms compute.
enum class NormKind : std::uint8_t {
  rms,    ///< x / sqrt(mean(x^2) + eps) * (offset + weight)
  layer,  ///< (x - mean(x)) / sqrt(var(x) + eps) * weight + bias
};

/// A norm that the blocks of a family have.
struct NormInfo {
  NormSlot slot;
  std::string_view module;  ///< inside the block: "input_layernorm"
  std::string_view gguf;    ///< inside the block: "attn_norm"
};

/// Of the FFN: hidden = activation(gate(x)) * up(x), or, without a gate, activation(up(x)).
enum class Activation : std::uint8_t {
  silu,
  gelu_tanh,  ///< 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
  relu,       ///< max(0, x)
};
inline constexpr std::size_t kActivationCount = 3;
std::string_view name_of(Activation activation);  ///< as config.json has it: "silu", "gelu_pytorch_tanh", "relu"

/// Positions that are learned: a row of a table for each, added to the embedding. Then there is no RoPE.
struct PositionRule {
  bool learned = false;
  std::size_t offset = 0;  ///< rows of the table before that of position 0, which no token has
};

/// What checkpoints call modules; linears as inside their block.
struct ModuleNames {
  std::string_view root = "model.";  ///< before "layers.0" and the tables
  std::string_view final_norm = "norm";
  std::string_view q = "self_attn.q_proj";
  std::string_view k = "self_attn.k_proj";
  std::string_view v = "self_attn.v_proj";
  std::string_view o = "self_attn.o_proj";
  std::string_view gate = "mlp.gate_proj";  ///< "": hidden = activation(up(x))
  std::string_view up = "mlp.up_proj";
  std::string_view down = "mlp.down_proj";
};

/// Keys of sizes in config.json. A key of "" is a size that follows from the others.
struct SizeKeys {
  std::string_view hidden = "hidden_size";
  std::string_view ffn = "intermediate_size";
  std::string_view layers = "num_hidden_layers";
  std::string_view heads = "num_attention_heads";
  std::string_view kv_heads = "num_key_value_heads";  ///< absent: as many as heads
  std::string_view head_dim = "head_dim";             ///< absent: hidden / heads
  std::string_view positions = "max_position_embeddings";
  std::size_t ffn_per_hidden = 0;  ///< where the key of the FFN's width is absent; 0: it must be there
};

/// A flag of config.json that is supported in one of its values.
struct FixedFlag {
  std::string_view key;
  bool value = false;     ///< what is supported, and what an absent key means
  std::string_view what;  ///< of the other: "norms behind a block's parts"
};

/// Whether a GGUF of the family has a head of its own ("output.weight") beside the embedding table.
enum class GgufHead : std::uint8_t {
  unless_tied,
  never,   ///< the runtime takes the table and refuses the tensor: only tied models can be exported
  always,  ///< the runtime refuses files without it: only models with a head of their own can be exported
};

/// Which layers see a window only. A key of "" is a setting that the family does not have.
struct SlidingRule {
  std::string_view key;               ///< null or 0: full attention everywhere
  std::size_t width = 0;              ///< where the key is absent
  std::string_view enabled_key = "";  ///< false (its default): full attention everywhere
  std::string_view first_key = "";    ///< layers from this one on have the window
  std::size_t first = 0;              ///< where that is absent
  std::string_view every_key = "";    ///< every so manyth layer sees all tokens
  std::size_t every = 0;              ///< where that is absent; 0: no layer does
  std::string_view theta_key = "";    ///< RoPE of layers with a window is plain, with this theta
  double theta = 0;                   ///< where that is absent
  bool in_gguf = false;               ///< the runtime has the window, with the pattern of `every`
};

/// Sizes of scores. A key of "" is a setting that the family does not have; values hold where a key is absent.
struct ScoreRule {
  std::string_view scalar_key = "";  ///< scores are divided by its root; otherwise by that of head_dim
  double scalar = 0;
  std::string_view attention_cap_key = "";  ///< scores s become cap tanh(s / cap); null: they stay
  double attention_cap = 0;
  std::string_view final_cap_key = "";  ///< the same of logits
  double final_cap = 0;
};

/// Experts in the place of the FFN, and what their linears are called. A key of "" is a setting that the family does
/// not have; values hold where a key is absent.
struct MixtureRule {
  std::string_view count_key = "";           ///< how many experts there are; "": the family has one FFN
  std::string_view width_key = "";           ///< of each
  std::string_view shared_width_key = "";    ///< of the expert that all tokens share
  std::string_view renormalise_key = "";     ///< weights of the chosen experts are divided by their sum
  bool renormalise = false;                  ///< where the key is absent
  bool renormalised_in_gguf = false;         ///< what runtimes of GGUF do, whatever the setting
  std::string_view router = "mlp.gate";      ///< inside the block
  std::string_view experts = "mlp.experts";  ///< inside the block; then come number and linear
  std::string_view gate = "gate_proj";
  std::string_view up = "up_proj";
  std::string_view down = "down_proj";
  std::string_view shared = "mlp.shared_expert";
  std::string_view shared_router = "mlp.shared_expert_gate";
};

struct FamilyInfo {
  std::string_view hf_class;      ///< in config.json `architectures`
  std::string_view model_type;    ///< in config.json `model_type`
  std::string_view read_as = "";  ///< class whose model it is once its matrices are apart (model/unfused_source.h)
  std::string_view gguf_name;     ///< in GGUF general.architecture; the first row with a name is what a file becomes
  bool qk_rows_permuted_in_gguf = false;  ///< the runtime rotates neighbouring elements, so q/k rows are reordered
  GgufHead gguf_head = GgufHead::unless_tied;
  bool square_output_in_gguf = false;  ///< the runtime takes queries to be as wide as the states
  bool equal_heads_in_gguf = false;    ///< and keys as wide as queries
  bool qkv_fused_in_gguf = false;      ///< q, k and v below each other in "attn_qkv"
  bool gate_up_fused_in_gguf = false;  ///< gate and up below each other in "ffn_up"
  /// The runtime rotates heads in part, and has RoPE factors for two contexts and an attention factor beside them.
  bool long_rope_in_gguf = false;
  std::string_view long_rope_class = "";  ///< of another row: whose GGUF it is where only that can say the RoPE
  std::optional<Activation> activation_in_gguf = std::nullopt;  ///< of the runtime; nothing: `activation`

  SizeKeys sizes = {};
  std::string_view equal_to_hidden_key = "";  ///< a size that must be that of the states
  std::span<const FixedFlag> fixed_flags = {};
  ModuleNames names = {};
  PositionRule positions = {};
  std::span<const NormInfo> norms = {};            ///< in the order in which tables list them
  NormKind norm_kind = NormKind::rms;              ///< of all norms, the final one too
  std::string_view norm_eps_key = "rms_norm_eps";  ///< "": always norm_eps
  double norm_eps = 1e-6;                          ///< where the key is absent
  float norm_offset = 0;                           ///< RMS norms multiply by offset + weight; a GGUF has the sum
  bool qk_norms_span_heads = false;                ///< one norm over all heads, not one for each
  std::string_view activation_key = "hidden_act";
  Activation activation = Activation::silu;  ///< where the key is absent
  bool scales_embedding = false;             ///< states begin as sqrt(hidden) times the table's rows
  bool qkv_bias = false;                     ///< q, k and v have biases, whatever config.json says
  bool o_bias = false;                       ///< the same of o
  bool mlp_bias = false;                     ///< and of the FFN
  std::string_view attention_bias_key = "";  ///< q, k, v and o have biases when it is true
  std::string_view mlp_bias_key = "";        ///< gate, up and down have biases when it is true
  SlidingRule window = {};
  ScoreRule scores = {};
  MixtureRule mixture = {};
  double rope_theta = 10000.0;
  std::size_t max_positions = 2048;
  bool tied = false;  ///< where config.json says nothing, and nothing else does

  bool is_gated() const { return !names.gate.empty(); }
  Activation gguf_activation() const { return activation_in_gguf.value_or(activation); }
};

std::span<const FamilyInfo> families();
/// Throws bad_data for an unknown class, naming the nearest known one and all known ones.
const FamilyInfo& family_of(std::string_view hf_class);
/// nullptr when no family has this general.architecture. Some names stand for models with experts and without.
const FamilyInfo* family_of_gguf(std::string_view gguf_name, bool mixture);

}  // namespace adze
