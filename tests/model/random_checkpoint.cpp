#include "model/random_checkpoint.h"

#include <array>
#include <cmath>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "base/random.h"
#include "model/plain_reference.h"

namespace adze::testing {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr std::size_t kVocab = 4096;  // of the demo checkpoint's tokenizer

/// What config.json of all families has.
Json common(const char* hf_class, const char* model_type, std::size_t layers = 3, std::size_t head_dim = 16) {
  return {{"architectures", Json::array({hf_class})},
          {"model_type", model_type},
          {"attention_dropout", 0.0},
          {"bos_token_id", 0},
          {"eos_token_id", 1},
          {"head_dim", head_dim},
          {"hidden_size", 64},
          {"initializer_range", 0.02},
          {"intermediate_size", 96},
          {"max_position_embeddings", 256},
          {"num_attention_heads", 4},
          {"num_hidden_layers", layers},
          {"num_key_value_heads", 2},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000.0},
          {"torch_dtype", "float32"},
          {"transformers_version", "4.52.0"},
          {"use_cache", true},
          {"vocab_size", kVocab}};
}

Json with(Json config, const Json& changes) {
  config.update(changes);
  return config;
}

Json llama(const Json& changes = Json::object()) {
  return with(with(common("LlamaForCausalLM", "llama"), {{"attention_bias", false},
                                                         {"hidden_act", "silu"},
                                                         {"mlp_bias", false},
                                                         {"pretraining_tp", 1},
                                                         {"rms_norm_eps", 1e-5},
                                                         {"rope_scaling", nullptr},
                                                         {"tie_word_embeddings", false}}),
              changes);
}

Json mistral() {
  return with(common("MistralForCausalLM", "mistral"),
              {{"hidden_act", "silu"}, {"rms_norm_eps", 1e-5}, {"sliding_window", 20}, {"tie_word_embeddings", false}});
}

/// As published: no head_dim, no word of the biases, and a window that is not in force.
Json qwen2(bool tied) {
  Json config = with(common("Qwen2ForCausalLM", "qwen2"), {{"hidden_act", "silu"},
                                                           {"max_window_layers", 0},
                                                           {"rope_theta", 1000000.0},
                                                           {"sliding_window", 16},
                                                           {"tie_word_embeddings", tied},
                                                           {"use_sliding_window", false}});
  config.erase("head_dim");
  return config;
}

Json qwen3() {
  return with(common("Qwen3ForCausalLM", "qwen3", 3, 32), {{"attention_bias", false},
                                                           {"hidden_act", "silu"},
                                                           {"max_window_layers", 3},
                                                           {"rope_scaling", nullptr},
                                                           {"rope_theta", 1000000.0},
                                                           {"sliding_window", nullptr},
                                                           {"tie_word_embeddings", false},
                                                           {"use_sliding_window", false}});
}

/// As published: a hidden_act that does not count, and no word of the tied head.
Json gemma() {
  return with(common("GemmaForCausalLM", "gemma", 3, 32), {{"attention_bias", false},
                                                           {"hidden_act", "gelu"},
                                                           {"hidden_activation", "gelu_pytorch_tanh"},
                                                           {"pad_token_id", 0},
                                                           {"rope_scaling", nullptr}});
}

/// Scores are capped lower than in published models (50), so that the cap shows.
Json gemma2() {
  return with(common("Gemma2ForCausalLM", "gemma2", 3, 32), {{"attention_bias", false},
                                                             {"attn_logit_softcapping", 10.0},
                                                             {"cache_implementation", "hybrid"},
                                                             {"final_logit_softcapping", 30.0},
                                                             {"hidden_act", "gelu_pytorch_tanh"},
                                                             {"hidden_activation", "gelu_pytorch_tanh"},
                                                             {"pad_token_id", 0},
                                                             {"query_pre_attn_scalar", 32},
                                                             {"sliding_window", 16}});
}

