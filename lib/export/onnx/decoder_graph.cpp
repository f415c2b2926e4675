#include "export/onnx/decoder_graph.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/checked.h"
#include "base/error.h"
#include "export/onnx/matrix_nodes.h"
#include "export/onnx/mixture_nodes.h"
#include "model/rope.h"

namespace adze {
namespace {

constexpr std::size_t kHeadMultiple = 16;  // what GroupQueryAttention asks of heads that it rotates
constexpr float kMasked = -3.4e38f;        // a row that sees nothing gives numbers, too

std::int64_t number(std::size_t value) { return static_cast<std::int64_t>(value); }

/// Cosines and sines of all positions, [positions, rotated / 2] each, times the attention factor; where a RoPE has two
/// sets of factors, those of the second set behind the others.
std::vector<ByteArray> rope_tables(const Architecture& a, const RopeSpec& rope) {
  const std::vector<RopeSpec> sets = rope_sets(rope);
  std::vector<ByteArray> tables;
  for (double (*const function)(double) :
       {static_cast<double (*)(double)>(std::cos), static_cast<double (*)(double)>(std::sin)}) {
    std::vector<float> values;
    values.reserve(sets.size() * a.max_positions * a.rotated() / 2);
    for (const RopeSpec& set : sets) {
      const std::vector<double> frequencies = rope_frequencies(set, a.rotated());
      for (std::size_t position = 0; position < a.max_positions; ++position)
        for (const double frequency : frequencies)
          values.push_back(
              static_cast<float>(set.attention_factor * function(static_cast<double>(position) * frequency)));
    }
    tables.push_back(copied(std::as_bytes(std::span(values))));
  }
  return tables;
}

/// Of one RoPE: its tables, and what they have for the new tokens where attention is spelled out.
struct Turns {
  std::string cosines, sines;
  std::string own_cosines = {}, own_sines = {};
};

class Builder {
 public:
  Builder(const ExportPlan& plan, OnnxOperators operators)
      : plan_(plan),
        a_(plan.architecture),
        operators_(operators),
        fused_(operators == OnnxOperators::onnxruntime),
        attends_(has_attention_operator(a_, operators)),
        out_{OnnxGraph(plan.provenance), {}} {
    for (std::size_t t = 0; t < plan.tensors.size(); ++t) index_[plan.tensors[t].spec.module + role_suffix(t)] = t;
  }

  DecoderGraph build() && {
    add_inputs();
    if (!a_.learns_positions()) turns_ = add_rope_tables(a_.rope, "");
    if (a_.sliding_rope) sliding_turns_ = add_rope_tables(*a_.sliding_rope, "_window");
    if (attends_) add_lengths();
    if (has_two_sets()) choose_set();
    if (!attends_ || a_.learns_positions()) add_positions();
    if (!attends_) add_masks();
    add_first_states();
    for (std::size_t block = 0; block < a_.layers; ++block) add_block(block);
    add_logits(norm_of_states("/model/norm/LayerNorm", std::string(kFinalNormModule)));
    add_outputs();
    return std::move(out_);
  }

 private:
  using Names = OnnxGraph::Names;

  OnnxGraph& graph() { return out_.graph; }
  std::string role_suffix(std::size_t t) const { return plan_.tensors[t].spec.role == TensorRole::bias ? ".bias" : ""; }
  const PlannedTensor& tensor(const std::string& module) const { return plan_.tensors[index_.at(module)]; }

  std::string vector(const std::string& module) {
    const bool is_norm = tensor(module).spec.role == TensorRole::norm;
    return add_vector(out_, tensor(module), index_.at(module), is_norm ? a_.info().norm_offset : 0.0f);
  }

  static std::string cache_name(const char* prefix, std::size_t block, const char* what) {
    return fmt::format("{}.{}.{}", prefix, block, what);
  }

  void add_cache(bool is_input) {
    const char* const prefix = is_input ? "past_key_values" : "present";
    const std::vector<OnnxDim> shape{"batch_size", number(a_.kv_heads),
                                     is_input ? "past_sequence_length" : "total_sequence_length", number(a_.head_dim)};
    for (std::size_t block = 0; block < a_.layers; ++block)
      for (const char* const what : {"key", "value"}) {
        const std::string name = cache_name(prefix, block, what);
        is_input ? graph().input(name, OnnxType::f32, shape) : graph().output(name, OnnxType::f32, shape);
      }
  }

