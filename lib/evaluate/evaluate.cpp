#include "evaluate/evaluate.h"

#include <algorithm>
#include <memory>

#include "base/checked.h"
#include "base/error.h"
#include "evaluate/window_scores.h"

namespace adze {
namespace {

using Windows = Matrix<std::int32_t>;

/// One model on its way through all windows.
class Pass {
 public:
  Pass(const ModelWeights& model, std::size_t window, Activations activations)
      : model_(model), forward_(model.architecture(), window, activations) {}

  void embed_windows(MatrixView<const std::int32_t> windows) {
    head_.reset();
    hidden_ = embedded(forward_, input_tables(model_), windows);
  }

  void run_block(std::size_t index, Pool<Workspace>& workspaces) {
    adze::run_block(forward_, model_.block(index), hidden_, workspaces);
  }

  /// After all blocks; valid until the next windows are embedded.
  FinishedWindows finish() {
    norm_ = norm_of(model_);
    head_ = model_.head();
    return {forward_, hidden_, norm_, *head_};
  }

  std::size_t layers() const { return model_.architecture().layers; }

 private:
  const ModelWeights& model_;
  Forward forward_;
  std::vector<MatrixF> hidden_;  // per window, [tokens x hidden]
  Norm norm_;
  TensorPtr head_;
};

/// `done`: blocks finished so far, over all groups of windows.
void run_blocks(std::span<Pass> passes, std::size_t& done, Progress& progress) {
  std::size_t most = 0;
  for (const Pass& pass : passes) most = std::max(most, pass.layers());
  Pool<Workspace> workspaces;
  for (std::size_t block = 0; block < most; ++block)
    for (Pass& pass : passes) {
      if (block >= pass.layers()) continue;
      pass.run_block(block, workspaces);
      progress.update(++done);
    }
}

}  // namespace

void check_models(const ModelWeights& model, const ModelWeights* reference, const Protocol& protocol,
                  Progress& progress) {
  const Architecture& a = model.architecture();
  if (reference && reference->architecture().vocab != a.vocab)
    fail(ErrorKind::bad_data, "the model has a vocabulary of {}, the reference one of {}: they cannot be compared",
         a.vocab, reference->architecture().vocab);
  if (protocol.window > a.max_positions)
    progress.warn(fmt::format("{}: windows of {} tokens are longer than the model's {} positions", protocol.name,
                              protocol.window, a.max_positions));
}

TextScores score_text(const ModelWeights& model, const ModelWeights* reference, std::span<const std::int32_t> ids,
                      std::optional<std::int32_t> bos, const Protocol& protocol, Progress& progress,
                      const EvaluationOptions& options) {
  check_models(model, reference, protocol, progress);
  const auto windows = std::make_shared<const Windows>(make_windows(ids, bos, protocol));
  const std::size_t all = windows->rows();
  const std::size_t step = options.windows_at_once > 0 ? std::min(options.windows_at_once, all) : all;
  std::vector<Pass> passes;
  passes.reserve(2);
  passes.emplace_back(model, protocol.window, options.activations);
  if (reference) passes.emplace_back(*reference, protocol.window, Activations::exact);
  std::size_t layers = 0, done = 0;
  for (const Pass& pass : passes) layers += pass.layers();
  progress.start("evaluating blocks", layers * divide_up(all, step));
  TextScorer scorer(windows, protocol, reference != nullptr, options.scores);
  for (std::size_t first = 0; first < all; first += step) {
    const auto group = windows->view().row_range(first, std::min(step, all - first));
    for (Pass& pass : passes) pass.embed_windows(group);
    run_blocks(passes, done, progress);
    const FinishedWindows judged = passes[0].finish();
    std::optional<FinishedWindows> base;
    if (reference) base.emplace(passes[1].finish());
    scorer.score(judged, base ? &*base : nullptr, first);
  }
  return scorer.finish();
}

EvaluationResult evaluate(const ModelWeights& model, const ModelWeights* reference, std::span<const std::int32_t> ids,
                          std::optional<std::int32_t> bos, const Protocol& protocol, Progress& progress,
                          const EvaluationOptions& options) {
  return summarize(score_text(model, reference, ids, bos, protocol, progress, options));
}

}  // namespace adze
