#include "model/onnx/decoder_check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>

#include "base/error.h"
#include "model/onnx/node_check.h"
#include "model/onnx/onnx_matrix.h"
#include "model/rope.h"
#include "model/tensors.h"

namespace adze {
namespace {

using Values = std::vector<std::string>;

/// What GroupQueryAttention may say: anything else would change what it computes.
constexpr std::array<std::string_view, 7> kAttentionSettings{
    "num_heads", "kv_num_heads", "scale", "do_rotary", "rotary_interleaved", "local_window_size", "softcap"};

/// Nodes mean what these versions say.
void check_versions(const OnnxFile& file) {
  constexpr std::int64_t kIrVersion = 10;
  const std::map<std::string, std::int64_t> known{{"", 21}, {"com.microsoft", 1}};
  if (file.ir_version() != kIrVersion)
    fail(ErrorKind::bad_data, "IR version {}; {} is read", file.ir_version(), kIrVersion);
  if (!file.operators().contains("")) fail(ErrorKind::bad_data, "no version of the standard's operators");
  for (const auto& [domain, version] : file.operators())
    if (const auto at = known.find(domain); at == known.end() || at->second != version)
      fail(ErrorKind::bad_data, "operators of '{}' in version {}; read are {}", domain, version, known);
  for (const OnnxNode& node : file.nodes())
    if (!file.operators().contains(node.domain))
      fail(ErrorKind::bad_data, "node '{}' is of the domain '{}', which has no version", node.name, node.domain);
}

/// suffix: of the tables' names. Of two sets of factors, the second one's rows lie behind the others.
void check_rope(const OnnxFile& file, const Architecture& a, const RopeSpec& rope, const std::string& suffix) {
  constexpr double kRounding = 1e-6;  // of angles that another library may have turned into a cosine
  const std::vector<RopeSpec> sets = rope_sets(rope);
  const std::size_t pairs = a.rotated() / 2, turns = a.max_positions * pairs;
  const double tolerance = kRounding * std::max(1.0, rope.attention_factor);
  const auto check = [&](const std::string& name, double (*function)(double)) {
    const OnnxTensor& tensor = require_tensor(file, name, kOnnxFloat, {sets.size() * a.max_positions, pairs});
    const std::vector<std::byte> bytes = file.read(tensor);
    for (std::size_t set = 0; set < sets.size(); ++set) {
      const std::vector<double> frequencies = rope_frequencies(sets[set], a.rotated());
      for (std::size_t i = 0; i < turns; ++i) {
        float value = 0;
        std::memcpy(&value, bytes.data() + (set * turns + i) * sizeof(float), sizeof(float));
        const std::size_t position = i / pairs;
        const double angle = static_cast<double>(position) * frequencies[i % pairs];
        if (!(std::fabs(value - rope.attention_factor * function(angle)) <= tolerance))
          fail(ErrorKind::bad_data, "initializer '{}': position {} has another angle than config.json's RoPE", name,
               position);
      }
    }
  };
  check("cos_cache" + suffix, [](double angle) { return std::cos(angle); });
  check("sin_cache" + suffix, [](double angle) { return std::sin(angle); });
}

/// Each function follows a part of the decoder: it takes the values that the part reads and gives the one it makes.
class Decoder {
 public:
  Decoder(const OnnxFile& file, const Architecture& architecture) : file_(file), a_(architecture) {}

  void check() {
    first_states();
    for (std::size_t block = 0; block < a_.layers; ++block) check_block(block);
    std::string logits = product("/lm_head", norm_of_states("/model/norm/LayerNorm", std::string(kFinalNormModule)));
    if (a_.final_cap != 0) logits = capped("/lm_head", logits, a_.final_cap);
    if (take("/logits", "Identity", {logits}) != "logits")
      fail(ErrorKind::bad_data, "node '/logits' does not make the graph's logits");
  }

 private:
  static std::int64_t number(std::size_t value) { return static_cast<std::int64_t>(value); }