  void add_inputs() {
    graph().input("input_ids", OnnxType::i64, {"batch_size", "sequence_length"});
    graph().input("attention_mask", OnnxType::i64, {"batch_size", "total_sequence_length"});
    add_cache(true);
  }

  void add_outputs() {
    graph().output("logits", OnnxType::f32, {"batch_size", "sequence_length", number(a_.vocab)});
    add_cache(false);
  }

  Turns add_rope_tables(const RopeSpec& rope, const std::string& suffix) {
    const std::vector<std::uint64_t> dims{rope_sets(rope).size() * a_.max_positions, a_.rotated() / 2};
    out_.sources.push_back({std::nullopt, out_.graph.weights().size(), 2,
                            [&a = a_, &rope](const TensorValues&) { return rope_tables(a, rope); }});
    return {graph().weight("cos_cache" + suffix, OnnxType::f32, dims),
            graph().weight("sin_cache" + suffix, OnnxType::f32, dims)};
  }

  /// One size of a tensor, as a vector of one or as a scalar.
  std::string size_of(const std::string& name, const std::string& value, std::int64_t axis, bool is_scalar) {
    const std::string shape = graph().add("Shape", name + "/Shape", {value});
    return graph().add("Gather", name + "/Gather", {shape, is_scalar ? graph().scalar(axis) : graph().ints({axis})},
                       {{"axis", std::int64_t{0}}});
  }

  bool has_two_sets() const { return !a_.learns_positions() && rope_sets(a_.rope).size() > 1; }

  /// Sequences longer than the original context take the second set, from the first position on: all turns behind a
  /// row of the tables that their length decides. The operator takes positions from 0 on, and gets a part of the
  /// tables.
  void choose_set() {
    const std::string base = "/model/rope";
    const std::string total = size_of(base + "/total", "attention_mask", 1, true);
    const std::string is_longer =
        graph().add("Greater", base + "/Greater", {total, graph().scalar(number(a_.rope.original_max_positions))});
    const std::string set =
        graph().add("Cast", base + "/Cast", {is_longer}, {{"to", static_cast<std::int64_t>(OnnxType::i64)}});
    first_turn_ = graph().add("Mul", base + "/Mul", {set, graph().scalar(number(a_.max_positions))});
    if (!attends_) return;
    const std::string first = graph().add("Unsqueeze", base + "/first/Unsqueeze", {first_turn_, graph().ints({0})});
    const std::string last =
        graph().add("Unsqueeze", base + "/last/Unsqueeze",
                    {graph().add("Add", base + "/last/Add", {first_turn_, total}), graph().ints({0})});
    for (std::string* const table : {&turns_.cosines, &turns_.sines})
      *table = graph().add("Slice", base + "/" + *table + "/Slice", {*table, first, last, graph().ints({0})});
  }

  /// What GroupQueryAttention asks for: tokens of each sequence less one, and of the longest.
  void add_lengths() {
    const std::string base = "/model/attn_mask_reformat";
    const OnnxGraph::Attributes to_i32{{"to", static_cast<std::int64_t>(OnnxType::i32)}};
    const std::string sums = graph().add("ReduceSum", base + "/ReduceSum", {"attention_mask", graph().ints({1})},
                                         {{"keepdims", std::int64_t{0}}});
    const std::string last = graph().add("Sub", base + "/Sub", {sums, graph().ints({1})});
    lengths_ = graph().add("Cast", base + "/seqlens/Cast", {last}, to_i32);
    const std::string total = size_of(base, "attention_mask", 1, true);
    total_ = graph().add("Cast", base + "/total/Cast", {total}, to_i32);
  }

  /// Tokens before the new ones. Caches of an attention operator may have more rows than tokens.
  std::string past_tokens(const std::string& name, const std::string& total) {
    if (!attends_) return size_of(name, cache_name("past_key_values", 0, "key"), 2, true);
    return graph().add("Sub", name + "/Sub", {total, size_of(name, "input_ids", 1, true)});
  }

