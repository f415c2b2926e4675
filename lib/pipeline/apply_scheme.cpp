#include "pipeline/apply_scheme.h"

#include <chrono>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/peak_memory.h"
#include "calibrate/surrogate.h"
#include "checkpoint/sidecar.h"
#include "model/compressed_store.h"
#include "pipeline/apply_report.h"
#include "pipeline/block_step.h"
#include "pipeline/listed_step.h"
#include "pipeline/outer_step.h"
#include "pipeline/whole_folder.h"

namespace adze {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// What is wrong with a recipe that nobody wrote is wrong with the command line.
template <typename Body>
auto with_usage_errors(Body&& body) {
  try {
    return body();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::bad_recipe) throw;
    throw Error(ErrorKind::usage, error.message());
  }
}

/// H as it was measured. Throws bad_data when it is not of `inputs` features.
InputStatistics read_input(const StatisticsReader& part, const std::string& input, std::uint64_t inputs) {
  InputStatistics statistics = part.read(input);
  if (statistics.inputs() != inputs)
    fail(ErrorKind::bad_data, "statistics of '{}' are of {} inputs, the weights have {}", input, statistics.inputs(),
         inputs);
  return statistics;
}

/// The block that shares factors with the one being solved.
struct Neighbour {
  Neighbour(const ModelWeights& model, const StatisticsFolder& statistics, std::size_t block)
      : weights(model.block(block)), part(statistics.part(block)) {}

  BlockWeights weights;
  StatisticsReader part;
};

class SchemeRun {
 public:
  SchemeRun(const PreparedScheme& scheme, const fs::path& out, bool overwrite, Progress& progress)
      : scheme_(scheme),
        plan_(scheme.run.plan),
        layers_(scheme.weights->architecture().layers),
        stages_(stages_of(plan_.architecture)),
        progress_(progress),
        folder_(out, overwrite) {}

  CompressResult run() {
    const Clock::time_point start = Clock::now();
    progress_.start("solving", (layers_ + 1) * stages_.size());
    for (std::size_t block = 0; block < layers_; ++block) do_block(block);
    do_outer();
    progress_.update((layers_ + 1) * stages_.size());
    result_.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    result_.peak_memory = peak_memory();
    write_reports(folder_.path(), scheme_report_text(scheme_, result_),
                  run_page(scheme_.run, result_, scheme_inputs(scheme_)));
    write_file(folder_.path() / kManifestName, scheme_manifest_text(scheme_, result_));
    folder_.commit();
    return std::move(result_);
  }

 private:
  void do_block(std::size_t block) {
    const BlockWeights original = scheme_.weights->block(block);
    if (plan_.architecture.is_listed()) {
      progress_.update(block);
      return add_block(block,
                       compress_listed(*scheme_.run.recipe, plan_, block, original, scheme_.data_free, scheme_.store));
    }
    BlockOutcome outcome{original, {}};
    std::optional<StatisticsReader> part;  // its checksum is compared once
    std::optional<Neighbour> neighbour;
    std::size_t done = block * stages_.size();
    progress_.update(done);
    for (const Stage stage : stages_) {
      with_context(fmt::format("block {}, input of {}", block, name_of(stage)), [&] {
        InputStatistics inputs, beside;
        SurrogateMoments moments;
        if (scheme_.statistics && solves_stage(plan_, block, stage)) {
          if (!part) part.emplace(scheme_.statistics->part(block));
          inputs = read_input(*part, name_of(stage), width_of(plan_.architecture, stage));
        } else if (scheme_.data_free && solves_stage(plan_, block, stage)) {
          const BlockWeights& before = scheme_.reconstructs ? original : outcome.weights;
          moments = surrogate_moments(scheme_.weights->architecture(), stage, block, before, outcome.weights);
          inputs = InputStatistics(moments.second_moment.rows());  // a token like the average, of mean zero
          inputs.second_moment = std::move(moments.second_moment);
          inputs.tokens = 1;
        }
        Moments measured{inputs.second_moment, moments.cross, {}};
        if (shares_stage(plan_, block, stage)) {
          if (!neighbour) neighbour.emplace(*scheme_.weights, *scheme_.statistics, neighbour_of(block));
          beside = read_input(neighbour->part, name_of(stage), inputs.inputs());
          measured.neighbour = &neighbour->weights;
          measured.neighbour_hessian = beside.second_moment;
        }
        solve_stage(plan_, block, stage, original, inputs, measured, outcome, scheme_.store);
      });
      progress_.update(++done);
    }
    add_block(block, std::move(outcome));
  }

