#include "model/gguf_weights.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <functional>
#include <iterator>
#include <numeric>
#include <unordered_set>

#include <fmt/ranges.h>

#include "base/checked.h"
#include "base/words.h"
#include "grid/minifloat/minifloat_matrix.h"
#include "grid/quantized_tensor.h"
#include "model/finite.h"
#include "model/gguf_rules.h"
#include "model/rope.h"

namespace adze {
namespace {

using ReadableType = GgufReadableType;
constexpr std::string_view kNvfp4 = "NVFP4";
constexpr std::array kReadableTypes = {ReadableType{"F32", DType::f32, ""},
                                       ReadableType{"F16", DType::f16, ""},
                                       ReadableType{"BF16", DType::bf16, ""},
                                       ReadableType{"Q4_0", std::nullopt, "gguf/q4_0"},
                                       ReadableType{"Q8_0", std::nullopt, "gguf/q8_0"},
                                       ReadableType{"Q4_1", std::nullopt, "gguf/q4_1"},
                                       ReadableType{"Q5_0", std::nullopt, "gguf/q5_0"},
                                       ReadableType{"Q5_1", std::nullopt, "gguf/q5_1"},
                                       ReadableType{"Q2_K", std::nullopt, "gguf/q2_k"},
                                       ReadableType{"Q3_K", std::nullopt, "gguf/q3_k"},
                                       ReadableType{"Q5_K", std::nullopt, "gguf/q5_k"},
                                       ReadableType{"Q6_K", std::nullopt, "gguf/q6_k"},
                                       ReadableType{"IQ4_NL", std::nullopt, "gguf/iq4_nl"},
                                       ReadableType{"IQ4_XS", std::nullopt, "gguf/iq4_xs"},
                                       ReadableType{"TQ1_0", std::nullopt, "gguf/tq1_0"},
                                       ReadableType{"TQ2_0", std::nullopt, "gguf/tq2_0"},
                                       ReadableType{"MXFP4", std::nullopt, "gguf/mxfp4"},
                                       ReadableType{kNvfp4, std::nullopt, "nvfp4"},
                                       ReadableType{"Q4_K", std::nullopt, "gguf/q4_k"}};
constexpr std::string_view kEmbedding = "token_embd.weight";
constexpr std::string_view kPositions = "position_embd.weight";
constexpr std::string_view kHead = "output.weight";
constexpr std::size_t kShownProblems = 8;
constexpr std::size_t kMostLayers = 10000;  // what check_architecture() lets pass

std::string readable_names() {
  std::vector<std::string> names;
  for (const ReadableType& type : kReadableTypes) names.emplace_back(type.name);
  return join_words(names);
}

/// The decimal number that was meant: 1e-5 was stored as the float nearest to it, 9.99999974e-06.
double decimal_of(float stored) {
  const std::string shortest = fmt::format("{}", stored);
  double value = stored;  // stays for what from_chars does not take
  std::from_chars(shortest.data(), shortest.data() + shortest.size(), value);
  return value;
}

std::string key_of(const GgufFile& file, std::string_view suffix) {
  return fmt::format("{}.{}", file.get<std::string>("general.architecture"), suffix);
}

std::size_t count_or(const GgufFile& file, std::string_view suffix, std::size_t when_absent) {
  const auto* const value = file.find<std::uint32_t>(key_of(file, suffix));
  return value ? *value : when_absent;
}
std::size_t count(const GgufFile& file, std::string_view suffix) {
  return file.get<std::uint32_t>(key_of(file, suffix));
}

const FamilyInfo& family_of(const GgufFile& file) {
  const std::string& name = file.get<std::string>("general.architecture");
  const bool mixture = count_or(file, "expert_count", 0) > 0;
  if (const FamilyInfo* const family = family_of_gguf(name, mixture)) return *family;
  if (family_of_gguf(name, !mixture))
    fail(ErrorKind::bad_data, "architecture '{}' {} is not supported", name,
         mixture ? "with experts" : "without experts");
  std::vector<std::string> known;
  for (const FamilyInfo& family : families())
    if (std::ranges::find(known, family.gguf_name) == known.end()) known.emplace_back(family.gguf_name);
  fail(ErrorKind::bad_data, "architecture '{}' is not supported{}; known: {}", name, suggestion(name, known),
       join_words(known));
}

double number_or(const GgufFile& file, std::string_view key, double when_absent) {
  const auto* const value = file.find<float>(key);
  return value ? decimal_of(*value) : when_absent;
}

/// The factor that runtimes divide positions by unless the type says otherwise: it needs no type beside it. Older
/// converters wrote the second key; 0 stands for "not scaled".
double linear_rope_factor(const GgufFile& file) {
  const double older = number_or(file, key_of(file, "rope.scale_linear"), 1);
  const double factor = number_or(file, key_of(file, "rope.scaling.factor"), older);
  return factor == 0 ? 1 : factor;
}

/// How many experts there are and how wide, of a mixture. Whether their weights are renormalised is for runtimes to
/// know.
void read_mixture(const GgufFile& file, const FamilyInfo& family, Architecture& result) {
  const MixtureRule& rule = family.mixture;
  if (rule.count_key.empty()) return;
  result.experts = count(file, "expert_count");
  result.experts_per_token = count_or(file, "expert_used_count", 0);
  const std::size_t each = result.experts_per_token > 0 ? result.ffn / result.experts_per_token : 0;
  const bool own_width = rule.width_key != "intermediate_size";
  result.expert_ffn = own_width ? count_or(file, "expert_feed_forward_length", each) : result.ffn;
  if (!rule.shared_width_key.empty())
    result.shared_ffn = count_or(file, "expert_shared_feed_forward_length", result.ffn);
  result.renormalised = rule.renormalised_in_gguf;
}

/// Fastest first as stored -> slowest first as in TensorSpec; trailing dimensions of 1 mean nothing.
std::vector<std::uint64_t> shape_of(const GgufTensor& tensor, std::size_t dimensions) {
  std::vector<std::uint64_t> dims = tensor.dims;
  while (dims.size() > dimensions && dims.back() == 1) dims.pop_back();
  while (dims.size() < dimensions) dims.push_back(1);
  std::ranges::reverse(dims);
  return dims;
}

/// Row g of `stored` goes to row order[g].
std::vector<std::byte> restore_rows(std::vector<std::byte> stored, std::span<const std::size_t> order) {
  std::vector<std::byte> restored(stored.size());
  const std::size_t row_bytes = stored.size() / order.size();
  for (std::size_t g = 0; g < order.size(); ++g)
    std::copy_n(stored.begin() + static_cast<std::ptrdiff_t>(g * row_bytes), row_bytes,
                restored.begin() + static_cast<std::ptrdiff_t>(order[g] * row_bytes));
  return restored;
}

std::string scale_name(std::string_view weight) { return std::string(weight.substr(0, weight.rfind('.'))) + ".scale"; }

/// Blocks of 64: four scales in E4M3, then eight bytes a group of 16, byte j with elements j and j + 8 (gguf.md 5.17).
TensorPtr nvfp4_tensor(Shape shape, std::span<const std::byte> payload, float scale) {
  constexpr std::size_t kGroup = 16, kGroups = 4, kBlock = 36;
  MinifloatMatrix matrix{*minifloat_spec_from_name("nvfp4"), shape, {}, {}};
  matrix.spec.divisor = 1;
  matrix.codes.resize(shape.count() / 2);
  matrix.scales.resize(shape.count() / kGroup);
  for (std::size_t group = 0; group < matrix.scales.size(); ++group) {
    const std::span<const std::byte> block = payload.subspan(group / kGroups * kBlock, kBlock);
    matrix.scales[group] = block[group % kGroups];
    const std::span<const std::byte> nibbles = block.subspan(kGroups + group % kGroups * kGroup / 2, kGroup / 2);
    for (std::size_t i = 0; i < kGroup; ++i) {
      const std::byte code = (nibbles[i % 8] >> (i < 8 ? 0 : 4)) & std::byte{15};
      matrix.codes[(group * kGroup + i) / 2] |= code << (4 * (i % 2));
    }
  }
  int exponent = 0;
  if (std::frexp(scale, &exponent) == 0.5f && std::isfinite(1.0f / scale)) {
    matrix.spec.divisor = 1.0f / scale;
    return pack_minifloats(matrix);
  }
  MatrixF values = pack_minifloats(matrix)->decode();
  for (float& value : values.values()) value *= scale;
  return std::make_shared<DenseTensor>(make_dense(values, DType::f32));
}

}  // namespace

const GgufReadableType* find_readable_gguf_type(std::string_view name) {
  const auto* const row = std::ranges::find(kReadableTypes, name, &ReadableType::name);
  return row == kReadableTypes.end() ? nullptr : row;
}

TensorPtr tensor_of_gguf(const GgufReadableType& type, Shape shape, std::vector<std::byte> payload, float scale) {
  if (type.dtype) return std::make_shared<DenseTensor>(*type.dtype, shape, std::move(payload));
  if (type.name == kNvfp4) return nvfp4_tensor(shape, payload, scale);
  return std::make_shared<QuantizedTensor>(grid_from_name(type.grid), shape, std::move(payload));
}

std::vector<std::size_t> gguf_row_order(std::size_t rows, std::size_t heads) {
  std::vector<std::size_t> order(rows);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (heads == 0) return order;
  const std::size_t head_dim = rows / heads;
  if (head_dim * heads != rows || head_dim % 2 != 0)
    fail(ErrorKind::internal, "{} rows are not {} heads of an even number of rows", rows, heads);
  for (std::size_t g = 0; g < rows; ++g) {
    const std::size_t head = g / head_dim;
    const std::size_t inside = g % head_dim;
    order[g] = head * head_dim + (inside % 2) * (head_dim / 2) + inside / 2;
  }
  return order;
}

GgufWeights::GgufWeights(const std::filesystem::path& path) : GgufWeights(open_gguf(path)) {}

GgufWeights::GgufWeights(std::vector<GgufFile> files)
    : files_(std::move(files)), origin_(files_.front().path().string()) {
  with_context(origin_, [&] {
    layout_ = &family_of(files_.front());
    architecture_ = read_architecture();
    linears_ = block_linears(architecture_, *layout_);
  });
  check_tensors();
}

GgufWeights::Place GgufWeights::find(std::string_view name) const {
  for (const GgufFile& file : files_)
    if (const GgufTensor* const tensor = file.find_tensor(name)) return {&file, tensor};
  return {};
}

/// The divisors of a rule that we can name, which is then checked, or as they are.
RopeSpec GgufWeights::read_divided_rope(RopeSpec rope, std::size_t rotated) const {
  const GgufFile& file = files_.front();
  const std::vector<float> stored = read_vector(std::string(divisors_name()), {});
  if (stored.size() != rotated / 2)
    fail(ErrorKind::bad_data, "tensor '{}' has {} values, heads have {} pairs", divisors_name(), stored.size(),
         rotated / 2);
  rope.kind = RopeKind::llama3;
  rope.factor = number_or(file, kGgufRopeFactor, decimal_of(*std::ranges::max_element(stored)));
  rope.low_freq_factor = number_or(file, kGgufRopeLowFactor, rope.low_freq_factor);
  rope.high_freq_factor = number_or(file, kGgufRopeHighFactor, rope.high_freq_factor);
  if (const auto* const context = file.find<std::uint32_t>(kGgufRopeOriginalContext))
    rope.original_max_positions = *context;
  constexpr double kTolerance = 1e-4;  // converters compute the divisors in float32
  const std::vector<double> computed = rope_divisors(rope, rotated);
  const auto differs = [&](double rule, float value) { return !(std::fabs(rule - value) <= kTolerance * rule); };
  const auto other = std::ranges::mismatch(computed, stored, std::not_fn(differs));
  if (other.in1 == computed.end()) return rope;
  if (file.find_value(kGgufRopeFactor) != nullptr)
    fail(ErrorKind::bad_data,
         "tensor '{}': element {} is {}, but the llama3 rule with factor {}, low {}, high {}, context {} gives {}",
         divisors_name(), other.in2 - stored.begin(), *other.in2, rope.factor, rope.low_freq_factor,
         rope.high_freq_factor, rope.original_max_positions, *other.in1);
  RopeSpec divided;
  divided.theta = rope.theta;
  divided.kind = RopeKind::longrope;
  std::ranges::transform(stored, std::back_inserter(divided.divisors), decimal_of);
  return divided;
}

std::string_view GgufWeights::divisors_name() const {
  return layout_->long_rope_in_gguf ? kGgufShortDivisors : kGgufRopeDivisors;
}

/// Two sets of divisors, equal where the context does not matter, and an attention factor.
RopeSpec GgufWeights::read_long_rope(RopeSpec rope) const {
  const GgufFile& file = files_.front();
  if (!find(kGgufLongDivisors))
    fail(ErrorKind::bad_data, "tensor '{}' is there, and no '{}'", kGgufShortDivisors, kGgufLongDivisors);
  const std::vector<float> within = read_vector(std::string(kGgufShortDivisors), {});
  const std::vector<float> beyond = read_vector(std::string(kGgufLongDivisors), {});
  rope.kind = RopeKind::longrope;
  std::ranges::transform(within, std::back_inserter(rope.divisors), decimal_of);
  rope.attention_factor = number_or(file, key_of(file, "rope.scaling.attn_factor"), 1);
  if (beyond == within) return rope;
  std::ranges::transform(beyond, std::back_inserter(rope.long_divisors), decimal_of);
  rope.original_max_positions = count_or(file, "rope.scaling.original_context_length", count(file, "context_length"));
  return rope;
}

RopeSpec GgufWeights::read_yarn(RopeSpec rope, double factor) const {
  const GgufFile& file = files_.front();
  if (find(divisors_name()))
    fail(ErrorKind::bad_data, "RoPE scaling by yarn and by tensor '{}' together is not supported", divisors_name());
  rope.kind = RopeKind::yarn;
  rope.factor = factor;
  rope.original_max_positions = count_or(file, "rope.scaling.original_context_length", count(file, "context_length"));
  rope.beta_fast = number_or(file, key_of(file, "rope.scaling.yarn_beta_fast"), rope.beta_fast);
  rope.beta_slow = number_or(file, key_of(file, "rope.scaling.yarn_beta_slow"), rope.beta_slow);
  rope.attention_factor =
      number_or(file, key_of(file, "rope.scaling.attn_factor"), 1) * yarn_attention_factor(rope.factor);
  return rope;
}

RopeSpec GgufWeights::read_rope(std::size_t rotated) const {
  const GgufFile& file = files_.front();
  RopeSpec rope;
  rope.theta = number_or(file, key_of(file, "rope.freq_base"), rope.theta);
  const auto* const scaling = file.find<std::string>(key_of(file, "rope.scaling.type"));
  const double factor = linear_rope_factor(file);
  if (scaling && *scaling == "yarn" && factor != 1) return read_yarn(std::move(rope), factor);
  if (scaling && *scaling != "none" && *scaling != "linear" && *scaling != "yarn")
    fail(ErrorKind::bad_data, "RoPE scaling '{}' is not supported; known: none, linear, yarn and divisors", *scaling);
  const bool is_linear = scaling ? *scaling == "linear" : factor != 1;
  if (is_linear && factor != 1 && find(divisors_name()))
    fail(ErrorKind::bad_data, "RoPE scaling by a linear factor of {} and by tensor '{}' together is not supported",
         factor, divisors_name());
  // Of two sets, only a key of ours says that the rule of llama3 made them.
  const bool may_be_llama3 = !layout_->long_rope_in_gguf || file.find_value(kGgufRopeFactor) != nullptr;
  if (find(divisors_name())) return may_be_llama3 ? read_divided_rope(rope, rotated) : read_long_rope(rope);
  if (!is_linear) return rope;
  rope.kind = RopeKind::linear;
  rope.factor = factor;
  return rope;
}

/// What files say in keys of their family, or what runtimes take for granted of it.
void GgufWeights::read_family_settings(Architecture& result) const {
  const GgufFile& file = files_.front();
  const FamilyInfo& family = result.info();
  result.activation = family.gguf_activation();
  result.embedding_scale = gguf_embedding_scale(result);
  if (const double scalar = gguf_score_scalar(result); scalar != static_cast<double>(result.head_dim))
    result.score_scalar = scalar;
  result.attention_cap = number_or(file, key_of(file, "attn_logit_softcapping"), family.scores.attention_cap);
  result.final_cap = number_or(file, key_of(file, "final_logit_softcapping"), family.scores.final_cap);
  const SlidingRule& rule = family.window;
  if (rule.key.empty() && family.gguf_name != kGgufLlama && count_or(file, "attention.sliding_window", 0) > 0)
    fail(ErrorKind::bad_data, "a sliding window, which {} does not have, is not supported", family.hf_class);
  if (!rule.in_gguf) return;
  if (const std::size_t every = count_or(file, "attention.sliding_window_pattern", rule.every); every != rule.every)
    fail(ErrorKind::bad_data, "a window in all but every {}th layer is not supported, only every {}th", every,
         rule.every);
  // Without a window there is one RoPE only, in families that have two.
  result.sliding_window = count_or(file, "attention.sliding_window", rule.theta_key.empty() ? rule.width : 0);
  if (rule.theta_key.empty() && result.sliding_window >= result.max_positions) result.sliding_window = 0;
  if (result.sliding_window == 0 || result.layers > kMostLayers) return;
  for (std::size_t i = 0; i < result.layers; ++i) result.full_attention.push_back(gguf_sees_all(family, i));
  if (std::ranges::find(result.full_attention, true) == result.full_attention.end()) result.full_attention.clear();
  if (rule.theta_key.empty()) return;
  const RopeSpec sliding{.theta = number_or(file, key_of(file, "rope.freq_base_swa"), rule.theta)};
  if (sliding != result.rope) result.sliding_rope = sliding;
}

Architecture GgufWeights::read_architecture() const {
  const GgufFile& file = files_.front();
  const FamilyInfo& family = *layout_;
  const Place embedding = find(kEmbedding);
  if (!embedding || embedding.tensor->dims.size() != 2)
    fail(ErrorKind::bad_data, "no tensor '{}' of two dimensions", kEmbedding);

  Architecture result;
  result.family = family.read_as.empty() ? family.hf_class : family.read_as;
  result.hidden = count(file, "embedding_length");
  result.ffn = count(file, "feed_forward_length");
  result.layers = count(file, "block_count");
  result.heads = count(file, "attention.head_count");
  result.kv_heads = count_or(file, "attention.head_count_kv", result.heads);
  result.head_dim = count_or(file, "attention.key_length", result.heads == 0 ? 0 : result.hidden / result.heads);
  result.vocab = checked_cast<std::size_t>(embedding.tensor->dims[1]);
  result.max_positions = count(file, "context_length");
  result.norm_eps = decimal_of(file.get<float>(key_of(file, gguf_norm_eps_key(family))));
  for (const char* const suffix : {"attention.value_length", "rope.dimension_count"})
    if (const std::size_t stored = count_or(file, suffix, result.head_dim); stored != result.head_dim) {
      if (family.long_rope_in_gguf && suffix == std::string_view("rope.dimension_count") && stored > 0)
        result.rotary_dim = stored;
      else
        fail(ErrorKind::bad_data, "{} is {}, but heads have {} elements", key_of(file, suffix), stored,
             result.head_dim);
    }
  read_mixture(file, family, result);
  if (!family.positions.learned) result.rope = read_rope(result.rotated());
  read_family_settings(result);
  result.tied = !find(kHead);
  read_biases(result);
  if (const auto* const bos = file.find<std::uint32_t>("tokenizer.ggml.bos_token_id"))
    result.bos_id = checked_cast<std::int32_t>(*bos);
  if (const auto* const eos = file.find<std::uint32_t>("tokenizer.ggml.eos_token_id"))
    result.eos_ids = {checked_cast<std::int32_t>(*eos)};
  check_architecture(result, family.gguf_name);
  return result;
}

void GgufWeights::read_biases(Architecture& result) const {
  const FamilyInfo& family = *layout_;
  result.qkv_bias = static_cast<bool>(find(family.qkv_fused_in_gguf ? "blk.0.attn_qkv.bias" : "blk.0.attn_q.bias"));
  result.o_bias = static_cast<bool>(find("blk.0.attn_output.bias"));
  result.mlp_bias = static_cast<bool>(find(family.is_gated() ? "blk.0.ffn_gate.bias" : "blk.0.ffn_up.bias"));
  const bool as_meant =
      result.qkv_bias == family.qkv_bias && result.o_bias == family.o_bias && result.mlp_bias == family.mlp_bias;
  if (family.gguf_name != kGgufLlama && !as_meant)
    fail(ErrorKind::bad_data, "biases of q, k and v: {}, of the output projection: {}, of the FFN: {}; {} has {}",
         result.qkv_bias, result.o_bias, result.mlp_bias, family.hf_class,
         family.o_bias     ? "all of them"
         : family.qkv_bias ? "those of q, k and v"
                           : "none");
}

/// What is wrong with the stored tensor, or "".
std::string GgufWeights::problem_of(const TensorSpec& spec) const {
  const Place place = find(spec.gguf_name);
  if (!place) return fmt::format("tensor '{}' is missing", spec.gguf_name);
  std::vector<std::uint64_t> wanted = spec.shape;
  if (spec.gguf_rows.all > 0) wanted.front() = spec.gguf_rows.all;
  if (spec.slot && spec.slot->is_expert()) wanted.insert(wanted.begin(), architecture_.experts);
  const std::vector<std::uint64_t> stored = shape_of(*place.tensor, wanted.size());
  if (stored != wanted)
    return fmt::format("tensor '{}' has shape [{}], but the metadata ask for [{}]", spec.gguf_name,
                       fmt::join(stored, ", "), fmt::join(wanted, ", "));
  const ReadableType* const type = find_readable_gguf_type(place.tensor->type->name);
  if (type == nullptr)
    return fmt::format("tensor '{}' has type {}, which is not supported; known: {}", spec.gguf_name,
                       place.tensor->type->name, readable_names());
  if (spec.shape.size() == 1 && !type->dtype)
    return fmt::format("tensor '{}' is a vector of type {}; norms and biases are F32, F16 or BF16", spec.gguf_name,
                       type->name);
  return "";
}

void GgufWeights::check_tensors() const {
  std::vector<std::string> problems;
  std::unordered_set<std::string> known = {std::string(divisors_name())};
  if (layout_->long_rope_in_gguf) known.insert(std::string(kGgufLongDivisors));
  for (const TensorSpec& spec : expected_tensors(architecture_, *layout_)) {
    if ((spec.slot && spec.slot->expert > 0) || spec.gguf_rows.first > 0) continue;  // in the tensor of the first
    if (std::string problem = problem_of(spec); !problem.empty()) problems.push_back(std::move(problem));
    known.insert(spec.gguf_name);
    const Place place = find(spec.gguf_name);
    if (spec.role != TensorRole::linear || !place || place.tensor->type->name != kNvfp4) continue;
    const Place scale = find(scale_name(spec.gguf_name));
    const ReadableType* const type = scale ? find_readable_gguf_type(scale.tensor->type->name) : nullptr;
    if (scale && (type == nullptr || !type->dtype))
      problems.push_back(fmt::format("tensor '{}' has type {}, scales are floats", scale_name(spec.gguf_name),
                                     scale.tensor->type->name));
    known.insert(scale_name(spec.gguf_name));
    known.insert(spec.gguf_name.substr(0, spec.gguf_name.rfind('.')) + ".input_scale");  // of 4-bit inputs
  }
  for (const GgufFile& file : files_)
    for (const GgufTensor& tensor : file.tensors())
      if (!known.contains(tensor.name))
        problems.push_back(fmt::format("tensor '{}' is not part of the architecture", tensor.name));
  if (problems.empty()) return;
  const std::size_t shown = std::min(problems.size(), kShownProblems);
  const std::string more = problems.size() > shown ? fmt::format("; and {} more", problems.size() - shown) : "";
  problems.resize(shown);
  fail(ErrorKind::bad_data, "{}: {}{}", origin_, fmt::join(problems, "; "), more);
}

/// As a matrix of one column, so that its elements are rows.
std::vector<float> GgufWeights::read_vector(const std::string& name, Rows rows) const {
  const MatrixF values = read_tensor(name, rows, 1)->decode();
  return {values.values().begin(), values.values().end()};
}

TensorPtr GgufWeights::read_matrix(const std::string& name, Rows rows) const { return read_tensor(name, rows, 2); }

TensorPtr GgufWeights::read_tensor(const std::string& name, Rows rows, std::size_t dimensions) const {
  const Place place = find(name);
  if (!place) fail(ErrorKind::internal, "{}: tensor '{}' was checked and is missing", origin_, name);
  return with_context(fmt::format("{}: tensor '{}'", place.file->path().string(), name), [&] {
    const GgufTensor& stored = *place.tensor;
    const ReadableType* const type = find_readable_gguf_type(stored.type->name);
    const std::vector<std::uint64_t> dims = shape_of(stored, dimensions);
    if (type == nullptr || dims.size() != dimensions)
      fail(ErrorKind::bad_data, "type {} with {} dimensions is not supported", stored.type->name, stored.dims.size());
    const auto all = checked_cast<std::size_t>(dims[0]);
    const Shape shape{rows.count > 0 ? rows.count : all, dimensions == 1 ? 1 : checked_cast<std::size_t>(dims[1])};
    if (rows.first + shape.rows > all) fail(ErrorKind::internal, "has {} rows, which were checked", all);
    const std::size_t row_bytes = all == 0 ? 0 : checked_cast<std::size_t>(stored.bytes) / all;
    std::vector<std::byte> payload(shape.rows * row_bytes);
    place.file->read(stored, rows.first * row_bytes, payload);
    if (rows.permuted_heads > 0)
      payload = restore_rows(std::move(payload), gguf_row_order(shape.rows, rows.permuted_heads));
    const float scale = type->name == kNvfp4 ? scale_of(name) : 1.0f;
    const TensorPtr tensor = tensor_of_gguf(*type, shape, std::move(payload), scale);
    require_finite(*tensor);
    return tensor;
  });
}

/// One expert of a tensor that has all of them, one after the other.
TensorPtr GgufWeights::read_expert(const std::string& name, std::size_t expert) const {
  const Place place = find(name);
  if (!place) fail(ErrorKind::internal, "{}: tensor '{}' was checked and is missing", origin_, name);
  return with_context(fmt::format("{}: tensor '{}', expert {}", place.file->path().string(), name, expert), [&] {
    const GgufReadableType& type = *find_readable_gguf_type(place.tensor->type->name);
    const std::vector<std::uint64_t> dims = shape_of(*place.tensor, 3);
    std::vector<std::byte> payload(checked_cast<std::size_t>(place.tensor->bytes / dims[0]));
    place.file->read(*place.tensor, expert * std::uint64_t{payload.size()}, payload);
    const Shape shape{checked_cast<std::size_t>(dims[1]), checked_cast<std::size_t>(dims[2])};
    const float scale = type.name == kNvfp4 ? scale_of(name, expert) : 1.0f;
    const TensorPtr tensor = tensor_of_gguf(type, shape, std::move(payload), scale);
    require_finite(*tensor);
    return tensor;
  });
}

float GgufWeights::scale_of(const std::string& name, std::size_t expert) const {
  const std::string own = scale_name(name);
  if (!find(own)) return 1.0f;
  const std::vector<float> stored = read_vector(own, {});
  const bool stacked = name.ends_with("_exps.weight");
  if (stored.size() != (stacked ? architecture_.experts : 1) || !(stored[stacked ? expert : 0] > 0))
    fail(ErrorKind::bad_data, "{}: tensor '{}' is not {}", origin_, own,
         stacked ? "a positive number for each expert" : "one positive number");
  return stored[stacked ? expert : 0];
}

const LinearInfo& GgufWeights::linear(LinearSlot slot) const {
  return *std::ranges::find(linears_, slot, &LinearInfo::slot);
}

GgufWeights::Rows GgufWeights::rows_of(const LinearInfo& info) const {
  return {layout_->qk_rows_permuted_in_gguf ? info.permuted_heads : 0, info.gguf_rows.first,
          info.gguf_rows.all > 0 ? info.shape.rows : 0};
}

TensorPtr GgufWeights::read_weight(std::size_t block, const LinearInfo& info) const {
  const std::string name = fmt::format("blk.{}.{}.weight", block, info.gguf);
  return info.slot.is_expert() ? read_expert(name, static_cast<std::size_t>(info.slot.expert))
                               : read_matrix(name, rows_of(info));
}

std::vector<float> GgufWeights::read_bias(std::size_t block, const LinearInfo& info) const {
  return read_vector(fmt::format("blk.{}.{}.bias", block, info.gguf), rows_of(info));
}

std::vector<float> GgufWeights::read_norm(std::size_t block, const NormInfo& info, std::string_view suffix) const {
  const std::string name = fmt::format("blk.{}.{}.{}", block, info.gguf, suffix);
  return suffix == "bias" ? read_vector(name, {}) : read_norm(name);
}

TensorPtr GgufWeights::matrix_in_block(const TensorSpec& spec) const {
  return read_weight(*spec.block, linear(*spec.slot));
}

std::vector<float> GgufWeights::vector_in_block(const TensorSpec& spec) const {
  if (spec.slot) return read_bias(*spec.block, linear(*spec.slot));
  const NormInfo& info = *std::ranges::find(architecture_.info().norms, *spec.norm, &NormInfo::slot);
  return read_norm(*spec.block, info, spec.role == TensorRole::bias ? "bias" : "weight");
}

TensorPtr GgufWeights::embedding() const { return read_matrix(std::string(kEmbedding), {}); }

TensorPtr GgufWeights::positions() const {
  if (!architecture_.learns_positions()) return nullptr;
  const MatrixF stored = read_matrix(std::string(kPositions), {})->decode();
  MatrixF table(architecture_.position_rows(), architecture_.hidden);
  std::ranges::copy(stored.values(), table.row(table.rows() - stored.rows()).data());
  return std::make_shared<DenseTensor>(make_dense(table, DType::f32));
}

BlockWeights GgufWeights::block(std::size_t index) const {
  return assemble_block(
      architecture_, index,
      [&](const NormInfo& info, std::string_view suffix) { return read_norm(index, info, suffix); },
      [&](const LinearInfo& info) {
        const LinearInfo& stored = linear(info.slot);
        return Linear{read_weight(index, stored), stored.has_bias ? read_bias(index, stored) : std::vector<float>()};
      });
}

std::vector<float> GgufWeights::final_norm() const { return read_norm("output_norm.weight"); }

std::vector<float> GgufWeights::final_norm_bias() const {
  const bool has_bias = architecture_.info().norm_kind == NormKind::layer;
  return has_bias ? read_vector("output_norm.bias", {}) : std::vector<float>();
}

/// A file has the gains themselves.
std::vector<float> GgufWeights::read_norm(const std::string& name) const {
  return norm_of_gains(architecture_, read_vector(name, {}));
}

TensorPtr GgufWeights::head() const { return architecture_.tied ? embedding() : read_matrix(std::string(kHead), {}); }

}  // namespace adze
