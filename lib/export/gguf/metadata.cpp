#include "export/gguf/metadata.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

#include <fmt/format.h>

#include "base/checked.h"
#include "export/gguf/folder_settings.h"
#include "export/gguf/tokenizer_keys.h"
#include "model/config_object.h"
#include "model/gguf_files.h"
#include "model/gguf_rules.h"
#include "model/gguf_weights.h"
#include "model/rope.h"
#include "text/tokenizer.h"

namespace adze {
namespace {

/// general.file_type of a file that is mostly of this type (of K types the plain mix, "S"). Informational: loaders go
/// by the type of each tensor.
struct FileType {
  std::string_view type;
  std::uint32_t id;
};
constexpr std::array kFileTypes = {
    FileType{"F32", 0},    FileType{"F16", 1},    FileType{"Q4_0", 2},    FileType{"Q4_1", 3},    FileType{"Q8_0", 7},
    FileType{"Q5_0", 8},   FileType{"Q5_1", 9},   FileType{"Q2_K", 10},   FileType{"Q3_K", 11},   FileType{"Q4_K", 14},
    FileType{"Q5_K", 16},  FileType{"Q6_K", 18},  FileType{"IQ4_NL", 25}, FileType{"IQ4_XS", 30}, FileType{"BF16", 32},
    FileType{"TQ1_0", 36}, FileType{"TQ2_0", 37}, FileType{"MXFP4", 38},  FileType{"NVFP4", 39}};
constexpr std::uint32_t kQuantizationVersion = 2;
constexpr std::string_view kProvenancePrefix = "adze.";

void require_planned_tensors(const ExportPlan& plan) {
  const std::vector<TensorSpec> expected = expected_tensors(plan.architecture);
  if (plan.tensors.size() != expected.size())
    fail(ErrorKind::internal, "the plan has {} tensors, the architecture {}", plan.tensors.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const TensorSpec& spec = plan.tensors[i].spec;
    if (spec.gguf_name != expected[i].gguf_name || spec.shape != expected[i].shape ||
        spec.permuted_heads != expected[i].permuted_heads)
      fail(ErrorKind::internal, "the plan's tensor {} is '{}', which is not the architecture's '{}'", i, spec.hf_name,
           expected[i].hf_name);
  }
}

/// A tensor of the plan as GGUF stores it. Throws bad_data where it cannot.
GgufStorage storage_of(const PlannedTensor& planned) {
  GgufStorage storage = gguf_storage(planned);
  if (storage.type == nullptr) fail(ErrorKind::bad_data, "{}", storage.reason);
  return storage;
}

/// The tensor of the file in which it lies: its own, that of all experts, or of q, k and v.
GgufTensorSpec file_tensor(const Architecture& architecture, const TensorSpec& spec, const GgufType& type) {
  std::vector<std::uint64_t> dims(spec.shape.rbegin(), spec.shape.rend());
  if (spec.gguf_rows.all > 0) dims.back() = spec.gguf_rows.all;
  if (spec.slot && spec.slot->is_expert()) dims.push_back(architecture.experts);
  if (spec.slot == LinearSlot::shared_router) dims.pop_back();  // one row, which runtimes take for a vector
  return {spec.gguf_name, type.id, dims};
}

/// Of as many matrices in one tensor.
GgufTensorSpec scale_tensor(const TensorSpec& spec, std::uint64_t count) {
  return {gguf_scale_name(spec), find_gguf_type("F32")->id, {count}};
}

/// Tensor i of the plan joins the first expert's, or q's, or gate's.
void add_to_stack(const ExportPlan& plan, std::size_t i, std::size_t tensor, GgufContent& content) {
  const PlannedTensor &planned = plan.tensors[i], &first = plan.tensors[content.members[tensor].front()];
  if (content.storages[i].type->id != content.tensors[tensor].type)
    fail(ErrorKind::bad_data, "{} is {} and {} is {}; GGUF has {} of a block in one tensor of one type",
         first.spec.module, first.format, planned.spec.module, planned.format, gguf_stack_in_words(planned.spec));
  content.members[tensor].push_back(i);
}

void add_tensors(const ExportPlan& plan, GgufContent& content) {
  std::map<std::string, std::size_t> stacks;
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlannedTensor& planned = plan.tensors[i];
    const GgufStorage& storage = content.storages.emplace_back(storage_of(planned));
    const auto [at, is_first] = stacks.insert({planned.spec.gguf_name, content.tensors.size()});
    if (!is_first) {
      add_to_stack(plan, i, at->second, content);
      continue;
    }
    content.tensors.push_back(file_tensor(plan.architecture, planned.spec, *storage.type));
    content.members.push_back({i});
  }
}

void add_rope_divisors(const Architecture& a, GgufContent& content) {
  if (a.rope.kind != RopeKind::llama3 && a.rope.kind != RopeKind::longrope) return;
  const auto add = [&](std::string_view name, const std::vector<double>& divisors) {
    content.tensors.push_back({std::string(name), find_gguf_type("F32")->id, {divisors.size()}});
    GgufVector& vector = content.rope_divisors.emplace_back(GgufVector{std::string(name), {}});
    for (const double divisor : divisors) vector.values.push_back(static_cast<float>(divisor));
  };
  const std::vector<double> divisors = rope_divisors(a.rope, a.rotated());
  if (!gguf_row(a).long_rope_in_gguf) return add(kGgufRopeDivisors, divisors);
  add(kGgufLongDivisors, a.rope.long_divisors.empty() ? divisors : a.rope.long_divisors);
  add(kGgufShortDivisors, divisors);
}

void add_scales(const ExportPlan& plan, GgufContent& content) {
  for (const std::vector<std::size_t>& members : content.members)
    if (content.storages[members.front()].scale)
      content.tensors.push_back(scale_tensor(plan.tensors[members.front()].spec, members.size()));
}

/// The type that covers most bytes.
std::uint32_t file_type(std::span<const GgufTensorSpec> tensors) {
  std::map<std::uint32_t, std::uint64_t> bytes;
  for (const GgufTensorSpec& tensor : tensors)
    bytes[tensor.type] += gguf_tensor_bytes(gguf_type(tensor.type), tensor.dims);
  const auto most = std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  const std::string_view type = gguf_type(most->first).name;
  const auto* const row = std::ranges::find(kFileTypes, type, &FileType::type);
  if (row == kFileTypes.end()) fail(ErrorKind::internal, "type {} has no row in the table of file types", type);
  return row->id;
}

/// Number of weights in words: "5.8M", "70B".
std::string size_label(std::span<const PlannedTensor> tensors) {
  struct Unit {
    double size;
    char letter;
  };
  constexpr std::array kUnits = {Unit{1e12, 'T'}, Unit{1e9, 'B'}, Unit{1e6, 'M'}, Unit{1e3, 'K'}};
  double weights = 0;
  for (const PlannedTensor& tensor : tensors) weights += static_cast<double>(checked_product(tensor.spec.shape));
  const auto* unit = std::ranges::find_if(kUnits, [&](const Unit& u) { return weights >= u.size; });
  if (unit == kUnits.end()) unit = &kUnits.back();
  const double scaled = weights / unit->size;
  return fmt::format("{:.{}f}{}", scaled, scaled < 9.5 ? 1 : 0, unit->letter);
}

std::optional<GgufValue> kept_value(const nlohmann::json& value) {
  if (value.is_string() && !value.get_ref<const std::string&>().empty()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_unsigned() && value <= std::numeric_limits<std::uint32_t>::max())
    return value.get<std::uint32_t>();
  if (value.is_number_float()) return value.get<float>();
  const bool texts = value.is_array() && !value.empty() &&
                     std::ranges::all_of(value, [](const nlohmann::json& item) { return item.is_string(); });
  return texts ? std::optional<GgufValue>(value.get<std::vector<std::string>>()) : std::nullopt;
}

class MetadataBuilder {
 public:
  explicit MetadataBuilder(const Architecture& a) : a_(a), name_(gguf_row(a).gguf_name) {}

