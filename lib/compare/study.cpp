#include "compare/study.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "linalg/convert.h"
#include "metrics/rank_correlation.h"
#include "pipeline/plan.h"

namespace adze {
namespace {

constexpr std::size_t kSmallestSize = 8;  // windows
constexpr double kFewTokens = 4;          // tokens per column below which a moment is called thin

/// Halves of the draws' windows, down to 8.
std::vector<std::size_t> halves(std::size_t windows) {
  std::vector<std::size_t> sizes;
  for (std::size_t size = windows / 2; size >= kSmallestSize; size /= 2) sizes.push_back(size);
  return sizes;
}

void check_request(const StudyRequest& request) {
  if (request.sets.size() < 2)
    fail(ErrorKind::usage, "there is one set and nothing to compare it with; give --set twice or more");
  check_names(request.sets, "set");
  check_names(request.texts, "text");
  if (request.stages < 1 || request.stages > 3) fail(ErrorKind::usage, "there are stages 1, 2 and 3");
  if (request.stages >= 2 && request.recipe == nullptr)
    fail(ErrorKind::usage, "stages 2 and 3 compress: say how with --recipe FILE, or ask for --stages 1");
  if (request.stages >= 3 && request.texts.empty())
    fail(ErrorKind::usage, "stage 3 judges models on texts: give --text NAME=FILE, or ask for --stages 2");
}

std::vector<std::size_t> checked_sizes(const StudyRequest& request) {
  if (!request.sweep) return {};
  std::vector<std::size_t> sizes = request.sizes.empty() ? halves(request.rule.windows) : request.sizes;
  for (const std::size_t size : sizes)
    if (size == 0 || size >= request.rule.windows)
      fail(ErrorKind::usage, "the sweep's {} windows are not between 1 and --windows {}", size, request.rule.windows);
  std::ranges::sort(sizes);
  const auto repeated = std::ranges::unique(sizes);
  sizes.erase(repeated.begin(), repeated.end());
  return sizes;
}

constexpr double kRepeated = 0.01;  // share of text that is worth a remark

/// Which later set a draw of set s shares text with, the first one; "" where it shares none.
std::string shared_remark(std::span<const ComparedSet> sets, std::size_t s, const TokenWindows& draw) {
  const Passages passages(draw);
  for (std::size_t other = s + 1; other < sets.size(); ++other) {
    double shared = 0;
    for (const TokenWindows& theirs : sets[other].draws) shared = std::max(shared, passages.share_of(theirs.ids));
    if (shared > kRepeated)
      return fmt::format("sets '{}' and '{}' share text: {:.1f} % of a draw", sets[s].name, sets[other].name,
                         100 * shared);
  }
  return "";
}

/// Remarks on the texts themselves.
void warn_of_texts(const PreparedStudy& prepared, const Study& study, std::vector<std::string>& warnings) {
  for (std::size_t s = 0; s < prepared.sets.size(); ++s) {
    if (study.tokens[s].repeated > kRepeated)
      warnings.push_back(fmt::format("set '{}': {:.1f} % of its passages are repetitions; remove duplicates",
                                     prepared.sets[s].name, 100 * study.tokens[s].repeated));
    const std::vector<TokenWindows>& draws = prepared.sets[s].draws;
    std::vector<std::string> remarks(draws.size());
    parallel_for(draws.size(), [&](std::size_t r) { remarks[r] = shared_remark(prepared.sets, s, draws[r]); });
    std::ranges::copy_if(remarks, std::back_inserter(warnings), [](const std::string& text) { return !text.empty(); });
  }
}

void warn_of_inputs(const PreparedStudy& prepared, const MomentStage& stage, std::vector<std::string>& warnings) {
  for (std::size_t s = 0; s < prepared.sets.size(); ++s) {
    std::size_t dead = 0;
    const InputComparison* thinnest = nullptr;
    for (const InputComparison& input : stage.inputs) {
      dead += input.sets[s].dead;
      const auto columns = static_cast<double>(input.inputs);
      if (static_cast<double>(input.sets[s].tokens) < kFewTokens * columns &&
          (thinnest == nullptr || input.inputs > thinnest->inputs))
        thinnest = &input;
    }
    if (thinnest != nullptr)
      warnings.push_back(
          fmt::format("set '{}': {} tokens for {} inputs of {}: its second moment is mostly noise; take "
                      "{} windows or more",
                      prepared.sets[s].name, thinnest->sets[s].tokens, thinnest->inputs, thinnest->place.name(),
                      (4 * thinnest->inputs + prepared.request.rule.tokens - 1) / prepared.request.rule.tokens));
    if (dead > 0)
      warnings.push_back(fmt::format("set '{}': {} inputs are always zero; what they are good for it does not show",
                                     prepared.sets[s].name, dead));
  }
}

/// tau of two matrices column by column, over rows, averaged. Columns that one side cannot tell apart count as 0.
double agreement(const MatrixD& a, const MatrixD& b, bool skip_diagonal) {
  double sum = 0;
  for (std::size_t j = 0; j < a.cols(); ++j) {
    std::vector<double> x, y;
    for (std::size_t s = 0; s < a.rows(); ++s) {
      if (skip_diagonal && s == j) continue;
      x.push_back(a(s, j));
      y.push_back(b(s, j));
    }
    sum += kendall_tau(x, y);
  }
  return sum / static_cast<double>(a.cols());
}

MatrixD columns_of(const MatrixD& matrix, std::size_t first, std::size_t rows) {
  MatrixD part(rows, matrix.cols() - first);
  for (std::size_t r = 0; r < rows; ++r) std::ranges::copy(matrix.row(r).subspan(first), part.row(r).begin());
  return part;
}

/// Stage 1's measures against measured regret between sets.
std::vector<Agreement> agreement_with_regret(const MomentStage& stage, const RegretStage& regret, std::size_t sets) {
  const MatrixD mean = regret.regret.mean();
  MatrixD measured(sets, sets), expected(sets, sets);
  const MatrixD predicted = stage.expected_regret.mean();
  for (std::size_t a = 0; a < sets; ++a)
    for (std::size_t b = 0; b < sets; ++b) measured(a, b) = mean(a, b), expected(a, b) = predicted(a, b);
  std::vector<Agreement> result{{"expected regret", agreement(expected, measured, true)}};
  const auto add = [&](const char* name, double MomentDistance::*measure) {
    result.push_back({name, agreement(stage.mean(measure), measured, true)});
  };
  add("frobenius", &MomentDistance::frobenius);
  add("stein", &MomentDistance::stein);
  add("S-divergence", &MomentDistance::s_divergence);
  add("affine invariant", &MomentDistance::affine_invariant);
  add("hilbert", &MomentDistance::hilbert);
  return result;
}

class Clock {
 public:
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

void describe_tokens(const PreparedStudy& prepared, Study& study) {
  const std::size_t sets = prepared.sets.size();
  study.token_divergence = study.token_coverage = MatrixD(sets, sets);
  study.tokens.resize(sets);
  std::vector<TokenCounts> counts(sets);  // of saved statistics empty
  parallel_for(sets, [&](std::size_t s) {
    const ComparedSet& set = prepared.sets[s];
    if (set.is_saved()) return;
    study.tokens[s] = token_profile(set);
    counts[s] = count_tokens(set);
  });
  for (std::size_t a = 0; a < sets; ++a)
    for (std::size_t b = 0; b < sets; ++b) {
      if (counts[a].empty() || counts[b].empty()) continue;
      study.token_divergence(a, b) = token_divergence(counts[a], counts[b]);
      study.token_coverage(a, b) = token_coverage(counts[a], counts[b]);
    }
}

/// Statistics and judgements that a folder keeps are of one model and one kind of CPU, which a file of it says.
void claim_folder(const std::filesystem::path& out, const OpenedModel& model) {
  const std::string owner = fmt::format("{}\n{}\n{}\n", model.name, model_identity(model), kernel_name());
  const std::filesystem::path file = out / "study.txt";
  make_folder(out);
  if (!std::filesystem::exists(file)) {
    if (!std::filesystem::is_empty(out))
      fail(ErrorKind::cannot_create, "{}: holds other things than a study; name another folder", out.string());
    return write_file(file, owner);
  }
  if (read_file(file) != owner)
    fail(ErrorKind::cannot_create,
         "{}: a study of another model, or on another kind of CPU; name another folder, or remove it", out.string());
}

}  // namespace

PreparedStudy prepare_study(StudyRequest request, const OpenedModel& model) {
  check_request(request);
  PreparedStudy prepared;
  prepared.model = &model;
  prepared.sizes = checked_sizes(request);
  const Protocol protocol = parse_protocol(request.protocol);
  const Tokenizer& tokenizer = model.require_tokenizer();
  if (request.recipe != nullptr) make_plan(*request.recipe, model);
  for (const NamedPath& path : request.sets) prepared.sets.push_back(load_set(path, tokenizer, request.rule));
  for (const NamedPath& path : request.texts)
    prepared.texts.push_back(
        load_text(path, tokenizer, request.text_windows, std::max(protocol.window, request.rule.tokens)));
  check_disjoint(prepared.sets, prepared.texts);
  const bool saved = std::ranges::any_of(prepared.sets, &ComparedSet::is_saved);
  if (saved && request.stages == 3)
    fail(ErrorKind::usage, "stage 3 calibrates models, for which it needs text: statistics serve stages 1 and 2");
  if (saved && request.rule.draws > 1)
    prepared.warnings.push_back("saved statistics are one draw: nothing can be said of the noise of drawing");
  prepared.draws = saved ? 1 : request.rule.draws;
  prepared.request = std::move(request);
  return prepared;
}

EnoughWindows enough_windows(std::span<const SizePoint> curve, double least_difference) {
  EnoughWindows enough;
  if (curve.size() < 2) return enough;
  const auto best = std::ranges::min_element(curve, {}, [](const SizePoint& p) { return p.mean.mean; });
  const auto error_of = [](const SizePoint& p) { return p.mean.margin.value_or(0) / 2; };
  const SizePoint& largest = curve.back();
  enough.worse_with_more = largest.mean.mean > best->mean.mean + 2 * (error_of(*best) + error_of(largest));
  for (const SizePoint& point : curve) {
    const bool as_good = point.mean.mean <= best->mean.mean + std::max(error_of(*best), least_difference / 4);
    if (!as_good || point.mean.sd > least_difference / 4) continue;
    enough.windows = point.windows;
    break;
  }
  enough.still_falling = !enough.windows || *enough.windows == largest.windows;
  return enough;
}

Study run_study(const PreparedStudy& prepared, Progress& progress) {
  const StudyRequest& request = prepared.request;
  const std::span<const ComparedSet> sets = prepared.sets;
  claim_folder(request.out, *prepared.model);
  Study study;
  Clock clock;
  describe_tokens(prepared, study);
  MeasuredMoments moments(*prepared.model, sets, prepared.texts, request.blocks, request.out / "statistics");
  moments.measure(progress);
  study.moments = compare_moments(moments, sets, prepared.texts, progress);
  study.mixture = propose_mixture(moments, request.mix, progress);
  study.warnings = prepared.warnings;
  warn_of_texts(prepared, study, study.warnings);
  warn_of_inputs(prepared, study.moments, study.warnings);
  study.seconds[0] = clock.lap();
  if (request.stages >= 2) {
    const CompressionPlan plan = make_plan(*request.recipe, *prepared.model);
    study.regret = compare_regret(moments, sets, prepared.texts, plan, *prepared.model->weights, progress);
    study.with_regret = agreement_with_regret(study.moments, *study.regret, sets.size());
    study.seconds[1] = clock.lap();
  }
  if (request.stages >= 3) {
    const OutcomeRequest outcome{prepared.model,         request.recipe, request.out, parse_protocol(request.protocol),
                                 study.mixture->weights, prepared.sizes};
    study.outcomes = compare_outcomes(outcome, sets, prepared.texts, progress);
    const MatrixD measured = columns_of(study.outcomes->kl().mean(), 0, sets.size());
    const auto against = [&](const char* name, const Mismatch& of) {
      study.with_outcomes.push_back(
          {name, agreement(columns_of(of.mean(), sets.size(), sets.size()), measured, false)});
    };
    against("expected regret", study.moments.expected_regret);
    against("regret of layers", study.regret->regret);
    study.enough = enough_windows(study.outcomes->size_curve(), request.least_difference);
    study.seconds[2] = clock.lap();
  }
  return study;
}

}  // namespace adze
