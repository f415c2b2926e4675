#include "transform/depth_search.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "evaluate/reference_judge.h"

namespace adze {
namespace {

double cosine(std::span<const float> a, std::span<const float> b) {
  double product = 0, first = 0, second = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    product += double{a[i]} * b[i];
    first += double{a[i]} * a[i];
    second += double{b[i]} * b[i];
  }
  return first > 0 && second > 0 ? product / std::sqrt(first * second) : 1;
}

ReferenceJudge judge_of(const ModelWeights& model, std::span<const std::int32_t> ids, std::size_t tokens) {
  return {model, ids, std::nullopt, parse_protocol(fmt::format("lcpp-{}", tokens))};
}

/// Lazy greedy: stale costs are bounds in practice, since a block is missed more when others are gone.
class GreedySearch {
 public:
  GreedySearch(const std::shared_ptr<const ModelWeights>& model, std::span<const std::int32_t> ids, std::size_t tokens,
               MergeMode merge)
      : model_(model), judge_(judge_of(*model, ids, tokens)), merge_(merge) {}

  std::vector<std::size_t> run(std::size_t count) {
    for (std::size_t block = 0; block < model_->architecture().layers; ++block)
      queue_.push_back({kl_without({block}), block, 0});
    while (dropped_.size() < count) drop_one();
    exchange();
    return dropped_;
  }

 private:
  struct Candidate {
    double kl;
    std::size_t block;
    std::size_t dropped;  ///< how many were gone when it was measured
  };

  double kl_without(std::vector<std::size_t> dropped) {
    std::ranges::sort(dropped);
    return judge_.judge(FewerBlocks(model_, dropped, merge_), Inference::point).reference->kl_mean;
  }

  std::vector<std::size_t> with(std::size_t block) const {
    std::vector<std::size_t> more = dropped_;
    more.push_back(block);
    return more;
  }

  void drop_one() {
    for (;;) {
      const auto first =
          std::ranges::min_element(queue_, {}, [](const Candidate& c) { return std::pair(c.kl, c.block); });
      if (first->dropped == dropped_.size()) {
        dropped_ = with(first->block);
        std::ranges::sort(dropped_);
        best_ = first->kl;
        queue_.erase(first);
        return;
      }
      first->kl = kl_without(with(first->block));
      first->dropped = dropped_.size();
    }
  }

  /// Each that is gone against the one that would have been next.
  void exchange() {
    if (queue_.empty()) return;
    for (std::size_t i = 0; i < dropped_.size(); ++i) {
      const auto next =
          std::ranges::min_element(queue_, {}, [](const Candidate& c) { return std::pair(c.kl, c.block); });
      std::vector<std::size_t> other = dropped_;
      other[i] = next->block;
      const double kl = kl_without(other);
      if (!(kl < best_)) continue;
      dropped_[i] = next->block;
      queue_.erase(next);
      best_ = kl;
      if (queue_.empty()) break;
    }
    std::ranges::sort(dropped_);
  }

  std::shared_ptr<const ModelWeights> model_;
  ReferenceJudge judge_;
  MergeMode merge_;
  std::vector<Candidate> queue_;
  std::vector<std::size_t> dropped_;
  double best_ = 0;
};

std::vector<std::size_t> range_of(std::size_t first, std::size_t count) {
  std::vector<std::size_t> range(count);
  std::iota(range.begin(), range.end(), first);
  return range;
}

}  // namespace

std::vector<double> block_influence(const ModelWeights& model, std::span<const std::int32_t> ids, std::size_t tokens) {
  ReferenceJudge judge = judge_of(model, ids, tokens);
  std::vector<double> influence;
  for (std::size_t block = 0; block < model.architecture().layers; ++block, judge.advance()) {
    const std::vector<MatrixF> after = judge.states_after(model.block(block));
    double sum = 0;
    std::size_t count = 0;
    for (std::size_t w = 0; w < after.size(); ++w)
      for (std::size_t t = 0; t < after[w].rows(); ++t, ++count)
        sum += cosine(judge.states()[w].row(t), after[w].row(t));
    influence.push_back(1 - sum / static_cast<double>(count));
  }
  return influence;
}

std::vector<double> angular_distance(const ModelWeights& model, std::span<const std::int32_t> ids, std::size_t tokens,
                                     std::size_t count) {
  ReferenceJudge judge = judge_of(model, ids, tokens);
  const std::size_t layers = model.architecture().layers;
  std::vector<std::vector<std::vector<float>>> last;  // before block l, of window w
  for (std::size_t block = 0; block <= layers; ++block) {
    last.emplace_back();
    for (const MatrixF& window : judge.states()) {
      const auto row = window.row(window.rows() - 1);
      last.back().emplace_back(row.begin(), row.end());
    }
    if (block < layers) judge.advance();
  }
  std::vector<double> distances;
  for (std::size_t l = 0; l + count <= layers; ++l) {
    double sum = 0;
    for (std::size_t w = 0; w < last[l].size(); ++w)
      sum += std::acos(std::clamp(cosine(last[l][w], last[l + count][w]), -1.0, 1.0)) / std::numbers::pi;
    distances.push_back(sum / static_cast<double>(last[l].size()));
  }
  return distances;
}

std::vector<std::size_t> deepest_blocks(std::size_t layers, std::size_t count) {
  return range_of(layers - 1 - count, count);
}

std::vector<std::size_t> blocks_to_drop(const std::shared_ptr<const ModelWeights>& model,
                                        std::span<const std::int32_t> ids, std::size_t tokens, std::size_t count,
                                        DepthMeasure measure, MergeMode merge) {
  const std::size_t layers = model->architecture().layers;
  if (measure == DepthMeasure::last) return deepest_blocks(layers, count);
  if (measure == DepthMeasure::kl) return GreedySearch(model, ids, tokens, merge).run(count);
  if (measure == DepthMeasure::angular) {
    const std::vector<double> distances = angular_distance(*model, ids, tokens, count);
    return range_of(static_cast<std::size_t>(std::ranges::min_element(distances) - distances.begin()), count);
  }
  const std::vector<double> influence = block_influence(*model, ids, tokens);
  std::vector<std::size_t> order = range_of(0, layers);
  std::ranges::stable_sort(order, {}, [&](std::size_t b) { return influence[b]; });
  order.resize(count);
  std::ranges::sort(order);
  return order;
}

}  // namespace adze