  const OnnxNode& node(const std::string& name) const { return node_of(file_, name); }
  std::string take(const std::string& name, std::string_view op, const Values& inputs) const {
    return adze::take(file_, name, op, inputs);
  }

  /// Of a node with a number as the second input.
  std::string with_number(const std::string& name, std::string_view op, const std::string& x, double want) const {
    expect_constant<float>(file_, name, kOnnxFloat, {}, {static_cast<float>(want)});
    return take(name, op, {x});
  }

  std::string stored(const std::string& module, const char* suffix) const {
    return fmt::format("{}.{}", stored_name(a_, module), suffix);
  }

  /// Floats are perhaps cast.
  std::string rows(const std::string& name, std::string_view module, const std::string& ids) const {
    const std::string found = take(name + "/Gather", "Gather", {stored(std::string(module), "weight"), ids});
    return file_.find_node(name + "/Cast") == nullptr ? found : take(name + "/Cast", "Cast", {found});
  }

  std::string embedding() const {
    const std::string name = "/model/embed_tokens";
    const OnnxNode* const blocks = file_.find_node(name + "/GatherBlockQuantized");
    if (blocks == nullptr) return rows(name, kEmbeddingModule, "input_ids");
    if (blocks->inputs.size() < 2 || blocks->inputs[1] != "input_ids")
      fail(ErrorKind::bad_data, "node '{}' does not read input_ids", blocks->name);
    return take(blocks->name, "GatherBlockQuantized", {});
  }

  void first_states() {
    residual_ = embedding();
    if (a_.embedding_scale != 1)
      residual_ = with_number("/model/embed_tokens/scale/Mul", "Mul", residual_, a_.embedding_scale);
    if (!a_.learns_positions()) return;
    const std::string name = fmt::format("/model/{}", kPositionsModule);
    const auto offset = number(a_.info().positions.offset);
    expect_constant<std::int64_t>(file_, name + "/Add", kOnnxI64, {}, {offset});
    const std::string row = take(name + "/Add", "Add", {new_positions()});
    residual_ = take(name + "/states/Add", "Add", {residual_, rows(name, kPositionsModule, row)});
  }

  std::string new_positions() const {
    const std::string base = "/model/positions";
    const std::string counted = take(base + "/Sub", "Sub", {take(base + "/CumSum", "CumSum", {"attention_mask"})});
    return take(base + "/Slice", "Slice", {take(base + "/Max", "Max", {counted})});
  }

  std::string product(const std::string& name, const std::string& x) const {
    if (file_.find_node(name + "/MatMulNBits") != nullptr) return take(name + "/MatMulNBits", "MatMulNBits", {x});
    return take(name + "/MatMul", "MatMul", {x});
  }

  std::string linear(std::size_t block, LinearSlot slot, const std::string& x) const {
    const LinearInfo info = info_of(a_, slot);
    const std::string module = module_name(block, info), name = "/model/" + module;
    const std::string y = product(name, x);
    return info.has_bias ? take(name + "/Add", "Add", {y, stored(module, "bias")}) : y;
  }

  /// cap tanh(x / cap)
  std::string capped(const std::string& name, const std::string& x, double cap) const {
    const std::string part = with_number(name + "/cap/Div", "Div", x, cap);
    return with_number(name + "/cap/Mul", "Mul", take(name + "/cap/Tanh", "Tanh", {part}), cap);
  }

  std::string norm_of(const std::string& name, const std::string& module, const std::string& x) const {
    const std::string weight = stored(module, "weight");
    const auto epsilon = static_cast<float>(a_.norm_eps);
    const bool subtracts_mean = a_.info().norm_kind == NormKind::layer;
    if (const OnnxNode* const found = file_.find_node(name); found != nullptr || subtracts_mean) {
      expect_setting(node(name), "epsilon", epsilon);
      return subtracts_mean ? take(name, "LayerNormalization", {x, weight, stored(module, "bias")})
                            : take(name, "SimplifiedLayerNormalization", {x, weight});
    }
    expect_constant<float>(file_, name + "/Add", kOnnxFloat, {}, {epsilon});
    expect_constant<std::int64_t>(file_, name + "/ReduceMean", kOnnxI64, {1}, {-1});
    const std::string mean = take(name + "/ReduceMean", "ReduceMean", {take(name + "/Mul", "Mul", {x, x})});
    const std::string root = take(name + "/Sqrt", "Sqrt", {take(name + "/Add", "Add", {mean})});
    return take(name + "/weight/Mul", "Mul", {take(name + "/Div", "Div", {x, root}), weight});
  }

