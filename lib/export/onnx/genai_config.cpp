#include "export/onnx/genai_config.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "export/onnx/onnx_graph.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

/// Model types of ours that the runtime knows by name. What it would do otherwise for one of them, our graphs do
/// themselves, so that any other is a decoder like all.
constexpr std::array<std::string_view, 7> kKnownTypes{"gemma",   "gemma2", "gemma3_text", "llama",
                                                      "mistral", "qwen2",  "qwen3"};

/// Of type "phi3" the runtime computes its cache anew when the text outgrows this context, which two sets of RoPE
/// factors need.
constexpr std::size_t kContextOfPhi3 = 4096;

std::string_view runtime_type(const Architecture& a) {
  if (!a.rope.long_divisors.empty() && a.rope.original_max_positions == kContextOfPhi3) return "phi3";
  const std::string_view type = a.info().model_type;
  return std::ranges::find(kKnownTypes, type) != kKnownTypes.end() ? type : "decoder";
}

/// An id, or a list of ids, under one of the names in a kept file; null when nobody says.
Json token_of(const ExportPlan& plan, std::string_view key) {
  for (const char* const name : {"generation_config.json", "config.json"}) {
    const auto file = std::ranges::find(plan.files, name, &StoreFile::name);
    if (file == plan.files.end()) continue;
    const nlohmann::json said = parse_json(file->text, name);
    if (!said.is_object() || !said.contains(key)) continue;
    const nlohmann::json& value = said[std::string(key)];
    const auto is_id = [](const nlohmann::json& one) { return one.is_number_integer() && one >= 0; };
    if (is_id(value) || (value.is_array() && !value.empty() && std::ranges::all_of(value, is_id))) return value;
  }
  return nullptr;
}

}  // namespace

std::string genai_config(const ExportPlan& plan, bool shares_cache) {
  const Architecture& a = plan.architecture;
  Json model{{"type", runtime_type(a)}};
  const Json bos = token_of(plan, "bos_token_id"), eos = token_of(plan, "eos_token_id");
  Json pad = token_of(plan, "pad_token_id");
  if (pad.is_null() || pad.is_array()) pad = eos.is_array() ? eos.front() : eos;
  if (!bos.is_null()) model["bos_token_id"] = bos.is_array() ? bos.front() : bos;
  if (!eos.is_null()) model["eos_token_id"] = eos;
  if (!pad.is_null()) model["pad_token_id"] = pad;
  model["vocab_size"] = a.vocab;
  model["context_length"] = a.max_positions;
  model["decoder"] = {
      {"session_options", {{"log_id", "onnxruntime-genai"}, {"provider_options", Json::array()}}},
      {"filename", kOnnxModelName},
      {"head_size", a.head_dim},
      {"hidden_size", a.hidden},
      {"num_attention_heads", a.heads},
      {"num_hidden_layers", a.layers},
      {"num_key_value_heads", a.kv_heads},
      {"inputs",
       {{"input_ids", "input_ids"},
        {"attention_mask", "attention_mask"},
        {"past_key_names", "past_key_values.%d.key"},
        {"past_value_names", "past_key_values.%d.value"}}},
      {"outputs",
       {{"logits", "logits"}, {"present_key_names", "present.%d.key"}, {"present_value_names", "present.%d.value"}}}};
  const Json search{{"do_sample", false},
                    {"max_length", a.max_positions},
                    {"min_length", 0},
                    {"num_beams", 1},
                    {"num_return_sequences", 1},
                    {"temperature", 1.0},
                    {"top_k", 50},
                    {"top_p", 1.0},
                    {"repetition_penalty", 1.0},
                    {"length_penalty", 1.0},
                    {"no_repeat_ngram_size", 0},
                    {"diversity_penalty", 0.0},
                    {"early_stopping", true},
                    {"past_present_share_buffer", shares_cache}};
  return Json{{"model", std::move(model)}, {"search", search}}.dump(2) + "\n";
}

}  // namespace adze
