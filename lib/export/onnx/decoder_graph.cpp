#include "export/onnx/decoder_graph.h"

#include <cmath>
#include <limits>
#include <map>

#include "base/checked.h"
#include "base/error.h"
#include "export/onnx/matrix_nodes.h"
#include "model/rope.h"

namespace adze {
namespace {

constexpr std::size_t kHeadMultiple = 16;  // what GroupQueryAttention asks of heads that it rotates
constexpr float kMasked = -3.4e38f;        // a row that sees nothing gives numbers, too

std::int64_t number(std::size_t value) { return static_cast<std::int64_t>(value); }

/// Cosines and sines of all positions, [positions, head_dim / 2] each.
std::vector<ByteArray> rope_tables(const Architecture& a) {
  const std::vector<double> frequencies = rope_frequencies(a.rope, a.head_dim);
  std::vector<ByteArray> tables;
  for (double (*const function)(double) :
       {static_cast<double (*)(double)>(std::cos), static_cast<double (*)(double)>(std::sin)}) {
    std::vector<float> values;
    values.reserve(a.max_positions * frequencies.size());
    for (std::size_t position = 0; position < a.max_positions; ++position)
      for (const double frequency : frequencies)
        values.push_back(static_cast<float>(function(static_cast<double>(position) * frequency)));
    tables.push_back(copied(std::as_bytes(std::span(values))));
  }
  return tables;
}

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
    add_rope_tables();
    if (attends_)
      add_lengths();
    else
      add_positions();
    const std::string ids = "input_ids";
    residual_ = add_embedding(out_, tensor("embed_tokens"), index_.at("embed_tokens"), ids);
    for (std::size_t block = 0; block < a_.layers; ++block) add_block(block);
    const std::string x = norm("/model/norm/LayerNorm", "norm");
    const std::string logits =
        a_.tied ? add_tied_product(out_, "/lm_head", tensor("embed_tokens"), x)
                : add_product(out_, operators_, "/lm_head", tensor("lm_head"), index_.at("lm_head"), x);
    graph().node("Identity", "/logits", {logits}, {"logits"});
    add_outputs();
    return std::move(out_);
  }

 private:
  using Names = OnnxGraph::Names;

  OnnxGraph& graph() { return out_.graph; }
  std::string role_suffix(std::size_t t) const { return plan_.tensors[t].spec.role == TensorRole::bias ? ".bias" : ""; }
  const PlannedTensor& tensor(const std::string& module) const { return plan_.tensors[index_.at(module)]; }

  std::string vector(const std::string& module) { return add_vector(out_, tensor(module), index_.at(module)); }

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

  void add_rope_tables() {
    const std::vector<std::uint64_t> dims{a_.max_positions, a_.head_dim / 2};
    out_.sources.push_back({std::nullopt, 0, 2, [&a = a_](const TensorValues&) { return rope_tables(a); }});
    cosines_ = graph().weight("cos_cache", OnnxType::f32, dims);
    sines_ = graph().weight("sin_cache", OnnxType::f32, dims);
  }

