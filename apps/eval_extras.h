// What adze-eval judges beside text: answers to questions, the matrices one by one, bytes and speed. None of it needs a
// text.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/progress.h"
#include "evaluate/choices.h"
#include "evaluate/latency.h"
#include "evaluate/layers.h"
#include "model/stored_size.h"
#include "pipeline/open_model.h"

namespace adze {

struct EvalExtras {
  std::string layers;   ///< a folder of statistics; empty: not asked for
  std::string choices;  ///< a file of questions; empty: not asked for
  bool sizes = false;
  bool latency = false;

  bool wanted() const { return !layers.empty() || !choices.empty() || sizes || latency; }
  bool need_tokenizer() const { return !choices.empty(); }
};

/// Declares the options. `extras` must outlive the parsing.
void add_extra_options(CLI::App& app, EvalExtras& extras);

/// Of one model: what was asked for.
struct ExtraResults {
  std::vector<LayerResult> layers;
  std::optional<ChoiceResult> choices;
  std::optional<SizeByClass> sizes;
  std::optional<LatencyResult> latency;
};

/// What judge_extras() judges. reference: nullptr when there is none; tokenizer: nullptr where none is needed; memory:
/// bytes that answering questions may take, nothing for any.
struct ExtraModels {
  const OpenedModel* reference = nullptr;
  std::span<const OpenedModel> compared;
  const Tokenizer* tokenizer = nullptr;
  std::optional<std::uint64_t> memory;
};

/// One for each compared model. Throws usage when a reference is needed.
std::vector<ExtraResults> judge_extras(const EvalExtras& extras, const ExtraModels& models, Progress& progress);

/// Adds what there is to a model's object.
void add_extras(nlohmann::json& json, const OpenedModel& model, const ExtraResults& results);
/// Sections that stand below each other, of all models.
std::string extras_text(const EvalExtras& extras, const ExtraModels& models, std::span<const ExtraResults> results);
/// Where there is no text: those sections, or an object for each model.
void print_extras(const EvalExtras& extras, const ExtraModels& models, std::span<const ExtraResults> results,
                  bool json);

}  // namespace adze
