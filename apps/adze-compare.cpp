// adze-compare: which calibration set, how much of it, and whether it matters.
#include <optional>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "compare/study.h"
#include "compare/study_report.h"
#include "pipeline/open_model.h"
#include "tool.h"

namespace {

using namespace adze;

struct Options {
  std::string model;
  std::vector<std::string> sets, texts;
  std::string recipe;
  std::string mix = "worst";
  std::optional<int> stages;
  bool no_sweep = false;
  bool dry_run = false;
  StudyRequest request;
  OpenModelOptions open;
};

int stages_of(const Options& options) {
  if (options.stages) return *options.stages;
  return options.recipe.empty() ? 1 : options.texts.empty() ? 2 : 3;
}

std::string prediction(const PreparedStudy& prepared) {
  const StudyRequest& request = prepared.request;
  std::string text = fmt::format("{}: {} sets, {} texts, {} draws of {} windows of {} tokens\n", prepared.model->name,
                                 prepared.sets.size(), prepared.texts.size(), prepared.draws, request.rule.windows,
                                 request.rule.tokens);
  text +=
      fmt::format("stage 1: {} passes over the model\n", prepared.sets.size() * prepared.draws + prepared.texts.size());
  if (request.stages >= 3)
    text += fmt::format("stage 3: {} models compressed and judged on {} texts each\n",
                        (prepared.sets.size() + 1 + prepared.sizes.size()) * prepared.draws, prepared.texts.size());
  return text;
}

void run_compare(Options& options, Tool& tool) {
  keep_freed_memory();  // moments and batches, pass after pass and distance after distance
  StudyRequest& request = options.request;
  for (const std::string& set : options.sets) request.sets.push_back(parse_named_path(set));
  for (const std::string& text : options.texts) request.texts.push_back(parse_named_path(text));
  request.stages = stages_of(options);
  request.sweep = !options.no_sweep;
  request.mix = options.mix == "worst" ? MixGoal::worst : MixGoal::mean;
  std::optional<Recipe> recipe;
  if (!options.recipe.empty()) request.recipe = &recipe.emplace(load_recipe(options.recipe));
  if (request.out.empty() && !options.dry_run) fail(ErrorKind::usage, "-o OUT is required (or --dry-run)");
  const OpenedModel model = open_model(options.model, options.open);
  const PreparedStudy prepared = prepare_study(std::move(request), model);
  for (const std::string& warning : prepared.warnings) tool.progress().warn(warning);
  if (options.dry_run) {
    Tool::print(prediction(prepared));
    return;
  }
  const Study study = run_study(prepared, tool.progress());
  write_study(prepared, study);
  if (tool.options().json) {
    Tool::print(study_json(prepared, study).dump(1) + "\n");
    return;
  }
  std::string text = study_text(prepared, study) + "\n";
  for (int stage = 0; stage < prepared.request.stages; ++stage)
    text += fmt::format("{}stage {}: {:.0f} s", stage == 0 ? "" : ", ", stage + 1, study.seconds[stage]);
  Tool::print(text + fmt::format("\nmade {}/: report.html, report.md, compare.json, moments.csv, regret.csv{}\n",
                                 prepared.request.out.string(), study.outcomes ? ", outcome.csv" : ""));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  StudyRequest& request = options.request;
  Tool tool("adze-compare",
            "Compares calibration sets: by the second moments they give (stage 1), by what layers lose that were "
            "calibrated\non one and are judged on another (stage 2), and by whole compressed models on texts of your "
            "choice (stage 3).\nSays which set to take, how many windows, and whether the difference is more than the "
            "noise of drawing.\n\nWhat is known (docs/calibration.md): spread over draws is small at 4 bits and grows "
            "below, and for pruning; more\nthan 128 sequences rarely help; text like the model's own use matters more "
            "than its quality.",
            "  adze compare MODEL --set wiki.txt --set code.txt -o STUDY\n"
            "  adze compare MODEL --set web=web.yaml --set own=own.jsonl --text own=heldout.txt \\\n"
            "               --recipe recipes/w3-g128.yaml --draws 5 -o STUDY\n"
            "  adze compare MODEL --set a=STATS_A --set b=STATS_B -o STUDY     folders of adze calibrate");
  CLI::App& app = tool.app();
  app.add_option("model", options.model, "a Hugging Face folder, a model store, a GGUF file or a pack")->required();
  app.add_option("--set", options.sets,
                 "NAME=PATH, twice or more: a text set (.yaml), a .txt, .jsonl or .json (token ids) "
                 "file, or a folder of statistics")
      ->required()
      ->take_all();
  app.add_option("--text", options.texts, "NAME=PATH: a text that judges; never one that is calibrated with")
      ->take_all();
  app.add_option("--recipe", options.recipe,
                 "how stages 2 and 3 compress; its calibration, exports and evaluation do not "
                 "count");
  app.add_option("--stages", options.stages, "1, 2 or 3; as many as the other options allow if not given")
      ->check(CLI::Range(1, 3));
  app.add_option("--windows", request.rule.windows, "windows of a draw")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--tokens", request.rule.tokens, "tokens of a window")
      ->check(CLI::Range(8, 1'000'000))
      ->capture_default_str();
  app.add_option("--draws", request.rule.draws, "draws per set, which share no window; 5 or more for publication")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_option("--seed", request.rule.seed, "which windows are drawn")->capture_default_str();
  app.add_option("--blocks", request.blocks, "blocks that stages 1 and 2 look at, evenly spaced")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  app.add_option("--sizes", request.sizes,
                 "windows of the size sweep of stage 3; halves of --windows down to 8 if not given")
      ->delimiter(',');
  app.add_flag("--no-sweep", options.no_sweep, "no size sweep");
  app.add_option("--text-windows", request.text_windows, "windows of each text, at most")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--protocol", request.protocol, "of the judgement, as for adze eval")->capture_default_str();
  app.add_option("--mix", options.mix, "what the proposed mixture makes small: the worst regret, or the mean")
      ->check(CLI::IsMember({"worst", "mean"}))
      ->capture_default_str();
  app.add_option("--difference", request.least_difference, "the smallest difference of mean KL that you care about")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("-o,--output", request.out, "the folder of the study; one that is there is gone on with");
  app.add_flag("--dry-run", options.dry_run, "check everything, say what would be done, write nothing");
  add_model_options(app, options.open);
  return tool.run(argc, argv, [&] { run_compare(options, tool); });
}