  /// Positions count the tokens that the mask lets through. Of the new ones come rows of a table that is learned, or
  /// cosines and sines.
  void add_positions() {
    const std::string base = "/model/positions";
    const std::string total = size_of(base + "/total", "attention_mask", 1, true);
    const std::string past = past_tokens(base + "/past", total);
    if (!attends_)
      slots_ = graph().add("Range", base + "/Range",
                           {graph().scalar(std::int64_t{0}), total, graph().scalar(std::int64_t{1})});
    past_size_ = graph().add("Unsqueeze", base + "/past/Unsqueeze", {past, graph().ints({0})});
    total_size_ = graph().add("Unsqueeze", base + "/total/Unsqueeze", {total, graph().ints({0})});

    const std::string sums =
        graph().add("CumSum", base + "/CumSum", {"attention_mask", graph().scalar(std::int64_t{1})});
    const std::string counted = graph().add("Sub", base + "/Sub", {sums, graph().ints({1})});
    const std::string all = graph().add("Max", base + "/Max", {counted, graph().ints({0})});
    positions_ = graph().add("Slice", base + "/Slice", {all, past_size_, total_size_, graph().ints({1})});
    if (a_.learns_positions()) return;
    const std::string rows =
        has_two_sets() ? graph().add("Add", base + "/rope/Add", {positions_, first_turn_}) : positions_;
    add_turns_of_positions(base, turns_, rows);
    if (a_.sliding_rope) add_turns_of_positions(base + "/window", sliding_turns_, positions_);
  }

  void add_turns_of_positions(const std::string& base, Turns& turns, const std::string& rows) {
    const auto of_positions = [&](const std::string& name, const std::string& table) {
      return graph().add("Unsqueeze", name + "/Unsqueeze",
                         {graph().add("Gather", name + "/Gather", {table, rows}), graph().ints({1})});
    };
    turns.own_cosines = of_positions(base + "/cos", turns.cosines);
    turns.own_sines = of_positions(base + "/sin", turns.sines);
  }

  /// What is added to scores: a query sees keys up to itself that the mask lets through, within the window.
  void add_masks() {
    const std::string mask = "/model/mask";
    const std::string own = graph().add("Slice", mask + "/Slice", {slots_, past_size_, total_size_, graph().ints({0})});
    const std::string queries = graph().add("Unsqueeze", mask + "/queries", {own, graph().ints({1})});  // [S, 1]
    const std::string causal = graph().add("LessOrEqual", mask + "/causal", {slots_, queries});         // [S, T]
    const bool has_both = !a_.full_attention.empty();
    const std::string seen = has_both ? causal : within_window(mask, queries, causal);
    const std::string present = graph().add("Cast", mask + "/present/Cast", {"attention_mask"},
                                            {{"to", static_cast<std::int64_t>(OnnxType::boolean)}});
    const std::string keys = graph().add("Unsqueeze", mask + "/present/Unsqueeze", {present, graph().ints({1, 2, 3})});
    bias_ = mask_of(mask, seen, keys);
    if (!has_both) return;
    const std::string window = "/model/window_mask";
    window_bias_ = mask_of(window, within_window(window, queries, causal), keys);
  }

  std::string within_window(const std::string& name, const std::string& queries, const std::string& causal) {
    if (a_.sliding_window == 0) return causal;
    const std::string before =
        graph().add("Sub", name + "/window/Sub", {queries, graph().scalar(number(a_.sliding_window))});
    const std::string inside = graph().add("Greater", name + "/window/Greater", {slots_, before});
    return graph().add("And", name + "/window/And", {causal, inside});
  }

  std::string mask_of(const std::string& name, const std::string& seen, const std::string& present_keys) {
    const std::string both = graph().add("And", name + "/And", {seen, present_keys});  // [B, 1, 1, S, T]
    return graph().add("Where", name + "/Where", {both, graph().scalar(0.0f), graph().scalar(kMasked)});
  }

