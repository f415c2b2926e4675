#include "transform/drop_blocks.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/error.h"
#include "transform/demands.h"
#include "transform/depth_search.h"
#include "transform/fewer_blocks.h"

namespace adze {
namespace {

constexpr std::array kMeasures{
    Named<DepthMeasure>{"kl", DepthMeasure::kl}, Named<DepthMeasure>{"influence", DepthMeasure::influence},
    Named<DepthMeasure>{"angular", DepthMeasure::angular}, Named<DepthMeasure>{"last", DepthMeasure::last}};
constexpr std::array kMerges{Named<MergeMode>{"none", MergeMode::none}, Named<MergeMode>{"sum", MergeMode::sum},
                             Named<MergeMode>{"mean", MergeMode::mean}};

template <typename T, std::size_t N>
std::string_view name_in(const std::array<Named<T>, N>& table, T value) {
  return std::ranges::find(table, value, &Named<T>::value)->name;
}

struct DropOptions {
  std::size_t count = 0;
  DepthMeasure measure = DepthMeasure::kl;
  MergeMode merge = MergeMode::none;
  std::size_t windows = 8;
  std::vector<std::size_t> dropped;  ///< ascending; empty: to be found
};

std::string listed(const std::vector<std::size_t>& blocks) { return fmt::format("{}", fmt::join(blocks, ",")); }

class DropBlocks final : public Transform {
 public:
  DropBlocks(DropOptions options, std::size_t layers) : options_(std::move(options)), layers_(layers) {}

  std::string description() const override {
    const std::string which = options_.dropped.empty()
                                  ? fmt::format("count={} select={} windows={}", options_.count,
                                                name_in(kMeasures, options_.measure), options_.windows)
                                  : "blocks=" + listed(options_.dropped);
    return fmt::format("drop-blocks {} merge={}", which, name_in(kMerges, options_.merge));
  }
  std::string remark() const override {
    return fmt::format(
        "{} of {} blocks, numbered anew; what a model without them says in long texts is not seen by "
        "scores of single answers",
        layers_ - options_.count, layers_);
  }
  bool needs_survey() const override { return options_.dropped.empty(); }
  std::unique_ptr<Survey> survey() const override;
  std::optional<JudgedSurvey> judged_survey() const override {
    if (!needs_survey()) return std::nullopt;
    return JudgedSurvey{options_.windows, options_.merge == MergeMode::none ? 1 : 2 * (options_.count + 1)};
  }
  Architecture architecture(const Architecture& before) const override {
    Architecture after = before;
    after.layers = before.layers - options_.count;
    return after;
  }
  std::shared_ptr<const ModelWeights> reshaped(std::shared_ptr<const ModelWeights> original) const override {
    return std::make_shared<const FewerBlocks>(std::move(original), options_.dropped, options_.merge);
  }
  BlockWeights block(BlockWeights block, std::size_t, const BlockInputs*) const override { return block; }

  std::shared_ptr<const Transform> found(std::vector<std::size_t> dropped) const {
    DropOptions settled = options_;
    settled.dropped = std::move(dropped);
    return std::make_shared<const DropBlocks>(std::move(settled), layers_);
  }
  const DropOptions& options() const { return options_; }

 private:
  DropOptions options_;
  std::size_t layers_;
};

class DepthSurvey final : public Survey {
 public:
  explicit DepthSurvey(const DropBlocks& transform) : transform_(transform) {}

  bool wants(Stage) const override { return false; }
  void see(Stage, const InputStatistics&, const BlockWeights&) override {}
  bool wants_model() const override { return true; }
  void see_model(const std::shared_ptr<const ModelWeights>& model, std::span<const std::int32_t> ids,
                 std::size_t tokens) override {
    const DropOptions& options = transform_.options();
    const std::size_t windows = std::min(options.windows, ids.size() / tokens);
    dropped_ =
        blocks_to_drop(model, ids.first(windows * tokens), tokens, options.count, options.measure, options.merge);
  }
  std::shared_ptr<const Transform> result() override { return transform_.found(dropped_); }

 private:
  DropBlocks transform_;
  std::vector<std::size_t> dropped_;
};

std::unique_ptr<Survey> DropBlocks::survey() const { return std::make_unique<DepthSurvey>(*this); }

/// "3, 7": numbers of blocks. Problems are reported.
std::vector<std::size_t> read_blocks(const Value& value, std::size_t layers) {
  std::vector<std::size_t> blocks;
  const std::string text = value.text().value_or("");
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    if (*at == ' ' || *at == ',') {
      ++at;
      continue;
    }
    std::size_t block = 0;
    const auto [next, error] = std::from_chars(at, end, block);
    if (error != std::errc{}) {
      value.complain("must be numbers of blocks as text, such as \"3, 7\"");
      return {};
    }
    at = next;
    blocks.push_back(block);
  }
  std::ranges::sort(blocks);
  if (std::ranges::adjacent_find(blocks) != blocks.end()) value.complain("names a block twice");
  if (blocks.empty() || blocks.back() >= layers)
    value.complain(fmt::format("must name blocks from 0 to {}", layers - 1));
  return blocks;
}

}  // namespace

std::shared_ptr<const Transform> configure_drop_blocks(MapReader& options, const Architecture& original) {
  require_equal_layers(original, "drop-blocks");
  DropOptions read;
  const Value blocks = options.optional("blocks");
  const Value count = blocks.present() ? options.optional("count") : options.required("count");
  const Value select = options.optional("select");
  read.count = count.count(1, 100000).value_or(1);
  read.measure = select.one_of<DepthMeasure>(kMeasures).value_or(read.measure);
  read.merge = options.optional("merge").one_of<MergeMode>(kMerges).value_or(read.merge);
  if (read.merge != MergeMode::none) require_one_ffn(original, "drop-blocks with merge");
  read.windows = options.optional("windows").count(1, 100000).value_or(read.windows);
  if (blocks.present()) {
    if (count.present() || select.present()) blocks.complain("and count or select exclude each other");
    read.dropped = read_blocks(blocks, original.layers);
    read.count = std::max<std::size_t>(read.dropped.size(), 1);
  }
  if (read.count >= original.layers)
    fail(ErrorKind::bad_recipe, "drops {} of {} blocks: at least one must be left", read.count, original.layers);
  if (!blocks.present() && read.measure == DepthMeasure::last)
    read.dropped = deepest_blocks(original.layers, read.count);
  return std::make_shared<const DropBlocks>(std::move(read), original.layers);
}

}  // namespace adze
