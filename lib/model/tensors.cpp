#include "model/tensors.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <set>

#include <fmt/ranges.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/words.h"
#include "checkpoint/tensor_source.h"
#include "model/gguf_rules.h"
#include "model/listing.h"

namespace adze {
namespace {

using A = Architecture;

constexpr std::array<std::string_view, 8> kRoleNames = {"embedding", "linear", "router",    "norm",
                                                        "bias",      "head",   "positions", "kept"};
constexpr std::array<std::string_view, 4> kStageNames = {"qkv", "o", "gate_up", "down"};

/// Buffers that old checkpoints carry and that are computed from config.json instead.
constexpr std::array<std::string_view, 1> kIgnoredSuffixes = {".rotary_emb.inv_freq"};
constexpr std::string_view kHeadName = "lm_head.weight";
constexpr std::size_t kShownProblems = 8;
constexpr std::size_t kMostCompared = 1000;  // names that a missing one is compared with

std::string block_module(std::size_t block, std::string_view part) { return fmt::format("layers.{}.{}", block, part); }

std::string embedding_name(const A& a) { return stored_name(a, kEmbeddingModule) + ".weight"; }

TensorSpec block_spec(const A& a, std::size_t block, std::string_view module, std::string_view gguf,
                      std::string_view suffix) {
  TensorSpec spec;
  spec.module = block_module(block, module);
  spec.hf_name = fmt::format("{}.{}", stored_name(a, spec.module), suffix);
  spec.gguf_name = fmt::format("blk.{}.{}.{}", block, gguf, suffix);
  spec.block = block;
  return spec;
}

TensorSpec linear_spec(const A& a, const FamilyInfo& gguf, std::size_t block, const LinearInfo& info, TensorRole role) {
  TensorSpec spec = block_spec(a, block, info.module, info.gguf, role == TensorRole::bias ? "bias" : "weight");
  spec.shape = {info.shape.rows};
  if (role != TensorRole::bias) spec.shape.push_back(info.shape.cols);
  spec.role = role;
  spec.slot = info.slot;
  if (gguf.qk_rows_permuted_in_gguf) spec.permuted_heads = info.permuted_heads;
  spec.gguf_rows = info.gguf_rows;
  return spec;
}

TensorRole role_of(LinearSlot slot) {
  const bool routes = slot == LinearSlot::router || slot == LinearSlot::shared_router;
  return routes ? TensorRole::router : TensorRole::linear;
}

void add_norm(const A& a, std::size_t block, const NormInfo& norm, std::vector<TensorSpec>& all) {
  const auto add = [&](std::string_view suffix, TensorRole role) {
    TensorSpec& spec = all.emplace_back(block_spec(a, block, norm.module, norm.gguf, suffix));
    spec.shape = {norm_size(a, norm.slot)};
    spec.role = role;
    spec.norm = norm.slot;
  };
  add("weight", TensorRole::norm);
  if (a.info().norm_kind == NormKind::layer) add("bias", TensorRole::bias);
}

void add_block(const A& a, const FamilyInfo& gguf, std::size_t block, std::span<const LinearInfo> linears,
               std::vector<TensorSpec>& all) {
  for (const NormInfo& norm : a.info().norms) add_norm(a, block, norm, all);
  for (const LinearInfo& info : linears) {
    all.push_back(linear_spec(a, gguf, block, info, role_of(info.slot)));
    if (info.has_bias) all.push_back(linear_spec(a, gguf, block, info, TensorRole::bias));
  }
}

/// Linears of one stage, below each other in one tensor of a GGUF.
void fuse_in_gguf(std::string_view name, std::span<LinearInfo> linears) {
  std::size_t rows = 0, first = 0;
  for (const LinearInfo& info : linears) rows += info.shape.rows;
  for (LinearInfo& info : linears) {
    info.gguf = name;
    info.gguf_rows = {.first = first, .all = rows};
    first += info.shape.rows;
  }
}

std::vector<LinearInfo> attention_linears(const A& a, const FamilyInfo& gguf) {
  const std::size_t q = a.q_width(), kv = a.kv_width();
  const ModuleNames& names = a.info().names;
  std::vector<LinearInfo> linears{
      {LinearSlot::q, Stage::qkv, std::string(names.q), "attn_q", {q, a.hidden}, a.qkv_bias, a.heads},
      {LinearSlot::k, Stage::qkv, std::string(names.k), "attn_k", {kv, a.hidden}, a.qkv_bias, a.kv_heads},
      {LinearSlot::v, Stage::qkv, std::string(names.v), "attn_v", {kv, a.hidden}, a.qkv_bias},
      {LinearSlot::o, Stage::o, std::string(names.o), "attn_output", {a.hidden, q}, a.o_bias}};
  if (gguf.qkv_fused_in_gguf) fuse_in_gguf("attn_qkv", std::span(linears).first(3));
  return linears;
}

/// What the linears of an FFN are called.
struct FfnNames {
  std::string module;               ///< of the FFN, with its dot
  std::string_view gate, up, down;  ///< no gate: ""
  std::string_view gguf_end;        ///< behind "ffn_gate"
};

std::vector<LinearInfo> ffn_linears(const A& a, std::size_t width, const FfnNames& names, bool bias,
                                    std::optional<std::size_t> expert = std::nullopt) {
  const auto slot = [&](LinearSlot::Kind kind) { return expert ? LinearSlot(kind, *expert) : LinearSlot(kind); };
  const auto info = [&](LinearSlot::Kind kind, std::string_view name, std::string_view gguf, Shape shape) {
    return LinearInfo{slot(kind),
                      stage_of(slot(kind)),
                      fmt::format("{}{}", names.module, name),
                      fmt::format("{}{}", gguf, names.gguf_end),
                      shape,
                      bias};
  };
  std::vector<LinearInfo> linears;
  if (!names.gate.empty()) linears.push_back(info(LinearSlot::gate, names.gate, "ffn_gate", {width, a.hidden}));
  linears.push_back(info(LinearSlot::up, names.up, "ffn_up", {width, a.hidden}));
  linears.push_back(info(LinearSlot::down, names.down, "ffn_down", {a.hidden, width}));
  return linears;
}

std::vector<LinearInfo> expert_linears(const A& a, std::size_t expert) {
  const MixtureRule& rule = a.info().mixture;
  const FfnNames names{fmt::format("{}.{}.", rule.experts, expert), rule.gate, rule.up, rule.down, "_exps"};
  return ffn_linears(a, a.expert_ffn, names, false, expert);
}

/// Of the FFN that all tokens go through, and what routes.
std::vector<LinearInfo> common_linears(const A& a, const FamilyInfo& gguf) {
  const ModuleNames& plain = a.info().names;
  if (!a.is_mixture()) {
    std::vector<LinearInfo> ffn = ffn_linears(a, a.ffn, {"", plain.gate, plain.up, plain.down, ""}, a.mlp_bias);
    if (gguf.gate_up_fused_in_gguf) fuse_in_gguf("ffn_up", std::span(ffn).first(2));
    return ffn;
  }
  const MixtureRule& rule = a.info().mixture;
  std::vector<LinearInfo> linears{
      {LinearSlot::router, Stage::gate_up, std::string(rule.router), "ffn_gate_inp", {a.experts, a.hidden}}};
  if (a.shared_ffn == 0) return linears;
  linears.push_back({LinearSlot::shared_router,
                     Stage::gate_up,
                     std::string(rule.shared_router),
                     "ffn_gate_inp_shexp",
                     {1, a.hidden}});
  const FfnNames names{fmt::format("{}.", rule.shared), rule.gate, rule.up, rule.down, "_shexp"};
  std::ranges::move(ffn_linears(a, a.shared_ffn, names, false), std::back_inserter(linears));
  return linears;
}

/// suffix: "weight" or "bias".
TensorSpec model_spec(const A& a, std::string_view module, std::string_view gguf, std::string_view suffix,
                      std::vector<std::uint64_t> shape, TensorRole role) {
  TensorSpec spec;
  spec.module = module;
  spec.hf_name = fmt::format("{}.{}", stored_name(a, module), suffix);
  spec.gguf_name = fmt::format("{}.{}", gguf, suffix);
  spec.shape = std::move(shape);
  spec.role = role;
  return spec;
}

bool is_ignored(const A& a, std::string_view name) {
  if (a.tied && name == kHeadName) return true;  // resolve_tying has seen that it repeats the table
  return std::ranges::any_of(kIgnoredSuffixes, [&](std::string_view suffix) { return name.ends_with(suffix); });
}

/// What is wrong with a stored tensor, or "". unknown: names of stored tensors that have no place.
std::string problem_of(const TensorSpec& spec, const TensorInfo* stored, std::span<const std::string> unknown) {
  if (!stored) return fmt::format("tensor '{}' is missing{}", spec.hf_name, suggestion(spec.hf_name, unknown));
  if (stored->shape != spec.shape)
    return fmt::format("tensor '{}' has shape [{}], but config.json asks for [{}]", spec.hf_name,
                       fmt::join(stored->shape, ", "), fmt::join(spec.shape, ", "));
  if (spec.role == TensorRole::kept)
    return stored->dtype == spec.dtype ? ""
                                       : fmt::format("tensor '{}' has dtype {}, not {}", spec.hf_name,
                                                     name_of(stored->dtype), name_of(spec.dtype));
  if (!is_weight_dtype(stored->dtype))
    return fmt::format("tensor '{}' has dtype {}; weights must be f32, f16 or bf16", spec.hf_name,
                       name_of(stored->dtype));
  return "";
}

[[noreturn]] void fail_with(std::string_view origin, std::span<const std::string> problems) {
  const auto shown = problems.first(std::min(problems.size(), kShownProblems));
  const std::size_t more = problems.size() - shown.size();
  fail(ErrorKind::bad_data, "{}: {}{}", origin, fmt::join(shown, "; "),
       more == 0 ? "" : fmt::format("; and {} more", more));
}

/// Offset of the first byte in which two tensors of equal size differ.
std::optional<std::uint64_t> first_difference(const TensorSource& source, const TensorInfo& a, const TensorInfo& b) {
  constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;
  std::vector<std::byte> left, right;
  for (std::uint64_t offset = 0; offset < a.bytes; offset += kPiece) {
    left.resize(std::min(kPiece, a.bytes - offset));
    right.resize(left.size());
    source.read(a, offset, left);
    source.read(b, offset, right);
    const auto at = std::ranges::mismatch(left, right);
    if (at.in1 != left.end()) return offset + static_cast<std::uint64_t>(at.in1 - left.begin());
  }
  return std::nullopt;
}

void require_equal_tables(const A& a, const TensorSource& source, const TensorInfo& head) {
  const std::string name = embedding_name(a);
  const TensorInfo* table = source.find(name);
  if (!table) return;  // validate_tensors reports it
  if (table->shape != head.shape || table->dtype != head.dtype || table->bytes != head.bytes)
    fail(ErrorKind::bad_data, "{}: tie_word_embeddings is true, but '{}' [{}] {} and '{}' [{}] {} differ",
         source.origin(), kHeadName, fmt::join(head.shape, ", "), name_of(head.dtype), name,
         fmt::join(table->shape, ", "), name_of(table->dtype));
  if (const auto at = first_difference(source, head, *table))
    fail(ErrorKind::bad_data,
         "{}: tie_word_embeddings is true, but '{}' differs from '{}' at byte {}; set tie_word_embeddings to false to "
         "keep both, or remove '{}'",
         source.origin(), kHeadName, name, *at, kHeadName);
}

}  // namespace

std::string_view name_of(TensorRole role) { return kRoleNames[static_cast<std::size_t>(role)]; }
std::string name_of(Stage stage) {
  const std::string_view kind = kStageNames[stage.kind];
  return stage.is_expert() ? fmt::format("experts.{}.{}", stage.expert, kind) : std::string(kind);
}

std::vector<Stage> stages_of(const Architecture& architecture) {
  if (architecture.is_listed()) return {};
  std::vector<Stage> stages{Stage::qkv, Stage::o, Stage::gate_up};
  if (architecture.common_ffn() > 0) stages.emplace_back(Stage::down);
  for (std::size_t expert = 0; expert < architecture.experts; ++expert) {
    stages.emplace_back(Stage::gate_up, expert);
    stages.emplace_back(Stage::down, expert);
  }
  return stages;
}

std::vector<LinearInfo> block_linears(const Architecture& architecture) {
  return block_linears(architecture, gguf_row(architecture));
}

std::vector<LinearInfo> block_linears(const Architecture& architecture, const FamilyInfo& gguf) {
  if (architecture.is_listed()) return {};
  std::vector<LinearInfo> linears = attention_linears(architecture, gguf);
  std::ranges::move(common_linears(architecture, gguf), std::back_inserter(linears));
  for (std::size_t expert = 0; expert < architecture.experts; ++expert)
    std::ranges::move(expert_linears(architecture, expert), std::back_inserter(linears));
  return linears;
}

std::vector<LinearInfo> linears_of(const Architecture& architecture, Stage stage) {
  const bool attends = stage.kind == Stage::qkv || stage.kind == Stage::o;
  const FamilyInfo& gguf = gguf_row(architecture);
  std::vector<LinearInfo> linears = stage.is_expert()
                                        ? expert_linears(architecture, static_cast<std::size_t>(stage.expert))
                                    : attends ? attention_linears(architecture, gguf)
                                              : common_linears(architecture, gguf);
  std::erase_if(linears, [&](const LinearInfo& info) { return info.stage != stage; });
  return linears;
}

Stage stage_of(LinearSlot slot) {
  constexpr std::array<Stage::Kind, LinearSlot::kKinds> kStageOf = {Stage::qkv,     Stage::qkv,     Stage::qkv,
                                                                    Stage::o,       Stage::gate_up, Stage::gate_up,
                                                                    Stage::gate_up, Stage::gate_up, Stage::down};
  Stage stage(kStageOf[slot.kind]);
  stage.expert = slot.expert;
  return stage;
}

LinearInfo info_of(const Architecture& architecture, LinearSlot slot) {
  for (LinearInfo& info : linears_of(architecture, stage_of(slot)))
    if (info.slot == slot) return std::move(info);
  fail(ErrorKind::internal, "{} has no linear {} of expert {}", architecture.family, static_cast<int>(slot.kind),
       slot.expert);
}

std::size_t width_of(const Architecture& a, Stage stage) {
  if (stage.kind == Stage::o) return a.q_width();
  if (stage.kind != Stage::down) return a.hidden;
  return stage.is_expert() ? a.expert_ffn : a.common_ffn();
}

std::string stored_name(const Architecture& architecture, std::string_view module) {
  if (module == kHeadModule) return std::string(module);
  const ModuleNames& names = architecture.info().names;
  return fmt::format("{}{}", names.root, module == kFinalNormModule ? names.final_norm : module);
}

std::string module_name(std::size_t block, const LinearInfo& info) { return block_module(block, info.module); }

std::string module_name(std::size_t block, const NormInfo& info) { return block_module(block, info.module); }

std::string module_name(const Architecture& architecture, std::size_t block, LinearSlot slot) {
  return module_name(block, info_of(architecture, slot));
}

Shape shape_of(const Architecture& architecture, LinearSlot slot) { return info_of(architecture, slot).shape; }

std::size_t norm_size(const Architecture& a, NormSlot slot) {
  const bool spans_heads = a.info().qk_norms_span_heads;
  if (slot == NormSlot::queries) return spans_heads ? a.q_width() : a.head_dim;
  if (slot == NormSlot::keys) return spans_heads ? a.kv_width() : a.head_dim;
  return a.hidden;
}

Shape TensorSpec::matrix_shape() const {
  return {checked_cast<std::size_t>(shape.at(0)), checked_cast<std::size_t>(shape.at(1))};
}

std::optional<Stage> TensorSpec::stage() const { return slot ? std::optional(stage_of(*slot)) : std::nullopt; }

std::string_view gguf_stack_in_words(const TensorSpec& spec) {
  if (spec.slot && spec.slot->is_expert()) return "the experts";
  return spec.stage() == Stage(Stage::qkv) ? "q, k and v" : "gate and up";
}

std::vector<TensorSpec> expected_tensors(const Architecture& a) { return expected_tensors(a, gguf_row(a)); }

std::vector<TensorSpec> expected_tensors(const Architecture& a, const FamilyInfo& gguf) {
  if (a.is_listed()) return listed_tensors(a);
  std::vector<TensorSpec> all;
  const std::vector<std::uint64_t> table = {a.vocab, a.hidden};
  const bool has_biases = a.info().norm_kind == NormKind::layer;
  all.push_back(model_spec(a, kEmbeddingModule, "token_embd", "weight", table, TensorRole::embedding));
  if (a.learns_positions()) {
    all.push_back(model_spec(a, kPositionsModule, "position_embd", "weight", {a.position_rows(), a.hidden},
                             TensorRole::positions));
    all.back().gguf_rows = {.all = a.max_positions, .absent = a.info().positions.offset};
  }
  const std::vector<LinearInfo> linears = block_linears(a, gguf);
  for (std::size_t block = 0; block < a.layers; ++block) add_block(a, gguf, block, linears, all);
  all.push_back(model_spec(a, kFinalNormModule, "output_norm", "weight", {a.hidden}, TensorRole::norm));
  if (has_biases) all.push_back(model_spec(a, kFinalNormModule, "output_norm", "bias", {a.hidden}, TensorRole::bias));
  if (!a.tied) all.push_back(model_spec(a, kHeadModule, "output", "weight", table, TensorRole::head));
  return all;
}

Architecture resolve_tying(Architecture architecture, const TensorSource& source) {
  if (architecture.is_listed()) return architecture;
  const TensorInfo* head = source.find(kHeadName);
  if (!architecture.tied_stated) architecture.tied = head == nullptr;
  if (architecture.tied && head) require_equal_tables(architecture, source, *head);
  return architecture;
}

void validate_tensors(const Architecture& architecture, const TensorSource& source) {
  const std::vector<TensorSpec> expected = expected_tensors(architecture);
  std::set<std::string, std::less<>> known;
  for (const TensorSpec& spec : expected) known.insert(spec.hf_name);
  const auto is_unknown = [&](const TensorInfo& stored) {
    return !known.contains(stored.name) && !is_ignored(architecture, stored.name);
  };
  std::vector<std::string> unknown;
  for (const TensorInfo& stored : source.tensors())
    if (unknown.size() < kMostCompared && is_unknown(stored)) unknown.push_back(stored.name);
  std::vector<std::string> problems;
  for (const TensorSpec& spec : expected) {
    // Which name was meant is looked for only where it will be shown.
    const auto names =
        problems.size() < kShownProblems ? std::span<const std::string>(unknown) : std::span<const std::string>();
    std::string problem = problem_of(spec, source.find(spec.hf_name), names);
    if (!problem.empty()) problems.push_back(std::move(problem));
  }
  for (const TensorInfo& stored : source.tensors())
    if (is_unknown(stored))
      problems.push_back(fmt::format("tensor '{}' [{}] is not part of {} with {} layers", stored.name,
                                     fmt::join(stored.shape, ", "), architecture.family, architecture.layers));
  if (!problems.empty()) fail_with(source.origin(), problems);
}

}  // namespace adze
