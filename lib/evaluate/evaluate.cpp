#include "evaluate/evaluate.h"

#include <algorithm>
#include <array>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "linalg/convert.h"
#include "model/forward.h"
#include "model/pool.h"

namespace adze {
namespace {

using Windows = Matrix<std::int32_t>;

// Logits held by one worker for one model: 64 MiB, which is 128 rows of the largest vocabularies.
constexpr std::size_t kLogitsAtOnce = std::size_t{1} << 24;
constexpr std::size_t kMostRows = 256;
constexpr std::size_t kLeastRows = 16;

std::size_t slice_rows(std::size_t vocab) { return std::clamp(kLogitsAtOnce / vocab, kLeastRows, kMostRows); }

/// One model on its way through all windows.
class Pass {
 public:
  Pass(const ModelWeights& model, std::size_t window) : model_(model), forward_(model.architecture(), window) {}

  void embed_windows(MatrixView<const std::int32_t> windows) {
    head_.reset();
    const TensorPtr table = model_.embedding();
    hidden_.resize(windows.rows());
    parallel_for(windows.rows(), [&](std::size_t w) {
      hidden_[w] = MatrixF(windows.cols(), model_.architecture().hidden);
      embed(*table, windows.row(w), hidden_[w]);
    });
  }

  void run_block(std::size_t index, Pool<Workspace>& workspaces) {
    const BlockWeights block = model_.block(index);
    parallel_for(hidden_.size(), [&](std::size_t w) {
      const auto work = workspaces.borrow();
      forward_.run_block(block, hidden_[w], *work);
    });
  }

  void load_head() {
    norm_ = model_.final_norm();
    head_ = model_.head();
  }

  std::size_t layers() const { return model_.architecture().layers; }

  /// Logits of positions [first, first + out.rows()) of a window, after all blocks and load_head.
  void logits(std::size_t window, std::size_t first, ViewF out, Workspace& work) const {
    const ViewF normed = scratch(work.normed, {out.rows(), model_.architecture().hidden});
    forward_.final_norm(norm_, hidden_[window].view().row_range(first, out.rows()), normed);
    forward_.logits(*head_, normed, out, work);
    if (!all_finite({out.data(), out.shape().count()}))
      fail(ErrorKind::bad_data, "window {}: logits of positions {} to {} are not finite; the model overflows float",
           window, first, first + out.rows() - 1);
  }

 private:
  const ModelWeights& model_;
  Forward forward_;
  std::vector<MatrixF> hidden_;  // per window, [tokens x hidden]
  std::vector<float> norm_;
  TensorPtr head_;
};

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

/// What one worker needs to score a window.
struct ScoreBuffers {
  Workspace work;
  std::array<std::vector<float>, 2> logits;  // of the model and of the reference
  std::vector<float> exponentials;
};

/// Scores one window's positions into `out`; passes[0] is the model, passes[1], if any, the reference.
void score_window(std::span<const Pass> passes, std::size_t window, std::span<const std::int32_t> ids,
                  const Protocol& protocol, std::size_t vocab, ScoreBuffers& buffers, std::span<TokenScore> out) {
  const std::size_t rows = slice_rows(vocab);
  for (std::size_t done = 0; done < out.size(); done += rows) {
    const Shape slice{std::min(rows, out.size() - done), vocab};
    const std::size_t first = protocol.score_from + done;
    std::array<ViewF, 2> logits;
    for (std::size_t m = 0; m < passes.size(); ++m) {
      logits[m] = scratch(buffers.logits[m], slice);
      passes[m].logits(window, first, logits[m], buffers.work);
    }
    for (std::size_t r = 0; r < slice.rows; ++r) {
      const auto base = passes.size() > 1 ? logits[1].row(r) : std::span<float>();
      out[done + r] = score_token(logits[0].row(r), base, ids[first + r + 1], buffers.exponentials);
    }
  }
}

}  // namespace

std::uint64_t scoring_bytes(std::size_t vocab, std::size_t hidden) {
  constexpr std::uint64_t kDecodedRows = 256;  // model/forward.cpp: of the head at a time
  const std::uint64_t rows = slice_rows(vocab);
  return sizeof(float) * (2 * rows * vocab + vocab + (rows + kDecodedRows) * hidden);
}

EvaluationResult evaluate(const ModelWeights& model, const ModelWeights* reference, std::span<const std::int32_t> ids,
                          std::optional<std::int32_t> bos, const Protocol& protocol, Progress& progress,
                          std::size_t windows_at_once) {
  check_models(model, reference, protocol, progress);
  const Windows windows = make_windows(ids, bos, protocol);
  const std::size_t step = windows_at_once > 0 ? std::min(windows_at_once, windows.rows()) : windows.rows();
  std::vector<Pass> passes;
  passes.reserve(2);
  passes.emplace_back(model, windows.cols());
  if (reference) passes.emplace_back(*reference, windows.cols());
  std::size_t layers = 0, done = 0;
  for (const Pass& pass : passes) layers += pass.layers();
  progress.start("evaluating blocks", layers * divide_up(windows.rows(), step));
  Matrix<TokenScore> scores(windows.rows(), protocol.scored_per_window());
  for (std::size_t first = 0; first < windows.rows(); first += step) {
    const auto group = windows.view().row_range(first, std::min(step, windows.rows() - first));
    for (Pass& pass : passes) pass.embed_windows(group);
    run_blocks(passes, done, progress);
    for (Pass& pass : passes) pass.load_head();
    Pool<ScoreBuffers> pool;
    parallel_for(group.rows(), [&](std::size_t w) {
      const auto buffers = pool.borrow();
      score_window(passes, w, group.row(w), protocol, model.architecture().vocab, *buffers, scores.row(first + w));
    });
  }
  return summarize(scores, protocol, reference != nullptr);
}

}  // namespace adze
