#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/temporaries.h"
#include "base/words.h"
#include "pipeline/allocation/shape_race.h"
#include "pipeline/apply_scheme.h"
#include "pipeline/whole_folder.h"
#include "recipe/scalars.h"
#include "report/chart/xy_chart.h"
#include "report/table.h"
#include "tool.h"

namespace {

using namespace adze;
namespace fs = std::filesystem;

struct Options {
  std::string recipe, model, statistics, out, work, disk, stitched, picture, measure = "kl";
  std::size_t windows = 8, evaluations = 8;
  bool overwrite = false, dry_run = false;
  OpenModelOptions open;
};

/// Where solved options lie: the folder of --work, or one beside the output that goes at the end.
class OptionsFolder {
 public:
  explicit OptionsFolder(const Options& options)
      : path_(options.work.empty() ? options.out + ".options.tmp" : options.work), is_temporary_(options.work.empty()) {
    if (!is_temporary_) return;
    SolutionStore::remove(path_);  // of a run that was killed
    register_temporary_folder(path_);
  }
  ~OptionsFolder() {
    if (!is_temporary_) return;
    std::error_code ignored;
    fs::remove_all(path_, ignored);
    forget_temporary(path_);
  }
  OptionsFolder(const OptionsFolder&) = delete;
  OptionsFolder& operator=(const OptionsFolder&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  bool is_temporary_;
};

std::size_t choosing(const PreparedAllocation& prepared) {
  return static_cast<std::size_t>(std::ranges::count_if(prepared.modules, &ModuleChoice::chooses));
}

std::string budget_in_words(const PreparedAllocation& prepared) {
  std::string text =
      fmt::format("{} modules choose in {} groups; {} can take {} to {} bytes, {}\n", choosing(prepared),
                  std::ranges::count_if(prepared.units,
                                        [&](const auto& members) { return prepared.modules[members.front()].chooses; }),
                  prepared.of.empty() ? "the store's tensors" : prepared.of, prepared.range.least, prepared.range.most,
                  prepared.budget ? fmt::format("the budget is {}", *prepared.budget)
                                  : fmt::format("as few as keep the KL at {:g}", *prepared.recipe->budget->kl));
  if (prepared.multiplications)
    text += fmt::format("at most {} multiplications a token in linears of blocks\n", *prepared.multiplications);
  return text;
}

/// How many modules of each kind take which scheme.
std::string choice_table(const AllocationResult& result) {
  std::vector<std::string> schemes;
  std::map<std::string, std::map<std::string, std::size_t>> counts;
  for (const ModuleChoice& module : result.modules) {
    if (!module.chooses) continue;
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

std::string judgement_in_words(const AllocationResult& result) {
  if (!result.judged) return "";
  std::string text =
      fmt::format("measured KL {:.4g} on the windows, every matrix solved by itself", result.judged->measured);
  if (result.fit)
    text += fmt::format("; {} models judged, KL = {:.3g} * predicted^{:.3g}, R^2 {:.3f}", result.judgements.size(),
                        std::exp(result.fit->intercept), result.fit->slope, result.fit->r2);
  return text + (result.swaps > 0 ? fmt::format("; {} exchanges\n", result.swaps) : "\n");
}

nlohmann::ordered_json judged_json(const JudgedChoice& judged) {
  return {
      {"cost", judged.cost}, {"predicted", judged.predicted}, {"measured", judged.measured}, {"error", judged.error}};
}

nlohmann::ordered_json module_json(const ModuleChoice& module) {
  nlohmann::ordered_json one{{"module", module.module},
                             {"coefficient", module.coefficient},
                             {"chosen", module.option().scheme},
                             {"chooses", module.chooses}};
  for (const ModuleOption& option : module.options)
    one["options"].push_back({{"scheme", option.scheme},
                              {"format", option.format},
                              {"bytes", option.bytes},
                              {"multiplications", option.multiplications},
                              {"loss", option.loss},
                              {"relative_loss", option.relative_loss},
                              {"predicted", option.predicted}});
  return one;
}

nlohmann::ordered_json result_json(const PreparedAllocation& prepared, const AllocationResult& result,
                                   const SolutionStore& store) {
  nlohmann::ordered_json json{{"budget", nullptr},
                              {"cost", result.cost},
                              {"least", prepared.range.least},
                              {"most", prepared.range.most},
                              {"measure", prepared.request.measure->name},
                              {"loss", result.allocation.loss},
                              {"bound", result.allocation.bound},
                              {"multiplications", result.multiplications},
                              {"solved", store.solved()},
                              {"found", store.found()},
                              {"swaps", result.swaps}};
  if (prepared.budget) json["budget"] = *prepared.budget;
  if (result.judged) json["judged"] = judged_json(*result.judged);
  for (const JudgedChoice& judged : result.judgements) json["judgements"].push_back(judged_json(judged));
  if (result.fit)
    json["fit"] = {{"slope", result.fit->slope}, {"intercept", result.fit->intercept}, {"r2", result.fit->r2}};
  for (const ModuleChoice& module : result.modules) json["modules"].push_back(module_json(module));
  for (const FrontPoint& point : result.front.points) {
    json["front"].push_back({{"cost", prepared.fixed + point.cost}, {"loss", point.loss}});
    if (result.fit) json["front"].back()["expected"] = result.fit->expected(point.loss);
  }
  return json;
}

/// The front over budgets, what was measured, and the choice.
XyChart front_chart(const PreparedAllocation& prepared, const AllocationResult& result) {
  constexpr double kMiB = 1 << 20;
  const std::string unit = prepared.request.measure->in_kl ? "KL from the original" : "predicted loss";
  XyChart chart{"What a size costs",
                {prepared.of.empty() ? "MiB of the store's tensors" : "MiB of " + prepared.of},
                {unit, AxisKind::log10},
                {}};
  ChartSeries predicted{"predicted", {}}, expected{"predicted, fitted", {}};
  ChartSeries judged{"measured", {}, SeriesStyle::points};
  for (const FrontPoint& point : result.front.points) {
    const double size = static_cast<double>(prepared.fixed + point.cost) / kMiB;
    predicted.points.push_back({size, point.loss});
    if (result.fit) expected.points.push_back({size, result.fit->expected(point.loss)});
  }
  for (const JudgedChoice& one : result.judgements)
    judged.points.push_back(
        {static_cast<double>(one.cost) / kMiB, one.measured,
         fmt::format("{} bytes: measured {:.4g}, predicted {:.4g}", one.cost, one.measured, one.predicted)});
  ChartSeries choice{"the choice",
                     {{static_cast<double>(result.cost) / kMiB, result.allocation.loss,
                       fmt::format("{} bytes: predicted {:.4g}", result.cost, result.allocation.loss)}},
                     SeriesStyle::chosen};
  chart.series.push_back(std::move(predicted));
  if (result.fit) chart.series.push_back(std::move(expected));
  if (!result.judgements.empty()) chart.series.push_back(std::move(judged));
  chart.series.push_back(std::move(choice));
  return chart;
}

void draw(const std::string& file, const PreparedAllocation& prepared, const AllocationResult& result,
          Progress& progress) {
  const auto is_shown = [](const auto& point) { return point.loss > 0; };
  if (std::ranges::none_of(result.front.points, is_shown) && result.judgements.empty())
    return progress.warn(fmt::format("{}: not drawn, no option loses anything", file));
  write_file(file, front_chart(prepared, result).picture().file());
}

/// The compressed model that the written recipe means with `propagate: original`, from solutions that are there.
void stitch(const Options& options, const PreparedAllocation& prepared, SolutionStore& store, Tool& tool) {
  const Recipe plan = load_recipe(options.out);
  PreparedScheme scheme = prepare_scheme(plan, *prepared.model, prepared.statistics->path());
  scheme.weights = prepared.weights;
  scheme.store = &store;
  apply_scheme(scheme, options.stitched, options.overwrite, tool.progress());
}

void check_outputs(const Options& options) {
  if (options.out.empty() && !options.dry_run) fail(ErrorKind::usage, "-o RECIPE is required (or --dry-run)");
  for (const std::string& file : {options.out, options.picture})
    if (!file.empty() && !options.overwrite && !options.dry_run && fs::exists(file))
      fail(ErrorKind::cannot_create, "{}: exists; replace it with --overwrite", file);
  if (!options.stitched.empty()) WholeFolder::check(options.stitched, options.overwrite);
}

std::uint64_t bytes_of_option(const std::string& text) {
  if (text.empty()) return 0;
  const auto bytes = parse_bytes(text);
  if (!bytes) fail(ErrorKind::usage, "--disk {}: a size with its unit, such as 20GiB", text);
  return *bytes;
}

std::string shapes_in_words(const std::vector<ModelShape>& shapes) {
  if (shapes.size() == 1) return "";
  Table table({{"shape", Align::left}, {"bytes"}, {"predicted"}, {"measured"}, {"", Align::left}});
  for (const ModelShape& shape : shapes) {
    if (!shape.result) {
      table.add_row({shape.name, "", "", "", shape.refusal});
      continue;
    }
    const AllocationResult& result = *shape.result;
    table.add_row({shape.name, fmt::format("{}", result.cost), fmt::format("{:.4g}", result.allocation.loss),
                   result.judged ? fmt::format("{:.4g}", result.judged->measured) : "",
                   &shape == &best_of(shapes) ? "taken" : ""});
  }
  return table.text() + "\n";
}

nlohmann::ordered_json shapes_json(const std::vector<ModelShape>& shapes) {
  auto json = nlohmann::ordered_json::array();
  for (const ModelShape& shape : shapes) {
    auto& one = json.emplace_back(nlohmann::ordered_json{{"shape", shape.name}});
    if (!shape.result) {
      one["refusal"] = shape.refusal;
      continue;
    }
    one["cost"] = shape.result->cost;
    one["base_loss"] = shape.prepared->base_loss;
    one["loss"] = shape.result->allocation.loss;
    if (shape.result->judged) one["measured"] = shape.result->judged->measured;
    one["taken"] = &shape == &best_of(shapes);
  }
  return json;
}

void say_what_is_possible(const std::vector<ModelShape>& shapes, Tool& tool) {
  for (const ModelShape& shape : shapes) {
    const std::string name = shapes.size() > 1 ? shape.name + ": " : "";
    if (!shape.prepared) {
      tool.progress().warn(name + shape.refusal);
      continue;
    }
    const PreparedAllocation& prepared = *shape.prepared;
    if (prepared.budget && *prepared.budget > prepared.range.most)
      tool.progress().warn(fmt::format("{}a budget of {} bytes is above the largest possible, {}: it decides nothing",
                                       name, *prepared.budget, prepared.range.most));
    if (!tool.options().json) Tool::print(name + budget_in_words(prepared));
  }
}

void print_result(const Options& options, const std::vector<ModelShape>& shapes, const SolutionStore& store,
                  Tool& tool) {
  const ModelShape& best = best_of(shapes);
  const PreparedAllocation& prepared = *best.prepared;
  const AllocationResult& result = *best.result;
  if (tool.options().json) {
    nlohmann::ordered_json json = result_json(prepared, result, store);
    if (shapes.size() > 1) json["shapes"] = shapes_json(shapes);
    return Tool::print(json.dump(1) + "\n");
  }
  Tool::print(
      fmt::format("{}{}\n{} bytes{}; predicted loss {:.4g}, no choice loses less than {:.4g}\n{}{} solved, {} found\n"
                  "made {}: adze compress {} {} -o OUT\n",
                  shapes_in_words(shapes), choice_table(result), result.cost,
                  prepared.budget ? fmt::format(", {} below the budget", *prepared.budget - result.cost) : "",
                  result.allocation.loss, result.allocation.bound, judgement_in_words(result), store.solved(),
                  store.found(), options.out, options.out, options.model));
}

void run_allocate(const Options& options, Tool& tool) {
  check_outputs(options);
  const AllocationRequest request{options.statistics, parse_measure(options.measure), options.windows,
                                  options.evaluations};
  const std::uint64_t disk = bytes_of_option(options.disk);
  const Recipe recipe = load_recipe(options.recipe);
  const OpenedModel model = open_model(options.model, options.open);
  std::vector<ModelShape> shapes = prepare_shapes(recipe, model, request);
  say_what_is_possible(shapes, tool);
  if (std::ranges::none_of(shapes, [](const ModelShape& shape) { return shape.prepared.has_value(); })) best_of(shapes);
  if (options.dry_run) return;
  const OptionsFolder folder(options);
  SolutionStore store(folder.path(), disk);
  run_shapes(shapes, store, tool.progress());
  const ModelShape& best = best_of(shapes);
  write_file(options.out, allocated_recipe(best.recipe, *best.result, options.out));
  if (!options.picture.empty()) draw(options.picture, *best.prepared, *best.result, tool.progress());
  print_result(options, shapes, store, tool);
  if (options.stitched.empty()) return;
  stitch(options, *best.prepared, store, tool);
  if (!tool.options().json)
    Tool::print(
        fmt::format("made {}/: adze eval {} --reference {}\n", options.stitched, options.stitched, options.model));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  Tool tool("adze-allocate",
            "Chooses a scheme for every matrix that a recipe leaves a choice, so that a budget is kept and least is\n"
            "lost: every option is solved once, its loss weighed by what noise in that matrix costs at the end, and\n"
            "whole models are judged. The output is a recipe for adze compress, to be read and edited.",
            "  adze allocate recipes/best-4bpw.yaml MODEL --work WORK -o mine.yaml\n"
            "  adze allocate recipes/best-3bpw.yaml MODEL --work WORK -o smaller.yaml --picture front.svg\n"
            "  adze calibrate MODEL --set calibration_data/mixed.yaml -o STATS\n"
            "  adze allocate recipes/best-4bpw.yaml MODEL --stats STATS -o mine.yaml\n"
            "  adze compress mine.yaml MODEL -o OUT");
  CLI::App& app = tool.app();
  app.add_option("recipe", options.recipe, "a recipe with a budget and rules that say choose")->required();
  app.add_option("model", options.model, "a Hugging Face folder, a model store, a GGUF file or a pack")->required();
  app.add_option("--stats", options.statistics,
                 "a folder of adze calibrate of this model; without it the recipe's text is measured first")
      ->type_name("DIR");
  app.add_option("-o,--output", options.out, "the recipe to write")->type_name("RECIPE");
  app.add_option("--work", options.work, "keep solved options here: another budget then takes seconds")
      ->type_name("DIR");
  app.add_option("--disk", options.disk, "the most that they may take, such as 20GiB; others are solved again")
      ->type_name("SIZE");
  app.add_option("--measure", options.measure, "how losses of layers compare: kl, relative, loss, swap ...")
      ->capture_default_str()
      ->type_name("NAME");
  app.add_option("--windows", options.windows, "of the calibration set, that runs of the model see")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--evaluations", options.evaluations, "whole models to judge at most, for the fit and for exchanges")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--stitched", options.stitched, "also make the compressed model, every matrix solved by itself")
      ->type_name("OUT");
  app.add_option("--picture", options.picture, "also draw what every size costs")->type_name("SVG");
  app.add_flag("--overwrite", options.overwrite, "replace what is there");
  app.add_flag("--dry-run", options.dry_run, "check everything; print the smallest and the largest size");
  add_model_options(app, options.open);
  return tool.run(argc, argv, [&] { run_allocate(options, tool); });
}