  /// The residual stream, after what the part before left is added to it.
  std::string states(const std::string& name) {
    if (!added_.empty()) residual_ = take(name + "/residual/Add", "Add", {residual_, added_});
    added_.clear();
    return residual_;
  }

  std::string norm_of_states(const std::string& name, const std::string& module) {
    const OnnxNode* const skip = file_.find_node(name);
    if (!is_operator(skip, "SkipSimplifiedLayerNormalization") || a_.info().norm_kind != NormKind::rms)
      return norm_of(name, module, states(name));
    expect_setting(*skip, "epsilon", static_cast<float>(a_.norm_eps));
    const std::string normed =
        take(name, "SkipSimplifiedLayerNormalization", {residual_, added_, stored(module, "weight")});
    if (module != kFinalNormModule && skip->outputs.size() != 4)
      fail(ErrorKind::bad_data, "node '{}' does not give the states", name);
    residual_ = skip->outputs.back();
    added_.clear();
    return normed;
  }

  const NormInfo* norm_at(NormSlot slot) const {
    const auto at = std::ranges::find(a_.info().norms, slot, &NormInfo::slot);
    return at == a_.info().norms.end() ? nullptr : &*at;
  }
  static std::string norm_name(std::size_t block, const NormInfo& info) {
    return "/model/" + module_name(block, info) + "/LayerNorm";
  }

  std::string input_of(std::size_t block, NormSlot before, const char* part) {
    if (const NormInfo* const info = norm_at(before))
      return norm_of_states(norm_name(block, *info), module_name(block, *info));
    return states(fmt::format("/model/layers.{}/{}", block, part));
  }

  std::string output_of(std::size_t block, NormSlot after, const std::string& y) const {
    const NormInfo* const info = norm_at(after);
    return info == nullptr ? y : norm_of(norm_name(block, *info), module_name(block, *info), y);
  }

  std::string normed_heads(std::size_t block, NormSlot slot, const std::string& x, std::size_t count) const {
    const NormInfo* const info = norm_at(slot);
    if (info == nullptr) return x;
    const std::string name = norm_name(block, *info), module = module_name(block, *info);
    if (a_.info().qk_norms_span_heads) return norm_of(name, module, x);
    expect_constant<std::int64_t>(file_, name + "/heads", kOnnxI64, {4}, {0, 0, number(count), number(a_.head_dim)});
    const std::string normed = norm_of(name, module, take(name + "/heads", "Reshape", {x}));
    return take(name + "/flat", "Reshape", {normed});
  }

  bool has_window(std::size_t block) const { return a_.sliding_window > 0 && !a_.sees_all(block); }
  bool has_both_masks() const { return !a_.full_attention.empty(); }
  std::string rope_suffix(std::size_t block) const { return a_.sliding_rope && has_window(block) ? "_window" : ""; }
  float scale_of_scores() const {
    const double scalar = a_.score_scalar != 0 ? a_.score_scalar : static_cast<double>(a_.head_dim);
    return static_cast<float>(1.0 / std::sqrt(scalar));
  }

  bool has_two_sets() const { return !a_.learns_positions() && rope_sets(a_.rope).size() > 1; }