/// Without the keys that say which layers slide. Seven layers: with a pattern of 6 the sixth sees all tokens.
Json gemma3() {
  return with(common("Gemma3ForCausalLM", "gemma3_text", 7, 32),
              {{"attention_bias", false},
               {"attn_logit_softcapping", nullptr},
               {"cache_implementation", "hybrid"},
               {"final_logit_softcapping", nullptr},
               {"hidden_activation", "gelu_pytorch_tanh"},
               {"pad_token_id", 0},
               {"query_pre_attn_scalar", 32},
               {"rope_local_base_freq", 10000.0},
               {"rope_scaling", Json{{"factor", 2.0}, {"rope_type", "linear"}}},
               {"rope_theta", 1000000.0},
               {"sliding_window", 16}});
}

/// What Transformers writes since it names the kind of attention of each layer.
Json gemma3_layer_types() {
  Json types = Json::array();
  for (int i = 0; i < 7; ++i) types.push_back(i == 5 ? "full_attention" : "sliding_attention");
  return with(gemma3(), {{"layer_types", types}});
}

/// Its matrices are fused: q, k and v; gate and up.
Json phi3(const Json& changes) {
  Json config = with(common("Phi3ForCausalLM", "phi3"), {{"attention_bias", false},
                                                         {"hidden_act", "silu"},
                                                         {"original_max_position_embeddings", 64},
                                                         {"pad_token_id", 1},
                                                         {"rms_norm_eps", 1e-5},
                                                         {"rope_scaling", nullptr},
                                                         {"sliding_window", 20},
                                                         {"tie_word_embeddings", false}});
  config.erase("head_dim");
  return with(config, changes);
}

Json olmo2() {
  Json config = with(common("Olmo2ForCausalLM", "olmo2"), {{"attention_bias", false},
                                                           {"hidden_act", "silu"},
                                                           {"pad_token_id", 1},
                                                           {"rope_scaling", nullptr},
                                                           {"rope_theta", 500000.0},
                                                           {"tie_word_embeddings", false}});
  config.erase("head_dim");
  return config;
}

/// As published: no head_dim, and the width of an expert under the key that is that of the FFN elsewhere.
Json mixtral() {
  Json config = with(common("MixtralForCausalLM", "mixtral"), {{"hidden_act", "silu"},
                                                               {"num_experts_per_tok", 2},
                                                               {"num_local_experts", 8},
                                                               {"output_router_logits", false},
                                                               {"rms_norm_eps", 1e-5},
                                                               {"rope_theta", 1000000.0},
                                                               {"router_aux_loss_coef", 0.02},
                                                               {"sliding_window", nullptr},
                                                               {"tie_word_embeddings", false}});
  config.erase("head_dim");
  return config;
}

/// Its intermediate_size would be that of blocks without experts, which there are none of.
Json qwen3_moe() {
  return with(common("Qwen3MoeForCausalLM", "qwen3_moe", 3, 32), {{"attention_bias", false},
                                                                  {"decoder_sparse_step", 1},
                                                                  {"hidden_act", "silu"},
                                                                  {"max_window_layers", 3},
                                                                  {"mlp_only_layers", Json::array()},
                                                                  {"moe_intermediate_size", 32},
                                                                  {"norm_topk_prob", true},
                                                                  {"num_experts", 8},
                                                                  {"num_experts_per_tok", 2},
                                                                  {"output_router_logits", false},
                                                                  {"rope_scaling", nullptr},
                                                                  {"rope_theta", 1000000.0},
                                                                  {"router_aux_loss_coef", 0.001},
                                                                  {"sliding_window", nullptr},
                                                                  {"tie_word_embeddings", false},
                                                                  {"use_sliding_window", false}});
}

