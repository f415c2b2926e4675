#include "pipeline/model_description.h"

#include <algorithm>
#include <array>
#include <functional>

#include <fmt/ranges.h>

#include "base/checked.h"
#include "base/error.h"
#include "export/gguf/metadata.h"
#include "model/gguf_rules.h"
#include "model/tensors.h"
#include "transform/demands.h"
#include "transform/scaling.h"

namespace adze {
namespace {

struct NormNote {
  NormSlot slot;
  std::string_view note;
};
constexpr std::array kNormNotes = {
    NormNote{NormSlot::before_attention, "norm, read by q, k, v"},
    NormNote{NormSlot::queries, "norm of q before RoPE"},
    NormNote{NormSlot::keys, "norm of k before RoPE"},
    NormNote{NormSlot::after_attention, "norm of o's output, before it joins the states"},
    NormNote{NormSlot::before_ffn, "norm, read by gate, up"},
    NormNote{NormSlot::after_ffn, "norm of down's output, before it joins the states"},
};

std::string_view note_of(NormSlot slot) { return std::ranges::find(kNormNotes, slot, &NormNote::slot)->note; }

struct StageNote {
  Stage stage;
  std::string_view name, note;
};
constexpr std::array kStageNotes = {
    StageNote{Stage::qkv, "q, k, v", "share an input"},
    StageNote{Stage::o, "o", "reads attention of v"},
    StageNote{Stage::gate_up, "gate, up", "share an input"},
    StageNote{Stage::down, "down", "reads activation(gate) * up"},
};
/// Where there is no gate.
constexpr std::array kGatelessNotes = {
    StageNote{Stage::gate_up, "up", "reads the norm"},
    StageNote{Stage::down, "down", "reads activation(up)"},
};

const StageNote& note_of(const Architecture& a, const StageNote& gated) {
  if (a.info().is_gated()) return gated;
  const auto* const at = std::ranges::find(kGatelessNotes, gated.stage, &StageNote::stage);
  return at == kGatelessNotes.end() ? gated : *at;
}

bool is_behind(Stage stage, NormSlot slot) {
  switch (slot) {
    case NormSlot::before_attention:
      return false;
    case NormSlot::queries:
    case NormSlot::keys:
      return stage == Stage::qkv;
    case NormSlot::after_attention:
      return stage == Stage::o;
    case NormSlot::before_ffn:
      return false;
    case NormSlot::after_ffn:
      return stage == Stage::down;
  }
  return false;
}

bool is_before(Stage stage, NormSlot slot) {
  return (stage == Stage::qkv && slot == NormSlot::before_attention) ||
         (stage == Stage::gate_up && slot == NormSlot::before_ffn);
}

std::string_view bias_note(const Architecture& a) {
  return a.info().norm_kind == NormKind::layer ? "; and a bias" : "";
}

void add_norms(const Architecture& a, std::vector<DescribedPart>& parts, const std::function<bool(NormSlot)>& wanted) {
  for (const NormInfo& norm : a.info().norms)
    if (wanted(norm.slot))
      parts.push_back({1,
                       std::string(norm.module),
                       {norm_size(a, norm.slot)},
                       fmt::format("{}{}", note_of(norm.slot), bias_note(a))});
}

void add_linear(const LinearInfo& linear, std::vector<DescribedPart>& parts) {
  std::string note = linear.has_bias ? "and a bias" : "";
  if (linear.slot == LinearSlot::router) note = "chooses the experts, and stays as it is stored";
  if (linear.slot == LinearSlot::shared_router) note = "scales the shared expert, and stays as it is stored";
  parts.push_back({2, linear.module, {linear.shape.rows, linear.shape.cols}, std::move(note)});
}

/// All experts have the same shapes.
void add_experts(const Architecture& a, std::vector<DescribedPart>& parts) {
  if (!a.is_mixture()) return;
  parts.push_back(
      {1,
       fmt::format("experts 0 ... {}", a.experts - 1),
       {},
       fmt::format("{} of them for each token; they share their input, each sees its tokens", a.experts_per_token)});
  for (const Stage::Kind kind : {Stage::gate_up, Stage::down})
    for (const LinearInfo& linear : linears_of(a, Stage(kind, 0))) add_linear(linear, parts);
}

void add_block(const Architecture& a, std::vector<DescribedPart>& parts) {
  for (const StageNote& of_gated : kStageNotes) {
    const StageNote& stage = note_of(a, of_gated);
    add_norms(a, parts, [&](NormSlot slot) { return is_before(stage.stage, slot); });
    const std::vector<LinearInfo> linears = linears_of(a, stage.stage);
    const bool only_routes = linears.size() == 1 && linears.front().slot == LinearSlot::router;
    if (only_routes)
      parts.push_back({1, "router", {}, "reads what the experts read"});
    else if (!linears.empty())
      parts.push_back({1, std::string(stage.name), {}, std::string(stage.note)});
    for (const LinearInfo& linear : linears) add_linear(linear, parts);
    if (stage.stage == Stage::down) add_experts(a, parts);
    add_norms(a, parts, [&](NormSlot slot) { return is_behind(stage.stage, slot); });
  }
}

std::string_view in_words(RopeKind kind) {
  switch (kind) {
    case RopeKind::none:
      return "";
    case RopeKind::linear:
      return ", linear";
    case RopeKind::llama3:
      return ", llama3";
    case RopeKind::longrope:
      return ", longrope";
    case RopeKind::yarn:
      return ", yarn";
  }
  return "";
}

std::string rope_in_words(const RopeSpec& rope) {
  const std::string_view kind = in_words(rope.kind);
  const bool has_factor = rope.kind != RopeKind::none && rope.kind != RopeKind::longrope;
  return fmt::format("theta {:g}{}{}", rope.theta, kind, has_factor ? fmt::format(" by {:g}", rope.factor) : "");
}

std::string windows_in_words(const Architecture& a) {
  if (a.full_attention.empty()) return fmt::format("window of {} tokens in every layer", a.sliding_window);
  std::vector<std::size_t> full;
  for (std::size_t i = 0; i < a.layers; ++i)
    if (a.sees_all(i)) full.push_back(i);
  return fmt::format("window of {} tokens, but in layers {}", a.sliding_window, fmt::join(full, ", "));
}

constexpr std::array<std::string_view, kActivationCount> kActivationWords = {"SiLU", "GELU (tanh)", "ReLU"};

std::vector<std::string> settings_of(const Architecture& a) {
  std::vector<std::string> settings;
  settings.push_back(fmt::format("{} heads of {}, {} of keys and values", a.heads, a.head_dim, a.kv_heads));
  settings.push_back(a.learns_positions() ? fmt::format("positions: {} that are learned", a.max_positions)
                                          : "RoPE: " + rope_in_words(a.rope));
  if (a.sliding_rope) settings.push_back("RoPE of layers with a window: " + rope_in_words(*a.sliding_rope));
  if (a.rotary_dim > 0) settings.push_back(fmt::format("RoPE rotates the first {} of a head", a.rotary_dim));
  if (a.sliding_window > 0) settings.push_back(windows_in_words(a));
  settings.push_back(fmt::format("{}: {}", a.info().is_gated() ? "gate" : "activation",
                                 kActivationWords[static_cast<std::size_t>(a.activation)]));
  if (a.info().norm_kind == NormKind::layer) settings.emplace_back("norms subtract the mean and add a bias");
  if (a.info().norm_offset != 0)
    settings.push_back(fmt::format("norms multiply by {:g} + weight", a.info().norm_offset));
  if (a.embedding_scale != 1) settings.push_back(fmt::format("embedding times {:g}", a.embedding_scale));
  if (a.score_scalar != 0) settings.push_back(fmt::format("scores divided by the root of {:g}", a.score_scalar));
  if (a.attention_cap != 0) settings.push_back(fmt::format("scores capped at {:g}", a.attention_cap));
  if (a.final_cap != 0) settings.push_back(fmt::format("logits capped at {:g}", a.final_cap));
  return settings;
}

/// What a demand says when it is not met.
std::string reason_of(const std::function<void()>& demand) {
  try {
    demand();
    return "";
  } catch (const Error& error) {
    return error.message();
  }
}

std::vector<Ability> abilities_of(const Architecture& a) {
  std::vector<Ability> abilities;
  const auto add = [&](std::string_view name, auto demand) {
    abilities.push_back({std::string(name), reason_of([&] { demand(a, name); })});
  };
  add("rotate the residual stream", require_readable_states);
  abilities.push_back({"rotate heads", ""});
  add("slice", [](const Architecture& b, std::string_view name) {
    require_readable_states(b, name);
    require_free_hidden_size(b, name);
  });
  add("narrow-heads", require_plain_heads);
  add("prune-heads", require_heads_apart);
  add("drop-blocks", require_equal_layers);
  abilities.push_back({fmt::format("awq of {}", names_of(scalable_stages(a, kScaledStages))), ""});
  constexpr std::array<Stage, 2> kAfterNorms{Stage::qkv, Stage::gate_up};
  const bool has_norms = !scalable_stages(a, kAfterNorms).empty();
  abilities.push_back({"smoothquant", has_norms ? "" : "there is no norm before attention and FFN"});
  abilities.push_back({"export gguf", gguf_refuses(a).value_or("")});
  abilities.push_back({"export onnx", ""});
  return abilities;
}

}  // namespace

ModelDescription describe_model(const Architecture& a) {
  ModelDescription description{a.family, std::string(gguf_row(a).gguf_name), 0, {}, settings_of(a), abilities_of(a)};
  for (const TensorSpec& spec : expected_tensors(a))
    description.parameters = checked_add(description.parameters, checked_product(spec.shape));
  std::vector<DescribedPart>& parts = description.parts;
  parts.push_back({0, "embed_tokens", {a.vocab, a.hidden}, a.tied ? "the head too" : ""});
  if (a.learns_positions())
    parts.push_back({0, std::string(kPositionsModule), {a.position_rows(), a.hidden}, "added to the embedding"});
  parts.push_back({0, a.layers == 1 ? "layers.0" : fmt::format("layers.0 ... layers.{}", a.layers - 1), {}, ""});
  add_block(a, parts);
  parts.push_back({0, "norm", {a.hidden}, fmt::format("norm, read by the head{}", bias_note(a))});
  if (!a.tied) parts.push_back({0, "lm_head", {a.vocab, a.hidden}, ""});
  return description;
}

std::string text_of(const ModelDescription& description) {
  constexpr std::size_t kNameWidth = 36, kShapeWidth = 16;
  std::string text = fmt::format("{} ({} in GGUF), {} parameters\n\n", description.family, description.gguf_name,
                                 description.parameters);
  for (const DescribedPart& part : description.parts) {
    const std::string name = std::string(2 * part.depth, ' ') + part.name;
    std::string line = fmt::format("{:<{}}{:<{}}{}", name, kNameWidth, fmt::format("{}", fmt::join(part.shape, " x ")),
                                   kShapeWidth, part.note);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  text += "\n";
  for (const std::string& setting : description.settings) text += setting + "\n";
  text += "\n";
  for (const Ability& ability : description.abilities)
    text += ability.reason.empty() ? fmt::format("can {}\n", ability.name)
                                   : fmt::format("cannot {}: {}\n", ability.name, ability.reason);
  return text;
}

}  // namespace adze
