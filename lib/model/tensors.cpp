#include "model/tensors.h"

#include <algorithm>
#include <set>

#include <fmt/ranges.h>

#include "base/error.h"
#include "base/words.h"
#include "checkpoint/tensor_source.h"

namespace adze {
namespace {

using A = Architecture;

constexpr auto hidden = [](const A& a) { return a.hidden; };
constexpr auto ffn = [](const A& a) { return a.ffn; };
constexpr auto q_width = [](const A& a) { return a.q_width(); };
constexpr auto kv_width = [](const A& a) { return a.kv_width(); };
constexpr auto qkv_bias = [](const A& a) { return a.qkv_bias; };
constexpr auto o_bias = [](const A& a) { return a.o_bias; };
constexpr auto mlp_bias = [](const A& a) { return a.mlp_bias; };
constexpr auto heads = [](const A& a) { return a.heads; };
constexpr auto kv_heads = [](const A& a) { return a.kv_heads; };
constexpr auto none = [](const A&) { return std::size_t{0}; };

constexpr std::array<LinearInfo, kLinearCount> kLinears = {{
    {LinearSlot::q, Stage::qkv, "self_attn.q_proj", "attn_q", q_width, hidden, qkv_bias, heads},
    {LinearSlot::k, Stage::qkv, "self_attn.k_proj", "attn_k", kv_width, hidden, qkv_bias, kv_heads},
    {LinearSlot::v, Stage::qkv, "self_attn.v_proj", "attn_v", kv_width, hidden, qkv_bias, none},
    {LinearSlot::o, Stage::o, "self_attn.o_proj", "attn_output", hidden, q_width, o_bias, none},
    {LinearSlot::gate, Stage::gate_up, "mlp.gate_proj", "ffn_gate", ffn, hidden, mlp_bias, none},
    {LinearSlot::up, Stage::gate_up, "mlp.up_proj", "ffn_up", ffn, hidden, mlp_bias, none},
    {LinearSlot::down, Stage::down, "mlp.down_proj", "ffn_down", hidden, ffn, mlp_bias, none},
}};

constexpr std::array<std::string_view, 5> kRoleNames = {"embedding", "linear", "norm", "bias", "head"};
constexpr std::array<std::string_view, 4> kStageNames = {"qkv", "o", "gate_up", "down"};

/// Buffers that old checkpoints carry and that are computed from config.json instead.
constexpr std::array<std::string_view, 1> kIgnoredSuffixes = {".rotary_emb.inv_freq"};
constexpr std::string_view kHeadName = "lm_head.weight";
constexpr std::string_view kEmbeddingName = "model.embed_tokens.weight";
constexpr std::size_t kShownProblems = 8;
constexpr std::size_t kMostCompared = 1000;  // names that a missing one is compared with

std::string block_module(std::size_t block, std::string_view part) { return fmt::format("layers.{}.{}", block, part); }

TensorSpec block_spec(std::size_t block, std::string_view module, std::string_view gguf, std::string_view suffix) {
  TensorSpec spec;
  spec.module = block_module(block, module);
  spec.hf_name = fmt::format("model.{}.{}", spec.module, suffix);
  spec.gguf_name = fmt::format("blk.{}.{}.{}", block, gguf, suffix);
  spec.block = block;
  return spec;
}

TensorSpec linear_spec(const A& a, std::size_t block, const LinearInfo& info, TensorRole role) {
  TensorSpec spec = block_spec(block, info.module, info.gguf, role == TensorRole::bias ? "bias" : "weight");
  spec.shape = {info.rows(a)};
  if (role == TensorRole::linear) spec.shape.push_back(info.cols(a));
  spec.role = role;
  spec.slot = info.slot;
  if (a.info().qk_rows_permuted_in_gguf) spec.permuted_heads = info.permuted_heads(a);
  return spec;
}

void add_block(const A& a, std::size_t block, std::vector<TensorSpec>& all) {
  for (const NormInfo& norm : a.info().norms) {
    TensorSpec& spec = all.emplace_back(block_spec(block, norm.module, norm.gguf, "weight"));
    spec.shape = {norm_size(a, norm.slot)};
    spec.role = TensorRole::norm;
    spec.norm = norm.slot;
  }
  for (const LinearInfo& info : kLinears) {
    all.push_back(linear_spec(a, block, info, TensorRole::linear));
    if (info.has_bias(a)) all.push_back(linear_spec(a, block, info, TensorRole::bias));
  }
}

TensorSpec model_spec(std::string_view module, std::string_view hf, std::string_view gguf,
                      std::vector<std::uint64_t> shape, TensorRole role) {
  TensorSpec spec;
  spec.module = module;
  spec.hf_name = hf;
  spec.gguf_name = gguf;
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

void require_equal_tables(const TensorSource& source, const TensorInfo& head) {
  const TensorInfo* table = source.find(kEmbeddingName);
  if (!table) return;  // validate_tensors reports it
  if (table->shape != head.shape || table->dtype != head.dtype || table->bytes != head.bytes)
    fail(ErrorKind::bad_data, "{}: tie_word_embeddings is true, but '{}' [{}] {} and '{}' [{}] {} differ",
         source.origin(), kHeadName, fmt::join(head.shape, ", "), name_of(head.dtype), kEmbeddingName,
         fmt::join(table->shape, ", "), name_of(table->dtype));
  if (const auto at = first_difference(source, head, *table))
    fail(ErrorKind::bad_data,
         "{}: tie_word_embeddings is true, but '{}' differs from '{}' at byte {}; set tie_word_embeddings to false to "
         "keep both, or remove '{}'",
         source.origin(), kHeadName, kEmbeddingName, *at, kHeadName);
}

}  // namespace

std::string_view name_of(TensorRole role) { return kRoleNames[static_cast<std::size_t>(role)]; }
std::string_view name_of(Stage stage) { return kStageNames[static_cast<std::size_t>(stage)]; }

std::span<const LinearInfo, kLinearCount> block_linears() { return kLinears; }
const LinearInfo& info_of(LinearSlot slot) { return kLinears[static_cast<std::size_t>(slot)]; }

std::span<const LinearInfo> linears_of(Stage stage) {
  const auto* const first = std::ranges::lower_bound(kLinears, stage, {}, &LinearInfo::stage);
  const auto* const last = std::ranges::upper_bound(kLinears, stage, {}, &LinearInfo::stage);
  return {first, last};
}

std::string module_name(std::size_t block, LinearSlot slot) { return block_module(block, info_of(slot).module); }

Shape shape_of(const Architecture& architecture, LinearSlot slot) {
  const LinearInfo& info = info_of(slot);
  return {info.rows(architecture), info.cols(architecture)};
}

std::size_t norm_size(const Architecture& a, NormSlot slot) {
  const bool spans_heads = a.info().qk_norms_span_heads;
  if (slot == NormSlot::queries) return spans_heads ? a.q_width() : a.head_dim;
  if (slot == NormSlot::keys) return spans_heads ? a.kv_width() : a.head_dim;
  return a.hidden;
}

std::optional<Stage> TensorSpec::stage() const { return slot ? std::optional(info_of(*slot).stage) : std::nullopt; }

std::vector<TensorSpec> expected_tensors(const Architecture& a) {
  std::vector<TensorSpec> all;
  const std::vector<std::uint64_t> table = {a.vocab, a.hidden};
  all.push_back(model_spec("embed_tokens", kEmbeddingName, "token_embd.weight", table, TensorRole::embedding));
  for (std::size_t block = 0; block < a.layers; ++block) add_block(a, block, all);
  all.push_back(model_spec("norm", "model.norm.weight", "output_norm.weight", {a.hidden}, TensorRole::norm));
  if (!a.tied) all.push_back(model_spec("lm_head", kHeadName, "output.weight", table, TensorRole::head));
  return all;
}

Architecture resolve_tying(Architecture architecture, const TensorSource& source) {
  const TensorInfo* head = source.find(kHeadName);
  if (!architecture.tied_stated) architecture.tied = head == nullptr;
  if (architecture.tied && head) require_equal_tables(source, *head);
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
