#include "export/onnx/mixture_nodes.h"

#include <fmt/format.h>

namespace adze {
namespace {

std::int64_t number(std::size_t value) { return static_cast<std::int64_t>(value); }

const OnnxGraph::Attributes kLastAxis{{"axis", std::int64_t{-1}}};

/// Which experts each token goes to, and the weights of what they make: [T, experts per token] both.
struct Chosen {
  std::string experts, weights;
};

Chosen add_choice(OnnxGraph& graph, const Architecture& a, const std::string& name, const std::string& logits) {
  const std::string scores = graph.add("Softmax", name + "/Softmax", {logits}, kLastAxis);
  const Chosen largest{name + "/experts", name + "/scores"};
  graph.node("TopK", name + "/TopK", {scores, graph.ints({number(a.experts_per_token)})},
             {largest.weights, largest.experts}, kLastAxis);
  if (!a.renormalised) return largest;
  const std::string sum = graph.add("ReduceSum", name + "/ReduceSum", {largest.weights, graph.ints({-1})});
  return {largest.experts, graph.add("Div", name + "/Div", {largest.weights, sum})};
}

}  // namespace

std::string ffn_name(std::int32_t expert) {
  return expert == LinearSlot::kNoExpert ? "mlp" : fmt::format("mlp/experts.{}", expert);
}

std::string add_mixture(OnnxGraph& graph, const Architecture& a, const std::string& name, const std::string& y,
                        const std::function<std::string(LinearSlot, const std::string&)>& router,
                        const std::function<std::string(std::int32_t, const std::string&)>& ffn) {
  const std::string tokens = graph.add("Reshape", name + "/tokens", {y, graph.ints({-1, number(a.hidden)})});
  const Chosen chosen = add_choice(graph, a, name + "/router", router(LinearSlot::router, tokens));
  const std::string shape = graph.add("Shape", name + "/sums/Shape", {tokens});
  std::string sums = graph.add("ConstantOfShape", name + "/sums/zeros", {shape});
  for (std::size_t e = 0; e < a.experts; ++e) {
    const std::string own = fmt::format("{}/experts.{}", name, e);
    const std::string is_own = graph.add("Equal", own + "/Equal", {chosen.experts, graph.scalar(number(e))});
    const std::string places =
        graph.add("Transpose", own + "/Transpose", {graph.add("NonZero", own + "/NonZero", {is_own})},
                  {{"perm", std::vector<std::int64_t>{1, 0}}});  // [n, 2]: a token, and which of its choices
    const std::string rows =
        graph.add("Slice", own + "/Slice", {places, graph.ints({0}), graph.ints({1}), graph.ints({1})});
    const std::string made =
        ffn(static_cast<std::int32_t>(e), graph.add("GatherND", own + "/tokens/GatherND", {tokens, rows}));
    const std::string weights =
        graph.add("Unsqueeze", own + "/weights/Unsqueeze",
                  {graph.add("GatherND", own + "/weights/GatherND", {chosen.weights, places}), graph.ints({1})});
    const std::string part = graph.add("Mul", own + "/weights/Mul", {made, weights});
    sums = graph.add("ScatterND", own + "/ScatterND", {sums, rows, part}, {{"reduction", std::string("add")}});
  }
  if (a.shared_ffn > 0) {
    const std::string shared = name + "/shared_expert";
    const std::string opened = graph.add("Sigmoid", shared + "/Sigmoid", {router(LinearSlot::shared_router, tokens)});
    const std::string part = graph.add("Mul", shared + "/Mul", {ffn(LinearSlot::kNoExpert, tokens), opened});
    sums = graph.add("Add", shared + "/Add", {sums, part});
  }
  return graph.add("Reshape", name + "/states", {sums, graph.add("Shape", name + "/Shape", {y})});
}

}  // namespace adze