  void add_first_states() {
    residual_ = add_embedding(out_, tensor("embed_tokens"), index_.at("embed_tokens"), "input_ids");
    if (a_.embedding_scale != 1)
      residual_ = graph().add("Mul", "/model/embed_tokens/scale/Mul",
                              {residual_, graph().scalar(static_cast<float>(a_.embedding_scale))});
    if (!a_.learns_positions()) return;
    const std::string module(kPositionsModule), name = "/model/" + module;
    const std::string rows =
        graph().add("Add", name + "/Add", {positions_, graph().scalar(number(a_.info().positions.offset))});
    const std::string learned = add_positions_table(out_, tensor(module), index_.at(module), rows);
    residual_ = graph().add("Add", name + "/states/Add", {residual_, learned});
  }

  void add_logits(const std::string& x) {
    std::string logits = a_.tied
                             ? add_tied_product(out_, "/lm_head", tensor("embed_tokens"), x)
                             : add_product(out_, operators_, "/lm_head", tensor("lm_head"), index_.at("lm_head"), x);
    if (a_.final_cap != 0) logits = capped("/lm_head", logits, a_.final_cap);
    graph().node("Identity", "/logits", {logits}, {"logits"});
  }

  /// cap tanh(x / cap)
  std::string capped(const std::string& name, const std::string& x, double cap) {
    const std::string size = graph().scalar(static_cast<float>(cap));
    const std::string part = graph().add("Div", name + "/cap/Div", {x, size});
    const std::string bent = graph().add("Tanh", name + "/cap/Tanh", {part});
    return graph().add("Mul", name + "/cap/Mul", {bent, size});
  }

  /// Over the last dimension.
  std::string norm_of(const std::string& name, const std::string& module, const std::string& x) {
    const std::string weight = vector(module);
    const auto epsilon = static_cast<float>(a_.norm_eps);
    if (a_.info().norm_kind == NormKind::layer)
      return graph().add("LayerNormalization", name, {x, weight, vector(module + ".bias")},
                         {{"axis", std::int64_t{-1}}, {"epsilon", epsilon}});
    if (fused_)
      return graph().add("SimplifiedLayerNormalization", name, {x, weight},
                         {{"axis", std::int64_t{-1}}, {"epsilon", epsilon}, {"stash_type", std::int64_t{1}}});
    const std::string squares = graph().add("Mul", name + "/Mul", {x, x});
    const std::string mean = graph().add("ReduceMean", name + "/ReduceMean", {squares, graph().ints({-1})});
    const std::string shifted = graph().add("Add", name + "/Add", {mean, graph().scalar(epsilon)});
    const std::string root = graph().add("Sqrt", name + "/Sqrt", {shifted});
    const std::string unit = graph().add("Div", name + "/Div", {x, root});
    return graph().add("Mul", name + "/weight/Mul", {unit, weight});
  }

  /// The residual stream, after what the part before left is added to it.
  std::string states(const std::string& name) {
    if (!added_.empty()) residual_ = graph().add("Add", name + "/residual/Add", {residual_, added_});
    added_.clear();
    return residual_;
  }

