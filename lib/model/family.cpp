#include "model/family.h"

#include <array>

#include "base/error.h"
#include "base/words.h"

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
               .norms = kPlainNorms,
               .attention_bias_key = "attention_bias",
               .mlp_bias_key = "mlp_bias"},
    FamilyInfo{.hf_class = "MistralForCausalLM",
               .model_type = "mistral",
               .gguf_name = "llama",
               .qk_rows_permuted_in_gguf = true,
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
               .gguf_name = "llama",
               .qk_rows_permuted_in_gguf = true,
               .norms = kPlainNorms,
               .window = {.key = "sliding_window"},
               .max_positions = 4096},
    FamilyInfo{.hf_class = "Olmo2ForCausalLM",
               .model_type = "olmo2",
               .gguf_name = "olmo2",
               .gguf_head = GgufHead::always,
               .norms = kOlmo2Norms,
               .qk_norms_span_heads = true,
               .attention_bias_key = "attention_bias"},
    FamilyInfo{.hf_class = "MixtralForCausalLM",
               .model_type = "mixtral",
               .gguf_name = "llama",
               .qk_rows_permuted_in_gguf = true,
               .norms = kPlainNorms,
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
        .qk_norms_span_heads = true,
        .attention_bias_key = "attention_bias",
        .mixture = {.count_key = "num_experts", .width_key = "intermediate_size", .renormalise_key = "norm_topk_prob"},
        .max_positions = 4096},
};

}  // namespace

std::span<const FamilyInfo> families() { return kFamilies; }

const FamilyInfo& family_of(std::string_view hf_class) {
  for (const FamilyInfo& family : kFamilies)
    if (family.hf_class == hf_class) return family;
  std::vector<std::string> known;
  for (const FamilyInfo& family : kFamilies) known.emplace_back(family.hf_class);
  fail(ErrorKind::bad_data,
       "architecture '{}' is not supported{}; known: {}; where one of these has the same blocks, 'adze import MODEL "
       "--like "
       "NAME -o model.h5' reads it as that",
       hf_class, suggestion(hf_class, known), join_words(known));
}

const FamilyInfo* family_of_gguf(std::string_view gguf_name, bool mixture) {
  for (const FamilyInfo& family : kFamilies)
    if (family.gguf_name == gguf_name && family.mixture.count_key.empty() != mixture) return &family;
  return nullptr;
}

}  // namespace adze