  void add_block(std::size_t block, BlockOutcome outcome) {
    const std::string name = "store/" + block_file_name(block);
    write_block_file(folder_.path() / name, outcome.weights, plan_.architecture);
    add(name, std::move(outcome.tensors));
  }

  void do_outer() {
    InputStatistics inputs;
    if (scheme_.statistics && solves_head(plan_, plan_.architecture))
      inputs = read_input(scheme_.statistics->part(layers_), "head", plan_.architecture.hidden);
    OuterOutcome outcome;
    if (!plan_.architecture.is_listed())
      outcome = compress_outer(plan_, *scheme_.weights, inputs.second_moment, scheme_.store);
    const std::string name = std::string("store/") + kOuterFileName;
    write_outer_file(folder_.path() / name, plan_.files, outcome.made);
    add(name, std::move(outcome.tensors));
  }

  /// Takes a finished file of the store and the records of what it holds.
  void add(const std::string& name, std::vector<TensorRecord> tensors) {
    tell_remarks(tensors, progress_);
    result_.tensors.insert(result_.tensors.end(), tensors.begin(), tensors.end());
    for (const std::string& file : {name, sidecar_path(name).string()})
      result_.files.push_back(describe_file(folder_.path(), file));
  }

  const PreparedScheme& scheme_;
  const CompressionPlan& plan_;
  std::size_t layers_;
  std::vector<Stage> stages_;
  Progress& progress_;
  WholeFolder folder_;
  CompressResult result_;
};

}  // namespace

Recipe scheme_recipe(const std::vector<SchemeArgument>& arguments) {
  return with_usage_errors([&] { return recipe_of(arguments); });
}

PreparedScheme prepare_scheme(const Recipe& recipe, const OpenedModel& model, const KnownInputs& inputs) {
  PreparedScheme scheme;
  scheme.run.recipe = &recipe;
  scheme.run.model = &model;
  scheme.run.plan = with_usage_errors([&] { return make_plan(recipe, model); });
  scheme.weights = model.weights;
  scheme.run.memory = predict_resources(recipe, scheme.run.plan.architecture, scheme.run.plan);
  if (const auto* statistics = std::get_if<fs::path>(&inputs)) {
    if (model.architecture().is_listed())
      fail(ErrorKind::usage, "--stats: statistics are of a model that was run, and the architecture of {} is not known",
           model.path.string());
    scheme.statistics.emplace(*statistics);
    check_same_model(*scheme.statistics, scheme.run.plan.architecture);
    scheme.remark = "inputs are those of the original model (propagate: original): nothing is shifted";
  } else if (scheme.run.plan.pairing_scheme() != nullptr) {
    fail(ErrorKind::usage, "solver {} needs the statistics of two blocks at a time: give --stats",
         recipe.schemes.front().solver);
  } else if (std::holds_alternative<DataFree>(inputs)) {
    scheme.data_free = true;
    scheme.reconstructs = has_option(recipe.schemes.front(), "shift");
    scheme.remark = fmt::format("no text: inputs are what the weights before them make of white noise{}",
                                scheme.reconstructs ? ", and so is their drift (UDFC)" : "; nothing is shifted");
  } else if (scheme.run.plan.schemes.front().solver->needs_inputs()) {
    fail(ErrorKind::usage,
         "solver {} needs statistics with these options: give --stats, a folder that adze calibrate makes, or "
         "--data-free; rtn, and magnitude by itself, do without",
         recipe.schemes.front().solver);
  } else {
    scheme.remark = "no statistics: every input weighs the same, losses are squared errors of weights";
  }
  return scheme;
}

CompressResult apply_scheme(const PreparedScheme& scheme, const fs::path& out, bool overwrite, Progress& progress) {
  return SchemeRun(scheme, out, overwrite, progress).run();
}

}  // namespace adze
