// adze-eval: judges models on a text.
#include <algorithm>
#include <optional>
#include <span>
#include <tuple>
#include <utility>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "calibrate/calibration_set.h"
#include "eval_extras.h"
#include "evaluate/domains.h"
#include "model/activations.h"
#include "model/stored_size.h"
#include "pipeline/open_model.h"
#include "pipeline/resources.h"
#include "recipe/domains.h"
#include "report/judgements.h"
#include "report/judgements_page.h"
#include "tool.h"

namespace {

using namespace adze;

struct Options {
  std::vector<std::string> models;
  std::string reference;
  std::vector<std::string> texts;
  std::string tokenizer;
  std::string protocol = "lcpp-512";
  Activations activations = Activations::exact;
  std::size_t audit = 10;
  bool audit_asked = false;
  bool detail = false;
  std::string html, markdown;
  std::optional<std::uint64_t> memory;
  EvalExtras extras;
  OpenModelOptions open;
};

struct NamedTokenizer {
  std::string of;  ///< where it comes from, for messages
  Tokenizer tokenizer;
};

/// The first of --tokenizer, --reference and the models that has one.
NamedTokenizer find_tokenizer(const Options& options, const std::vector<OpenedModel>& models) {
  if (!options.tokenizer.empty()) return {options.tokenizer, Tokenizer::from_file(options.tokenizer)};
  for (const OpenedModel& model : models)
    if (model.tokenizer) return {model.path.string(), *model.tokenizer};
  fail(ErrorKind::usage, "no model given has a tokenizer.json; name one with --tokenizer FILE or a --reference folder");
}

/// The text is read with one tokenizer: a model with another would be judged on ids that mean something else to it.
void check_vocabularies(const NamedTokenizer& used, const std::vector<OpenedModel>& models) {
  const Vocabulary& vocabulary = used.tokenizer.vocabulary();
  for (const OpenedModel& model : models) {
    if (vocabulary.tokens.size() > model.architecture().vocab)
      fail(ErrorKind::bad_data, "{}: a model of {} tokens; the tokenizer of {} has {}", model.path.string(),
           model.architecture().vocab, used.of, vocabulary.tokens.size());
    if (!model.tokenizer) continue;
    if (const auto id = first_difference(vocabulary, model.tokenizer->vocabulary()))
      fail(ErrorKind::bad_data,
           "{}: its vocabulary differs from that of {} at id {}; models are compared on the same tokens only",
           model.path.string(), used.of, *id);
  }
}

std::optional<std::int32_t> bos_of(const Tokenizer& tokenizer) {
  const auto& prefix = tokenizer.vocabulary().prefix_ids;
  return prefix.empty() ? std::nullopt : std::optional(prefix.front());
}

/// Windows to judge at once within --memory, or 0 for all. tokens: of the longest domain.
std::size_t windows_at_once(const Options& options, const ModelWeights& model, const ModelWeights* reference,
                            const Protocol& protocol, std::size_t tokens) {
  if (!options.memory) return 0;
  std::vector<JudgedSize> sizes = {judged_size(model)};
  if (reference != nullptr) sizes.push_back(judged_size(*reference));
  const EvaluationSize size{tokens / protocol.window, protocol.window, reference != nullptr};
  return choose_evaluation(model.architecture(), sizes, size, options.memory).choice.evaluation_windows;
}

std::vector<DomainText> read_domains(const Options& options, const Tokenizer& tokenizer) {
  std::vector<DomainText> domains;
  for (const Domain& domain : load_domains(options.texts))
    domains.push_back({domain.name, tokenize_set(domain.texts, tokenizer)});
  return domains;
}

/// Rounding of activations that no format of a model is known for would be silence.
void warn_of_exact_formats(const OpenedModel& model, Activations activations, Progress& progress) {
  if (activations == Activations::exact) return;
  bool known = false;
  model.weights->block(0).for_each_linear(
      [&](const Linear& linear) { known |= rounding_for(linear.weight->format(), activations).has_value(); });
  if (known) return;
  progress.warn(fmt::format("{}: llama.cpp rounds no activations for its formats: --activations changes nothing there",
                            model.path.string()));
}

/// Of compressed models: one that is the reference would only dilute it.
std::optional<PopulationAudit> population_of(const std::vector<std::vector<TextScores>>& scores,
                                             const std::vector<JudgedModel>& models, std::size_t most) {
  std::vector<std::vector<TextScores>> compressed;
  for (std::size_t m = 0; m < models.size(); ++m)
    if (models[m].result.reference && models[m].result.reference->kl_max > 0) compressed.push_back(scores[m]);
  if (compressed.size() < 2 || most == 0) return std::nullopt;
  return audit_population(compressed, most);
}

JudgedModel judged_model(const OpenedModel& model, const std::vector<TextScores>& scores,
                         const std::vector<std::string>& domains) {
  const StoredSize size = stored_size(*model.weights);
  JudgedModel judged{model.path.string(), size.bytes, size.bits_per_weight(), summarize(scores), {}};
  if (domains.size() < 2) return judged;
  for (std::size_t d = 0; d < domains.size(); ++d) judged.domains.push_back({domains[d], summarize(scores[d])});
  return judged;
}

/// Every pair but those with the reference itself: distances from it are all that they would say.
std::vector<ModelComparison> compare_compressed(const std::vector<JudgedModel>& models) {
  std::vector<EvaluationResult> compressed;
  std::vector<std::size_t> places;
  for (std::size_t m = 0; m < models.size(); ++m) {
    if (models[m].result.reference && models[m].result.reference->kl_max == 0) continue;
    compressed.push_back(models[m].result);
    places.push_back(m);
  }
  std::vector<ModelComparison> pairs = compare_models(compressed);
  for (ModelComparison& pair : pairs) std::tie(pair.a, pair.b) = std::pair(places[pair.a], places[pair.b]);
  return pairs;
}

Judgements judge_models(const Options& options, std::span<const OpenedModel> compared, const ModelWeights* reference,
                        const NamedTokenizer& used, Progress& progress) {
  const Protocol protocol = parse_protocol(options.protocol);
  const std::vector<DomainText> domains = read_domains(options, used.tokenizer);
  const auto bos = bos_of(used.tokenizer);
  std::size_t longest = 0;
  for (const DomainText& domain : domains) longest = std::max(longest, domain.ids.size());
  std::vector<const ModelWeights*> models;
  std::vector<EvaluationOptions> each;
  for (const OpenedModel& model : compared) {
    warn_of_exact_formats(model, options.activations, progress);
    models.push_back(model.weights.get());
    each.push_back({.windows_at_once = windows_at_once(options, *model.weights, reference, protocol, longest),
                    .scores = {.worst_tokens = options.audit, .detail = options.detail},
                    .activations = options.activations});
  }
  auto scores = score_domains(models, reference, domains, bos, protocol, each, progress);
  Judgements result;
  result.texts = fmt::format("{}", fmt::join(options.texts, ", "));
  result.activations = options.activations;
  for (const DomainText& domain : domains) result.domains.push_back(domain.name);
  for (std::size_t m = 0; m < compared.size(); ++m)
    result.models.push_back(judged_model(compared[m], scores[m], result.domains));
  result.comparisons = compare_compressed(result.models);
  result.population = population_of(scores, result.models, options.audit);
  if (options.detail && bos)
    result.bos = bos_effect(reference ? *reference : *models[0], domains, *bos, protocol, progress);
  return result;
}

/// What was asked for beside text joins each model's object.
std::string json_text(nlohmann::ordered_json json, std::span<const OpenedModel> models,
                      std::span<const ExtraResults> extras) {
  const bool several = json.is_array();
  for (std::size_t m = 0; m < models.size(); ++m) {
    nlohmann::json more = nlohmann::json::object();
    add_extras(more, models[m], extras[m]);
    for (const auto& [key, value] : more.items()) (several ? json[m] : json)[key] = value;
  }
  return json.dump(1) + "\n";
}

void judge(const Options& options, Tool& tool) {
  std::vector<OpenedModel> models;  // the reference, if there is one, comes first
  if (!options.reference.empty()) models.push_back(open_model(options.reference, options.open));
  const std::size_t references = models.size();
  for (const std::string& path : options.models) models.push_back(open_model(path, options.open));
  const ModelWeights* reference = references > 0 ? models.front().weights.get() : nullptr;
  const auto compared = std::span<const OpenedModel>(models).subspan(references);
  std::optional<NamedTokenizer> used;
  if (!options.texts.empty() || options.extras.need_tokenizer()) {
    used = find_tokenizer(options, models);
    check_vocabularies(*used, models);
  }
  const ExtraModels extra_models{references > 0 ? &models.front() : nullptr, compared,
                                 used ? &used->tokenizer : nullptr, options.memory};
  const std::vector<ExtraResults> extras = judge_extras(options.extras, extra_models, tool.progress());
  if (options.texts.empty()) return print_extras(options.extras, extra_models, extras, tool.options().json);
  const Judgements judged = judge_models(options, compared, reference, *used, tool.progress());
  if (!options.html.empty()) write_file(options.html, judgements_page(judged, used->tokenizer).html());
  if (!options.markdown.empty()) write_file(options.markdown, judgements_page(judged, used->tokenizer).markdown());
  if (tool.options().json) return Tool::print(json_text(judgements_json(judged, used->tokenizer), compared, extras));
  const bool with_audit = options.audit_asked || tool.options().verbose;
  Tool::print(judgements_text(judged, used->tokenizer, {.audit = with_audit, .statistics = options.detail}));
  if (options.extras.wanted()) Tool::print("\n" + extras_text(options.extras, extra_models, extras));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  Tool tool("adze-eval",
            "Judges models on a text: perplexity and, against a reference, the divergence of every next-token "
            "distribution.\nModels are Hugging Face folders, model stores, output folders of adze-compress, GGUF "
            "files, packs "
            "and deltas.",
            "  adze eval OUT --reference MODEL --text calibration_data/heldout.yaml\n"
            "  adze eval MODEL OUT1 OUT2 --reference MODEL --text wiki.test.raw.txt --protocol gptq-2048 --json\n"
            "  adze eval OUT --reference MODEL --text wiki=w.txt --text code=c.txt --audit 20\n"
            "  adze eval model.gguf --reference MODEL --text w.txt --activations q8\n"
            "  adze eval OUT --reference MODEL --layers STATS\n"
            "  adze eval D.adze --base BASE --reference TUNED --text calibration_data/heldout.yaml");
  tool.app().add_option("models", options.models, "models to judge")->required();
  tool.app().add_option("--reference", options.reference, "the model they should resemble, usually the original");
  tool.app()
      .add_option(
          "--text", options.texts,
          "a text set (.yaml) or one .txt, .jsonl or .json (token ids) file; NAME=FILE names a domain; repeat it "
          "to judge several domains")
      ->allow_extra_args(false);
  add_extra_options(tool.app(), options.extras);
  tool.app().add_option("--tokenizer", options.tokenizer, "a tokenizer.json, when no model given has one");
  tool.app()
      .add_option("--protocol", options.protocol,
                  "lcpp-N: second half of windows of N tokens, as llama.cpp; gptq-N: whole windows, as most papers")
      ->capture_default_str();
  tool.app()
      .add_option_function<std::string>(
          "--activations", [&](const std::string& name) { options.activations = parse_activations(name); },
          "exact, or q8: inputs of products are rounded as llama.cpp's CPU kernels do for each format of weights")
      ->default_str("exact")
      ->type_name("NAME");
  tool.app()
      .add_option_function<std::size_t>(
          "--audit",
          [&](std::size_t count) {
            options.audit = count;
            options.audit_asked = true;
          },
          "list that many of the tokens that compression hurts most, for every model; JSON always has 10 unless this "
          "says otherwise")
      ->check(CLI::Range(0, 10000))
      ->type_name("N");
  tool.app().add_flag(
      "--detail", options.detail,
      "every statistic in a table, effective ranks of hidden states, what BOS in every window is worth");
  tool.app().add_option("--html", options.html, "write the judgement as a page with pictures and exemplars");
  tool.app().add_option("--markdown", options.markdown, "the same as Markdown, for a model card");
  add_memory_option(tool.app(), options.memory);
  add_model_options(tool.app(), options.open);
  return tool.run(argc, argv, [&] {
    if (options.texts.empty() && !options.extras.wanted())
      fail(ErrorKind::usage,
           "--text TEXT is missing: what to read; without one there are --layers, --choices, --sizes and --latency");
    judge(options, tool);
  });
}
