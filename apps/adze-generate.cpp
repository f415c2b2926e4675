// adze-generate: calibration text that a model writes itself.
#include <cmath>
#include <numeric>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "calibrate/generated_text.h"
#include "pipeline/open_model.h"
#include "tool.h"

namespace {

using namespace adze;

struct Options {
  std::string model;
  std::string out;
  bool overwrite = false;
  GenerateOptions generate;
  OpenModelOptions open;
};

void run_generate(const Options& options, Tool& tool) {
  const std::filesystem::path out = options.out;
  if (out.extension() != ".json") fail(ErrorKind::usage, "{}: token ids are a .json file", options.out);
  if (!options.overwrite && std::filesystem::exists(out))
    fail(ErrorKind::cannot_create, "{}: exists; replace it with --overwrite", options.out);
  const OpenedModel model = open_model(options.model, options.open);
  const GeneratedText text =
      generate_text(*model.weights, model.require_tokenizer(), options.generate, tool.progress());
  write_file(out, nlohmann::json(text.ids).dump() + "\n");
  const double nll = std::accumulate(text.window_nll.begin(), text.window_nll.end(), 0.0) /
                     static_cast<double>(text.window_nll.size());
  if (tool.options().json) {
    Tool::print(nlohmann::ordered_json{{"file", options.out},
                                       {"windows", text.window_nll.size()},
                                       {"tokens", text.ids.size()},
                                       {"perplexity", std::exp(nll)},
                                       {"dropped", text.dropped},
                                       {"dropped_perplexity", std::exp(text.dropped_nll)}}
                    .dump(1) +
                "\n");
    return;
  }
  Tool::print(fmt::format("{}: {} windows of {} tokens, perplexity {:.1f}", options.out, text.window_nll.size(),
                          options.generate.tokens, std::exp(nll)));
  if (text.dropped > 0)
    Tool::print(fmt::format("; {} windows of perplexity {:.1f} left out", text.dropped, std::exp(text.dropped_nll)));
  Tool::print(fmt::format("\ncalibrate with it: adze calibrate {} --set {} --windows {} --tokens {} -o STATS\n",
                          options.model, options.out, text.window_nll.size(), options.generate.tokens));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  GenerateOptions& generate = options.generate;
  Tool tool(
      "adze-generate",
      "Lets a model write its own calibration text, token by token, and leaves out what it finds least likely.\n"
      "The file holds token ids, which calibrate, compress and compare read as any other calibration set. Windows "
      "of the\nsame --tokens are cut from it exactly as they were written.",
      "  adze generate MODEL --windows 128 --tokens 512 -o own.json\n"
      "  adze compare MODEL --set own.json --set wiki.txt --windows 32 --draws 3 -o STUDY");
  CLI::App& app = tool.app();
  app.add_option("model", options.model, "a Hugging Face folder, a model store, a GGUF file or a pack")->required();
  app.add_option("--windows", generate.windows, "how many windows to keep")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  app.add_option("--tokens", generate.tokens, "tokens of a window")
      ->check(CLI::Range(2, 10'000'000))
      ->capture_default_str();
  app.add_option("--seed", generate.seed, "of the random numbers")->capture_default_str();
  app.add_option("--temperature", generate.temperature, "divides the logits")->capture_default_str();
  app.add_option("--top-p", generate.top_p, "draw from the likeliest tokens that hold this much probability")
      ->capture_default_str();
  app.add_option("--drop", generate.drop, "share of the windows written that is left out, of highest perplexity")
      ->capture_default_str();
  app.add_option("-o,--output", options.out, "the .json file to write")->required();
  app.add_flag("--overwrite", options.overwrite, "replace a file that is there");
  add_model_options(app, options.open);
  return tool.run(argc, argv, [&] { run_generate(options, tool); });
}