/// As published: as many heads of keys as of queries, which llama.cpp takes for granted.
Json olmoe() {
  Json config = with(common("OlmoeForCausalLM", "olmoe"), {{"attention_bias", false},
                                                           {"clip_qkv", nullptr},
                                                           {"hidden_act", "silu"},
                                                           {"intermediate_size", 32},
                                                           {"norm_topk_prob", false},
                                                           {"num_experts", 6},
                                                           {"num_experts_per_tok", 3},
                                                           {"num_key_value_heads", 4},
                                                           {"output_router_logits", false},
                                                           {"pad_token_id", 1},
                                                           {"rms_norm_eps", 1e-5},
                                                           {"rope_scaling", nullptr},
                                                           {"router_aux_loss_coef", 0.01},
                                                           {"tie_word_embeddings", false}});
  config.erase("head_dim");
  return config;
}

/// No word of norm_topk_prob, which is false then; a shared expert wider than the others.
Json qwen2_moe() {
  Json config = with(common("Qwen2MoeForCausalLM", "qwen2_moe"), {{"decoder_sparse_step", 1},
                                                                  {"hidden_act", "silu"},
                                                                  {"max_window_layers", 0},
                                                                  {"moe_intermediate_size", 32},
                                                                  {"num_experts", 6},
                                                                  {"num_experts_per_tok", 2},
                                                                  {"output_router_logits", false},
                                                                  {"rope_theta", 1000000.0},
                                                                  {"router_aux_loss_coef", 0.001},
                                                                  {"shared_expert_intermediate_size", 96},
                                                                  {"sliding_window", 16},
                                                                  {"tie_word_embeddings", false},
                                                                  {"use_sliding_window", false}});
  config.erase("head_dim");
  return config;
}

/// As published: no word of a head, and an n_inner of null, which stands for 4 n_embd.
Json gpt2(const Json& changes = Json::object()) {
  return with({{"architectures", Json::array({"GPT2LMHeadModel"})},
               {"model_type", "gpt2"},
               {"activation_function", "gelu_new"},
               {"attn_pdrop", 0.1},
               {"bos_token_id", 0},
               {"embd_pdrop", 0.1},
               {"eos_token_id", 1},
               {"initializer_range", 0.02},
               {"layer_norm_epsilon", 1e-5},
               {"n_ctx", 256},
               {"n_embd", 64},
               {"n_head", 4},
               {"n_inner", nullptr},
               {"n_layer", 3},
               {"n_positions", 256},
               {"resid_pdrop", 0.1},
               {"torch_dtype", "float32"},
               {"transformers_version", "4.52.0"},
               {"use_cache", true},
               {"vocab_size", kVocab}},
              changes);
}

Json opt() {
  Json config = with(common("OPTForCausalLM", "opt"), {{"_remove_final_layer_norm", false},
                                                       {"activation_function", "relu"},
                                                       {"do_layer_norm_before", true},
                                                       {"dropout", 0.1},
                                                       {"enable_bias", true},
                                                       {"ffn_dim", 96},
                                                       {"layer_norm_elementwise_affine", true},
                                                       {"layerdrop", 0.0},
                                                       {"pad_token_id", 1},
                                                       {"word_embed_proj_dim", 64}});
  for (const char* const key : {"head_dim", "intermediate_size", "num_key_value_heads", "rms_norm_eps", "rope_theta"})
    config.erase(key);
  return config;
}

// Of head_dim 16 the first pair keeps its frequency, some lie between, the others are divided.
const Json kLlama3Rope = {{"factor", 8.0},
                          {"high_freq_factor", 4.0},
                          {"low_freq_factor", 1.0},
                          {"original_max_position_embeddings", 64},
                          {"rope_type", "llama3"}};
// 4 * 64 = max_position_embeddings: some versions of Transformers take their ratio for the factor.
const Json kYarnRope = {{"factor", 4.0}, {"original_max_position_embeddings", 64}, {"rope_type", "yarn"}};

// Of the 8 pairs of head_dim 16, for texts up to original_max_position_embeddings and for longer ones.
const Json kLongRope = {{"long_factor", {1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0}},
                        {"short_factor", {1.0, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 2.5}},
                        {"type", "longrope"}};

