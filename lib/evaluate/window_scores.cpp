#include "evaluate/window_scores.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/parallel.h"
#include "evaluate/evaluate.h"
#include "linalg/convert.h"

namespace adze {
namespace {

// Logits held by one worker for one model: 64 MiB, which is 128 rows of the largest vocabularies.
constexpr std::size_t kLogitsAtOnce = std::size_t{1} << 24;
constexpr std::size_t kMostRows = 256;
constexpr std::size_t kLeastRows = 16;

std::size_t slice_rows(std::size_t vocab) { return std::clamp(kLogitsAtOnce / vocab, kLeastRows, kMostRows); }

/// What one worker needs to score a window.
struct ScoreBuffers {
  Workspace work;
  std::array<std::vector<float>, 2> logits;  // of the model and of the reference
  std::vector<float> exponentials;
};

void score_window(const FinishedWindows& model, const FinishedWindows* base, std::size_t window,
                  std::span<const std::int32_t> ids, const Protocol& protocol, ScoreBuffers& buffers,
                  std::span<TokenScore> out) {
  const std::size_t vocab = model.head.shape().rows;
  const std::size_t rows = slice_rows(vocab);
  for (std::size_t done = 0; done < out.size(); done += rows) {
    const Shape slice{std::min(rows, out.size() - done), vocab};
    const std::size_t first = protocol.score_from + done;
    const ViewF logits = scratch(buffers.logits[0], slice);
    model.logits(window, first, logits, buffers.work);
    ViewF base_logits;
    if (base != nullptr) {
      base_logits = scratch(buffers.logits[1], slice);
      base->logits(window, first, base_logits, buffers.work);
    }
    for (std::size_t r = 0; r < slice.rows; ++r)
      out[done + r] = score_token(logits.row(r), base != nullptr ? base_logits.row(r) : std::span<float>(),
                                  ids[first + r + 1], buffers.exponentials);
  }
}

}  // namespace

void FinishedWindows::logits(std::size_t window, std::size_t first, ViewF out, Workspace& work) const {
  const ViewF normed = scratch(work.normed, {out.rows(), forward.architecture().hidden});
  forward.final_norm(norm, hidden[window].view().row_range(first, out.rows()), normed);
  forward.logits(head, normed, out, work);
  if (!all_finite({out.data(), out.shape().count()}))
    fail(ErrorKind::bad_data, "window {}: logits of positions {} to {} are not finite; the model overflows float",
         window, first, first + out.rows() - 1);
}

std::vector<MatrixF> embedded(const CompressedTensor& table, MatrixView<const std::int32_t> windows) {
  std::vector<MatrixF> hidden(windows.rows());
  parallel_for(windows.rows(), [&](std::size_t w) {
    hidden[w] = MatrixF(windows.cols(), table.shape().cols);
    embed(table, windows.row(w), hidden[w]);
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

void score_windows(const FinishedWindows& model, const FinishedWindows* base, MatrixView<const std::int32_t> windows,
                   const Protocol& protocol, MatrixView<TokenScore> out) {
  Pool<ScoreBuffers> pool;
  parallel_for(windows.rows(), [&](std::size_t w) {
    const auto buffers = pool.borrow();
    score_window(model, base, w, windows.row(w), protocol, *buffers, out.row(w));
  });
}

std::uint64_t scoring_bytes(std::size_t vocab, std::size_t hidden) {
  constexpr std::uint64_t kDecodedRows = 256;  // model/forward.cpp: of the head at a time
  const std::uint64_t rows = slice_rows(vocab);
  return sizeof(float) * (2 * rows * vocab + vocab + (rows + kDecodedRows) * hidden);
}

}  // namespace adze