  /// The row of the tables behind which turns lie that the length of the text decides.
  std::string first_turn() const {
    const std::string base = "/model/rope";
    expect_constant<std::int64_t>(file_, base + "/Greater", kOnnxI64, {}, {number(a_.rope.original_max_positions)});
    expect_constant<std::int64_t>(file_, base + "/Mul", kOnnxI64, {}, {number(a_.max_positions)});
    const std::string is_longer = take(base + "/Greater", "Greater", {length()});
    return take(base + "/Mul", "Mul", {take(base + "/Cast", "Cast", {is_longer})});
  }

  /// Tokens that there are, old and new.
  std::string length() const {
    const std::string base = "/model/rope/total";
    return take(base + "/Gather", "Gather", {take(base + "/Shape", "Shape", {"attention_mask"})});
  }

  /// What an operator reads: the table, or the part of it with the turns of one of two sets.
  std::string table_of(std::size_t block, const std::string& which) const {
    const std::string table = which + rope_suffix(block);
    if (!has_two_sets() || table != which) return table;
    const std::string base = "/model/rope";
    const std::string first = take(base + "/first/Unsqueeze", "Unsqueeze", {first_turn()});
    const std::string end = take(base + "/last/Add", "Add", {first_turn(), length()});
    return take(fmt::format("{}/{}/Slice", base, table), "Slice",
                {table, first, take(base + "/last/Unsqueeze", "Unsqueeze", {end})});
  }

  std::string attention_operator(std::size_t block, const OnnxNode& found, Values inputs) const {
    expect_setting(found, "num_heads", number(a_.heads));
    expect_setting(found, "kv_num_heads", number(a_.kv_heads));
    expect_setting(found, "do_rotary", std::int64_t{!a_.learns_positions()});
    expect_setting(found, "rotary_interleaved", std::int64_t{0});
    expect_setting(found, "local_window_size", has_window(block) ? number(a_.sliding_window) : std::int64_t{-1});
    expect_setting(found, "scale", scale_of_scores());
    if (a_.attention_cap != 0 || found.numbers.contains("softcap"))
      expect_setting(found, "softcap", static_cast<float>(a_.attention_cap));
    for (const auto& [name, value] : found.numbers)
      if (std::ranges::find(kAttentionSettings, name) == kAttentionSettings.end())
        fail(ErrorKind::bad_data, "node '{}' has the setting {}, which adze does not write", found.name, name);
    for (const char* const what : {"key", "value"}) inputs.push_back(fmt::format("past_key_values.{}.{}", block, what));
    const std::size_t with_lengths = inputs.size() + 2;
    if (found.inputs.size() != with_lengths + (a_.learns_positions() ? 0 : 2))
      fail(ErrorKind::bad_data, "node '{}' has {} inputs", found.name, found.inputs.size());
    if (!a_.learns_positions() && (found.inputs[with_lengths] != table_of(block, "cos_cache") ||
                                   found.inputs[with_lengths + 1] != table_of(block, "sin_cache")))
      fail(ErrorKind::bad_data, "node '{}' has another RoPE than config.json says", found.name);
    return take(found.name, "GroupQueryAttention", inputs);
  }

  /// What is added to scores.
  std::string mask_of(std::size_t block) const {
    const std::string name = has_both_masks() && has_window(block) ? "/model/window_mask" : "/model/mask";
    std::string seen = take("/model/mask/causal", "LessOrEqual", {"/model/positions/Range/output_0"});
    if (has_window(block)) {
      expect_constant<std::int64_t>(file_, name + "/window/Sub", kOnnxI64, {}, {number(a_.sliding_window)});
      const std::string first = take(name + "/window/Sub", "Sub", {"/model/mask/queries/output_0"});
      const std::string inside = take(name + "/window/Greater", "Greater", {"/model/positions/Range/output_0", first});
      seen = take(name + "/window/And", "And", {seen, inside});
    } else if (file_.find_node(name + "/window/Sub") != nullptr) {
      fail(ErrorKind::bad_data, "node '{}/window/Sub': attention has a window, config.json has none", name);
    }
    return take(name + "/Where", "Where", {take(name + "/And", "And", {seen})});
  }

