// Judging on several domains: a model that is fine on average may have forgotten one of them. Each domain is a text of
// its own, cut into its own windows; pooled numbers are those of all windows together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "evaluate/evaluate.h"

namespace adze {

struct DomainText {
  std::string name;
  std::vector<std::int32_t> ids;  ///< without special tokens
};

struct DomainResult {
  std::string name;
  EvaluationResult result;
};

/// Scores of every model on every domain: [models][domains]. The reference runs once per domain for any number of
/// models, unless models are judged a group of windows at a time (`options` has one entry per model). Throws bad_data,
/// naming the domain, when one is shorter than a window, and as score_text() does.
std::vector<std::vector<TextScores>> score_domains(std::span<const ModelWeights* const> models,
                                                   const ModelWeights* reference, std::span<const DomainText> domains,
                                                   std::optional<std::int32_t> bos, const Protocol& protocol,
                                                   std::span<const EvaluationOptions> options, Progress& progress);

/// The place of the domain with the largest mean KL; nothing for fewer than two domains or without a reference.
std::optional<std::size_t> worst_domain(std::span<const DomainResult> domains);
/// The largest mean KL of a domain over the median one; 1 where that is 0, nothing as above.
std::optional<double> domain_disparity(std::span<const DomainResult> domains);

/// What BOS in every window is worth to a model, against BOS before the text only.
struct BosEffect {
  double perplexity_each = 0, perplexity_first = 0;
};
/// Of all domains under the protocol's windows. `bos`: of a tokenizer that has one.
BosEffect bos_effect(const ModelWeights& model, std::span<const DomainText> domains, std::int32_t bos,
                     const Protocol& protocol, Progress& progress);

}  // namespace adze
