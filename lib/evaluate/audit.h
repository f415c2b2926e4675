// What compression hurts most, for people to read: single tokens and windows of one model, and, of several compressed
// models of the same original, the predictions that most of them change (compression-identified exemplars, CIE; Hooker
// et al. 2019 and 2020). Averages hide that a model forgets the rare before the common.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "evaluate/result.h"
#include "text/tokenizer.h"

namespace adze {

/// Of texts under one model; as many windows as tokens were asked for. Nothing where none were.
std::optional<Audit> audit_of(std::span<const TextScores> texts);

/// A prediction that compressed models change.
struct ChangedPrediction {
  std::size_t part = 0;  ///< text, where several are pooled
  std::size_t window = 0, position = 0;
  std::vector<std::int32_t> context;  ///< as Exemplar's
  std::int32_t target = 0;
  std::int32_t modal = 0;   ///< what most models predict now; of a tie the original's token, then the lowest id
  double flip_share = 0;    ///< of models that differ from the original
  double kl = 0;            ///< mean over models
  double severe_share = 0;  ///< of models for which the token is among the worst 5 % by KL
};

/// A population of compressed models on the same texts. A CIE is a prediction whose modal value over the models is not
/// the original's.
struct PopulationAudit {
  std::size_t models = 0;
  std::uint64_t tokens = 0;
  std::uint64_t exemplars = 0;  ///< CIE
  double mean_flip_share = 0;
  double added_loss = 0;                 ///< mean over all tokens and models
  double added_loss_without = 0;         ///< the same without CIE
  std::vector<ChangedPrediction> worst;  ///< CIE by flip share, then KL; at most as many as asked for
};

/// models[m]: the texts under model m, the same ones in the same order for all. At least 2 models; throws usage when
/// texts or protocols differ.
PopulationAudit audit_population(std::span<const std::vector<TextScores>> models, std::size_t most);

/// `parts`: names of the texts. Tokens as text: what is no UTF-8 becomes U+FFFD.
nlohmann::ordered_json to_json(const Audit& audit, std::span<const std::string> parts, const Tokenizer& tokenizer);
nlohmann::ordered_json to_json(const PopulationAudit& audit, std::span<const std::string> parts,
                               const Tokenizer& tokenizer);

}  // namespace adze
