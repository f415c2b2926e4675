// What a person reads before and after a run: the match table, the prediction, the losses, the judgement.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "evaluate/audit.h"
#include "evaluate/compare.h"
#include "evaluate/domains.h"
#include "evaluate/evaluate.h"
#include "report/table.h"
#include "text/tokenizer.h"

namespace adze {

/// One judged model.
struct JudgedModel {
  std::string name;
  std::uint64_t bytes = 0;
  double bits_per_weight = 0;
  EvaluationResult result;                 ///< of all texts together
  std::vector<DomainResult> domains = {};  ///< of each text, where there are several
};

/// model, bytes, bits per weight and, with references, mean KL with its 95 % interval, 99.9 % and largest KL, same top
/// in percent, perplexity less the reference's with its interval, the worst domain where there are several; perplexity;
/// what such a KL usually means. An interval's width sets the number of decimals; without one ± stands for the standard
/// error of independent tokens.
Table judgements(const std::vector<JudgedModel>& models);
/// The same for a terminal.
std::string judgement_table(const std::vector<JudgedModel>& models);

/// A row for each domain and for all, a column for each model: mean KL with its interval, or perplexity where there is
/// no reference. A star marks intervals that exclude the model's mean over all domains.
std::string domain_table(const std::vector<JudgedModel>& models);

/// Every statistic of every model with its interval, under the names that JSON has.
std::string statistics_table(const std::vector<JudgedModel>& models);

/// Pairs of models: differences with intervals, the share of resamples in which the first is better, p adjusted for all
/// pairs, equivalence, and how many windows a difference of the margin needs.
std::string comparison_table(std::span<const ModelComparison> comparisons, std::span<const std::string> names);

/// The tokens that one model forgot, worst first, as text that is safe for terminals.
std::string audit_table(const Audit& audit, std::span<const std::string> parts, const Tokenizer& tokenizer);
/// What a population of models changes.
std::string population_table(const PopulationAudit& audit, std::span<const std::string> parts,
                             const Tokenizer& tokenizer);

}  // namespace adze
