#include "pipeline/allocation/options.h"

#include <algorithm>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/hash.h"
#include "linalg/convert.h"
#include "pipeline/allocation/assembled_model.h"
#include "pipeline/block_step.h"
#include "pipeline/outer_step.h"

namespace adze {
namespace {

/// The original's judge, made when it is first needed and moved on to the block that is asked for.
class JudgeOnDemand {
 public:
  explicit JudgeOnDemand(const PreparedAllocation& prepared) : prepared_(prepared) {}

  ReferenceJudge& at(std::size_t block) {
    if (!judge_) judge_.emplace(*prepared_.weights, prepared_.windows.ids, std::nullopt, protocol_of(prepared_));
    while (judge_->block() < block) judge_->advance();
    return *judge_;
  }

 private:
  const PreparedAllocation& prepared_;
  std::optional<ReferenceJudge> judge_;
};

/// Modules of one block, or those outside, with what solving has made of them.
struct Solved {
  std::vector<ModuleChoice*> modules;
  std::vector<std::vector<TensorPtr>> tensors;     ///< of each module's options; null: nothing was solved
  std::map<std::string_view, std::size_t> places;  ///< of a name: in modules
};

class OptionMeasurer {
 public:
  OptionMeasurer(const PreparedAllocation& prepared, SolutionStore& store, Progress& progress)
      : prepared_(prepared),
        model_(*prepared.weights),
        store_(store),
        progress_(progress),
        measure_(prepared.request.measure->make()),
        judge_(prepared),
        modules_(prepared.modules) {}

  std::vector<ModuleChoice> run() {
    const std::size_t layers = model_.architecture().layers;
    progress_.start("solving and measuring every option", layers + 1);
    for (std::size_t block = 0; block < layers; ++block) {
      do_block(block);
      progress_.update(block + 1);
    }
    do_outer();
    progress_.update(layers + 1);
    return std::move(modules_);
  }

 private:
  Solved modules_of(std::optional<std::size_t> block) {
    Solved solved;
    for (ModuleChoice& module : modules_) {
      if (module.block != block) continue;
      solved.places.emplace(module.module, solved.modules.size());
      solved.modules.push_back(&module);
      solved.tensors.emplace_back(module.options.size());
    }
    return solved;
  }

  /// What a variant has solved becomes each module's k-th option.
  template <typename TensorOf>
  void take(std::size_t k, const std::vector<TensorRecord>& records, TensorOf&& tensor_of, Solved& solved) {
    tell_remarks(records, progress_);
    for (const TensorRecord& record : records) {
      const auto at = solved.places.find(record.module);
      if (at == solved.places.end()) continue;
      ModuleChoice& module = *solved.modules[at->second];
      if (k >= module.options.size()) continue;
      ModuleOption& option = module.options[k];
      option.loss = record.report.loss;
      option.relative_loss = record.report.relative_loss;
      option.solution = record.solution;
      solved.tensors[at->second][k] = tensor_of(record.module);
    }
  }

  void do_block(std::size_t block) {
    Solved solved = modules_of(block);
    if (solved.modules.empty()) return;
    const BlockWeights original = model_.block(block);
    for (const Stage stage : stages_of(model_.architecture())) solve_options(block, stage, original, solved);
    const BlockView view{block, original,
                         [&](Stage stage) { return prepared_.statistics->block_input(block, stage).second_moment; },
                         nullptr};
    predict(view, solved);
  }

  void solve_options(std::size_t block, Stage stage, const BlockWeights& original, Solved& solved) {
    const auto is_wanted = [&](const LinearInfo& info) { return solved.places.contains(module_name(block, info)); };
    if (std::ranges::none_of(linears_of(model_.architecture(), stage), is_wanted)) return;
    const InputStatistics inputs = prepared_.statistics->block_input(block, stage);
    for (std::size_t k = 0; k < prepared_.variants.size(); ++k) {
      BlockOutcome outcome{original, {}};
      solve_stage(prepared_.variants[k], block, stage, original, inputs, {inputs.second_moment, {}, {}}, outcome,
                  &store_);
      take(
          k, outcome.tensors, [&](const std::string& name) { return outcome.weights[slot_of(name)].weight; }, solved);
    }
  }

  LinearSlot slot_of(const std::string& name) const {
    const ModulePlan* const module = prepared_.variants.front().find(name);
    if (module == nullptr || !module->spec.slot) fail(ErrorKind::internal, "{} is no linear of a block", name);
    return *module->spec.slot;
  }

  void predict(BlockView view, Solved& solved) {
    if (measure_->by_option())
      predict_options(view, solved);
    else
      predict_by_coefficients(view, solved);
  }

  std::string measured_key(const std::string& what) const {
    return number_key(prepared_, fmt::format("{} {}", prepared_.request.measure->name, what));
  }