/// Three quarters of a head are rotated, 6 pairs of 8; a tied head, and a window that is wider than any text.
Json phi4_mini() {
  return phi3({{"partial_rotary_factor", 0.75},
               {"rope_scaling", Json{{"long_factor", {1.0, 1.3, 1.9, 2.8, 4.5, 7.5}},
                                     {"short_factor", {1.0, 1.0, 1.1, 1.2, 1.5, 2.0}},
                                     {"type", "longrope"}}},
               {"sliding_window", 512},
               {"tie_word_embeddings", true}});
}

/// Tensors of a safetensors file, each with random values from a stream of its name.
class RandomTensors {
 public:
  /// norm_offset: what the family adds to a norm's stored weight.
  RandomTensors(std::uint64_t seed, double norm_offset) : seed_(seed), norm_offset_(norm_offset) {}

  /// A product keeps the scale of its input, times `gain`.
  void matrix(const std::string& name, std::size_t out, std::size_t in, double gain) {
    const double deviation = gain / std::sqrt(static_cast<double>(in));
    add(name, {out, in}, [&](RandomStream& random) { return deviation * random.normal(); });
  }
  /// GPT-2's: [in x out].
  void product(const std::string& module, std::size_t in, std::size_t out, double gain) {
    const double deviation = gain / std::sqrt(static_cast<double>(in));
    add(module + ".weight", {in, out}, [&](RandomStream& random) { return deviation * random.normal(); });
    bias(module + ".bias", out);
  }
  void layer_norm(const std::string& module, std::size_t size, bool either_sign = false) {
    norm(module + ".weight", size, 1, either_sign);
    bias(module + ".bias", size);
  }
  void bias(const std::string& name, std::size_t size) {
    add(name, {size}, [](RandomStream& random) { return 0.3 * random.normal(); });
  }
  /// either_sign: half of the gains are negative.
  void norm(const std::string& name, std::size_t size, double gain = 1, bool either_sign = false) {
    add(name, {size}, [&](RandomStream& random) {
      const double sign = either_sign && random.below(2) == 0 ? -1 : 1;
      return sign * gain * (1 + 0.2 * random.normal()) - norm_offset_;
    });
  }

  void write(const fs::path& path) const {
    Json header = header_;
    header["__metadata__"] = {{"format", "pt"}};
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    std::string length(8, '\0');
    for (std::size_t i = 0; i < length.size(); ++i) length[i] = static_cast<char>((text.size() >> (8 * i)) & 0xFF);
    std::ofstream(path, std::ios::binary) << length << text << data_;
  }