  void add_general(const ExportPlan& plan, const FolderSettings& settings, std::uint32_t type) {
    put("general.architecture", std::string(name_));
    put("general.type", std::string("model"));
    put_text("general.name", plan.name);
    put_text("general.size_label", size_label(plan.tensors));
    put_text("general.license", settings.license());
    put("general.file_type", type);
    put("general.quantization_version", kQuantizationVersion);
    for (const auto& [key, value] : settings.gguf_keys.items()) put_kept(key, value);
  }

  void add_architecture() {
    put_count("vocab_size", a_.vocab);
    put_count("context_length", a_.max_positions);
    put_count("embedding_length", a_.hidden);
    put_count("block_count", a_.layers);
    put_count("feed_forward_length", a_.ffn);
    if (a_.is_mixture()) add_experts();
    put_count("attention.head_count", a_.heads);
    put_count("attention.head_count_kv", a_.kv_heads);
    put_count("attention.key_length", a_.head_dim);
    put_count("attention.value_length", a_.head_dim);
    put_number(gguf_norm_eps_key(a_.info()), a_.norm_eps);
    if (a_.info().window.in_gguf)
      put_count("attention.sliding_window", a_.sliding_window > 0 ? a_.sliding_window : a_.max_positions);
    if (a_.attention_cap != 0) put_number("attn_logit_softcapping", a_.attention_cap);
    if (a_.final_cap != 0) put_number("final_logit_softcapping", a_.final_cap);
    if (!a_.learns_positions()) add_rope();
  }

