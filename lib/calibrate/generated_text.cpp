#include "calibrate/generated_text.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/parallel.h"
#include "base/random.h"
#include "calibrate/calibrate.h"
#include "linalg/convert.h"
#include "linalg/vector_math.h"
#include "model/forward.h"
#include "model/pool.h"

namespace adze {
namespace {

constexpr std::size_t kAtOnce = 8;  // windows that are one product; fixed, so that threads change no bit

void check_options(const GenerateOptions& options) {
  if (options.windows == 0) fail(ErrorKind::usage, "0 windows are asked for; ask for 1 or more");
  if (!(options.temperature > 0)) fail(ErrorKind::usage, "a temperature of {} is not above 0", options.temperature);
  if (!(options.top_p > 0 && options.top_p <= 1)) fail(ErrorKind::usage, "top-p {} is not in (0, 1]", options.top_p);
  if (!(options.drop >= 0 && options.drop < 1)) fail(ErrorKind::usage, "a share of {} cannot be dropped", options.drop);
}

struct LoadedModel {
  explicit LoadedModel(const ModelWeights& model)
      : tables(input_tables(model)), norm(norm_of(model)), head(model.head()) {
    for (std::size_t b = 0; b < model.architecture().layers; ++b) blocks.push_back(model.block(b));
  }

  InputTables tables;
  std::vector<BlockWeights> blocks;
  Norm norm;
  TensorPtr head;
};

/// Draws a token from softmax(logits / temperature), of the most likely ones that hold top_p of it.
class Sampler {
 public:
  explicit Sampler(const GenerateOptions& options) : options_(options) {}

  /// nll: -log of its probability at temperature 1.
  std::int32_t draw(std::span<const float> logits, RandomStream& random, double& nll) {
    const float top = largest(logits);
    weights_.resize(logits.size());
    const double sum_plain = exp_shifted(logits, top, 1, weights_);
    const auto scale = static_cast<float>(1 / options_.temperature);
    double sum = scale == 1 ? sum_plain : exp_shifted(logits, top, scale, weights_);
    if (options_.top_p < 1) sum = keep_likeliest(sum);
    double left = random.uniform() * sum;
    std::size_t token = 0;
    for (std::size_t v = 0; v < weights_.size(); ++v) {
      if (weights_[v] == 0) continue;
      token = v;
      left -= weights_[v];
      if (left < 0) break;
    }
    nll = std::log(sum_plain) - (static_cast<double>(logits[token]) - top);
    return static_cast<std::int32_t>(token);
  }

 private:
  /// Weights of all but the likeliest become 0; returns what is left.
  double keep_likeliest(double sum) {
    order_.resize(weights_.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::ranges::stable_sort(order_, std::ranges::greater{}, [&](std::size_t v) { return weights_[v]; });
    double held = 0;
    for (const std::size_t v : order_) {
      if (held >= options_.top_p * sum)
        weights_[v] = 0;
      else
        held += weights_[v];
    }
    return held;
  }

  const GenerateOptions& options_;
  std::vector<float> weights_;
  std::vector<std::size_t> order_;
};

struct Window {
  std::vector<std::int32_t> ids;
  double nll = 0;
};

/// Writes kAtOnce windows side by side.
class Writer {
 public:
  Writer(const Forward& forward, const LoadedModel& model, const Vocabulary& vocabulary, const GenerateOptions& options,
         std::size_t first, std::size_t count)
      : forward_(forward), model_(model), vocabulary_(vocabulary), options_(options), sampler_(options) {
    for (std::size_t w = 0; w < count; ++w) {
      random_.emplace_back(options.seed, fmt::format("generate/window-{}", first + w));
      caches_.emplace_back();
      for (std::size_t b = 0; b < model.blocks.size(); ++b)
        caches_.back().emplace_back(forward.architecture(), options.tokens);
    }
    windows_.resize(count);
    waiting_.resize(count);
  }

  std::vector<Window> run() {
    for (std::size_t w = 0; w < windows_.size(); ++w) begin_text(w);
    const std::size_t wanted = options_.tokens - vocabulary_.prefix_ids.size();
    while (std::ranges::any_of(windows_, [&](const Window& window) { return window.ids.size() < wanted; }))
      step(wanted);
    for (Window& window : windows_) window.nll /= static_cast<double>(wanted);
    return std::move(windows_);
  }

 private:
  /// The next text of a window: an empty cache, and what texts begin with is fed before anything is drawn.
  void begin_text(std::size_t w) {
    for (KeyValueCache& cache : caches_[w]) cache.tokens = 0;
    waiting_[w].assign(vocabulary_.prefix_ids.rbegin(), vocabulary_.prefix_ids.rend());
    if (!waiting_[w].empty()) return;
    const auto token = static_cast<std::int32_t>(random_[w].below(vocabulary_.tokens.size()));
    waiting_[w].push_back(token);
    windows_[w].ids.push_back(token);
  }