  std::string norm_of_states(const std::string& name, const std::string& module) {
    const bool has_operator = fused_ && a_.info().norm_kind == NormKind::rms;
    if (!has_operator || added_.empty()) return norm_of(name, module, states(name));
    const std::string normed = name + "/output_0";
    const bool is_last = module == kFinalNormModule;
    Names outputs{normed};
    if (!is_last) outputs = {normed, "", "", name + "/output_3"};
    graph().node("SkipSimplifiedLayerNormalization", name, {residual_, added_, vector(module)}, outputs,
                 {{"epsilon", static_cast<float>(a_.norm_eps)}});
    if (!is_last) residual_ = outputs.back();
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

  /// What a part of a block reads: the states, or their norm.
  std::string input_of(std::size_t block, NormSlot before, const char* part) {
    if (const NormInfo* const info = norm_at(before))
      return norm_of_states(norm_name(block, *info), module_name(block, *info));
    return states(fmt::format("/model/layers.{}/{}", block, part));
  }

  /// What a part leaves to be added to the states: what it makes, or the norm of that.
  std::string output_of(std::size_t block, NormSlot after, const std::string& y) {
    const NormInfo* const info = norm_at(after);
    return info == nullptr ? y : norm_of(norm_name(block, *info), module_name(block, *info), y);
  }

  /// Of queries or keys, [B, S, n D]: head by head, or over all of them.
  std::string normed_heads(std::size_t block, NormSlot slot, const std::string& x, std::size_t count) {
    const NormInfo* const info = norm_at(slot);
    if (info == nullptr) return x;
    const std::string name = norm_name(block, *info), module = module_name(block, *info);
    if (a_.info().qk_norms_span_heads) return norm_of(name, module, x);
    const std::string heads =
        graph().add("Reshape", name + "/heads", {x, graph().ints({0, 0, number(count), number(a_.head_dim)})});
    const std::string normed = norm_of(name, module, heads);
    return graph().add("Reshape", name + "/flat", {normed, graph().ints({0, 0, number(count * a_.head_dim)})});
  }

  std::string linear(std::size_t block, LinearSlot slot, const std::string& x) {
    const LinearInfo info = info_of(a_, slot);
    const std::string module = module_name(block, info);
    const std::string name = "/model/" + module;
    const std::string y = add_product(out_, operators_, name, tensor(module), index_.at(module), x);
    if (!info.has_bias) return y;
    return graph().add("Add", name + "/Add", {y, vector(module + ".bias")});
  }

  bool has_window(std::size_t block) const { return a_.sliding_window > 0 && !a_.sees_all(block); }
  const Turns& turns_of(std::size_t block) const {
    return a_.sliding_rope && has_window(block) ? sliding_turns_ : turns_;
  }
  float scale_of_scores() const {
    const double scalar = a_.score_scalar != 0 ? a_.score_scalar : static_cast<double>(a_.head_dim);
    return static_cast<float>(1.0 / std::sqrt(scalar));
  }

  std::string attention_operator(std::size_t block, const Names& qkv) {
    const std::string name = fmt::format("/model/layers.{}/attn/GroupQueryAttention", block);
    const std::string mix = name + "/output_0";
    const bool turns = !a_.learns_positions();
    OnnxGraph::Attributes attributes{{"num_heads", number(a_.heads)},
                                     {"kv_num_heads", number(a_.kv_heads)},
                                     {"scale", scale_of_scores()},
                                     {"do_rotary", std::int64_t{turns}},
                                     {"rotary_interleaved", std::int64_t{0}},
                                     {"local_window_size", has_window(block) ? number(a_.sliding_window) : -1}};
    const OnnxAttribute cap{"softcap", static_cast<float>(a_.attention_cap)};
    if (a_.attention_cap != 0) attributes.push_back(cap);
    Names inputs{qkv[0],
                 qkv[1],
                 qkv[2],
                 cache_name("past_key_values", block, "key"),
                 cache_name("past_key_values", block, "value"),
                 lengths_,
                 total_};
    if (turns) inputs.insert(inputs.end(), {turns_of(block).cosines, turns_of(block).sines});
    graph().node("GroupQueryAttention", name, inputs,
                 {mix, cache_name("present", block, "key"), cache_name("present", block, "value")}, attributes);
    return mix;
  }

  /// [B, S, n D] to [B, n, S, D].
  std::string heads_of(const std::string& name, const std::string& x, std::size_t count) {
    const std::string split =
        graph().add("Reshape", name + "/Reshape", {x, graph().ints({0, 0, number(count), number(a_.head_dim)})});
    return graph().add("Transpose", name + "/Transpose", {split}, {{"perm", std::vector<std::int64_t>{0, 2, 1, 3}}});
  }

  /// Rotates pairs (i, i + R / 2) of the first R elements of heads, [B, n, S, D]; as it is where positions are learned.
  std::string rotated(const std::string& name, const std::string& x, const Turns& turns) {
    if (a_.learns_positions()) return x;
    const std::string low = name + "/low", high = name + "/high", rest = name + "/rest";
    const std::int64_t half = number(a_.rotated() / 2), behind = number(a_.head_dim - a_.rotated());
    if (behind == 0)
      graph().node("Split", name + "/Split", {x}, {low, high},
                   {{"axis", std::int64_t{-1}}, {"num_outputs", std::int64_t{2}}});
    else
      graph().node("Split", name + "/Split", {x, graph().ints({half, half, behind})}, {low, high, rest},
                   {{"axis", std::int64_t{-1}}});
    const auto mul = [&](const char* what, const std::string& part, const std::string& table) {
      return graph().add("Mul", name + what, {part, table});
    };
    const std::string first = graph().add(
        "Sub", name + "/Sub", {mul("/low_cos", low, turns.own_cosines), mul("/high_sin", high, turns.own_sines)});
    const std::string second = graph().add(
        "Add", name + "/Add", {mul("/high_cos", high, turns.own_cosines), mul("/low_sin", low, turns.own_sines)});
    Names parts{first, second};
    if (behind != 0) parts.push_back(rest);
    return graph().add("Concat", name + "/Concat", parts, {{"axis", std::int64_t{-1}}});
  }

  /// past and new, [B, G, T, D], as an output of the graph; for products with a dimension for the queries of a group.
  std::string with_past(const std::string& name, std::size_t block, const char* what, const std::string& fresh) {
    const std::string present = cache_name("present", block, what);
    graph().node("Concat", name + "/Concat", {cache_name("past_key_values", block, what), fresh}, {present},
                 {{"axis", std::int64_t{2}}});
    return graph().add("Unsqueeze", name + "/Unsqueeze", {present, graph().ints({2})});
  }

  std::string attention_spelled_out(std::size_t block, const Names& qkv) {
    const std::string name = fmt::format("/model/layers.{}/attn", block);
    const std::size_t shared = a_.heads / a_.kv_heads;
    const std::string q = rotated(name + "/q/rotary", heads_of(name + "/q", qkv[0], a_.heads), turns_of(block));
    const std::string k = rotated(name + "/k/rotary", heads_of(name + "/k", qkv[1], a_.kv_heads), turns_of(block));
    const std::string v = heads_of(name + "/v", qkv[2], a_.kv_heads);
    const std::string keys = with_past(name + "/key", block, "key", k),
                      values = with_past(name + "/value", block, "value", v);
    // Queries in groups that share a key: [B, G, H / G, S, D].
    const std::string grouped =
        graph().add("Reshape", name + "/q/groups",
                    {q, graph().ints({0, number(a_.kv_heads), number(shared), -1, number(a_.head_dim)})});
    const std::string turned =
        graph().add("Transpose", name + "/key/Transpose", {keys}, {{"perm", std::vector<std::int64_t>{0, 1, 2, 4, 3}}});
    const std::string products = graph().add("MatMul", name + "/scores/MatMul", {grouped, turned});
    std::string scores = graph().add("Mul", name + "/scores/Mul", {products, graph().scalar(scale_of_scores())});
    if (a_.attention_cap != 0) scores = capped(name + "/scores", scores, a_.attention_cap);
    const bool has_both = !a_.full_attention.empty();
    const std::string masked =
        graph().add("Add", name + "/scores/Add", {scores, has_both && has_window(block) ? window_bias_ : bias_});
    const std::string weights = graph().add("Softmax", name + "/Softmax", {masked}, {{"axis", std::int64_t{-1}}});
    const std::string mixed = graph().add("MatMul", name + "/mix/MatMul", {weights, values});
    const std::string ordered = graph().add("Transpose", name + "/mix/Transpose", {mixed},
                                            {{"perm", std::vector<std::int64_t>{0, 3, 1, 2, 4}}});
    return graph().add("Reshape", name + "/mix/Reshape", {ordered, graph().ints({0, 0, number(a_.q_width())})});
  }

  std::string activated(const std::string& name, const std::string& x) {
    switch (a_.activation) {
      case Activation::silu:
        return graph().add("Mul", name + "/Mul", {x, graph().add("Sigmoid", name + "/Sigmoid", {x})});
      case Activation::gelu_tanh:
        return graph().add("Gelu", name + "/Gelu", {x}, {{"approximate", std::string("tanh")}});
      case Activation::relu:
        return graph().add("Relu", name + "/Relu", {x});
    }
    fail(ErrorKind::internal, "no activation {}", static_cast<int>(a_.activation));
  }

  void add_block(std::size_t block) {
    const std::string x = input_of(block, NormSlot::before_attention, "attn");
    const std::string q = linear(block, LinearSlot::q, x), k = linear(block, LinearSlot::k, x),
                      v = linear(block, LinearSlot::v, x);
    const Names qkv{normed_heads(block, NormSlot::queries, q, a_.heads),
                    normed_heads(block, NormSlot::keys, k, a_.kv_heads), v};
    const std::string mix = attends_ ? attention_operator(block, qkv) : attention_spelled_out(block, qkv);
    added_ = output_of(block, NormSlot::after_attention, linear(block, LinearSlot::o, mix));

    const std::string y = input_of(block, NormSlot::before_ffn, "mlp");
    const std::string name = fmt::format("/model/layers.{}/mlp", block);
    const auto ffn_of = [&](std::int32_t expert, const std::string& rows) { return ffn(block, expert, rows); };
    const auto router = [&](LinearSlot slot, const std::string& rows) { return linear(block, slot, rows); };
    const std::string made =
        a_.is_mixture() ? add_mixture(graph(), a_, name, y, router, ffn_of) : ffn(block, LinearSlot::kNoExpert, y);
    added_ = output_of(block, NormSlot::after_ffn, made);
  }

  /// What an FFN makes of x, that of one expert or the one that all tokens go through: of activation(gate) * up, or of
  /// activation(up).
  std::string ffn(std::size_t block, std::int32_t expert, const std::string& x) {
    const std::string name = fmt::format("/model/layers.{}/{}", block, ffn_name(expert));
    LinearSlot gate = LinearSlot::gate, up = LinearSlot::up, down = LinearSlot::down;
    for (LinearSlot* const slot : {&gate, &up, &down}) slot->expert = expert;
    if (!a_.info().is_gated()) return linear(block, down, activated(name + "/act_fn", linear(block, up, x)));
    const std::string opened = linear(block, gate, x), values = linear(block, up, x);
    return linear(block, down, graph().add("Mul", name + "/Mul", {activated(name + "/act_fn", opened), values}));
  }

  const ExportPlan& plan_;
  const Architecture& a_;
  OnnxOperators operators_;
  bool fused_, attends_;
  DecoderGraph out_;
  std::map<std::string, std::size_t> index_;
  std::string residual_, added_;                // the stream, and what is still to be added to it
  Turns turns_, sliding_turns_;                 // the latter of layers with a window, where it is another
  std::string lengths_, total_;                 // with an attention operator
  std::string first_turn_;                      // row of the tables, where a RoPE has two sets of factors
  std::string positions_;                       // of the new tokens, without one or where they are learned
  std::string past_size_, total_size_, slots_;  // sizes as vectors of one; 0 .. total - 1
  std::string bias_, window_bias_;              // added to scores; the latter where layers with a window are some
};

}  // namespace

bool has_attention_operator(const Architecture& architecture, OnnxOperators operators) {
  const bool turns_whole_blocks = architecture.learns_positions() || architecture.rotated() % kHeadMultiple == 0;
  return operators == OnnxOperators::onnxruntime && architecture.head_dim % kHeadMultiple == 0 && turns_whole_blocks;
}

OnnxPart onnx_part(const PlannedTensor& tensor, const Architecture& architecture, OnnxOperators operators) {
  DecoderGraph alone{OnnxGraph(std::vector<std::pair<std::string, std::string>>{}), {}};
  alone.graph.input("x", OnnxType::f32, {});
  const std::uint64_t before = alone.graph.serialized().size();
  if (tensor.spec.role == TensorRole::embedding) {
    const std::string rows = add_embedding(alone, tensor, 0, "x");
    if (architecture.tied) add_tied_product(alone, "/lm_head", tensor, rows);
  } else if (tensor.spec.role == TensorRole::positions) {
    add_positions_table(alone, tensor, 0, "x");
  } else {
    add_product(alone, operators, "/model/" + tensor.spec.module, tensor, 0, "x");
  }
  const std::uint64_t graph = alone.graph.serialized().size() - before;
  return {checked_add(graph, round_up(alone.graph.data_bytes(), onnx_alignment(alone.graph.data_bytes()))),
          alone.graph.weights()};
}

DecoderGraph decoder_graph(const ExportPlan& plan, OnnxOperators operators) { return Builder(plan, operators).build(); }

}  // namespace adze