 private:
  template <typename Value>
  void add(const std::string& name, const std::vector<std::size_t>& shape, const Value& value) {
    std::size_t count = 1;
    for (const std::size_t size : shape) count *= size;
    RandomStream random(seed_, name);
    std::vector<float> values(count);
    for (float& v : values) v = static_cast<float>(value(random));
    const std::size_t begin = data_.size();
    data_.append(reinterpret_cast<const char*>(values.data()), count * sizeof(float));
    header_[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", Json::array({begin, data_.size()})}};
  }

  std::uint64_t seed_;
  double norm_offset_;
  Json header_ = Json::object();
  std::string data_;
};

/// Of GPT-2 and OPT, whose positions are learned.  name: of the block, with its dot.
void add_block_of_learned(RandomTensors& tensors, const std::string& block, bool gpt2, std::size_t hidden,
                          std::size_t ffn) {
  constexpr double kAttentionGain = 1.25, kOutputGain = 3, kUpGain = 1.5, kDownGain = 2.5;
  tensors.layer_norm(block + (gpt2 ? "ln_1" : "self_attn_layer_norm"), hidden);
  tensors.layer_norm(block + (gpt2 ? "ln_2" : "final_layer_norm"), hidden);
  if (gpt2) {
    tensors.product(block + "attn.c_attn", hidden, 3 * hidden, kAttentionGain);
    tensors.product(block + "attn.c_proj", hidden, hidden, kOutputGain);
    tensors.product(block + "mlp.c_fc", hidden, ffn, kUpGain);
    tensors.product(block + "mlp.c_proj", ffn, hidden, kDownGain);
    return;
  }
  const auto linear = [&](const std::string& name, std::size_t out, std::size_t in, double gain) {
    tensors.matrix(block + name + ".weight", out, in, gain);
    tensors.bias(block + name + ".bias", out);
  };
  for (const char* const name : {"q_proj", "k_proj", "v_proj"})
    linear(std::string("self_attn.") + name, hidden, hidden, kAttentionGain);
  linear("self_attn.out_proj", hidden, hidden, kOutputGain);
  linear("fc1", ffn, hidden, kUpGain);
  linear("fc2", hidden, ffn, kDownGain);
}

/// head_gain as in write_weights.
void write_weights_of_learned(const fs::path& path, const Json& config, std::uint64_t seed, double head_gain) {
  const bool gpt2 = config.at("model_type") == "gpt2";
  const std::size_t hidden = config.at(gpt2 ? "n_embd" : "hidden_size");
  const std::size_t layers = config.at(gpt2 ? "n_layer" : "num_hidden_layers");
  const std::size_t positions = config.at(gpt2 ? "n_positions" : "max_position_embeddings");
  const Json ffn = config.value(gpt2 ? "n_inner" : "ffn_dim", Json());
  const bool tied = config.value("tie_word_embeddings", true);
  const std::string root = gpt2 ? "transformer." : "model.decoder.";
  RandomTensors tensors(seed, 0);
  const double embedding_gain = tied ? head_gain : std::sqrt(static_cast<double>(hidden));
  tensors.matrix(root + (gpt2 ? "wte" : "embed_tokens") + ".weight", kVocab, hidden, embedding_gain);
  // As large as the embedding, so that a row that is another shows.
  tensors.matrix(root + (gpt2 ? "wpe" : "embed_positions") + ".weight", positions + (gpt2 ? 0 : 2), hidden,
                 embedding_gain);
  for (std::size_t i = 0; i < layers; ++i)
    add_block_of_learned(tensors, root + (gpt2 ? "h." : "layers.") + std::to_string(i) + ".", gpt2, hidden,
                         ffn.is_null() ? 4 * hidden : ffn.get<std::size_t>());
  tensors.layer_norm(root + (gpt2 ? "ln_f" : "final_layer_norm"), hidden, tied);
  if (!tied) tensors.matrix("lm_head.weight", kVocab, hidden, head_gain);
  tensors.write(path);
}

struct Sizes {
  explicit Sizes(const Json& config)
      : hidden(config.at("hidden_size")),
        ffn(config.at("intermediate_size")),
        layers(config.at("num_hidden_layers")),
        heads(config.at("num_attention_heads")),
        kv_heads(config.at("num_key_value_heads")),
        head_dim(config.value("head_dim", hidden / heads)),
        experts(config.value("num_local_experts", config.value("num_experts", std::size_t{0}))),
        expert_ffn(config.value("moe_intermediate_size", ffn)),
        shared_ffn(config.value("shared_expert_intermediate_size", std::size_t{0})),
        renormalised(config.value("norm_topk_prob", config.contains("num_local_experts"))) {}
  std::size_t hidden, ffn, layers, heads, kv_heads, head_dim;
  std::size_t experts, expert_ffn, shared_ffn;  // 0: there are none
  bool renormalised;                            // weights of a token's experts sum to 1
};

void add_attention(RandomTensors& tensors, const std::string& block, const std::string& family, const Sizes& sizes) {
  const std::size_t q = sizes.heads * sizes.head_dim, kv = sizes.kv_heads * sizes.head_dim;
  if (family == "phi3") {
    tensors.matrix(block + "self_attn.qkv_proj.weight", q + 2 * kv, sizes.hidden, 1.25);
    tensors.matrix(block + "self_attn.o_proj.weight", sizes.hidden, q, 3);
    return;
  }
  // Scores of standard deviation 1.25^2: a token attends to a few others more than to the rest. What they give is
  // averaged, so values and outputs are made larger in return.
  constexpr double kScoreGain = 1.25, kOutputGain = 2;
  tensors.matrix(block + "self_attn.q_proj.weight", q, sizes.hidden, kScoreGain);
  tensors.matrix(block + "self_attn.k_proj.weight", kv, sizes.hidden, kScoreGain);
  tensors.matrix(block + "self_attn.v_proj.weight", kv, sizes.hidden, kOutputGain);
  tensors.matrix(block + "self_attn.o_proj.weight", sizes.hidden, q, kOutputGain);
  if (family == "qwen2" || family == "qwen2_moe") {
    tensors.bias(block + "self_attn.q_proj.bias", q);
    tensors.bias(block + "self_attn.k_proj.bias", kv);
    tensors.bias(block + "self_attn.v_proj.bias", kv);
  }
  if (family == "qwen3" || family == "qwen3_moe" || family == "gemma3_text") {
    tensors.norm(block + "self_attn.q_norm.weight", sizes.head_dim, kScoreGain);
    tensors.norm(block + "self_attn.k_norm.weight", sizes.head_dim, kScoreGain);
  }
  if (family == "olmo2" || family == "olmoe") {
    tensors.norm(block + "self_attn.q_norm.weight", q, kScoreGain);
    tensors.norm(block + "self_attn.k_norm.weight", kv, kScoreGain);
  }
}

/// gate, up and down by their names.  down_gain: that of an expert whose output is divided among several is larger.
void add_ffn(RandomTensors& tensors, const std::array<std::string, 3>& names, std::size_t hidden, std::size_t width,
             double down_gain) {
  tensors.matrix(names[0] + ".weight", width, hidden, 1.5);
  tensors.matrix(names[1] + ".weight", width, hidden, 1);
  tensors.matrix(names[2] + ".weight", hidden, width, down_gain);
}

/// Logits of routers have a standard deviation of 1.5: the first of a token's experts counts about twice as much as the
/// second, and all of them are chosen by some tokens.
void add_experts(RandomTensors& tensors, const std::string& block, const std::string& family, const Sizes& sizes) {
  constexpr double kRouterGain = 1.5;
  const bool mixtral = family == "mixtral";
  const std::string mlp = block + (mixtral ? "block_sparse_moe." : "mlp.");
  tensors.matrix(mlp + "gate.weight", sizes.experts, sizes.hidden, kRouterGain);
  const double down_gain = sizes.renormalised ? 2 : 4;  // otherwise they sum to about a half
  for (std::size_t e = 0; e < sizes.experts; ++e) {
    const std::string expert = mlp + "experts." + std::to_string(e) + ".";
    const std::array<std::string, 3> names = {expert + (mixtral ? "w1" : "gate_proj"),
                                              expert + (mixtral ? "w3" : "up_proj"),
                                              expert + (mixtral ? "w2" : "down_proj")};
    add_ffn(tensors, names, sizes.hidden, sizes.expert_ffn, down_gain);
  }
  if (sizes.shared_ffn == 0) return;
  tensors.matrix(mlp + "shared_expert_gate.weight", 1, sizes.hidden, kRouterGain);
  const std::string shared = mlp + "shared_expert.";
  add_ffn(tensors, {shared + "gate_proj", shared + "up_proj", shared + "down_proj"}, sizes.hidden, sizes.shared_ffn, 2);
}

void add_block(RandomTensors& tensors, const std::string& block, const std::string& family, const Sizes& sizes) {
  if (family != "olmo2") tensors.norm(block + "input_layernorm.weight", sizes.hidden);
  add_attention(tensors, block, family, sizes);
  tensors.norm(block + "post_attention_layernorm.weight", sizes.hidden);
  if (family == "gemma2" || family == "gemma3_text")
    tensors.norm(block + "pre_feedforward_layernorm.weight", sizes.hidden);
  if (sizes.experts > 0) {
    add_experts(tensors, block, family, sizes);
  } else if (family == "phi3") {
    tensors.matrix(block + "mlp.gate_up_proj.weight", 2 * sizes.ffn, sizes.hidden, 1.25);
    tensors.matrix(block + "mlp.down_proj.weight", sizes.hidden, sizes.ffn, 1.5);
  } else {
    add_ffn(tensors, {block + "mlp.gate_proj", block + "mlp.up_proj", block + "mlp.down_proj"}, sizes.hidden, sizes.ffn,
            1.5);
  }
  if (family == "gemma2" || family == "gemma3_text" || family == "olmo2")
    tensors.norm(block + "post_feedforward_layernorm.weight", sizes.hidden);
}

/// head_gain: standard deviation of the logits, before a cap.
void write_weights(const fs::path& path, const Json& config, std::uint64_t seed, double head_gain) {
  const std::string family = config.at("model_type");
  if (family == "gpt2" || family == "opt") return write_weights_of_learned(path, config, seed, head_gain);
  const bool is_gemma = family.starts_with("gemma");
  const bool tied = config.value("tie_word_embeddings", is_gemma);
  const Sizes sizes(config);
  RandomTensors tensors(seed, is_gemma ? 1 : 0);
  const double embedding_gain = tied ? head_gain : std::sqrt(static_cast<double>(sizes.hidden));
  tensors.matrix("model.embed_tokens.weight", kVocab, sizes.hidden, embedding_gain);
  for (std::size_t i = 0; i < sizes.layers; ++i)
    add_block(tensors, "model.layers." + std::to_string(i) + ".", family, sizes);
  // States resemble the row they came from. Under a tied head each token would predict itself and nothing else; with
  // gains of both signs the resemblance is gone.
  tensors.norm("model.norm.weight", sizes.hidden, 1, tied);
  if (!tied) tensors.matrix("lm_head.weight", kVocab, sizes.hidden, head_gain);
  tensors.write(path);
}

/// A safetensors file, for changing what it holds.
struct Safetensors {
  explicit Safetensors(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    std::size_t length = 0;
    for (std::size_t i = 0; i < 8; ++i)
      length |= static_cast<std::size_t>(static_cast<unsigned char>(bytes.at(i))) << (8 * i);
    header = Json::parse(bytes.substr(8, length));
    data = bytes.substr(8 + length);
  }
  void add(const std::string& name) {
    header[name] = {
        {"dtype", "F32"}, {"shape", {2, 2}}, {"data_offsets", Json::array({data.size(), data.size() + 16})}};
    data.append(16, '\0');
  }
  void write(const fs::path& path) const {
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    std::string length(8, '\0');
    for (std::size_t i = 0; i < length.size(); ++i) length[i] = static_cast<char>((text.size() >> (8 * i)) & 0xFF);
    std::ofstream(path, std::ios::binary) << length << text << data;
  }

