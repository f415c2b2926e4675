// adze-compress: the main job.
#include <chrono>
#include <optional>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/matrix.h"
#include "base/parallel.h"
#include "base/peak_memory.h"
#include "base/words.h"
#include "linalg/gemm.h"
#include "pipeline/calibration_study.h"
#include "pipeline/compress.h"
#include "pipeline/manifest.h"
#include "pipeline/run_tables.h"
#include "report/run_report.h"
#include "tool.h"

namespace {

using namespace adze;

struct Options {
  std::string recipe;
  std::string model;
  std::string out;
  std::string study;
  std::optional<std::uint64_t> memory;
  bool dry_run = false;
  bool restart = false;
  bool overwrite = false;
  bool force = false;
  OpenModelOptions open;
};

/// Seconds that the run will take, roughly: its operations at half of what this machine's SGEMM reaches now.
double predict_seconds(const PreparedRun& run) {
  constexpr std::size_t kSize = 512;
  const MatrixF a(kSize, kSize);
  MatrixF c(kSize, kSize);
  multiply_nt(a, a, c);  // loads the library
  const auto start = std::chrono::steady_clock::now();
  constexpr int kRepeats = 4;
  for (int i = 0; i < kRepeats; ++i) multiply_nt(a, a, c);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double rate = kRepeats * 2.0 * kSize * kSize * kSize / seconds * thread_count();
  constexpr double kShareOfPeak = 0.5;  // what whole runs of the bundled model reach
  return run_flops(run) / (kShareOfPeak * rate);
}

/// What --memory led to, one line; "" when nothing.
std::string choice_in_words(const PreparedRun& run) {
  const MemoryChoice& choice = run.memory.choice;
  if (choice.batch_windows == 0) return "";
  return fmt::format("  to keep within --memory: {} windows at a time, hidden states {}{}\n", choice.batch_windows,
                     choice.states_on_disk ? "on disk" : "in memory",
                     choice.evaluation_windows > 0
                         ? fmt::format(", {} windows of the evaluation at a time", choice.evaluation_windows)
                         : "");
}

std::string prediction(const PreparedRun& run) {
  const CompressionPlan& plan = run.plan;
  std::string text = fmt::format("\n{}calibration: {}\n", sizes_in_words(run), calibration_in_words(run));
  for (const ExportJob& job : plan.exports) {
    text += fmt::format("{} ({}): {}{} bytes\n", job.file.string(), job.info->name,
                        job.exporter->size_depends_on_values() ? "at most " : "", job.bytes);
    for (const std::string& remark : job.remarks) text += fmt::format("  note: {}\n", remark);
  }
  text +=
      fmt::format("predicted: peak memory {}, temporary disk {}, about {:.0f} s\n", bytes_in_words(plan.peak_memory),
                  bytes_in_words(plan.temporary_disk), std::max(1.0, predict_seconds(run)));
  return text + fmt::format("  at the peak, {}: {}\n{}", run.memory.peak.name, parts_in_words(run.memory.peak),
                            choice_in_words(run));
}

nlohmann::json prediction_json(const PreparedRun& run) {
  nlohmann::json json{{"bytes", run.plan.stored_bytes},
                      {"bits_per_weight", run.plan.bits_per_weight()},
                      {"original_bytes", run.plan.original_bytes},
                      {"peak_memory", run.plan.peak_memory},
                      {"peak_phase", run.memory.peak.name},
                      {"states_on_disk", run.memory.choice.states_on_disk},
                      {"temporary_disk", run.plan.temporary_disk},
                      {"seconds", predict_seconds(run)}};
  for (const auto& transform : run.plan.transforms) json["transforms"].push_back(in_words(*transform));
  for (const MemoryPart& part : run.memory.peak.parts) json["peak_parts"][part.what] = part.bytes;
  for (const ExportJob& job : run.plan.exports)
    json["exports"].push_back({{"file", job.file.string()}, {"format", job.info->name}, {"bytes", job.bytes}});
  for (const ModulePlan& module : run.plan.modules)
    json["modules"].push_back({{"module", module.spec.module}, {"format", module.format}, {"bytes", module.bytes}});
  return json;
}

std::string outcome(const PreparedRun& run, const CompressResult& result, const std::string& out) {
  std::string text = loss_table(result);
  if (result.evaluation)
    text += "\n" + judgement_table({{out, run.plan.stored_bytes, run.plan.bits_per_weight(), *result.evaluation}});
  text += fmt::format("\n{:.1f} s, peak memory {}\n", result.seconds, bytes_in_words(peak_memory()));
  text += fmt::format("made {}/:\n", out);
  for (const LedgerFile& file : result.files)
    if (!file.path.starts_with("store/")) text += fmt::format("  {:<14} {} bytes\n", file.path, file.bytes);
  return text + output_folder_text(run.plan);
}

IfExists if_exists(const Options& options) {
  return options.overwrite ? IfExists::overwrite : options.restart ? IfExists::restart : IfExists::resume;
}

void run_compress(const Options& options, Tool& tool) {
  if (options.out.empty() && !options.dry_run) fail(ErrorKind::usage, "-o OUT is required (or --dry-run)");
  const Recipe recipe = load_recipe(options.recipe);
  const OpenedModel model = open_model(options.model, options.open);
  std::optional<CalibrationStudy> study;
  if (!options.study.empty()) study = load_study(options.study, model);
  const PreparedRun run = prepare_run(recipe, model, options.memory);
  for (const std::string& warning : run.plan.warnings) tool.progress().warn(warning);
  const bool json = tool.options().json;
  if (options.dry_run) {
    if (!options.out.empty()) WorkFolder::check(options.out, if_exists(options));
    Tool::print(json ? prediction_json(run).dump(1) + "\n" : match_table(run) + prediction(run));
    return;
  }
  if (!json) Tool::print(match_table(run) + prediction(run) + "\n");
  CompressOptions how;
  how.out = options.out;
  how.force = options.force;
  how.if_exists = if_exists(options);
  how.study = study ? &*study : nullptr;
  const CompressResult result = compress(run, how, tool.progress());
  Tool::print(json ? read_file(std::filesystem::path(options.out) / kManifestName) : outcome(run, result, options.out));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  Tool tool("adze-compress",
            "Compresses a checkpoint as a recipe says, block by block, exports it and judges it. Killed anywhere, the "
            "same\ncommand goes on where it stopped and gives the same bytes.",
            "  adze compress recipes/q4_k.yaml MODEL -o OUT --dry-run\n"
            "  adze compress recipes/q4_k.yaml MODEL -o OUT\n"
            "  adze compress my.yaml model.h5 --source /moved/MODEL -o OUT --threads 8 --memory 12GiB\n"
            "  adze compress recipes/weights-only.yaml FOLDER --weights-only -o OUT");
  CLI::App& app = tool.app();
  app.add_option("recipe", options.recipe, "a YAML recipe; recipes/*.yaml teach by example")->required();
  app.add_option("model", options.model, "a Hugging Face folder, a model store, a GGUF file or a pack")->required();
  app.add_option("-o,--output", options.out, "the folder to make");
  app.add_flag("--dry-run", options.dry_run, "check everything, print the match table, exact sizes, memory, time");
  add_memory_option(app, options.memory);
  app.add_option(
         "--study", options.study,
         "a study of this model's calibration sets by adze compare (its folder or compare.json), for the report")
      ->type_name("STUDY");
  app.add_flag("--restart", options.restart, "throw an unfinished run in OUT away");
  app.add_flag("--overwrite", options.overwrite, "replace whatever run lies in OUT");
  app.add_flag("--force", options.force, "go on although the run was begun on another kind of CPU");
  add_model_options(app, options.open);
  add_weights_only_option(app, options.open);
  return tool.run(argc, argv, [&] { run_compress(options, tool); });
}