  void add_provenance(const ExportPlan& plan) {
    for (const auto& [key, value] : plan.provenance) {
      if (!key.starts_with(kProvenancePrefix))
        fail(ErrorKind::internal, "provenance key '{}' does not start with '{}'", key, kProvenancePrefix);
      put_text(key, value);
    }
  }

  std::vector<GgufKeyValue> take() && { return std::move(keys_); }

 private:
  void put(std::string key, GgufValue value) {
    seen_.insert(key);
    keys_.push_back({std::move(key), std::move(value)});
  }
  void put_text(std::string key, const std::string& text) {
    if (!text.empty()) put(std::move(key), text);
  }
  /// A key of the GGUF that the model came from. The file with it has been in foreign hands.
  void put_kept(const std::string& key, const nlohmann::json& value) {
    if (is_kept_gguf_id(key) || seen_.contains(key)) return;  // ids are those of the tokenizer
    auto kept = kept_value(value);
    if (!is_kept_gguf_text(key) || !kept)
      fail(ErrorKind::bad_data,
           "{}: '{}' is no 'general.' or 'quantize.' key with a text, a number, a flag or a list of texts",
           kGgufKeysFile, key);
    put(key, std::move(*kept));
  }
  void put_count(std::string_view suffix, std::size_t count) {
    put(fmt::format("{}.{}", name_, suffix), checked_cast<std::uint32_t>(count));
  }
  void put_number(std::string_view suffix, double number) {
    put(fmt::format("{}.{}", name_, suffix), static_cast<float>(number));
  }

  void add_experts() {
    put_count("expert_count", a_.experts);
    put_count("expert_used_count", a_.experts_per_token);
    put_count("expert_feed_forward_length", a_.expert_ffn);
    if (a_.shared_ffn > 0) put_count("expert_shared_feed_forward_length", a_.shared_ffn);
  }

  /// llama3 and longrope: the runtime takes the divisors from their tensors; for llama3, keys of ours say which rule
  /// made them.
  void add_rope() {
    const RopeSpec& rope = a_.rope;
    put_count("rope.dimension_count", a_.rotated());
    put_number("rope.freq_base", rope.theta);
    if (a_.sliding_rope) put_number("rope.freq_base_swa", a_.sliding_rope->theta);
    if (rope.kind == RopeKind::linear) {
      put(fmt::format("{}.rope.scaling.type", name_), std::string("linear"));
      put_number("rope.scaling.factor", rope.factor);
    }
    if (rope.kind == RopeKind::yarn) add_yarn();
    if (gguf_row(a_).long_rope_in_gguf) add_long_rope();
    if (rope.kind != RopeKind::llama3) return;
    put(std::string(kGgufRopeFactor), static_cast<float>(rope.factor));
    put(std::string(kGgufRopeLowFactor), static_cast<float>(rope.low_freq_factor));
    put(std::string(kGgufRopeHighFactor), static_cast<float>(rope.high_freq_factor));
    put(std::string(kGgufRopeOriginalContext), checked_cast<std::uint32_t>(rope.original_max_positions));
  }

  /// Loaders of early 2025 ask for the window; later ones go without it, whatever it is.
  void add_long_rope() {
    put_count("attention.sliding_window", a_.sliding_window);
    if (a_.rope.kind != RopeKind::longrope) return;
    put_number("rope.scaling.attn_factor", a_.rope.attention_factor);
    put_count("rope.scaling.original_context_length",
              a_.rope.long_divisors.empty() ? a_.max_positions : a_.rope.original_max_positions);
  }

  /// The runtime multiplies by the usual attention factor of yarn itself, and by attn_factor on top of it.
  void add_yarn() {
    const RopeSpec& rope = a_.rope;
    put(fmt::format("{}.rope.scaling.type", name_), std::string("yarn"));
    put_number("rope.scaling.factor", rope.factor);
    put_count("rope.scaling.original_context_length", rope.original_max_positions);
    put_number("rope.scaling.yarn_beta_fast", rope.beta_fast);
    put_number("rope.scaling.yarn_beta_slow", rope.beta_slow);
    put_number("rope.scaling.attn_factor", rope.attention_factor / yarn_attention_factor(rope.factor));
  }

  const Architecture& a_;
  std::string_view name_;
  std::vector<GgufKeyValue> keys_;
  std::unordered_set<std::string> seen_;
};

}  // namespace

std::string gguf_scale_name(const TensorSpec& spec) {
  return spec.gguf_name.substr(0, spec.gguf_name.rfind('.')) + ".scale";
}