  Json header;
  std::string data;
};

/// Of a tensor of the language model, in the whole one.
std::string wrapped_name(const std::string& name, TowerNames names) {
  if (names == TowerNames::older) return "language_model." + name;
  const std::string root = "model.";
  return name.starts_with(root) ? "model.language_model." + name.substr(root.size()) : name;
}

fs::path demo_file(const char* name) { return fs::path(ADZE_SOURCE_DIR) / "tests/models/demo-llama" / name; }

void write_config(const fs::path& folder, const Json& config) {
  std::ofstream(folder / "config.json") << config.dump(2) << '\n';
}

}  // namespace

std::vector<FamilyCase> family_cases() {
  return {{"llama", llama()},
          {"llama_llama3_rope", llama({{"rope_theta", 500000.0}, {"rope_scaling", kLlama3Rope}})},
          {"llama_linear_rope", llama({{"rope_scaling", Json{{"factor", 2.0}, {"type", "linear"}}}})},
          {"llama_yarn_rope", llama({{"rope_scaling", kYarnRope}})},
          {"mistral", mistral()},
          {"qwen2", qwen2(false)},
          {"qwen2_tied", qwen2(true)},
          {"qwen3", qwen3()},
          {"gemma", gemma()},
          {"gemma2", gemma2()},
          {"gemma3", with(gemma3(), {{"sliding_window_pattern", 6}})},
          {"gemma3_layer_types", gemma3_layer_types()},
          {"phi3", phi3({{"sliding_window", nullptr}})},
          {"phi3_longrope", phi3({{"rope_scaling", kLongRope}})},
          {"phi3_partial", phi3({{"partial_rotary_factor", 0.75}, {"sliding_window", nullptr}})},
          {"phi4_mini", phi4_mini()},
          {"olmo2", olmo2()},
          {"mixtral", mixtral()},
          {"qwen3_moe", qwen3_moe()},
          {"olmoe", olmoe()},
          {"qwen2_moe", qwen2_moe()},
          {"gpt2", gpt2()},
          {"gpt2_untied", gpt2({{"n_inner", 96}, {"tie_word_embeddings", false}})},
          {"opt", opt()}};
}

