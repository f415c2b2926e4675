#include "export/onnx/mixture_nodes.h"

#include <numeric>

#include <fmt/format.h>

namespace adze {
namespace {

using Names = OnnxGraph::Names;

std::int64_t number(std::size_t value) { return static_cast<std::int64_t>(value); }

OnnxGraph::Attributes axis(std::int64_t which) { return {{"axis", which}}; }

/// Which experts each token goes to, the one of the largest score first, and the weights of what they make: [T, k]
/// both.
struct Chosen {
  std::string experts, weights;
};

Chosen add_choice(OnnxGraph& graph, const Architecture& a, const std::string& name, const std::string& logits) {
  const std::string scores = graph.add("Softmax", name + "/Softmax", {logits}, axis(-1));
  const Chosen largest{name + "/experts", name + "/scores"};
  graph.node("TopK", name + "/TopK", {scores, graph.ints({number(a.experts_per_token)})},
             {largest.weights, largest.experts}, axis(-1));
  if (!a.renormalised) return largest;
  const std::string sum = graph.add("ReduceSum", name + "/ReduceSum", {largest.weights, graph.ints({-1})});
  return {largest.experts, graph.add("Div", name + "/Div", {largest.weights, sum})};
}

/// Where the values of a vector lie, the smallest first: [n].
std::string add_order(OnnxGraph& graph, const std::string& name, const std::string& values) {
  const std::string count = graph.add("Shape", name + "/Shape", {values});
  graph.node("TopK", name + "/TopK", {values, count}, {name + "/sorted", name + "/places"},
             {{"axis", std::int64_t{0}}, {"largest", std::int64_t{0}}});
  return name + "/places";
}

/// How many of the choices [n] are of each expert: [experts].
std::string add_counts(OnnxGraph& graph, const Architecture& a, const std::string& name, const std::string& choices) {
  std::vector<std::int64_t> experts(a.experts);
  std::iota(experts.begin(), experts.end(), 0);
  const std::string column = graph.add("Unsqueeze", name + "/Unsqueeze", {choices, graph.ints({1})});
  const std::string is_own = graph.add("Equal", name + "/Equal", {column, graph.ints(experts)});
  const std::string ones =
      graph.add("Cast", name + "/Cast", {is_own}, {{"to", static_cast<std::int64_t>(OnnxType::i64)}});
  return graph.add("ReduceSum", name + "/ReduceSum", {ones, graph.ints({0})}, {{"keepdims", std::int64_t{0}}});
}

/// What experts make of the rows of their tokens, [n, H] in the order of experts.
std::string add_experts(OnnxGraph& graph, const Architecture& a, const std::string& name, const std::string& rows,
                        const std::string& counts, const FfnNodes& ffn) {
  Names parts, made;
  for (std::size_t e = 0; e < a.experts; ++e) parts.push_back(fmt::format("{}/experts.{}/rows", name, e));
  graph.node("Split", name + "/experts/Split", {rows, counts}, parts, axis(0));
  for (std::size_t e = 0; e < a.experts; ++e) made.push_back(ffn(static_cast<std::int32_t>(e), parts[e]));
  return graph.add("Concat", name + "/experts/Concat", made, axis(0));
}

}  // namespace

std::string ffn_name(std::int32_t expert) {
  return expert == LinearSlot::kNoExpert ? "mlp" : fmt::format("mlp/experts.{}", expert);
}

std::string add_mixture(OnnxGraph& graph, const Architecture& a, const std::string& name, const std::string& y,
                        const RouterNodes& router, const FfnNodes& ffn) {
  const std::int64_t hidden = number(a.hidden), each = number(a.experts_per_token);
  const std::string tokens = graph.add("Reshape", name + "/tokens", {y, graph.ints({-1, hidden})});
  const Chosen chosen = add_choice(graph, a, name + "/router", router(LinearSlot::router, tokens));
  const std::string choices = graph.add("Reshape", name + "/choices", {chosen.experts, graph.ints({-1})});
  const std::string order = add_order(graph, name + "/order", choices);
  const std::string rows = graph.add("Gather", name + "/rows/Gather",
                                     {tokens, graph.add("Div", name + "/rows/Div", {order, graph.scalar(each)})});
  const std::string made = add_experts(graph, a, name, rows, add_counts(graph, a, name + "/counts", choices), ffn);
  const std::string in_order =
      graph.add("Gather", name + "/made/Gather", {made, add_order(graph, name + "/back", order)});
  const std::string by_token = graph.add("Reshape", name + "/made/Reshape", {in_order, graph.ints({-1, each, hidden})});
  const std::string weights = graph.add("Unsqueeze", name + "/weights", {chosen.weights, graph.ints({2})});
  const std::string parts = graph.add("Mul", name + "/made/Mul", {by_token, weights});
  std::string sums = graph.add("ReduceSum", name + "/sums", {parts, graph.ints({1})}, {{"keepdims", std::int64_t{0}}});
  if (a.shared_ffn > 0) {
    const std::string shared = name + "/shared_expert";
    const std::string opened = graph.add("Sigmoid", shared + "/Sigmoid", {router(LinearSlot::shared_router, tokens)});
    const std::string part = graph.add("Mul", shared + "/Mul", {ffn(LinearSlot::kNoExpert, tokens), opened});
    sums = graph.add("Add", shared + "/Add", {sums, part});
  }
  return graph.add("Reshape", name + "/states", {sums, graph.add("Shape", name + "/Shape", {y})});
}

}  // namespace adze
