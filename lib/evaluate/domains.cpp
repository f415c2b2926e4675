#include "evaluate/domains.h"

#include <algorithm>
#include <cassert>

#include "base/error.h"
#include "evaluate/reference_judge.h"

namespace adze {
namespace {

void check_length(const DomainText& domain, bool with_bos, const Protocol& protocol) {
  const std::size_t tokens = domain.ids.size() + (with_bos ? 1 : 0);
  if (tokens < protocol.window)
    fail(ErrorKind::bad_data,
         "{}: the text has {} tokens, but {} needs at least {}; give a longer text or a smaller "
         "window",
         domain.name, tokens, protocol.name, protocol.window);
}

std::vector<double> kl_means(std::span<const DomainResult> domains) {
  std::vector<double> means;
  for (const DomainResult& domain : domains)
    if (domain.result.reference) means.push_back(domain.result.reference->kl_mean);
  if (means.size() < 2 || means.size() != domains.size()) return {};
  return means;
}

}  // namespace

std::vector<std::vector<TextScores>> score_domains(std::span<const ModelWeights* const> models,
                                                   const ModelWeights* reference, std::span<const DomainText> domains,
                                                   std::optional<std::int32_t> bos, const Protocol& protocol,
                                                   std::span<const EvaluationOptions> options, Progress& progress) {
  assert(options.size() == models.size());
  for (const DomainText& domain : domains) check_length(domain, bos && protocol.bos != BosPolicy::none, protocol);
  const bool grouped = std::ranges::any_of(options, [](const EvaluationOptions& of) { return of.windows_at_once > 0; });
  const bool once = reference != nullptr && models.size() > 1 && !grouped;
  std::vector<std::vector<TextScores>> scores(models.size());
  if (once)
    for (const ModelWeights* const model : models) check_models(*model, reference, protocol, progress);
  if (once) progress.start("evaluating models", models.size() * domains.size());
  for (std::size_t d = 0; d < domains.size(); ++d) {
    std::optional<ReferenceJudge> judge;
    if (once) judge.emplace(*reference, domains[d].ids, bos, protocol);
    for (std::size_t m = 0; m < models.size(); ++m) {
      scores[m].push_back(judge
                              ? judge->scores(*models[m], options[m].scores, options[m].activations)
                              : score_text(*models[m], reference, domains[d].ids, bos, protocol, progress, options[m]));
      if (once) progress.update(d * models.size() + m + 1);
    }
  }
  return scores;
}

std::optional<std::size_t> worst_domain(std::span<const DomainResult> domains) {
  const std::vector<double> means = kl_means(domains);
  if (means.empty()) return std::nullopt;
  return static_cast<std::size_t>(std::ranges::max_element(means) - means.begin());
}

std::optional<double> domain_disparity(std::span<const DomainResult> domains) {
  std::vector<double> means = kl_means(domains);
  if (means.empty()) return std::nullopt;
  std::ranges::sort(means);
  const double median = percentile(means, 0.5);
  return median == 0 ? 1 : means.back() / median;
}

BosEffect bos_effect(const ModelWeights& model, std::span<const DomainText> domains, std::int32_t bos,
                     const Protocol& protocol, Progress& progress) {
  const auto perplexity = [&](BosPolicy policy) {
    Protocol other = protocol;
    other.bos = policy;
    std::vector<TextScores> texts;
    for (const DomainText& domain : domains)
      texts.push_back(score_text(model, nullptr, domain.ids, bos, other, progress));
    return summarize(texts, Inference::point).perplexity;
  };
  return {perplexity(BosPolicy::each), perplexity(BosPolicy::first)};
}

}  // namespace adze
