#include "transform/prune_channels.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "calibrate/surrogate.h"
#include "metrics/proxy_loss.h"
#include "transform/cut.h"
#include "transform/demands.h"
#include "transform/least_groups.h"

namespace adze {
namespace {

constexpr double kDamp = 0.01;  // of the mean diagonal of H, as in GPTQ
constexpr double kRidge = 0.1;  // likewise; much less makes every leverage 1, much more the order that of diag H

struct PruneOptions {
  double keep = 1;
  bool data = true;
  double damp = kDamp;

  std::string text() const {
    return fmt::format("keep={}% inputs={} damp={}", 100 * keep, data ? "calibration" : "none", damp);
  }
};

PruneOptions read_prune_options(MapReader& options) {
  constexpr std::array kInputs{Named<bool>{"calibration", true}, Named<bool>{"none", false}};
  PruneOptions read;
  const Value keep = options.required("keep");
  read.keep = keep.percent().value_or(read.keep);
  if (read.keep <= 0) keep.complain("must be above 0%");
  read.data = options.optional("inputs").one_of<bool>(kInputs).value_or(read.data);
  read.damp = options.optional("damp").real(1e-6, 1).value_or(read.damp);
  return read;
}

/// The columns that are left, ascending.
std::vector<std::size_t> kept_columns(std::size_t cols, std::size_t group, std::span<const std::size_t> dropped) {
  std::vector<bool> gone(cols / group, false);
  for (const std::size_t g : dropped) gone[g] = true;
  std::vector<std::size_t> kept;
  for (std::size_t c = 0; c < cols; ++c)
    if (!gone[c / group]) kept.push_back(c);
  return kept;
}

/// H of a stage's inputs, damped: measured, or from the weights.
MatrixD hessian(const Architecture& architecture, Stage stage, std::size_t index, const BlockWeights& block,
                const BlockInputs* inputs, const PruneOptions& options) {
  if (options.data) return with_damping((*inputs)[stage].second_moment, options.damp);
  return with_damping(surrogate_moments(architecture, stage, index, block, block).second_moment, options.damp);
}

/// Which channels of an FFN go.
enum class ChannelRule : std::uint8_t {
  loss,      ///< those that cost least after the repair
  leverage,  ///< those of which the others say most (MoDeGPT's type I)
  activity,  ///< those that are least active on the calibration set, by mean |a| (contextual pruning, Mini-GPTs)
};
constexpr std::array kChannelRules{Named<ChannelRule>{"loss", ChannelRule::loss},
                                   Named<ChannelRule>{"leverage", ChannelRule::leverage},
                                   Named<ChannelRule>{"activity", ChannelRule::activity}};

/// The `count` inputs with the least mean size, ascending.
std::vector<std::size_t> least_active(const InputStatistics& inputs, std::size_t count) {
  std::vector<std::size_t> order(inputs.inputs());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return inputs.abs_sum[i]; });
  order.resize(count);
  std::ranges::sort(order);
  return order;
}

class PruneFfn final : public Transform {
 public:
  PruneFfn(const Architecture& original, std::size_t width, std::size_t align, ChannelRule rule,
           const PruneOptions& options)
      : original_(original), width_(width), align_(align), rule_(rule), options_(options) {}

  std::string description() const override {
    return fmt::format("prune-ffn {} align={} select={} channels={}", options_.text(), align_,
                       std::ranges::find(kChannelRules, rule_, &Named<ChannelRule>::value)->name, width_);
  }
  std::string remark() const override { return fmt::format("FFN width {} of {}", width_, original_.ffn); }
  bool needs_inputs() const override { return options_.data; }
  Architecture architecture(const Architecture& before) const override {
    Architecture after = before;
    after.ffn = width_;
    return after;
  }

  BlockWeights block(BlockWeights block, std::size_t index, const BlockInputs* inputs) const override {
    const MatrixD h = hessian(original_, Stage::down, index, block, inputs, options_);
    Linear& down = block[LinearSlot::down];
    const MatrixF weights = down.weight->decode();
    if (weights.cols() <= width_) fail(ErrorKind::internal, "block {} is narrow already", index);
    const std::size_t quota = weights.cols() - width_;
    const auto dropped = with_context(module_name(original_, index, LinearSlot::down), [&] {
      if (rule_ == ChannelRule::activity) return least_active((*inputs)[Stage::down], quota);
      return rule_ == ChannelRule::leverage ? least_leverage(h, kRidge, quota)
                                            : least_groups(weights, h, 1, std::array{quota});
    });
    const std::vector<std::size_t> kept = kept_columns(weights.cols(), 1, dropped);
    down.weight = dense_f32(repaired(weights, h, kept));
    if (original_.info().is_gated()) keep_rows(kept, block[LinearSlot::gate]);
    keep_rows(kept, block[LinearSlot::up]);
    return block;
  }