  std::string heads_of(const std::string& name, const std::string& x) const {
    return take(name + "/Transpose", "Transpose", {take(name + "/Reshape", "Reshape", {x})});
  }

  /// Cosines or sines of the new tokens.
  std::string turns_of(std::size_t block, const std::string& which) const {
    const std::string suffix = rope_suffix(block);
    const std::string name = (suffix.empty() ? "/model/positions/" : "/model/positions/window/") + which;
    std::string rows = new_positions();
    if (has_two_sets() && suffix.empty()) rows = take("/model/positions/rope/Add", "Add", {rows, first_turn()});
    return take(name + "/Unsqueeze", "Unsqueeze",
                {take(name + "/Gather", "Gather", {which + "_cache" + suffix, rows})});
  }

  void check_split(const std::string& name, const std::string& x) const {
    const std::int64_t half = number(a_.rotated() / 2), behind = number(a_.head_dim - a_.rotated());
    if (behind != 0)
      expect_constant<std::int64_t>(file_, name, kOnnxI64, {3}, {half, half, behind});
    else
      expect_setting(node(name), "num_outputs", std::int64_t{2});
    take(name, "Split", {x});
  }

  std::string rotated(std::size_t block, const std::string& name, const std::string& x) const {
    if (a_.learns_positions()) return x;
    check_split(name + "/Split", x);
    const Values parts = node(name + "/Split").outputs;
    const std::string cosines = turns_of(block, "cos"), sines = turns_of(block, "sin");
    if (parts.size() != (a_.rotated() < a_.head_dim ? 3 : 2))
      fail(ErrorKind::bad_data, "node '{}/Split' has {} outputs", name, parts.size());
    const std::string first =
        take(name + "/Sub", "Sub",
             {take(name + "/low_cos", "Mul", {parts[0], cosines}), take(name + "/high_sin", "Mul", {parts[1], sines})});
    const std::string second =
        take(name + "/Add", "Add",
             {take(name + "/high_cos", "Mul", {parts[1], cosines}), take(name + "/low_sin", "Mul", {parts[0], sines})});
    Values turned{first, second};
    turned.insert(turned.end(), parts.begin() + 2, parts.end());
    return take(name + "/Concat", "Concat", turned);
  }

  std::string with_past(const std::string& name, std::size_t block, const char* what, const std::string& x) const {
    const std::string past = fmt::format("past_key_values.{}.{}", block, what);
    return take(name + "/Unsqueeze", "Unsqueeze", {take(name + "/Concat", "Concat", {past, x})});
  }

  std::string attention_spelled_out(std::size_t block, const std::string& name, const Values& qkv) const {
    const std::int64_t kv_heads = number(a_.kv_heads), shared = number(a_.heads) / kv_heads;
    expect_constant<std::int64_t>(file_, name + "/q/groups", kOnnxI64, {5},
                                  {0, kv_heads, shared, -1, number(a_.head_dim)});
    expect_constant<float>(file_, name + "/scores/Mul", kOnnxFloat, {}, {scale_of_scores()});
    const std::string mask = mask_of(block);
    const std::string q = rotated(block, name + "/q/rotary", heads_of(name + "/q", qkv[0]));
    const std::string k = rotated(block, name + "/k/rotary", heads_of(name + "/k", qkv[1]));
    const std::string keys = with_past(name + "/key", block, "key", k);
    const std::string values = with_past(name + "/value", block, "value", heads_of(name + "/v", qkv[2]));
    const std::string products =
        take(name + "/scores/MatMul", "MatMul",
             {take(name + "/q/groups", "Reshape", {q}), take(name + "/key/Transpose", "Transpose", {keys})});
    std::string scores = take(name + "/scores/Mul", "Mul", {products});
    if (a_.attention_cap != 0) scores = capped(name + "/scores", scores, a_.attention_cap);
    const std::string weights = take(name + "/Softmax", "Softmax", {take(name + "/scores/Add", "Add", {scores, mask})});
    const std::string mixed = take(name + "/mix/MatMul", "MatMul", {weights, values});
    return take(name + "/mix/Reshape", "Reshape", {take(name + "/mix/Transpose", "Transpose", {mixed})});
  }

