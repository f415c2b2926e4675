// All that one run of adze eval found, and how it is told: as JSON for programs, as tables for people.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "model/activations.h"
#include "report/run_report.h"

namespace adze {

struct Judgements {
  std::string texts;                 ///< as they were named, for the headline
  std::vector<std::string> domains;  ///< their names; one for a text without
  Activations activations = Activations::exact;
  std::vector<JudgedModel> models;  ///< not empty
  std::vector<ModelComparison> comparisons;
  std::optional<PopulationAudit> population;
  std::optional<BosEffect> bos;
};

/// An object for one model, an array for several. The flat numbers of to_json() come first in each, so that scripts can
/// read them without a parser; then objects (docs/tools.md lists them).
nlohmann::ordered_json judgements_json(const Judgements& judged, const Tokenizer& tokenizer);

/// Which tables are printed beyond those of models, domains and comparisons.
struct JudgementTables {
  bool audit = false;
  bool statistics = false;
};
std::string judgements_text(const Judgements& judged, const Tokenizer& tokenizer, const JudgementTables& tables);

}  // namespace adze