std::vector<FamilyCase> mixture_cases() {
  std::vector<FamilyCase> cases = family_cases();
  std::erase_if(cases, [](const FamilyCase& family) { return !family.config.contains("num_experts_per_tok"); });
  return cases;
}

FamilyCase family_case(std::string_view name) {
  for (FamilyCase& family : family_cases())
    if (family.name == name) return family;
  throw std::out_of_range("no family case '" + std::string(name) + "'");
}

fs::path write_random_checkpoint(const fs::path& folder, const Json& config, std::uint64_t seed) {
  fs::create_directories(folder);
  for (const char* const name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"})
    fs::copy_file(demo_file(name), folder / name, fs::copy_options::overwrite_existing);
  write_config(folder, config);

  RandomStream random(seed, "text");
  std::vector<std::int32_t> ids(48);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random.below(kVocab));
  const auto entropy_with = [&](double head_gain) {
    write_weights(folder / "model.safetensors", config, seed, head_gain);
    return mean_entropy(log_probabilities(reference_logits(folder, ids)));
  };
  // Beyond a quarter of a cap, more and more logits are cut off, and the entropy grows again.
  const double cap = config.contains("final_logit_softcapping") && config["final_logit_softcapping"].is_number()
                         ? config["final_logit_softcapping"].get<double>()
                         : 128;
  double low = 0.5, high = cap / 4;
  for (int step = 0; step < 8; ++step) {  // down to 64^(1/256), 1.6%
    const double middle = std::sqrt(low * high);
    (entropy_with(middle) > kMeanEntropy ? low : high) = middle;
  }
  write_weights(folder / "model.safetensors", config, seed, high);
  return folder;
}

