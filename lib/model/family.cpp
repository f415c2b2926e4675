#include "model/family.h"

#include <array>

#include "base/error.h"
#include "base/words.h"
#include "model/listing.h"

namespace adze {
namespace {

constexpr std::array kPlainNorms = {NormInfo{NormSlot::before_attention, "input_layernorm", "attn_norm"},
                                    NormInfo{NormSlot::before_ffn, "post_attention_layernorm", "ffn_norm"}};

constexpr std::array kQwen3Norms = {NormInfo{NormSlot::before_attention, "input_layernorm", "attn_norm"},
                                    NormInfo{NormSlot::queries, "self_attn.q_norm", "attn_q_norm"},
                                    NormInfo{NormSlot::keys, "self_attn.k_norm", "attn_k_norm"},
                                    NormInfo{NormSlot::before_ffn, "post_attention_layernorm", "ffn_norm"}};

// The same word as in Llama, and another place: behind attention, not before the FFN.
constexpr std::array kGemma2Norms = {
    NormInfo{NormSlot::before_attention, "input_layernorm", "attn_norm"},
    NormInfo{NormSlot::after_attention, "post_attention_layernorm", "post_attention_norm"},
    NormInfo{NormSlot::before_ffn, "pre_feedforward_layernorm", "ffn_norm"},
    NormInfo{NormSlot::after_ffn, "post_feedforward_layernorm", "post_ffw_norm"}};

constexpr std::array kGemma3Norms = {
    NormInfo{NormSlot::before_attention, "input_layernorm", "attn_norm"},
    NormInfo{NormSlot::queries, "self_attn.q_norm", "attn_q_norm"},
    NormInfo{NormSlot::keys, "self_attn.k_norm", "attn_k_norm"},
    NormInfo{NormSlot::after_attention, "post_attention_layernorm", "post_attention_norm"},
    NormInfo{NormSlot::before_ffn, "pre_feedforward_layernorm", "ffn_norm"},
    NormInfo{NormSlot::after_ffn, "post_feedforward_layernorm", "post_ffw_norm"}};

constexpr std::array kOlmo2Norms = {
    NormInfo{NormSlot::queries, "self_attn.q_norm", "attn_q_norm"},
    NormInfo{NormSlot::keys, "self_attn.k_norm", "attn_k_norm"},
    NormInfo{NormSlot::after_attention, "post_attention_layernorm", "post_attention_norm"},
    NormInfo{NormSlot::after_ffn, "post_feedforward_layernorm", "post_ffw_norm"}};

constexpr std::array kOptNorms = {NormInfo{NormSlot::before_attention, "self_attn_layer_norm", "attn_norm"},
                                  NormInfo{NormSlot::before_ffn, "final_layer_norm", "ffn_norm"}};

constexpr std::array kOptFlags = {FixedFlag{"do_layer_norm_before", true, "norms behind attention and FFN"},
                                  FixedFlag{"enable_bias", true, "linears without biases"},
                                  FixedFlag{"layer_norm_elementwise_affine", true, "norms without weights"},
                                  FixedFlag{"_remove_final_layer_norm", false, "no final norm"}};

constexpr std::array kGpt2Flags = {
    FixedFlag{"scale_attn_weights", true, "scores that are not divided by the root of the head's size"},
    FixedFlag{"scale_attn_by_inverse_layer_idx", false, "scores that are divided by the number of the layer"},
    FixedFlag{"add_cross_attention", false, "attention to another model's states"}};

constexpr SlidingRule kQwenWindow{.key = "sliding_window",
                                  .width = 4096,
                                  .enabled_key = "use_sliding_window",
                                  .first_key = "max_window_layers",
                                  .first = 28};

constexpr std::array kFamilies = {
    FamilyInfo{.hf_class = "LlamaForCausalLM",
               .model_type = "llama",
               .gguf_name = "llama",
               .qk_rows_permuted_in_gguf = true,
               .long_rope_class = "Phi3ForCausalLM",
               .norms = kPlainNorms,
               .attention_bias_key = "attention_bias",
               .mlp_bias_key = "mlp_bias"},
    FamilyInfo{.hf_class = "MistralForCausalLM",
               .model_type = "mistral",
               .gguf_name = "llama",
               .qk_rows_permuted_in_gguf = true,
               .long_rope_class = "Phi3ForCausalLM",
               .norms = kPlainNorms,
               .window = {.key = "sliding_window", .width = 4096},
               .max_positions = 131072},
    FamilyInfo{.hf_class = "Qwen2ForCausalLM",
               .model_type = "qwen2",
               .gguf_name = "qwen2",
               .norms = kPlainNorms,
               .qkv_bias = true,
               .window = kQwenWindow,
               .max_positions = 32768},
    FamilyInfo{.hf_class = "Qwen3ForCausalLM",
               .model_type = "qwen3",
               .gguf_name = "qwen3",
               .norms = kQwen3Norms,
               .attention_bias_key = "attention_bias",
               .window = kQwenWindow,
               .max_positions = 32768},
    FamilyInfo{.hf_class = "GemmaForCausalLM",
               .model_type = "gemma",
               .gguf_name = "gemma",
               .gguf_head = GgufHead::never,
               .norms = kPlainNorms,
               .norm_offset = 1,
               .activation_key = "hidden_activation",
               .activation = Activation::gelu_tanh,
               .scales_embedding = true,
               .attention_bias_key = "attention_bias",
               .max_positions = 8192,
               .tied = true},
    FamilyInfo{.hf_class = "Gemma2ForCausalLM",
               .model_type = "gemma2",
               .gguf_name = "gemma2",
               .gguf_head = GgufHead::never,
               .norms = kGemma2Norms,
               .norm_offset = 1,
               .activation_key = "hidden_activation",
               .activation = Activation::gelu_tanh,
               .scales_embedding = true,
               .attention_bias_key = "attention_bias",
               .window = {.key = "sliding_window", .width = 4096, .every = 2, .in_gguf = true},
               .scores = {.scalar_key = "query_pre_attn_scalar",
                          .scalar = 256,
                          .attention_cap_key = "attn_logit_softcapping",
                          .attention_cap = 50,
                          .final_cap_key = "final_logit_softcapping",
                          .final_cap = 30},
               .max_positions = 8192,
               .tied = true},
    FamilyInfo{.hf_class = "Gemma3ForCausalLM",
               .model_type = "gemma3_text",
               .gguf_name = "gemma3",
               .norms = kGemma3Norms,
               .norm_offset = 1,
               .activation_key = "hidden_activation",
               .activation = Activation::gelu_tanh,
               .scales_embedding = true,
               .attention_bias_key = "attention_bias",
               .window = {.key = "sliding_window",
                          .width = 4096,
                          .every_key = "sliding_window_pattern",
                          .every = 6,
                          .theta_key = "rope_local_base_freq",
                          .theta = 10000,
                          .in_gguf = true},
               .scores = {.scalar_key = "query_pre_attn_scalar",
                          .scalar = 256,
                          .attention_cap_key = "attn_logit_softcapping",
                          .final_cap_key = "final_logit_softcapping"},
               .rope_theta = 1e6,
               .max_positions = 131072,
               .tied = true},
    FamilyInfo{.hf_class = "Phi3ForCausalLM",
               .model_type = "phi3",
               .read_as = "MistralForCausalLM",
               .gguf_name = "phi3",
               .square_output_in_gguf = true,
               .qkv_fused_in_gguf = true,
               .gate_up_fused_in_gguf = true,
               .long_rope_in_gguf = true,
               .norms = kPlainNorms,
               .norm_eps = 1e-5,
               .window = {.key = "sliding_window"},
               .max_positions = 4096},
    FamilyInfo{.hf_class = "Olmo2ForCausalLM",
               .model_type = "olmo2",
               .gguf_name = "olmo2",
               .gguf_head = GgufHead::always,
               .norms = kOlmo2Norms,
               .norm_eps = 1e-5,
               .qk_norms_span_heads = true,
               .attention_bias_key = "attention_bias"},
    FamilyInfo{.hf_class = "MixtralForCausalLM",
               .model_type = "mixtral",
               .gguf_name = "llama",
               .qk_rows_permuted_in_gguf = true,
               .norms = kPlainNorms,
               .norm_eps = 1e-5,
               .window = {.key = "sliding_window"},
               .mixture = {.count_key = "num_local_experts",
                           .width_key = "intermediate_size",
                           .renormalise = true,
                           .renormalised_in_gguf = true,
                           .router = "block_sparse_moe.gate",
                           .experts = "block_sparse_moe.experts",
                           .gate = "w1",
                           .up = "w3",
                           .down = "w2"},
               .rope_theta = 1e6,
               .max_positions = 131072},
    FamilyInfo{.hf_class = "Qwen2MoeForCausalLM",
               .model_type = "qwen2_moe",
               .gguf_name = "qwen2moe",
               .gguf_head = GgufHead::always,
               .square_output_in_gguf = true,
               .norms = kPlainNorms,
               .qkv_bias = true,
               .window = kQwenWindow,
               .mixture = {.count_key = "num_experts",
                           .width_key = "moe_intermediate_size",
                           .shared_width_key = "shared_expert_intermediate_size",
                           .renormalise_key = "norm_topk_prob"},
               .max_positions = 32768},
    FamilyInfo{.hf_class = "Qwen3MoeForCausalLM",
               .model_type = "qwen3_moe",
               .gguf_name = "qwen3moe",
               .norms = kQwen3Norms,
               .attention_bias_key = "attention_bias",
               .window = {.key = "sliding_window", .width = 4096, .enabled_key = "use_sliding_window"},
               .mixture = {.count_key = "num_experts",
                           .width_key = "moe_intermediate_size",
                           .renormalise_key = "norm_topk_prob",
                           .renormalised_in_gguf = true},
               .max_positions = 32768},
    FamilyInfo{
        .hf_class = "OlmoeForCausalLM",
        .model_type = "olmoe",
        .gguf_name = "olmoe",
        .gguf_head = GgufHead::always,
        .square_output_in_gguf = true,
        .equal_heads_in_gguf = true,
        .norms = kQwen3Norms,
        .norm_eps = 1e-5,
        .qk_norms_span_heads = true,
        .attention_bias_key = "attention_bias",
        .mixture = {.count_key = "num_experts", .width_key = "intermediate_size", .renormalise_key = "norm_topk_prob"},
        .max_positions = 4096},
    FamilyInfo{.hf_class = "OPTForCausalLM",
               .model_type = "opt",
               .gguf_name = "gpt2",
               .qkv_fused_in_gguf = true,
               .activation_in_gguf = Activation::gelu_tanh,
               .sizes = {.ffn = "ffn_dim", .kv_heads = "", .head_dim = ""},
               .equal_to_hidden_key = "word_embed_proj_dim",
               .fixed_flags = kOptFlags,
               .names = {.root = "model.decoder.",
                         .final_norm = "final_layer_norm",
                         .o = "self_attn.out_proj",
                         .gate = "",
                         .up = "fc1",
                         .down = "fc2"},
               .positions = {.learned = true, .offset = 2},
               .norms = kOptNorms,
               .norm_kind = NormKind::layer,
               .norm_eps_key = "",
               .norm_eps = 1e-5,
               .activation_key = "activation_function",
               .activation = Activation::relu,
               .qkv_bias = true,
               .o_bias = true,
               .mlp_bias = true,
               .tied = true},
    FamilyInfo{.hf_class = "GPT2LMHeadModel",
               .model_type = "gpt2",
               .read_as = "OPTForCausalLM",
               .gguf_name = "gpt2",
               .sizes = {.hidden = "n_embd",
                         .ffn = "n_inner",
                         .layers = "n_layer",
                         .heads = "n_head",
                         .kv_heads = "",
                         .head_dim = "",
                         .positions = "n_positions",
                         .ffn_per_hidden = 4},
               .fixed_flags = kGpt2Flags,
               .norm_eps_key = "layer_norm_epsilon",
               .norm_eps = 1e-5,
               .activation_key = "activation_function",
               .activation = Activation::gelu_tanh,
               .qkv_bias = true,
               .o_bias = true,
               .mlp_bias = true,
               .max_positions = 1024,
               .tied = true},
};

constexpr std::array<std::string_view, kActivationCount> kActivationNames = {"silu", "gelu_pytorch_tanh", "relu"};

}  // namespace

std::string_view name_of(Activation activation) { return kActivationNames[static_cast<std::size_t>(activation)]; }

std::span<const FamilyInfo> families() { return kFamilies; }

const FamilyInfo& family_of(std::string_view hf_class) {
  for (const FamilyInfo& family : kFamilies)
    if (family.hf_class == hf_class) return family;
  std::vector<std::string> known;
  for (const FamilyInfo& family : kFamilies) known.emplace_back(family.hf_class);
  fail(ErrorKind::bad_data,
       "architecture '{}' is not supported{}; known: {}; where one of these has the same blocks, 'adze import MODEL "
       "--like "
       "NAME -o model.h5' reads it as that; {}",
       hf_class, suggestion(hf_class, known), join_words(known), kWeightsOnlyHint);
}

const FamilyInfo* family_of_gguf(std::string_view gguf_name, bool mixture) {
  for (const FamilyInfo& family : kFamilies)
    if (family.gguf_name == gguf_name && family.mixture.count_key.empty() != mixture) return &family;
  return nullptr;
}

}  // namespace adze