  std::string attention(std::size_t block, const Values& qkv) const {
    const std::string name = fmt::format("/model/layers.{}/attn", block);
    const OnnxNode* const whole = file_.find_node(name + "/GroupQueryAttention");
    return is_operator(whole, "GroupQueryAttention") ? attention_operator(block, *whole, qkv)
                                                     : attention_spelled_out(block, name, qkv);
  }

  std::string activated(const std::string& name, const std::string& x) const {
    switch (a_.activation) {
      case Activation::silu:
        return take(name + "/Mul", "Mul", {x, take(name + "/Sigmoid", "Sigmoid", {x})});
      case Activation::gelu_tanh: {
        expect_text(node(name + "/Gelu"), "approximate", "tanh");
        return take(name + "/Gelu", "Gelu", {x});
      }
      case Activation::relu:
        return take(name + "/Relu", "Relu", {x});
    }
    fail(ErrorKind::internal, "no activation {}", static_cast<int>(a_.activation));
  }

  /// name: of the nodes of this FFN. expert: whose it is, or LinearSlot::kNoExpert.
  std::string ffn(std::size_t block, const std::string& name, std::int32_t expert, const std::string& x) const {
    LinearSlot gate = LinearSlot::gate, up = LinearSlot::up, down = LinearSlot::down;
    for (LinearSlot* const slot : {&gate, &up, &down}) slot->expert = expert;
    const std::string values = linear(block, up, x);
    if (!a_.info().is_gated()) return linear(block, down, activated(name + "/act_fn", values));
    const std::string opened = activated(name + "/act_fn", linear(block, gate, x));
    return linear(block, down, take(name + "/Mul", "Mul", {opened, values}));
  }

  std::string ffns(std::size_t block, const std::string& x) const {
    const std::string name = fmt::format("/model/layers.{}/mlp", block);
    return a_.is_mixture() ? mixture(block, name, x) : ffn(block, name, LinearSlot::kNoExpert, x);
  }

  struct Chosen {
    std::string experts, weights;
  };

  Chosen choice(const std::string& name, const std::string& logits) const {
    const std::string top = name + "/TopK";
    expect_constant<std::int64_t>(file_, top, kOnnxI64, {1}, {number(a_.experts_per_token)});
    const std::string largest = take(top, "TopK", {take(name + "/Softmax", "Softmax", {logits})});
    if (node(top).outputs.size() != 2 || node(top).numbers.contains("largest"))
      fail(ErrorKind::bad_data, "node '{}' does not give the experts of the largest scores", top);
    const std::string experts = node(top).outputs[1];
    if (!a_.renormalised) return {experts, largest};
    return {experts, take(name + "/Div", "Div", {largest, take(name + "/ReduceSum", "ReduceSum", {largest})})};
  }

  /// Where the values of a vector lie, the smallest first.
  std::string order_of(const std::string& name, const std::string& values) const {
    const std::string top = name + "/TopK";
    take(top, "TopK", {values, take(name + "/Shape", "Shape", {values})});
    expect_setting(node(top), "largest", std::int64_t{0});
    if (node(top).outputs.size() != 2) fail(ErrorKind::bad_data, "node '{}' does not give places", top);
    return node(top).outputs[1];
  }

  std::string counts(const std::string& name, const std::string& choices) const {
    std::vector<std::int64_t> experts(a_.experts);
    std::iota(experts.begin(), experts.end(), 0);
    expect_constant<std::int64_t>(file_, name + "/Equal", kOnnxI64, {a_.experts}, experts);
    const std::string is_own = take(name + "/Equal", "Equal", {take(name + "/Unsqueeze", "Unsqueeze", {choices})});
    return take(name + "/ReduceSum", "ReduceSum", {take(name + "/Cast", "Cast", {is_own})});
  }

