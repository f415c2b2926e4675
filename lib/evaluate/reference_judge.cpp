#include "evaluate/reference_judge.h"

#include <algorithm>

#include "base/error.h"

namespace adze {

ReferenceJudge::ReferenceJudge(const ModelWeights& original, std::span<const std::int32_t> ids,
                               std::optional<std::int32_t> bos, const Protocol& protocol)
    : original_(original),
      protocol_(protocol),
      windows_(std::make_shared<const Matrix<std::int32_t>>(make_windows(ids, bos, protocol))),
      forward_(original.architecture(), protocol.window),
      norm_(norm_of(original)),
      head_(original.head()) {
  final_ = embedded(forward_, input_tables(original_), *windows_);
  for (std::size_t b = 0; b < original_.architecture().layers; ++b)
    run_block(forward_, original_.block(b), final_, workspaces_);
}

void ReferenceJudge::embed_once() {
  if (states_.empty()) states_ = embedded(forward_, input_tables(original_), *windows_);
}

void ReferenceJudge::advance() {
  embed_once();
  run_block(forward_, original_.block(block_++), states_, workspaces_);
}

void ReferenceJudge::rewind() {
  states_.clear();
  block_ = 0;
}

std::vector<EvaluationResult> ReferenceJudge::judge_block(std::span<const BlockWeights> versions) {
  embed_once();
  std::vector<EvaluationResult> results;
  for (std::size_t first = 0; first < versions.size(); first += kAtOnce) {
    const auto group = versions.subspan(first, std::min(kAtOnce, versions.size() - first));
    std::vector<std::vector<MatrixF>> states(group.size(), states_);
    for (std::size_t v = 0; v < group.size(); ++v) run_block(forward_, group[v], states[v], workspaces_);
    for (std::size_t b = block_ + 1; b < original_.architecture().layers; ++b) {
      const BlockWeights block = original_.block(b);
      for (auto& of_version : states) run_block(forward_, block, of_version, workspaces_);
    }
    for (const auto& of_version : states)
      results.push_back(summarize(score({forward_, of_version, norm_, *head_}, {}), Inference::point));
  }
  return results;
}

std::vector<MatrixF> ReferenceJudge::states_after(const BlockWeights& version) {
  embed_once();
  std::vector<MatrixF> after = states_;
  run(version, after);
  return after;
}

EvaluationResult ReferenceJudge::judge(const ModelWeights& version, Inference inference) {
  return summarize(scores(version), inference);
}

TextScores ReferenceJudge::scores(const ModelWeights& version, const ScoreOptions& options, Activations activations) {
  const Forward forward(version.architecture(), protocol_.window, activations);
  std::vector<MatrixF> states = embedded(forward, input_tables(version), *windows_);
  for (std::size_t b = 0; b < version.architecture().layers; ++b)
    run_block(forward, version.block(b), states, workspaces_);
  const Norm norm = norm_of(version);
  const TensorPtr head = version.head();
  return score({forward, states, norm, *head}, options);
}

TextScores ReferenceJudge::score(const FinishedWindows& version, const ScoreOptions& options) const {
  if (version.head.shape().rows != head_->shape().rows)
    fail(ErrorKind::bad_data, "a vocabulary of {} beside the original's {}", version.head.shape().rows,
         head_->shape().rows);
  const FinishedWindows base{forward_, final_, norm_, *head_};
  TextScorer scorer(windows_, protocol_, true, options);
  scorer.score(version, &base, 0);
  return scorer.finish();
}

}  // namespace adze