fs::path wrap_checkpoint(const fs::path& from, const fs::path& to, const std::string& hf_class, TowerNames names) {
  Json text = Json::parse(std::ifstream(from / "config.json"));
  Json whole = {{"architectures", Json::array({hf_class})}, {"vision_config", {{"hidden_size", 2}}}};
  text.erase("architectures");
  for (const char* const key : {"bos_token_id", "eos_token_id", "torch_dtype", "transformers_version"}) {
    whole[key] = text[key];
    text.erase(key);
  }
  whole["text_config"] = text;
  copy_checkpoint(from, to, whole);
  Safetensors file(from / "model.safetensors");
  const Json header = std::exchange(file.header, Json::object());
  for (const auto& [name, tensor] : header.items())
    file.header[name == "__metadata__" ? name : wrapped_name(name, names)] = tensor;
  const std::string root = names == TowerNames::older ? "" : "model.";
  file.add(root + "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight");
  file.add(root + "vision_tower.vision_model.embeddings.patch_embedding.weight");
  file.add(root + "multi_modal_projector.mm_input_projection_weight");
  file.write(to / "model.safetensors");
  return to;
}

fs::path copy_checkpoint(const fs::path& from, const fs::path& to, const Json& config) {
  fs::create_directories(to);
  for (const fs::directory_entry& entry : fs::directory_iterator(from))
    fs::copy_file(entry.path(), to / entry.path().filename(), fs::copy_options::overwrite_existing);
  write_config(to, config);
  return to;
}

}  // namespace adze::testing
