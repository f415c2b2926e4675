#include "base/progress.h"
#include "base/random.h"
#include "evaluate/evaluate.h"
#include "model/weights.h"
#include "pairs.h"

namespace adze::bench {
namespace {

constexpr std::size_t kWindow = 512;

/// Random weights in bf16; every block the same one, so that memory does not grow with depth.
class RandomModel final : public ModelWeights {
 public:
  explicit RandomModel(const Architecture& architecture) : architecture_(architecture) {
    const std::size_t hidden = architecture.hidden;
    embedding_ = matrix(architecture.vocab, hidden);
    block_[NormSlot::before_attention].assign(hidden, 1.0f);
    block_[NormSlot::before_ffn].assign(hidden, 1.0f);
    for (const LinearSlot slot : {LinearSlot::q, LinearSlot::k, LinearSlot::v})
      block_[slot].weight = matrix(slot == LinearSlot::q ? architecture.q_width() : architecture.kv_width(), hidden);
    block_[LinearSlot::o].weight = matrix(hidden, architecture.q_width());
    block_[LinearSlot::gate].weight = matrix(architecture.ffn, hidden);
    block_[LinearSlot::up].weight = matrix(architecture.ffn, hidden);
    block_[LinearSlot::down].weight = matrix(hidden, architecture.ffn);
  }

  const Architecture& architecture() const override { return architecture_; }
  TensorPtr embedding() const override { return embedding_; }
  BlockWeights block(std::size_t) const override { return block_; }
  std::vector<float> final_norm() const override { return std::vector<float>(architecture_.hidden, 1.0f); }
  TensorPtr head() const override { return embedding_; }

  /// Multiplications of products for `windows` of an lcpp protocol: half of a window's positions go through the head.
  std::size_t multiplications(std::size_t windows) const {
    std::size_t of_block = 0;
    block_.for_each_linear([&](const Linear& linear) { of_block += linear.weight->shape().count(); });
    return windows * (kWindow * architecture_.layers * of_block + (kWindow / 2 - 1) * embedding_->shape().count());
  }

 private:
  static TensorPtr matrix(std::size_t rows, std::size_t cols) {
    RandomStream random(5, "bench evaluate");
    MatrixF weights(rows, cols);
    for (float& w : weights.values()) w = static_cast<float>(0.05 * (random.uniform() - 0.5));
    return std::make_shared<DenseTensor>(make_dense(weights, DType::bf16));
  }

  Architecture architecture_;
  TensorPtr embedding_;
  BlockWeights block_;
};

Architecture llama(std::size_t hidden, std::size_t ffn, std::size_t layers, std::size_t heads, std::size_t vocab) {
  Architecture a;
  a.hidden = hidden;
  a.ffn = ffn;
  a.layers = layers;
  a.heads = heads;
  a.kv_heads = heads / 2;
  a.head_dim = 64;
  a.vocab = vocab;
  a.max_positions = kWindow;
  a.norm_eps = 1e-5;
  return a;
}

/// Two models side by side, statistics and their resampling included.
Pair pair_of(const std::string& name, const Architecture& architecture, std::size_t windows) {
  const auto model = std::make_shared<RandomModel>(architecture);
  std::vector<std::int32_t> ids(windows * kWindow);
  RandomStream random(5, "bench ids");
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random.below(architecture.vocab));
  constexpr std::size_t kWidth = 2048;
  const std::size_t tokens = windows * kWindow;
  return {name, "SGEMM 2048 wide of as many multiplications, all threads",
          [=] { evaluate(*model, model.get(), ids, std::nullopt, parse_protocol("lcpp-512"), silent_progress()); },
          sgemm(tokens, 2 * model->multiplications(windows) / tokens / kWidth, kWidth), 1 / 0.6};
}

std::vector<Pair> make_pairs() {
  return {pair_of("evaluate_demo", llama(256, 768, 6, 4, 4096), 16),
          pair_of("evaluate_llama_1024", llama(1024, 2816, 2, 16, 32000), 2)};
}

const bool registered = add("evaluate", &make_pairs);

}  // namespace
}  // namespace adze::bench
