#include "scheme_tool.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/peak_memory.h"
#include "base/words.h"
#include "pipeline/apply_scheme.h"
#include "pipeline/run_tables.h"
#include "pipeline/whole_folder.h"

namespace adze {
namespace {

/// The options that make the scheme, in the order in which messages show them.
std::vector<SchemeArgument> arguments_of(const SchemeToolOptions& options) {
  std::vector<SchemeArgument> arguments;
  const auto add = [&](const std::string& key, const std::string& value, bool is_text) {
    if (!value.empty()) arguments.push_back({"--" + key, key, value, is_text});
  };
  add("grid", options.grid, true);
  add("group", options.group, false);
  add("symmetric", options.symmetric, false);
  add("sparsity", options.sparsity, true);
  add("keep", options.keep, false);
  add("rank", options.rank, false);
  add("solver", options.solver, true);
  for (const std::string& assignment : options.options) arguments.push_back(parse_scheme_option(assignment));
  add("modules", options.modules, true);
  add("fallback", options.fallback, true);
  return arguments;
}

std::string prediction(const PreparedScheme& scheme) {
  std::string text = "\n" + sizes_in_words(scheme.run);
  if (scheme.statistics)
    text += fmt::format("statistics of {}: {} windows, {} tokens\n", scheme.statistics->info().model,
                        scheme.statistics->info().windows, scheme.statistics->info().tokens);
  return text + fmt::format("{}\npredicted: peak memory {}, while {}\n", scheme.remark,
                            bytes_in_words(scheme.run.memory.peak_memory), scheme.run.memory.peak.name);
}

std::string prediction_json(const PreparedScheme& scheme) {
  const CompressionPlan& plan = scheme.run.plan;
  nlohmann::json json{{"bytes", plan.stored_bytes},
                      {"bits_per_weight", plan.bits_per_weight()},
                      {"original_bytes", plan.original_bytes},
                      {"peak_memory", scheme.run.memory.peak_memory},
                      {"peak_phase", scheme.run.memory.peak.name},
                      {"remark", scheme.remark}};
  for (const ModulePlan& module : plan.modules)
    json["modules"].push_back({{"module", module.spec.module}, {"format", module.format}, {"bytes", module.bytes}});
  return json.dump(1) + "\n";
}

std::string outcome(const PreparedScheme& scheme, const CompressResult& result, const std::string& out) {
  return loss_table(result) +
         fmt::format("\n{:.1f} s, peak memory {}\n", result.seconds, bytes_in_words(peak_memory())) +
         fmt::format("made {}/:\n", out) + output_folder_text(scheme.run.plan);
}

}  // namespace

void add_scheme_options(CLI::App& app, SchemeToolOptions& options) {
  app.add_option("model", options.model, "a Hugging Face folder, a model store, a GGUF file or a pack")->required();
  app.add_option("--stats", options.stats, "a folder of adze calibrate; rtn and magnitude do without")
      ->type_name("DIR");
  app.add_flag("--data-free", options.data_free, "no text at all: take inputs from the weights before them (UDFC)")
      ->excludes("--stats");
  app.add_option("--grid", options.grid, "the values a weight may take: int4, gguf/q4_k ...");
  app.add_option("--group", options.group, "integer grids: columns that share a scale")->type_name("N");
  app.add_option("--symmetric", options.symmetric, "integer grids: true, or false for a zero point per group")
      ->type_name("BOOL");
  app.add_option("--solver", options.solver, "the algorithm")->capture_default_str();
  app.add_option("--option", options.options, "an option of grid or solver, such as damp=0.05; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_option("--modules", options.modules, "a glob: which matrices; the others keep their dtype")
      ->type_name("GLOB")
      ->capture_default_str();
  app.add_option("--fallback", options.fallback, "for matrices whose shape the scheme cannot take")
      ->type_name("DTYPE")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}));
  app.add_option("-o,--output", options.out, "the folder to make");
  app.add_flag("--overwrite", options.overwrite, "replace whatever run lies in OUT, once the new one is complete");
  app.add_flag("--dry-run", options.dry_run, "check everything, print what becomes of what, write nothing");
  add_model_options(app, options.open);
  add_weights_only_option(app, options.open);
}

void run_scheme_tool(const SchemeToolOptions& options, Tool& tool) {
  if (options.out.empty() && !options.dry_run) fail(ErrorKind::usage, "-o OUT is required (or --dry-run)");
  const Recipe recipe = scheme_recipe(arguments_of(options));
  if (!options.out.empty()) WholeFolder::check(options.out, options.overwrite);
  const OpenedModel model = open_model(options.model, options.open);
  KnownInputs inputs;
  if (!options.stats.empty()) inputs = std::filesystem::path(options.stats);
  if (options.data_free) inputs = DataFree{};
  const PreparedScheme scheme = prepare_scheme(recipe, model, inputs);
  for (const std::string& warning : scheme.run.plan.warnings) tool.progress().warn(warning);
  const bool json = tool.options().json;
  if (options.dry_run)
    return Tool::print(json ? prediction_json(scheme) : match_table(scheme.run) + prediction(scheme));
  if (!json) Tool::print(match_table(scheme.run) + prediction(scheme) + "\n");
  const CompressResult result = apply_scheme(scheme, options.out, options.overwrite, tool.progress());
  Tool::print(json ? read_file(std::filesystem::path(options.out) / kManifestName)
                   : outcome(scheme, result, options.out));
}

}  // namespace adze
