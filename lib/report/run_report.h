// What a person reads before and after a run: the match table, the prediction, the losses, the judgement.
#pragma once

#include <string>
#include <vector>

#include "evaluate/evaluate.h"

namespace adze {

/// One judged model.
struct JudgedModel {
  std::string name;
  std::uint64_t bytes = 0;
  double bits_per_weight = 0;
  EvaluationResult result;
};

/// model, bytes, bits per weight, perplexity and, with references, ln(perplexity / the reference's), mean, median and
/// 99.9 % of KL, same top and RMS dp in percent. Each ± its standard error, which is missing for percentiles of a
/// single window; the error sets the number of decimals.
std::string judgement_table(const std::vector<JudgedModel>& models);

}  // namespace adze
