// adze-eval: judges models on a text.
#include <algorithm>
#include <optional>
#include <span>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "calibrate/calibration_set.h"
#include "evaluate/reference_judge.h"
#include "model/compressed_store.h"
#include "pipeline/open_model.h"
#include "pipeline/resources.h"
#include "report/run_report.h"
#include "tool.h"

namespace {

using namespace adze;

struct Options {
  std::vector<std::string> models;
  std::string reference;
  std::string text;
  std::string tokenizer;
  std::string protocol = "lcpp-512";
  std::optional<std::uint64_t> memory;
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

/// What a model keeps loaded: a compressed one its tables, a checkpoint one of them at a time; sizes as of block 0.
JudgedSize judged_size(const ModelWeights& model) {
  JudgedSize size;
  const TensorPtr table = model.embedding();
  size.outside = table->bytes();
  if (const TensorPtr head = model.head(); head != table) size.outside += head->bytes();
  for (const Linear& linear : model.block(0).linears) size.largest_block += linear.weight->bytes();
  return size;
}

/// Windows to judge at once within --memory, or 0 for all.
std::size_t windows_at_once(const Options& options, const ModelWeights& model, const ModelWeights* reference,
                            const Protocol& protocol, std::size_t tokens) {
  if (!options.memory) return 0;
  std::vector<JudgedSize> sizes = {judged_size(model)};
  if (reference != nullptr) sizes.push_back(judged_size(*reference));
  const EvaluationSize size{tokens / protocol.window, protocol.window, reference != nullptr};
  return choose_evaluation(model.architecture(), sizes, size, options.memory).choice.evaluation_windows;
}

nlohmann::json to_json(const JudgedModel& model) {
  nlohmann::json json = adze::to_json(model.result);
  json["model"] = model.name;
  json["bytes"] = model.bytes;
  json["bits_per_weight"] = model.bits_per_weight;
  return json;
}

void judge(const Options& options, Tool& tool) {
  const Protocol protocol = parse_protocol(options.protocol);
  std::vector<OpenedModel> models;  // the reference, if there is one, comes first
  if (!options.reference.empty()) models.push_back(open_model(options.reference, options.open));
  const std::size_t references = models.size();
  for (const std::string& path : options.models) models.push_back(open_model(path, options.open));
  const ModelWeights* reference = references > 0 ? models.front().weights.get() : nullptr;
  const NamedTokenizer used = find_tokenizer(options, models);
  check_vocabularies(used, models);
  const std::vector<std::int32_t> ids = tokenize_set(load_text_set(options.text), used.tokenizer);
  const auto compared = std::span<const OpenedModel>(models).subspan(references);
  // Where memory is not bounded, the reference runs once for all of them: its states stay.
  std::optional<ReferenceJudge> once;
  if (reference != nullptr && compared.size() > 1 && !options.memory) {
    for (const OpenedModel& model : compared) check_models(*model.weights, reference, protocol, tool.progress());
    tool.progress().start("evaluating models", compared.size());
    once.emplace(*reference, ids, bos_of(used.tokenizer), protocol);
  }
  std::vector<JudgedModel> judged;
  for (const OpenedModel& model : compared) {
    tool.progress().note(model.path.string());
    const StoredSize size = stored_size(*model.weights);
    judged.push_back({model.path.string(), size.bytes, size.bits_per_weight(),
                      once ? once->judge(*model.weights)
                           : evaluate(*model.weights, reference, ids, bos_of(used.tokenizer), protocol, tool.progress(),
                                      windows_at_once(options, *model.weights, reference, protocol, ids.size()))});
    if (once) tool.progress().update(judged.size());
  }
  if (tool.options().json) {
    nlohmann::json json;
    for (const JudgedModel& model : judged) json.push_back(to_json(model));
    Tool::print((judged.size() == 1 ? json[0] : json).dump(1) + "\n");
    return;
  }
  const EvaluationResult& first = judged.front().result;
  Tool::print(fmt::format("{}, protocol {}: {} windows, {} tokens scored\n\n{}", options.text, first.protocol,
                          first.windows, first.tokens, judgement_table(judged)));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  Tool tool("adze-eval",
            "Judges models on a text: perplexity and, against a reference, the divergence of every next-token "
            "distribution.\nModels are Hugging Face folders, model stores, output folders of adze-compress, GGUF "
            "files, packs and deltas.",
            "  adze eval OUT --reference MODEL --text calibration_data/heldout.yaml\n"
            "  adze eval MODEL OUT1 OUT2 --reference MODEL --text wiki.test.raw.txt --protocol gptq-2048 --json\n"
            "  adze eval D.adze --base BASE --reference TUNED --text calibration_data/heldout.yaml");
  tool.app().add_option("models", options.models, "models to judge")->required();
  tool.app().add_option("--reference", options.reference, "the model they should resemble, usually the original");
  tool.app()
      .add_option("--text", options.text, "a text set (.yaml) or one .txt, .jsonl or .json (token ids) file")
      ->required();
  tool.app().add_option("--tokenizer", options.tokenizer, "a tokenizer.json, when no model given has one");
  tool.app()
      .add_option("--protocol", options.protocol,
                  "lcpp-N: second half of windows of N tokens, as llama.cpp; gptq-N: whole windows, as most papers")
      ->capture_default_str();
  add_memory_option(tool.app(), options.memory);
  add_model_options(tool.app(), options.open);
  return tool.run(argc, argv, [&] { judge(options, tool); });
}