  /// One size of a tensor, as a vector of one or as a scalar.
  std::string size_of(const std::string& name, const std::string& value, std::int64_t axis, bool is_scalar) {
    const std::string shape = graph().add("Shape", name + "/Shape", {value});
    return graph().add("Gather", name + "/Gather", {shape, is_scalar ? graph().scalar(axis) : graph().ints({axis})},
                       {{"axis", std::int64_t{0}}});
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

  /// Positions count the tokens that the mask lets through; a query sees keys up to itself that the mask lets through,
  /// within the window. Gives cosines and sines of the new tokens, and what is added to scores.
  void add_positions() {
    const std::string base = "/model/positions";
    const std::string past = size_of(base + "/past", cache_name("past_key_values", 0, "key"), 2, true);
    const std::string total = size_of(base + "/total", "attention_mask", 1, true);
    const std::string slots = graph().add("Range", base + "/Range",
                                          {graph().scalar(std::int64_t{0}), total, graph().scalar(std::int64_t{1})});
    const std::string past_size = graph().add("Unsqueeze", base + "/past/Unsqueeze", {past, graph().ints({0})});
    const std::string total_size = graph().add("Unsqueeze", base + "/total/Unsqueeze", {total, graph().ints({0})});

    const std::string sums =
        graph().add("CumSum", base + "/CumSum", {"attention_mask", graph().scalar(std::int64_t{1})});
    const std::string counted = graph().add("Sub", base + "/Sub", {sums, graph().ints({1})});
    const std::string all = graph().add("Max", base + "/Max", {counted, graph().ints({0})});
    const std::string fresh = graph().add("Slice", base + "/Slice", {all, past_size, total_size, graph().ints({1})});
    turn_cosines_ = graph().add("Unsqueeze", base + "/cos/Unsqueeze",
                                {graph().add("Gather", base + "/cos/Gather", {cosines_, fresh}), graph().ints({1})});
    turn_sines_ = graph().add("Unsqueeze", base + "/sin/Unsqueeze",
                              {graph().add("Gather", base + "/sin/Gather", {sines_, fresh}), graph().ints({1})});

    const std::string mask = "/model/mask";
    const std::string own = graph().add("Slice", mask + "/Slice", {slots, past_size, total_size, graph().ints({0})});
    const std::string queries = graph().add("Unsqueeze", mask + "/queries", {own, graph().ints({1})});  // [S, 1]
    std::string seen = graph().add("LessOrEqual", mask + "/causal", {slots, queries});                  // [S, T]
    if (a_.sliding_window > 0) {
      const std::string before =
          graph().add("Sub", mask + "/window/Sub", {queries, graph().scalar(number(a_.sliding_window))});
      const std::string inside = graph().add("Greater", mask + "/window/Greater", {slots, before});
      seen = graph().add("And", mask + "/window/And", {seen, inside});
    }
    const std::string present = graph().add("Cast", mask + "/present/Cast", {"attention_mask"},
                                            {{"to", static_cast<std::int64_t>(OnnxType::boolean)}});
    const std::string present_keys =
        graph().add("Unsqueeze", mask + "/present/Unsqueeze", {present, graph().ints({1, 2, 3})});
    const std::string both = graph().add("And", mask + "/And", {seen, present_keys});  // [B, 1, 1, S, T]
    bias_ = graph().add("Where", mask + "/Where", {both, graph().scalar(0.0f), graph().scalar(kMasked)});
  }

  /// The norm of the residual stream, after what the stage before left is added to it.
  std::string norm(const std::string& name, const std::string& module) {
    const std::string weight = vector(module);
    const auto epsilon = static_cast<float>(a_.norm_eps);
    if (fused_ && added_.empty())
      return graph().add("SimplifiedLayerNormalization", name, {residual_, weight},
                         {{"axis", std::int64_t{-1}}, {"epsilon", epsilon}, {"stash_type", std::int64_t{1}}});
    if (fused_) {
      const std::string normed = name + "/output_0";
      const bool is_last = module == "norm";
      Names outputs{normed};
      if (!is_last) outputs = {normed, "", "", name + "/output_3"};
      graph().node("SkipSimplifiedLayerNormalization", name, {residual_, added_, weight}, outputs,
                   {{"epsilon", epsilon}});
      if (!is_last) residual_ = outputs.back();
      return normed;
    }
    if (!added_.empty()) residual_ = graph().add("Add", name + "/residual/Add", {residual_, added_});
    const std::string squares = graph().add("Mul", name + "/Mul", {residual_, residual_});
    const std::string mean = graph().add("ReduceMean", name + "/ReduceMean", {squares, graph().ints({-1})});
    const std::string shifted = graph().add("Add", name + "/Add", {mean, graph().scalar(epsilon)});
    const std::string root = graph().add("Sqrt", name + "/Sqrt", {shifted});
    const std::string unit = graph().add("Div", name + "/Div", {residual_, root});
    return graph().add("Mul", name + "/weight/Mul", {unit, weight});
  }

  std::string linear(std::size_t block, LinearSlot slot, const std::string& x) {
    const LinearInfo info = info_of(a_, slot);
    const std::string module = module_name(block, info);
    const std::string name = "/model/" + module;
    const std::string y = add_product(out_, operators_, name, tensor(module), index_.at(module), x);
    if (!info.has_bias) return y;
    return graph().add("Add", name + "/Add", {y, vector(module + ".bias")});
  }

  std::string attention_operator(std::size_t block, const Names& qkv) {
    const std::string name = fmt::format("/model/layers.{}/attn/GroupQueryAttention", block);
    const std::string mix = name + "/output_0";
    const std::int64_t window = a_.sliding_window > 0 ? number(a_.sliding_window) : -1;
    const OnnxGraph::Attributes attributes{
        {"num_heads", number(a_.heads)},
        {"kv_num_heads", number(a_.kv_heads)},
        {"scale", static_cast<float>(1.0 / std::sqrt(static_cast<double>(a_.head_dim)))},
        {"do_rotary", std::int64_t{1}},
        {"rotary_interleaved", std::int64_t{0}},
        {"local_window_size", window}};
    graph().node("GroupQueryAttention", name,
                 {qkv[0], qkv[1], qkv[2], cache_name("past_key_values", block, "key"),
                  cache_name("past_key_values", block, "value"), lengths_, total_, cosines_, sines_},
                 {mix, cache_name("present", block, "key"), cache_name("present", block, "value")}, attributes);
    return mix;
  }

  /// [B, S, n D] to [B, n, S, D].
  std::string heads_of(const std::string& name, const std::string& x, std::size_t count) {
    const std::string split =
        graph().add("Reshape", name + "/Reshape", {x, graph().ints({0, 0, number(count), number(a_.head_dim)})});
    return graph().add("Transpose", name + "/Transpose", {split}, {{"perm", std::vector<std::int64_t>{0, 2, 1, 3}}});
  }

  /// Rotates pairs (i, i + D / 2) of [B, n, S, D].
  std::string rotated(const std::string& name, const std::string& x) {
    const std::string low = name + "/low", high = name + "/high";
    graph().node("Split", name + "/Split", {x}, {low, high},
                 {{"axis", std::int64_t{-1}}, {"num_outputs", std::int64_t{2}}});
    const auto mul = [&](const char* what, const std::string& part, const std::string& table) {
      return graph().add("Mul", name + what, {part, table});
    };
    const std::string first =
        graph().add("Sub", name + "/Sub", {mul("/low_cos", low, turn_cosines_), mul("/high_sin", high, turn_sines_)});
    const std::string second =
        graph().add("Add", name + "/Add", {mul("/high_cos", high, turn_cosines_), mul("/low_sin", low, turn_sines_)});
    return graph().add("Concat", name + "/Concat", {first, second}, {{"axis", std::int64_t{-1}}});
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
    const std::string q = rotated(name + "/q/rotary", heads_of(name + "/q", qkv[0], a_.heads));
    const std::string k = rotated(name + "/k/rotary", heads_of(name + "/k", qkv[1], a_.kv_heads));
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
    const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(a_.head_dim)));
    const std::string scaled = graph().add("Mul", name + "/scores/Mul", {products, graph().scalar(scale)});
    const std::string masked = graph().add("Add", name + "/scores/Add", {scaled, bias_});
    const std::string weights = graph().add("Softmax", name + "/Softmax", {masked}, {{"axis", std::int64_t{-1}}});
    const std::string mixed = graph().add("MatMul", name + "/mix/MatMul", {weights, values});
    const std::string ordered = graph().add("Transpose", name + "/mix/Transpose", {mixed},
                                            {{"perm", std::vector<std::int64_t>{0, 3, 1, 2, 4}}});
    return graph().add("Reshape", name + "/mix/Reshape", {ordered, graph().ints({0, 0, number(a_.q_width())})});
  }

  void add_block(std::size_t block) {
    const std::string layer = fmt::format("layers.{}", block), name = "/model/" + layer;
    const std::string x = norm(name + "/input_layernorm/LayerNorm", layer + ".input_layernorm");
    const Names qkv{linear(block, LinearSlot::q, x), linear(block, LinearSlot::k, x), linear(block, LinearSlot::v, x)};
    const std::string mix = attends_ ? attention_operator(block, qkv) : attention_spelled_out(block, qkv);
    added_ = linear(block, LinearSlot::o, mix);

    const std::string y = norm(name + "/post_attention_layernorm/LayerNorm", layer + ".post_attention_layernorm");
    const std::string gate = linear(block, LinearSlot::gate, y), up = linear(block, LinearSlot::up, y);
    const std::string open = graph().add("Sigmoid", name + "/mlp/act_fn/Sigmoid", {gate});
    const std::string silu = graph().add("Mul", name + "/mlp/act_fn/Mul", {gate, open});
    added_ = linear(block, LinearSlot::down, graph().add("Mul", name + "/mlp/Mul", {silu, up}));
  }

  const ExportPlan& plan_;
  const Architecture& a_;
  OnnxOperators operators_;
  bool fused_, attends_;
  DecoderGraph out_;
  std::map<std::string, std::size_t> index_;
  std::string residual_, added_;                  // the stream, and what is still to be added to it
  std::string cosines_, sines_;                   // tables
  std::string lengths_, total_;                   // with an attention operator
  std::string turn_cosines_, turn_sines_, bias_;  // without
};

}  // namespace

bool has_attention_operator(const Architecture& architecture, OnnxOperators operators) {
  return operators == OnnxOperators::onnxruntime && architecture.head_dim % kHeadMultiple == 0;
}

OnnxPart onnx_part(const PlannedTensor& tensor, const Architecture& architecture, OnnxOperators operators) {
  DecoderGraph alone{OnnxGraph(std::vector<std::pair<std::string, std::string>>{}), {}};
  alone.graph.input("x", OnnxType::f32, {});
  const std::uint64_t before = alone.graph.serialized().size();
  if (tensor.spec.role == TensorRole::embedding) {
    const std::string rows = add_embedding(alone, tensor, 0, "x");
    if (architecture.tied) add_tied_product(alone, "/lm_head", tensor, rows);
  } else {
    add_product(alone, operators, "/model/" + tensor.spec.module, tensor, 0, "x");
  }
  const std::uint64_t graph = alone.graph.serialized().size() - before;
  return {checked_add(graph, round_up(alone.graph.data_bytes(), onnx_alignment(alone.graph.data_bytes()))),
          alone.graph.weights()};
}

DecoderGraph decoder_graph(const ExportPlan& plan, OnnxOperators operators) { return Builder(plan, operators).build(); }

}  // namespace adze
