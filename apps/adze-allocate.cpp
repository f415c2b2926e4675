#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/words.h"
#include "pipeline/allocation.h"
#include "report/table.h"
#include "tool.h"

namespace {

using namespace adze;

struct Options {
  std::string recipe, model, statistics, out, measure = "kl";
  std::size_t windows = 8;
  bool overwrite = false, dry_run = false;
  OpenModelOptions open;
};

std::string budget_in_words(const PreparedAllocation& prepared) {
  return fmt::format("{} modules choose; {} can take {} to {} bytes, the budget is {}\n", prepared.modules.size(),
                     prepared.of.empty() ? "the store's tensors" : prepared.of, prepared.range.least,
                     prepared.range.most, prepared.budget);
}

/// How many modules of each kind take which scheme.
std::string choice_table(const AllocationResult& result) {
  std::vector<std::string> schemes;
  std::map<std::string, std::map<std::string, std::size_t>> counts;
  for (const ModuleChoice& module : result.modules) {
    for (const ModuleOption& option : module.options)
      if (std::ranges::find(schemes, option.scheme) == schemes.end()) schemes.push_back(option.scheme);
    ++counts[module.module.substr(module.module.rfind('.') + 1)][module.option().scheme];
  }
  std::vector<Column> columns{{"linear", Align::left}};
  for (const std::string& scheme : schemes) columns.push_back({scheme});
  Table table(columns);
  for (auto& [linear, taken] : counts) {
    std::vector<std::string> row{linear};
    for (const std::string& scheme : schemes) row.push_back(fmt::format("{}", taken[scheme]));
    table.add_row(row);
  }
  return table.text();
}

nlohmann::ordered_json result_json(const PreparedAllocation& prepared, const AllocationResult& result) {
  nlohmann::ordered_json json{{"budget", prepared.budget},
                              {"cost", result.cost},
                              {"least", prepared.range.least},
                              {"most", prepared.range.most},
                              {"measure", name_of(prepared.measure)},
                              {"loss", result.allocation.loss},
                              {"bound", result.allocation.bound}};
  for (const ModuleChoice& module : result.modules) {
    nlohmann::ordered_json one{
        {"module", module.module}, {"coefficient", module.coefficient}, {"chosen", module.option().scheme}};
    for (const ModuleOption& option : module.options)
      one["options"].push_back({{"scheme", option.scheme},
                                {"format", option.format},
                                {"bytes", option.bytes},
                                {"relative_loss", option.relative_loss},
                                {"predicted", option.predicted}});
    json["modules"].push_back(one);
  }
  for (const FrontPoint& point : result.front)
    json["front"].push_back({{"cost", prepared.fixed + point.cost}, {"loss", point.loss}});
  return json;
}

void run_allocate(const Options& options, Tool& tool) {
  if (options.out.empty() && !options.dry_run) fail(ErrorKind::usage, "-o RECIPE is required (or --dry-run)");
  if (!options.overwrite && !options.dry_run && std::filesystem::exists(options.out))
    fail(ErrorKind::cannot_create, "{}: exists; replace it with --overwrite", options.out);
  const SensitivityMeasure measure = parse_measure(options.measure);
  const Recipe recipe = load_recipe(options.recipe);
  const OpenedModel model = open_model(options.model, options.open);
  const PreparedAllocation prepared = prepare_allocation(recipe, model, options.statistics, measure, options.windows);
  const bool json = tool.options().json;
  if (prepared.budget > prepared.range.most)
    tool.progress().warn(fmt::format("a budget of {} bytes is above the largest possible, {}: it decides nothing",
                                     prepared.budget, prepared.range.most));
  if (!json) Tool::print(budget_in_words(prepared));
  if (options.dry_run) return;
  const AllocationResult result = allocate_modules(prepared, tool.progress());
  write_file(options.out, allocated_recipe(recipe, result, options.out));
  if (json) return Tool::print(result_json(prepared, result).dump(1) + "\n");
  Tool::print(
      fmt::format("{}\n{} bytes, {} below the budget; predicted loss {:.4g}, no choice loses less than {:.4g}\n"
                  "made {}: adze compress {} {} -o OUT\n",
                  choice_table(result), result.cost, prepared.budget - result.cost, result.allocation.loss,
                  result.allocation.bound, options.out, options.out, options.model));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  Tool tool("adze-allocate",
            "Chooses a scheme for every matrix that a recipe leaves a choice, so that a budget is kept and least is\n"
            "lost: every option is solved once, its loss weighed by what noise in that matrix costs at the end. The\n"
            "output is a recipe for adze compress, to be read and edited.",
            "  adze calibrate MODEL --set calibration_data/mixed.yaml -o STATS\n"
            "  adze allocate recipes/best-4bpw.yaml MODEL --stats STATS -o mine.yaml\n"
            "  adze compress mine.yaml MODEL -o OUT");
  CLI::App& app = tool.app();
  app.add_option("recipe", options.recipe, "a recipe with a budget and rules that say choose")->required();
  app.add_option("model", options.model, "a Hugging Face folder, a model store or a GGUF file")->required();
  app.add_option("--stats", options.statistics, "a folder of adze calibrate of this model")
      ->required()
      ->type_name("DIR");
  app.add_option("-o,--output", options.out, "the recipe to write")->type_name("RECIPE");
  app.add_option("--measure", options.measure, "kl, relative or loss: how losses of layers compare")->type_name("NAME");
  app.add_option("--windows", options.windows, "of the calibration set, to measure kl with")
      ->check(CLI::Range(1, 100000))
      ->type_name("N");
  app.add_flag("--overwrite", options.overwrite, "replace the recipe that is there");
  app.add_flag("--dry-run", options.dry_run, "check everything; print the smallest and the largest size");
  add_model_options(app, options.open);
  return tool.run(argc, argv, [&] { run_allocate(options, tool); });
}