std::uint64_t gguf_own_bytes(const Architecture& architecture, const PlannedTensor& planned) {
  const GgufStorage storage = storage_of(planned);
  std::vector<GgufTensorSpec> tensors{file_tensor(architecture, planned.spec, *storage.type)};
  if (storage.scale) {
    const bool is_stack = planned.spec.slot && planned.spec.slot->is_expert();
    tensors.push_back(scale_tensor(planned.spec, is_stack ? architecture.experts : 1));
  }
  std::uint64_t bytes = 0;
  for (const GgufTensorSpec& tensor : tensors) {
    bytes = checked_add(bytes, gguf_info_bytes(tensor));
    bytes = checked_add(bytes, round_up(gguf_tensor_bytes(gguf_type(tensor.type), tensor.dims), kGgufAlignment));
  }
  return bytes;
}

std::optional<std::string> gguf_refuses(const Architecture& a) {
  const FamilyInfo& family = gguf_row(a);
  const bool is_llama = family.gguf_name == kGgufLlama;
  const auto no = [&](std::string_view why) { return fmt::format("{} in GGUF {}", family.hf_class, why); };
  if (family.gguf_head == GgufHead::never && !a.tied)
    return no("has no head of its own, but the embedding table; leave the head tied");
  if (family.gguf_head == GgufHead::always && a.tied) return no("has a head of its own; this model has none");
  if (family.square_output_in_gguf && a.q_width() != a.hidden) return no("has heads as wide as the states together");
  if (family.equal_heads_in_gguf && a.kv_heads != a.heads) return no("has as many heads of keys as of queries");
  if (a.is_mixture() && a.renormalised != family.mixture.renormalised_in_gguf)
    return no(a.renormalised ? "takes the weights of experts as they are scored"
                             : "divides the weights of experts by their sum");
  if (a.activation != family.gguf_activation())
    return no(fmt::format("has another activation: it is llama.cpp's '{}', whose activation is {}, not {}",
                          family.gguf_name, name_of(family.gguf_activation()), name_of(a.activation)));
  if (!is_llama && (a.o_bias != family.o_bias || a.mlp_bias != family.mlp_bias || a.qkv_bias != family.qkv_bias))
    return no("has no such biases");
  if (family.window.in_gguf && a.sliding_window == 0 && !family.window.theta_key.empty())
    return no("has layers with a window, whose RoPE is another");
  if (family.window.in_gguf && a.sliding_window > 0)
    for (std::size_t i = 0; i < a.layers; ++i)
      if (a.sees_all(i) != gguf_sees_all(family, i))
        return fmt::format("{}, and layer {} is not as that says",
                           no(fmt::format("has a window in all but every {}th layer", family.window.every)), i);
  if (a.sliding_rope && a.sliding_rope->kind != RopeKind::none) return no("scales no RoPE of layers with a window");
  if (!family.window.in_gguf && a.sliding_rope) return no("has one RoPE");
  if (a.rotary_dim > 0 && !family.long_rope_in_gguf) return no("rotates whole heads, not a part of each");
  const bool has_divisors = a.rope.kind == RopeKind::llama3 || a.rope.kind == RopeKind::longrope;
  if (!is_llama && !family.long_rope_in_gguf && has_divisors) return no("has no RoPE factors of each pair");
  const bool is_long =
      !a.rope.long_divisors.empty() || (a.rope.kind == RopeKind::longrope && a.rope.attention_factor != 1);
  if (is_long && !family.long_rope_in_gguf)
    return no("has one set of RoPE factors, whatever the context, and no attention factor beside them");
  const double scalar = a.score_scalar != 0 ? a.score_scalar : static_cast<double>(a.head_dim);
  if (const double meant = gguf_score_scalar(a); scalar != meant)
    return no(fmt::format("divides scores by the root of {}, not of {}", meant, scalar));
  const bool caps = a.attention_cap != 0 && a.final_cap != 0;
  if (family.scores.attention_cap != 0 ? !caps : a.attention_cap != 0 || a.final_cap != 0)
    return no(caps ? "has no soft-capping" : "has soft-capping of attention and of logits, both");
  return std::nullopt;
}

GgufContent gguf_content(const ExportPlan& plan) {
  require_planned_tensors(plan);
  if (const auto reason = gguf_refuses(plan.architecture)) fail(ErrorKind::bad_data, "{}", *reason);
  GgufContent content;
  add_tensors(plan, content);
  add_rope_divisors(plan.architecture, content);
  add_scales(plan, content);
  if (plan.tokenizer == nullptr)
    fail(ErrorKind::bad_data,
         "a GGUF file needs the model's tokenizer, and there is none; put tokenizer.json into the checkpoint folder");
  const FolderSettings settings = FolderSettings::from(plan.files);
  MetadataBuilder builder(plan.architecture);
  builder.add_general(plan, settings, file_type(content.tensors));
  builder.add_architecture();
  builder.add_provenance(plan);
  content.metadata = std::move(builder).take();
  std::ranges::move(tokenizer_metadata(plan.tokenizer->vocabulary(), plan.architecture.vocab, settings),
                    std::back_inserter(content.metadata));
  return content;
}

}  // namespace adze
