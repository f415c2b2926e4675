#include "base/random.h"
#include "grid/grid.h"
#include "pairs.h"
#include "recipe/document.h"
#include "recipe/reader.h"
#include "solve/gptq/gptq.h"
#include "solve/rtn/rtn.h"

namespace adze::bench {
namespace {

constexpr std::size_t kSize = 4096;

struct Layer {
  MatrixF weights{kSize, kSize};
  MatrixD hessian{kSize, kSize};
};

/// Gaussian weights and an H whose neighbours are correlated: cheap to make, positive definite.
std::shared_ptr<Layer> make_layer() {
  auto layer = std::make_shared<Layer>();
  RandomStream random(2, "bench solve");
  for (float& w : layer->weights.values()) w = static_cast<float>(0.02 * random.normal());
  for (std::size_t i = 0; i < kSize; ++i)
    for (std::size_t j = 0; j < kSize; ++j) {
      const auto distance = static_cast<double>(i > j ? i - j : j - i);
      layer->hessian(i, j) = 1.0 / (1.0 + 0.5 * distance) + (i == j ? 0.2 : 0.0);
    }
  return layer;
}

std::vector<Pair> make_pairs() {
  const auto layer = make_layer();
  const auto solve = [=](std::shared_ptr<const Solver> solver, const char* grid) {
    return [=, grid = grid_from_name(grid)] {
      solver->solve({{layer->weights.view()}, layer->hessian.view(), grid});
    };
  };
  const Document nothing = Document::parse("{}", "bench");
  Diagnostics problems;
  MapReader defaults(nothing.root(), "scheme", problems);
  const std::shared_ptr<const Solver> gptq = make_gptq({});
  const std::shared_ptr<const Solver> rtn = configure_rtn(defaults);
  const std::string yardstick = "SGEMM 4096^3, all threads";
  // Factorisation and the measurement of the loss are inside: what a user waits for.
  return {
      {"gptq_int4_g128_4096", yardstick, solve(gptq, "int4 g128 sym"), sgemm(kSize, kSize, kSize), 3.0},
      {"gptq_q4_k_4096", yardstick, solve(gptq, "gguf/q4_k"), sgemm(kSize, kSize, kSize), 4.0},
      {"rtn_q4_k_4096", yardstick, solve(rtn, "gguf/q4_k"), sgemm(kSize, kSize, kSize), 2.0},
  };
}

const bool registered = add("solve", &make_pairs);

}  // namespace
}  // namespace adze::bench
