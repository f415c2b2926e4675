// adze-calibrate: measures the inputs of every linear layer on a text.
#include <algorithm>
#include <optional>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/words.h"
#include "calibrate/calibrate.h"
#include "calibrate/imatrix_statistics.h"
#include "pipeline/inspect_statistics.h"
#include "pipeline/open_model.h"
#include "recipe/expert_inputs.h"
#include "tool.h"

namespace {

using namespace adze;

struct Options {
  std::string model;
  std::string set;
  WindowRule rule;
  std::vector<std::string> merge;
  std::string out;
  std::string imatrix;
  bool overwrite = false;
  bool dry_run = false;
  ExpertInputs experts = ExpertInputs::routed;
  std::optional<std::uint64_t> memory;
  OpenModelOptions open;
};

void check_usage(const Options& options) {
  const bool merges = !options.merge.empty();
  if (merges != options.model.empty())
    fail(ErrorKind::usage, "give either a MODEL to measure, or --merge with folders of statistics");
  if (!merges && options.set.empty()) fail(ErrorKind::usage, "--set TEXT is missing: what to measure the model on");
  if (merges && (!options.set.empty() || options.dry_run))
    fail(ErrorKind::usage, "--merge takes neither --set nor --dry-run");
}

/// Judged before hours are spent on measuring.
void check_imatrix(const Options& options) {
  if (options.imatrix.empty()) return;
  imatrix_kind_of(options.imatrix);
  if (!options.overwrite && std::filesystem::exists(options.imatrix))
    fail(ErrorKind::cannot_create, "{}: exists; replace it with --overwrite", options.imatrix);
}

/// The finished folder in one table or one JSON object.
void print_statistics(const Options& options, const CalibrateResult& result, const Tool& tool) {
  const StatisticsFolder folder(options.out);
  const StatisticsInfo& info = folder.info();
  if (!options.imatrix.empty()) {
    const ImatrixKind kind = imatrix_kind_of(options.imatrix);
    write_imatrix(options.imatrix, imatrix_of(folder, kind), kind);
  }
  const std::vector<InputSummary> inputs = folder.summarize();
  if (tool.options().json) {
    Tool::print(nlohmann::ordered_json{{"statistics", options.out},
                                       {"model", info.model},
                                       {"calibration", info.calibration},
                                       {"windows", info.windows},
                                       {"tokens", info.tokens},
                                       {"measured_parts", result.measured},
                                       {"kept_parts", result.kept},
                                       {"inputs", statistics_json(inputs)}}
                    .dump(1) +
                "\n");
    return;
  }
  Tool::print(fmt::format("{}: {}, {} windows, {} tokens\n\n{}", options.out, info.model, info.windows, info.tokens,
                          statistics_table(inputs)));
}

/// How a model is measured.
struct Measuring {
  StatesLayout layout;
  bool together = true;  ///< CalibrateOptions
};

/// The most convenient one that keeps within --memory: stage by stage, then smaller batches, then states on disk.
Measuring choose_measuring(const Options& options, const TokenWindows& windows, const Architecture& architecture) {
  Measuring chosen{{windows.count(), windows.tokens, architecture.hidden, batch_windows(windows.tokens), false}};
  if (!options.memory) return chosen;
  StatesLayout& layout = chosen.layout;
  const std::size_t least = slice_windows(windows.tokens);
  const auto fits = [&] {
    return predict_calibration(architecture, layout, chosen.together).memory <= *options.memory;
  };
  if (fits()) return chosen;
  chosen.together = false;
  for (const bool on_disk : {false, true}) {
    layout.on_disk = on_disk;
    for (layout.batch_windows = batch_windows(windows.tokens);;
         layout.batch_windows = std::max(layout.batch_windows / 2, least)) {
      if (fits()) return chosen;
      if (layout.batch_windows == least) break;
    }
  }
  fail(ErrorKind::out_of_memory, "the run needs {} at least, --memory allows {}; allow that much, or shorten --tokens",
       bytes_in_words(predict_calibration(architecture, layout, false).memory), bytes_in_words(*options.memory));
}

void print_prediction(const Options& options, const TokenWindows& windows, const Architecture& architecture,
                      const Measuring& measuring, const Tool& tool) {
  const CalibratePrediction prediction = predict_calibration(architecture, measuring.layout, measuring.together);
  if (tool.options().json) {
    Tool::print(nlohmann::ordered_json{{"windows", windows.count()},
                                       {"tokens", windows.ids.size()},
                                       {"calibration", windows.hash()},
                                       {"disk_bytes", prediction.disk},
                                       {"memory_bytes", prediction.memory}}
                    .dump(1) +
                "\n");
    return;
  }
  Tool::print(fmt::format("{}: {} windows of {} tokens; {} on disk, about {} of memory\n", options.out, windows.count(),
                          windows.tokens, bytes_in_words(prediction.disk), bytes_in_words(prediction.memory)));
}

void measure(const Options& options, Tool& tool) {
  const OpenedModel model = open_model(options.model, options.open);
  check_window_length(model.architecture(), options.rule.tokens);
  const TokenWindows windows = load_windows(options.set, model.require_tokenizer(), options.rule);
  const Measuring measuring = choose_measuring(options, windows, model.architecture());
  if (options.dry_run) {
    const StatisticsOutput check(options.out,
                                 describe_statistics(model.architecture(), model.name, windows, options.experts),
                                 options.overwrite);
    return print_prediction(options, windows, model.architecture(), measuring, tool);
  }
  const CalibrateOptions how{options.out,        options.overwrite, measuring.layout.batch_windows,
                             measuring.together, options.experts,   measuring.layout.on_disk};
  print_statistics(options, calibrate(*model.weights, model.name, windows, how, tool.progress()), tool);
}

void merge(const Options& options, Tool& tool) {
  merge_statistics(std::vector<std::filesystem::path>(options.merge.begin(), options.merge.end()), options.out,
                   options.overwrite, tool.progress());
  print_statistics(options, {}, tool);
}

/// What the experts of a mixture are calibrated with.
void add_expert_inputs_option(CLI::App& app, ExpertInputs& experts) {
  app.add_option_function<std::string>(
         "--experts",
         [&experts](const std::string& name) {
           experts = std::ranges::find(kExpertInputs, name, &Named<ExpertInputs>::name)->value;
         },
         "what experts of a mixture are measured with: routed, the tokens that are sent there and others where "
         "these are few; all, every token")
      ->check(CLI::IsMember({"routed", "all"}))
      ->default_str("routed");
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  Tool tool("adze-calibrate",
            "Runs a model over token windows of a text and writes, for the input of every linear layer, the second\n"
            "moment H and the sums that solvers and allocation need. A run that was stopped goes on where it was.",
            "  adze calibrate MODEL --set calibration_data/mixed.yaml --windows 64 --tokens 512 --seed 7 -o STATS\n"
            "  adze calibrate --merge STATS1 STATS2 -o STATS");
  tool.app().add_option("model", options.model,
                        "a Hugging Face folder, a model store, a compressed model, a GGUF file or a pack");
  tool.app().add_option("--set", options.set, "a text set (.yaml) or one .txt, .jsonl or .json (token ids) file");
  tool.app()
      .add_option("--windows", options.rule.windows, "how many windows of the text")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  tool.app()
      .add_option("--tokens", options.rule.tokens, "tokens per window")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  tool.app()
      .add_option("--seed", options.rule.seed, "0: the first windows; any other: that many drawn at random")
      ->capture_default_str();
  add_expert_inputs_option(tool.app(), options.experts);
  tool.app().add_option("--merge", options.merge, "add these folders of statistics up instead of measuring");
  tool.app().add_option("-o,--output", options.out, "the folder of statistics")->required();
  tool.app().add_option("--imatrix", options.imatrix,
                        "write the diagonals as llama.cpp's importance matrix too: a .gguf or .dat file");
  tool.app().add_flag("--overwrite", options.overwrite, "replace statistics that are there");
  tool.app().add_flag("--dry-run", options.dry_run, "check everything, say what it takes, write nothing");
  add_memory_option(tool.app(), options.memory);
  add_model_options(tool.app(), options.open);
  return tool.run(argc, argv, [&] {
    check_usage(options);
    check_imatrix(options);
    options.merge.empty() ? measure(options, tool) : merge(options, tool);
  });
}
