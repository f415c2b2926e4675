#include "eval_extras.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/dtype.h"
#include "base/error.h"
#include "pipeline/resources.h"
#include "report/choice_table.h"
#include "report/layer_table.h"
#include "report/size_table.h"
#include "tool.h"

namespace adze {
namespace {

using Results = std::vector<ExtraResults>;

void add_layers(const EvalExtras& extras, const ExtraModels& models, Results& results, Progress& progress) {
  if (models.reference == nullptr)
    fail(ErrorKind::usage, "--layers measures matrices against those of the original: name it with --reference");
  std::vector<const ModelWeights*> weights;
  for (const OpenedModel& model : models.compared) weights.push_back(model.weights.get());
  std::vector<std::vector<LayerResult>> layers =
      judge_layers(*models.reference->weights, weights, StatisticsFolder(extras.layers), progress);
  for (std::size_t m = 0; m < results.size(); ++m) results[m].layers = std::move(layers[m]);
}

/// Tokens to hold at once within --memory, or 0 for all: as windows of the longest sequence.
std::size_t tokens_at_once(const ModelWeights& model, std::span<const EncodedQuestion> questions,
                           std::optional<std::uint64_t> memory) {
  if (!memory) return 0;
  EvaluationSize size{.windows = 0, .tokens = 1, .reference = false};
  for (const EncodedQuestion& question : questions)
    for (const EncodedChoice& choice : question.choices) {
      ++size.windows;
      size.tokens = std::max(size.tokens, choice.ids.size());
    }
  return choose_evaluation(model.architecture(), {judged_size(model)}, size, memory).choice.evaluation_windows *
         size.tokens;
}

void add_choices(const EvalExtras& extras, const ExtraModels& models, Results& results, Progress& progress) {
  std::size_t most_tokens = models.compared.front().architecture().max_positions;
  for (const OpenedModel& model : models.compared)
    most_tokens = std::min(most_tokens, model.architecture().max_positions);
  if (models.reference != nullptr) most_tokens = std::min(most_tokens, models.reference->architecture().max_positions);
  const std::vector<EncodedQuestion> questions =
      encode_questions(load_questions(extras.choices), *models.tokenizer, extras.choices, most_tokens);
  const auto score = [&](const OpenedModel& model) {
    progress.note(model.path.string());
    return score_choices(*model.weights, questions, progress, tokens_at_once(*model.weights, questions, models.memory));
  };
  std::optional<ChoiceScores> reference;
  if (models.reference != nullptr) reference = score(*models.reference);
  for (std::size_t m = 0; m < results.size(); ++m)
    results[m].choices = judge_choices(questions, score(models.compared[m]), reference ? &*reference : nullptr);
}

/// As runtimes keep it by default.
std::uint64_t cache_bytes_per_token(const OpenedModel& model) {
  return cache_values_per_token(model.architecture()) * bytes_of(DType::f16);
}

std::string sizes_text(const OpenedModel& model, const SizeByClass& sizes) {
  return fmt::format("{}, bytes as stored:\n\n{}key/value cache: {} bytes a token in f16\n", model.path.string(),
                     size_table(sizes), cache_bytes_per_token(model));
}

std::string layers_text(const EvalExtras& extras, const OpenedModel& model, const ExtraResults& results) {
  return fmt::format("{}, matrices under the statistics of {} (H damped by {}):\n\n{}", model.path.string(),
                     extras.layers, kLayerDamping, layer_table(results.layers));
}

std::string choices_text(const EvalExtras& extras, const ExtraModels& models, std::span<const ExtraResults> results) {
  std::vector<NamedChoices> named;
  for (std::size_t m = 0; m < results.size(); ++m)
    named.push_back({models.compared[m].path.string(), *results[m].choices});
  return fmt::format("{}: {} questions\n\n{}", extras.choices, named.front().result.rules.front().accuracy.questions,
                     choice_table(named, models.reference != nullptr ? models.reference->path.string() : ""));
}

nlohmann::json sizes_json(const OpenedModel& model, const SizeByClass& sizes) {
  nlohmann::json json;
  const auto add = [&](std::string_view name, const StoredSize& size) {
    json[std::string(name)] = {
        {"bytes", size.bytes}, {"weights", size.weights}, {"bits_per_weight", size.bits_per_weight()}};
  };
  for (const TensorClass c : kTensorClasses) add(name_of(c), sizes[c]);
  add("blocks", sizes.blocks());
  json["cache_bytes_per_token"] = cache_bytes_per_token(model);
  return json;
}

}  // namespace

void add_extra_options(CLI::App& app, EvalExtras& extras) {
  app.add_option(
      "--layers", extras.layers,
      "statistics of the reference (adze-calibrate): what every matrix lost, and its distance from the limit");
  app.add_option("--choices", extras.choices,
                 "multiple choice, a .jsonl file with question, choices and answer: accuracy, and answers changed");
  app.add_flag("--sizes", extras.sizes, "bytes of embedding, attention, FFN, head, norms and of a cached token");
  app.add_flag("--latency", extras.latency, "tokens a second that adze's own forward pass reads of a prompt");
}

Results judge_extras(const EvalExtras& extras, const ExtraModels& models, Progress& progress) {
  Results results(models.compared.size());
  if (!extras.layers.empty()) add_layers(extras, models, results, progress);
  if (!extras.choices.empty()) add_choices(extras, models, results, progress);
  for (std::size_t m = 0; m < results.size(); ++m) {
    const ModelWeights& weights = *models.compared[m].weights;
    if (extras.sizes) results[m].sizes = size_by_class(weights);
    if (extras.latency) results[m].latency = measure_prefill(weights, {}, progress);
  }
  return results;
}

void add_extras(nlohmann::json& json, const OpenedModel& model, const ExtraResults& results) {
  if (!results.layers.empty()) json["layers"] = to_json(std::span<const LayerResult>(results.layers));
  if (results.choices) json["choices"] = to_json(*results.choices);
  if (results.sizes) json["sizes"] = sizes_json(model, *results.sizes);
  if (results.latency) json["latency"] = to_json(*results.latency);
}

std::string extras_text(const EvalExtras& extras, const ExtraModels& models, std::span<const ExtraResults> results) {
  std::string text;
  const auto add = [&](const std::string& section) { text += (text.empty() ? "" : "\n") + section; };
  if (!extras.choices.empty()) add(choices_text(extras, models, results));
  for (std::size_t m = 0; m < results.size(); ++m) {
    const OpenedModel& model = models.compared[m];
    if (results[m].sizes) add(sizes_text(model, *results[m].sizes));
    if (results[m].latency) add(fmt::format("{}, {}", model.path.string(), latency_in_words(*results[m].latency)));
    if (!results[m].layers.empty()) add(layers_text(extras, model, results[m]));
  }
  return text;
}

void print_extras(const EvalExtras& extras, const ExtraModels& models, std::span<const ExtraResults> results,
                  bool json) {
  if (!json) return Tool::print(extras_text(extras, models, results));
  nlohmann::json list;
  for (std::size_t m = 0; m < results.size(); ++m) {
    const OpenedModel& model = models.compared[m];
    const StoredSize size = stored_size(*model.weights);
    nlohmann::json object = {
        {"model", model.path.string()}, {"bytes", size.bytes}, {"bits_per_weight", size.bits_per_weight()}};
    add_extras(object, model, results[m]);
    list.push_back(std::move(object));
  }
  Tool::print((list.size() == 1 ? list[0] : list).dump(1) + "\n");
}

}  // namespace adze