 private:
  Architecture original_;
  std::size_t width_;
  std::size_t align_;
  ChannelRule rule_;
  PruneOptions options_;
};

class PruneHeads final : public Transform {
 public:
  /// kv_heads or heads per group are those that are left.
  PruneHeads(const Architecture& original, std::size_t kv_heads, std::size_t per_group, const PruneOptions& options)
      : original_(original), kv_heads_(kv_heads), per_group_(per_group), options_(options) {}

  std::string description() const override {
    return fmt::format("prune-heads {} heads={} kv_heads={}", options_.text(), heads(), kv_heads_);
  }
  std::string remark() const override {
    return fmt::format("{} of {} query heads, {} of {} key/value heads", heads(), original_.heads, kv_heads_,
                       original_.kv_heads);
  }
  bool needs_inputs() const override { return options_.data; }
  Architecture architecture(const Architecture& before) const override {
    Architecture after = before;
    after.kv_heads = kv_heads_;
    after.heads = heads();
    return after;
  }

  BlockWeights block(BlockWeights block, std::size_t index, const BlockInputs* inputs) const override {
    const MatrixD h = hessian(original_, Stage::o, index, block, inputs, options_);
    Linear& o = block[LinearSlot::o];
    const MatrixF weights = o.weight->decode();
    const std::size_t queries = original_.heads / original_.kv_heads;  // per group
    const bool groups = kv_heads_ < original_.kv_heads;
    const std::size_t cols = groups ? queries * original_.head_dim : original_.head_dim;
    std::vector<std::size_t> quotas(groups ? 1 : original_.kv_heads,
                                    groups ? original_.kv_heads - kv_heads_ : queries - per_group_);
    const auto dropped = with_context(module_name(original_, index, LinearSlot::o),
                                      [&] { return least_groups(weights, h, cols, quotas); });
    const std::vector<std::size_t> kept = kept_columns(weights.cols(), cols, dropped);
    o.weight = dense_f32(repaired(weights, h, kept));
    keep_rows(kept, block[LinearSlot::q]);
    if (groups) {
      const std::vector<std::size_t> kept_kv = kept_columns(original_.kv_width(), original_.head_dim, dropped);
      keep_rows(kept_kv, block[LinearSlot::k]);
      keep_rows(kept_kv, block[LinearSlot::v]);
    }
    return block;
  }

 private:
  std::size_t heads() const { return kv_heads_ * per_group_; }

  Architecture original_;
  std::size_t kv_heads_;   ///< that are left
  std::size_t per_group_;  ///< query heads that are left in each group
  PruneOptions options_;
};

/// `keep` of `count`, rounded to whole ones, at least one.
std::size_t share(double keep, std::size_t count) {
  return std::max<std::size_t>(1, static_cast<std::size_t>(std::llround(keep * static_cast<double>(count))));
}

}  // namespace

std::shared_ptr<const Transform> configure_prune_ffn(MapReader& options, const Architecture& original) {
  require_one_ffn(original, "prune-ffn");
  const PruneOptions prune = read_prune_options(options);
  const Value select = options.optional("select");
  const ChannelRule rule = select.one_of<ChannelRule>(kChannelRules).value_or(ChannelRule::loss);
  if (rule == ChannelRule::activity && !prune.data)
    select.complain("activity is measured on a calibration set; with inputs: none there is none");
  const Value align = options.optional("align");
  const std::size_t unit = align.count(1, 4096).value_or(32);
  if (unit > original.ffn) align.complain(fmt::format("is more than the {} channels there are", original.ffn));
  const std::size_t width = std::min(original.ffn, share(prune.keep, original.ffn / unit) * unit);
  if (width == original.ffn)
    fail(ErrorKind::bad_recipe, "keep: {}% of {} channels in multiples of {} is all of them; nothing would be pruned",
         100 * prune.keep, original.ffn, unit);
  return std::make_shared<PruneFfn>(original, width, unit, rule, prune);
}

std::shared_ptr<const Transform> configure_prune_heads(MapReader& options, const Architecture& original) {
  require_heads_apart(original, "prune-heads");
  constexpr std::array kWhat{Named<bool>{"groups", true}, Named<bool>{"queries", false}};
  const PruneOptions prune = read_prune_options(options);
  const bool groups = options.optional("what").one_of<bool>(kWhat).value_or(true);
  const std::size_t queries = original.heads / original.kv_heads;
  const std::size_t kv_heads = groups ? share(prune.keep, original.kv_heads) : original.kv_heads;
  const std::size_t per_group = groups ? queries : share(prune.keep, queries);
  if (kv_heads * per_group == original.heads)
    fail(ErrorKind::bad_recipe, "keep: {}% of {} heads is all of them; nothing would be pruned", 100 * prune.keep,
         groups ? original.kv_heads : queries);
  return std::make_shared<PruneHeads>(original, kv_heads, per_group, prune);
}

}  // namespace adze
