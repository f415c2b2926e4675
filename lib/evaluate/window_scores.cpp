#include "evaluate/window_scores.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "evaluate/effective_rank.h"
#include "evaluate/evaluate.h"
#include "linalg/convert.h"

namespace adze {
namespace {

// Logits held by one worker for one model: 64 MiB, which is 128 rows of the largest vocabularies.
constexpr std::size_t kLogitsAtOnce = std::size_t{1} << 24;
constexpr std::size_t kMostRows = 256;
constexpr std::size_t kLeastRows = 16;

constexpr std::size_t kRankedWindows = 50;  // a mean over as many as the papers take

std::size_t slice_rows(std::size_t vocab) { return std::clamp(kLogitsAtOnce / vocab, kLeastRows, kMostRows); }

}  // namespace

ViewF FinishedWindows::normed(std::size_t window, Workspace& work) const {
  const ViewF out = scratch(work.normed, hidden[window].shape());
  forward.final_norm(norm, hidden[window], out);
  return out;
}

void FinishedWindows::logits(std::size_t window, std::size_t first, ViewF out, Workspace& work) const {
  const ViewF normed = scratch(work.normed, {out.rows(), forward.architecture().hidden});
  forward.final_norm(norm, hidden[window].view().row_range(first, out.rows()), normed);
  forward.logits(head, normed, out, work);
  if (!all_finite({out.data(), out.shape().count()}))
    fail(ErrorKind::bad_data, "window {}: logits of positions {} to {} are not finite; the model overflows float",
         window, first, first + out.rows() - 1);
}

std::vector<MatrixF> embedded(const Forward& forward, const InputTables& tables,
                              MatrixView<const std::int32_t> windows) {
  std::vector<MatrixF> hidden(windows.rows());
  parallel_for(windows.rows(), [&](std::size_t w) {
    hidden[w] = MatrixF(windows.cols(), tables.tokens->shape().cols);
    forward.embed(tables, windows.row(w), hidden[w]);
  });
  return hidden;
}

void run_block(const Forward& forward, const BlockWeights& block, std::span<MatrixF> hidden,
               Pool<Workspace>& workspaces) {
  parallel_for(hidden.size(), [&](std::size_t w) {
    const auto work = workspaces.borrow();
    forward.run_block(block, hidden[w], *work);
  });
}

TextScorer::TextScorer(std::shared_ptr<const Matrix<std::int32_t>> ids, const Protocol& protocol, bool with_reference,
                       const ScoreOptions& options)
    : protocol_(protocol), options_(options), worst_(with_reference ? options.worst_tokens : 0) {
  const std::size_t windows = ids->rows();
  scores_.protocol = protocol.name;
  scores_.with_reference = with_reference;
  scores_.ids = std::move(ids);
  scores_.score_from = protocol.score_from;
  if (with_reference) scores_.tokens = Matrix<TokenTrace>(windows, protocol.scored_per_window());
  scores_.windows.resize(windows);
  if (options.detail) scores_.ranks.resize(std::min(windows, kRankedWindows));
}

void TextScorer::score(const FinishedWindows& model, const FinishedWindows* base, std::size_t first) {
  parallel_for(model.hidden.size(), [&](std::size_t w) {
    const auto buffers = buffers_.borrow();
    score_window(model, base, w, first + w, *buffers);
  });
}

void TextScorer::score_window(const FinishedWindows& model, const FinishedWindows* base, std::size_t at,
                              std::size_t window, ScoreBuffers& buffers) {
  const std::size_t vocab = model.head.shape().rows, rows = slice_rows(vocab);
  const auto ids = scores_.ids->row(window);
  buffers.scores.resize(protocol_.scored_per_window());
  for (std::size_t done = 0; done < buffers.scores.size(); done += rows) {
    const Shape slice{std::min(rows, buffers.scores.size() - done), vocab};
    const std::size_t first = protocol_.score_from + done;
    const ViewF logits = scratch(buffers.logits[0], slice);
    model.logits(at, first, logits, buffers.work);
    ViewF base_logits;
    if (base != nullptr) {
      base_logits = scratch(buffers.logits[1], slice);
      base->logits(at, first, base_logits, buffers.work);
    }
    for (std::size_t r = 0; r < slice.rows; ++r)
      buffers.scores[done + r] = score_token(logits.row(r), base != nullptr ? base_logits.row(r) : std::span<float>(),
                                             ids[first + r + 1], buffers.scratch);
  }
  scores_.windows[window] = reduce_window(buffers.scores);
  if (window < scores_.ranks.size()) {
    scores_.ranks[window].of_model = effective_rank(model.normed(at, buffers.work));
    if (base != nullptr) scores_.ranks[window].of_reference = effective_rank(base->normed(at, buffers.work));
  }
  if (base == nullptr) return;
  std::ranges::transform(buffers.scores, scores_.tokens.row(window).begin(), trace_of);
  worst_.offer(window, ids, protocol_.score_from, buffers.scores);
  const std::lock_guard lock(mutex_);
  scores_.overlaps.add(buffers.scores);
}

TextScores TextScorer::finish() {
  scores_.worst_tokens = worst_.take();
  return std::move(scores_);
}

std::uint64_t scoring_bytes(std::size_t vocab, std::size_t hidden) {
  constexpr std::uint64_t kDecodedRows = 256;  // model/forward.cpp: of the head at a time
  const std::uint64_t rows = slice_rows(vocab);
  return sizeof(float) * (2 * rows * vocab + 2 * vocab + (rows + kDecodedRows) * hidden);
}

}  // namespace adze
