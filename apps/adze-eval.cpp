// adze-eval: judges models on a text.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "calibrate/calibration_set.h"
#include "model/compressed_store.h"
#include "pipeline/open_model.h"
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
};

/// The first of --tokenizer, --reference and the models that has one.
Tokenizer find_tokenizer(const Options& options, const std::vector<OpenedModel>& models,
                         const std::optional<OpenedModel>& reference) {
  if (!options.tokenizer.empty()) return Tokenizer::from_file(options.tokenizer);
  if (reference && reference->tokenizer) return *reference->tokenizer;
  for (const OpenedModel& model : models)
    if (model.tokenizer) return *model.tokenizer;
  fail(ErrorKind::usage, "no model given has a tokenizer.json; name one with --tokenizer FILE or a --reference folder");
}

std::optional<std::int32_t> bos_of(const Tokenizer& tokenizer) {
  const auto& prefix = tokenizer.vocabulary().prefix_ids;
  return prefix.empty() ? std::nullopt : std::optional(prefix.front());
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
  std::vector<OpenedModel> models;
  for (const std::string& path : options.models) models.push_back(open_model(path));
  std::optional<OpenedModel> reference;
  if (!options.reference.empty()) reference = open_model(options.reference);
  const Tokenizer tokenizer = find_tokenizer(options, models, reference);
  const std::vector<std::int32_t> ids = tokenize_set(load_text_set(options.text), tokenizer);
  std::vector<JudgedModel> judged;
  for (const OpenedModel& model : models) {
    tool.progress().note(model.path.string());
    const StoredSize size = stored_size(*model.weights);
    judged.push_back({model.path.string(), size.bytes, size.bits_per_weight(),
                      evaluate(*model.weights, reference ? reference->weights.get() : nullptr, ids, bos_of(tokenizer),
                               protocol, tool.progress())});
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
            "distribution.\nModels are Hugging Face folders, model stores, output folders of adze-compress and GGUF files.",
            "  adze eval OUT --reference MODEL --text calibration_data/heldout.yaml\n"
            "  adze eval MODEL OUT1 OUT2 --reference MODEL --text wiki.test.raw.txt --protocol gptq-2048 --json");
  tool.app().add_option("models", options.models, "models to judge")->required();
  tool.app().add_option("--reference", options.reference, "the model they should resemble, usually the original");
  tool.app().add_option("--text", options.text, "a text set (.yaml) or one .txt, .jsonl or .json (token ids) file")->required();
  tool.app().add_option("--tokenizer", options.tokenizer, "a tokenizer.json, when no model given has one");
  tool.app()
      .add_option("--protocol", options.protocol,
                  "lcpp-N: second half of windows of N tokens, as llama.cpp; gptq-N: whole windows, as most papers")
      ->capture_default_str();
  return tool.run(argc, argv, [&] { judge(options, tool); });
}