  /// Feeds one token to each unfinished window, and draws where nothing waits.
  void step(std::size_t wanted) {
    std::vector<std::size_t> active;
    std::vector<std::int32_t> ids;
    for (std::size_t w = 0; w < windows_.size(); ++w) {
      if (windows_[w].ids.size() >= wanted) continue;
      active.push_back(w);
      ids.push_back(waiting_[w].back());
      waiting_[w].pop_back();
    }
    const MatrixF logits = run_model(active, ids);
    for (std::size_t i = 0; i < active.size(); ++i)
      if (waiting_[active[i]].empty()) draw(active[i], logits.row(i));
  }

  MatrixF run_model(const std::vector<std::size_t>& active, const std::vector<std::int32_t>& ids) {
    MatrixF x(active.size(), forward_.architecture().hidden);
    std::vector<std::size_t> positions;
    for (const std::size_t w : active) positions.push_back(caches_[w].front().tokens);
    forward_.embed(model_.tables, ids, positions, x);
    std::vector<KeyValueCache*> caches(active.size());
    for (std::size_t b = 0; b < model_.blocks.size(); ++b) {
      for (std::size_t i = 0; i < active.size(); ++i) caches[i] = &caches_[active[i]][b];
      forward_.run_block_step(model_.blocks[b], x, caches, work_);
    }
    forward_.final_norm(model_.norm, x, x);
    MatrixF logits(active.size(), model_.head->shape().rows);
    forward_.logits(*model_.head, x, logits, work_);
    if (!all_finite(logits.values())) fail(ErrorKind::bad_data, "the model's logits are not finite");
    return logits;
  }

  void draw(std::size_t w, std::span<const float> logits) {
    double nll = 0;
    const std::int32_t token = sampler_.draw(logits.first(vocabulary_.tokens.size()), random_[w], nll);
    if (std::ranges::find(forward_.architecture().eos_ids, token) != forward_.architecture().eos_ids.end())
      return begin_text(w);
    windows_[w].ids.push_back(token);
    windows_[w].nll += nll;
    waiting_[w].push_back(token);
  }

  const Forward& forward_;
  const LoadedModel& model_;
  const Vocabulary& vocabulary_;
  const GenerateOptions& options_;
  Sampler sampler_;
  std::vector<RandomStream> random_;
  std::vector<std::vector<KeyValueCache>> caches_;  ///< [window][block]
  std::vector<std::vector<std::int32_t>> waiting_;  ///< tokens to be fed, the last one first
  std::vector<Window> windows_;
  Workspace work_;
};

}  // namespace

GeneratedText generate_text(const ModelWeights& model, const Tokenizer& tokenizer, const GenerateOptions& options,
                            Progress& progress) {
  check_options(options);
  check_window_length(model.architecture(), options.tokens);
  const Vocabulary& vocabulary = tokenizer.vocabulary();
  if (options.tokens <= vocabulary.prefix_ids.size() + 1)
    fail(ErrorKind::usage, "windows of {} tokens leave no room for text", options.tokens);
  const auto written = static_cast<std::size_t>(std::ceil(static_cast<double>(options.windows) / (1 - options.drop)));
  const Forward forward(model.architecture(), options.tokens);
  const LoadedModel loaded(model);
  const std::size_t groups = (written + kAtOnce - 1) / kAtOnce;
  std::vector<Window> windows;
  progress.start("writing", groups);
  const auto threads = static_cast<std::size_t>(thread_count());
  for (std::size_t begin = 0; begin < groups; begin += threads) {
    std::vector<std::vector<Window>> some(std::min(threads, groups - begin));
    parallel_for(some.size(), [&](std::size_t g) {
      const std::size_t first = (begin + g) * kAtOnce;
      some[g] = Writer(forward, loaded, vocabulary, options, first, std::min(kAtOnce, written - first)).run();
    });
    for (auto& group : some) std::ranges::move(group, std::back_inserter(windows));
    progress.update(begin + some.size());
  }
  std::vector<std::size_t> order(windows.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t w) { return windows[w].nll; });
  GeneratedText text;
  text.dropped = windows.size() - options.windows;
  for (std::size_t i = options.windows; i < order.size(); ++i)
    text.dropped_nll += windows[order[i]].nll / static_cast<double>(text.dropped);
  order.resize(options.windows);
  std::ranges::sort(order);
  for (const std::size_t w : order) {
    text.ids.insert(text.ids.end(), windows[w].ids.begin(), windows[w].ids.end());
    text.window_nll.push_back(windows[w].nll);
  }
  return text;
}

}  // namespace adze