  void predict_by_coefficients(BlockView& view, Solved& solved) {
    std::vector<std::size_t> missing;
    for (std::size_t m = 0; m < solved.modules.size(); ++m) {
      ModuleChoice& module = *solved.modules[m];
      if (const auto known = store_.number(measured_key(module.module)))
        module.coefficient = *known;
      else
        missing.push_back(m);
    }
    if (!missing.empty()) {
      if (measure_->runs_model()) view.judge = &judge_.at(view.index);
      std::vector<MeasuredModule> asked;
      for (const std::size_t m : missing)
        asked.push_back({solved.modules[m]->module, slot_of(solved.modules[m]->module), {}});
      const std::vector<double> found = measure_->coefficients(view, asked);
      for (std::size_t i = 0; i < missing.size(); ++i) {
        solved.modules[missing[i]]->coefficient = found[i];
        store_.put_numbers(measured_key(asked[i].name), {found[i]});
      }
    }
    for (ModuleChoice* module : solved.modules)
      for (ModuleOption& option : module->options) option.predicted = module->coefficient * base_of(option);
  }

  double base_of(const ModuleOption& option) const {
    return measure_->base() == LossBase::loss ? option.loss : option.relative_loss;
  }

  void predict_options(BlockView& view, Solved& solved) {
    std::vector<MeasuredModule> asked;
    std::vector<std::vector<ModuleOption*>> whose;
    for (std::size_t m = 0; m < solved.modules.size(); ++m) {
      MeasuredModule module{solved.modules[m]->module, slot_of(solved.modules[m]->module), {}};
      std::vector<ModuleOption*> options;
      for (std::size_t o = 0; o < solved.tensors[m].size(); ++o) {
        ModuleOption& option = solved.modules[m]->options[o];
        if (solved.tensors[m][o] == nullptr) continue;  // a dtype
        if (const auto known = store_.number(measured_key(module.name + option.solution))) {
          option.predicted = *known;
          continue;
        }
        module.options.push_back({solved.tensors[m][o], option.loss, option.relative_loss});
        options.push_back(&option);
      }
      if (options.empty()) continue;
      asked.push_back(std::move(module));
      whose.push_back(std::move(options));
    }
    if (asked.empty()) return;
    if (measure_->runs_model()) view.judge = &judge_.at(view.index);
    const std::vector<std::vector<double>> found = measure_->predict_options(view, asked);
    for (std::size_t i = 0; i < asked.size(); ++i)
      for (std::size_t o = 0; o < whose[i].size(); ++o) {
        whose[i][o]->predicted = found[i][o];
        store_.put_numbers(measured_key(asked[i].name + whose[i][o]->solution), {found[i][o]});
      }
  }

  /// Embedding and head: where losses are KL, that of the model with this one exchanged.
  void do_outer() {
    Solved solved = modules_of(std::nullopt);
    if (solved.modules.empty()) return;
    InputStatistics inputs;
    if (std::ranges::any_of(prepared_.variants,
                            [&](const CompressionPlan& plan) { return solves_head(plan, model_.architecture()); }))
      inputs = prepared_.statistics->head_input();
    for (std::size_t k = 0; k < prepared_.variants.size(); ++k) {
      if (std::ranges::none_of(solved.modules, [&](const ModuleChoice* module) { return k < module->options.size(); }))
        continue;
      const OuterOutcome outcome = compress_outer(prepared_.variants[k], model_, inputs.second_moment, &store_);
      take(
          k, outcome.tensors,
          [&](const std::string& name) { return name == "lm_head" ? outcome.made.head : outcome.made.embedding; },
          solved);
    }
    for (std::size_t m = 0; m < solved.modules.size(); ++m)
      for (std::size_t o = 0; o < solved.tensors[m].size(); ++o)
        if (solved.tensors[m][o] != nullptr) predict_outer(*solved.modules[m], o, solved.tensors[m][o]);
  }

  void predict_outer(ModuleChoice& module, std::size_t o, const TensorPtr& tensor) {
    ModuleOption& option = module.options[o];
    const MeasureInfo& measure = *prepared_.request.measure;
    option.predicted = measure.knows_tables ? base_of(option) : 0;  // settled: it decides nothing
    if (!measure.in_kl) return;
    const std::string key = number_key(prepared_, fmt::format("swap {}{}", module.module, option.solution));
    if (const auto known = store_.number(key)) {
      option.predicted = *known;
      return;
    }
    const WithOuterMatrix changed(model_, module.module, tensor);
    option.predicted = std::max(0.0, judge_.at(0).judge(changed, Inference::point).reference->kl_mean);
    store_.put_numbers(key, {option.predicted});
  }

  const PreparedAllocation& prepared_;
  const ModelWeights& model_;
  SolutionStore& store_;
  Progress& progress_;
  std::unique_ptr<SensitivityMeasure> measure_;
  JudgeOnDemand judge_;
  std::vector<ModuleChoice> modules_;
};

}  // namespace

std::vector<ModuleChoice> measure_options(const PreparedAllocation& prepared, SolutionStore& store,
                                          Progress& progress) {
  return OptionMeasurer(prepared, store, progress).run();
}

std::string number_key(const PreparedAllocation& prepared, const std::string& what) {
  Hasher hasher;
  const StatisticsInfo& statistics = prepared.statistics->info();
  hasher.add(fmt::format("adze {} {} number\n{}\n{}\n{} {} {}\n{}\n", ADZE_VERSION, kernel_name(), prepared.identity,
                         prepared.windows.hash(), statistics.calibration, statistics.windows, statistics.tokens, what));
  return hasher.hex();
}

Protocol protocol_of(const PreparedAllocation& prepared) {
  return parse_protocol(fmt::format("lcpp-{}", prepared.windows.tokens));
}

}  // namespace adze