  /// What experts make of the rows of their tokens, in the order of experts.
  std::string experts_of(std::size_t block, const std::string& name, const std::string& rows,
                         const std::string& sizes) const {
    const OnnxNode& split = node(name + "/experts/Split");
    take(split.name, "Split", {rows, sizes});
    const OnnxNode& concat = node(name + "/experts/Concat");
    if (split.outputs.size() != a_.experts || concat.inputs.size() != a_.experts)
      fail(ErrorKind::bad_data, "node '{}' has parts for {} experts, config.json says {}", split.name,
           split.outputs.size(), a_.experts);
    Values made;
    for (std::size_t e = 0; e < a_.experts; ++e)
      made.push_back(ffn(block, fmt::format("{}/experts.{}", name, e), static_cast<std::int32_t>(e), split.outputs[e]));
    return take(concat.name, "Concat", made);
  }

  std::string mixture(std::size_t block, const std::string& name, const std::string& x) const {
    const std::int64_t each = number(a_.experts_per_token), hidden = number(a_.hidden);
    const std::string tokens = take(name + "/tokens", "Reshape", {x});
    const Chosen chosen = choice(name + "/router", linear(block, LinearSlot::router, tokens));
    const std::string choices = take(name + "/choices", "Reshape", {chosen.experts});
    const std::string order = order_of(name + "/order", choices);
    expect_constant<std::int64_t>(file_, name + "/rows/Div", kOnnxI64, {}, {each});
    const std::string rows = take(name + "/rows/Gather", "Gather", {tokens, take(name + "/rows/Div", "Div", {order})});
    const std::string made = experts_of(block, name, rows, counts(name + "/counts", choices));
    expect_constant<std::int64_t>(file_, name + "/made/Reshape", kOnnxI64, {3}, {-1, each, hidden});
    const std::string by_token = take(name + "/made/Reshape", "Reshape",
                                      {take(name + "/made/Gather", "Gather", {made, order_of(name + "/back", order)})});
    const std::string parts =
        take(name + "/made/Mul", "Mul", {by_token, take(name + "/weights", "Unsqueeze", {chosen.weights})});
    expect_constant<std::int64_t>(file_, name + "/sums", kOnnxI64, {1}, {1});
    std::string sums = take(name + "/sums", "ReduceSum", {parts});
    if (a_.shared_ffn > 0) {
      const std::string shared = name + "/shared_expert";
      const std::string opened =
          take(shared + "/Sigmoid", "Sigmoid", {linear(block, LinearSlot::shared_router, tokens)});
      const std::string part = take(shared + "/Mul", "Mul", {ffn(block, name, LinearSlot::kNoExpert, tokens), opened});
      sums = take(shared + "/Add", "Add", {sums, part});
    }
    return take(name + "/states", "Reshape", {sums, take(name + "/Shape", "Shape", {x})});
  }

  void check_block(std::size_t block) {
    const std::string x = input_of(block, NormSlot::before_attention, "attn");
    const std::string q = linear(block, LinearSlot::q, x), k = linear(block, LinearSlot::k, x);
    const Values qkv{normed_heads(block, NormSlot::queries, q, a_.heads),
                     normed_heads(block, NormSlot::keys, k, a_.kv_heads), linear(block, LinearSlot::v, x)};
    added_ = output_of(block, NormSlot::after_attention, linear(block, LinearSlot::o, attention(block, qkv)));
    const std::string y = input_of(block, NormSlot::before_ffn, "mlp");
    added_ = output_of(block, NormSlot::after_ffn, ffns(block, y));
  }

  const OnnxFile& file_;
  const Architecture& a_;
  std::string residual_, added_;  ///< the stream, and what is still to be added to it
};

}  // namespace

void check_decoder(const OnnxFile& file, const Architecture& architecture) {
  check_versions(file);
  Decoder(file, architecture).check();
  if (!architecture.learns_positions()) check_rope(file, architecture, architecture.rope, "");
  if (architecture.sliding_rope) check_rope(file, architecture, *architecture.sliding_rope, "_window");
}

}  // namespace adze
