#include "base/parallel.h"
#include "base/random.h"
#include "model/forward.h"
#include "pairs.h"

namespace adze::bench {
namespace {

std::vector<Pair> make_pairs() {
  constexpr std::size_t kSize = 2048;
  constexpr std::size_t kWindow = 512;
  constexpr std::size_t kWindows = 4;
  MatrixF weights(kSize, kSize);
  RandomStream random(3, "bench forward");
  for (float& w : weights.values()) w = static_cast<float>(0.02 * random.normal());
  const auto stored = std::make_shared<DenseTensor>(make_dense(weights, DType::bf16));
  const auto x = std::make_shared<MatrixF>(kWindows * kWindow, kSize);
  for (float& v : x->values()) v = static_cast<float>(random.normal());
  const auto y = std::make_shared<MatrixF>(kWindows * kWindow, kSize);
  return {{"linear_bf16_2048", "SGEMM of the same shape, all threads",
           [=] {
             parallel_for(kWindows, [&](std::size_t w) {
               thread_local Workspace work;
               linear(x->view().row_range(w * kWindow, kWindow), *stored, {}, y->view().row_range(w * kWindow, kWindow),
                      work);
             });
           },
           sgemm(kWindows * kWindow, kSize, kSize), 1 / 0.6}};
}

const bool registered = add("model", &make_pairs);

}  // namespace
}  // namespace adze::bench
