#include "pipeline/allocation.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "base/words.h"
#include "evaluate/evaluate.h"
#include "grid/format.h"
#include "metrics/proxy_loss.h"
#include "pipeline/apply_scheme.h"
#include "pipeline/block_step.h"

namespace adze {
namespace {

struct MeasureName {
  std::string_view name;
  SensitivityMeasure measure;
};
constexpr std::array kMeasures{MeasureName{"kl", SensitivityMeasure::kl},
                               MeasureName{"relative", SensitivityMeasure::relative},
                               MeasureName{"loss", SensitivityMeasure::loss}};

/// The recipe in which every choice takes its k-th option, or its last.
Recipe variant_of(const Recipe& recipe, std::size_t k) {
  Recipe variant = recipe;
  variant.budget.reset();
  for (RuleSpec& rule : variant.rules) {
    if (rule.choose.empty()) continue;
    rule.scheme = rule.choose[std::min(k, rule.choose.size() - 1)];
    rule.choose.clear();
  }
  return variant;
}

std::size_t most_options(const Recipe& recipe) {
  std::size_t most = 0;
  for (const RuleSpec& rule : recipe.rules) most = std::max(most, rule.choose.size());
  return most;
}

/// The original with one matrix changed.
class WithOneMatrix final : public ModelWeights {
 public:
  WithOneMatrix(const ModelWeights& original, std::size_t block, LinearSlot slot, TensorPtr matrix)
      : original_(original), block_(block), slot_(slot), matrix_(std::move(matrix)) {}

  const Architecture& architecture() const override { return original_.architecture(); }
  TensorPtr embedding() const override { return original_.embedding(); }
  BlockWeights block(std::size_t index) const override {
    BlockWeights block = original_.block(index);
    if (index == block_) block[slot_].weight = matrix_;
    return block;
  }
  std::vector<float> final_norm() const override { return original_.final_norm(); }
  TensorPtr head() const override { return original_.head(); }

 private:
  const ModelWeights& original_;
  std::size_t block_;
  LinearSlot slot_;
  TensorPtr matrix_;
};

/// W plus Gaussian noise E with tr(E H E^T) = part * tr(W H W^T); nothing where H sees none of W.
TensorPtr with_noise(const MatrixF& weights, const MatrixD& h, double part, std::string_view name) {
  RandomStream random(0, name);
  MatrixF noise(weights.shape());
  for (float& value : noise.values()) value = static_cast<float>(random.normal());
  const double energy = output_energy(weights, h), drawn = output_energy(noise, h);
  if (!(energy > 0 && drawn > 0)) return nullptr;
  const auto scale = static_cast<float>(std::sqrt(part * energy / drawn));
  for (std::size_t i = 0; i < noise.values().size(); ++i)
    noise.values()[i] = weights.values()[i] + scale * noise.values()[i];
  return std::make_shared<DenseTensor>(make_dense(noise, DType::f32));
}

class Allocator {
 public:
  Allocator(const PreparedAllocation& prepared, Progress& progress)
      : prepared_(prepared), model_(*prepared.model), progress_(progress), modules_(prepared.modules) {}

  AllocationResult run() {
    solve_options();
    if (prepared_.measure == SensitivityMeasure::kl) measure_coefficients();
    std::vector<AllocationUnit> units;
    for (ModuleChoice& module : modules_) {
      AllocationUnit& unit = units.emplace_back();
      for (ModuleOption& option : module.options) {
        option.predicted *= module.coefficient;
        unit.push_back({option.cost, option.predicted});
      }
    }
    AllocationResult result;
    result.allocation = allocate(units, prepared_.budget - prepared_.fixed);
    result.front = front(units);
    result.cost = prepared_.fixed + result.allocation.cost;
    for (std::size_t u = 0; u < units.size(); ++u) modules_[u].chosen = result.allocation.choice[u];
    result.modules = std::move(modules_);
    return result;
  }

 private:
  ModuleChoice* find(std::string_view name) {
    const auto at = std::ranges::find(modules_, name, &ModuleChoice::module);
    return at == modules_.end() ? nullptr : &*at;
  }

  void solve_options() {
    const std::size_t layers = model_.architecture().layers;
    progress_.start("solving every option", layers * kStages.size());
    std::size_t done = 0;
    for (std::size_t block = 0; block < layers; ++block) {
      const BlockWeights original = model_.weights->block(block);
      for (const Stage stage : kStages) {
        if (chooses(block, stage)) solve_stage_options(block, stage, original);
        progress_.update(++done);
      }
    }
  }

  bool chooses(std::size_t block, Stage stage) {
    return std::ranges::any_of(linears_of(stage),
                               [&](const LinearInfo& info) { return find(module_name(block, info.slot)) != nullptr; });
  }

  void solve_stage_options(std::size_t block, Stage stage, const BlockWeights& original) {
    const InputStatistics inputs = prepared_.statistics.block_input(block, stage);
    for (std::size_t k = 0; k < prepared_.variants.size(); ++k) {
      BlockOutcome outcome{original, {}};
      solve_stage(prepared_.variants[k], block, stage, original, inputs, {inputs.second_moment, {}, {}, {}}, outcome);
      tell_remarks(outcome.tensors, progress_);
      for (const TensorRecord& record : outcome.tensors) {
        ModuleChoice* const module = find(record.module);
        if (module == nullptr || k >= module->options.size()) continue;
        ModuleOption& option = module->options[k];
        option.relative_loss = record.report.relative_loss;
        option.predicted =
            prepared_.measure == SensitivityMeasure::loss ? record.report.loss : record.report.relative_loss;
      }
    }
  }

  /// KL per relative loss, from noise that makes a hundredth of the output's energy.
  void measure_coefficients() {
    constexpr double kPart = 0.01;
    const Protocol protocol = parse_protocol(fmt::format("lcpp-{}", prepared_.windows.tokens));
    progress_.start("noise in one matrix at a time", modules_.size());
    std::size_t done = 0;
    for (std::size_t block = 0; block < model_.architecture().layers; ++block) {
      const BlockWeights original = model_.weights->block(block);
      for (const LinearInfo& info : block_linears()) {
        ModuleChoice* const module = find(module_name(block, info.slot));
        if (module == nullptr) continue;
        const MatrixD h = prepared_.statistics.block_input(block, info.stage).second_moment;
        module->coefficient = 0;
        if (TensorPtr noisy = with_noise(original[info.slot].weight->decode(), h, kPart, module->module)) {
          const WithOneMatrix changed(*model_.weights, block, info.slot, std::move(noisy));
          const EvaluationResult judged =
              evaluate(changed, model_.weights.get(), prepared_.windows.ids, std::nullopt, protocol, silent_progress());
          module->coefficient = std::max(0.0, judged.reference->kl_mean) / kPart;
        }
        progress_.update(++done);
      }
    }
  }

  const PreparedAllocation& prepared_;
  const OpenedModel& model_;
  Progress& progress_;
  std::vector<ModuleChoice> modules_;
};

/// Which rule of the recipe lets a module choose; nullptr: none.
const RuleSpec* choosing_rule(const Recipe& recipe, const ModulePlan& module) {
  if (!module.rule) return nullptr;
  const RuleSpec& rule = recipe.rules[*module.rule];
  return rule.choose.empty() ? nullptr : &rule;
}

/// Bytes of the file that the export makes when these modules have these formats.
class FileSize {
 public:
  FileSize(const PreparedAllocation& prepared, const ExportJob& job)
      : job_(job),
        exported_(export_plan(prepared.variants.front(), prepared.variants.front().architecture,
                              prepared.variants.front().files, *prepared.model,
                              {{"adze.version", ADZE_VERSION},
                               {"adze.recipe", prepared.recipe->text_hash},
                               {"adze.calibration", prepared.windows.hash()}})) {
    exported_.split_max_bytes = job.split_max_bytes;
  }

  std::uint64_t bytes() const { return job_.exporter->predict_bytes(exported_); }

  /// The format that was there.
  std::string set(const std::string& module, std::string format) {
    for (PlannedTensor& tensor : exported_.tensors)
      if (tensor.spec.module == module && tensor.spec.shape.size() == 2) std::swap(tensor.format, format);
    return format;
  }

 private:
  const ExportJob& job_;
  ExportPlan exported_;
};

void count_in_store(PreparedAllocation& prepared) {
  const CompressionPlan& first = prepared.variants.front();
  prepared.fixed = first.stored_bytes;
  for (ModuleChoice& module : prepared.modules) {
    prepared.fixed -= module.options.front().bytes;
    for (ModuleOption& option : module.options) option.cost = option.bytes;
  }
}

/// Costs are what a file grows by over the smallest option; the rest is fixed.
void count_in_file(PreparedAllocation& prepared, const ExportJob& job) {
  FileSize size(prepared, job);
  const std::uint64_t first = size.bytes();
  prepared.fixed = first;
  for (ModuleChoice& module : prepared.modules) {
    std::vector<std::uint64_t> sizes;
    for (const ModuleOption& option : module.options) {
      const std::string before = size.set(module.module, option.format);
      sizes.push_back(size.bytes());
      size.set(module.module, before);
    }
    const std::uint64_t least = std::ranges::min(sizes);
    prepared.fixed -= first - least;
    for (std::size_t o = 0; o < sizes.size(); ++o) module.options[o].cost = sizes[o] - least;
  }
}

void count(PreparedAllocation& prepared) {
  const BudgetSpec& budget = *prepared.recipe->budget;
  const CompressionPlan& plan = prepared.variants.front();
  if (budget.bits_per_weight) {
    prepared.budget = static_cast<std::uint64_t>(*budget.bits_per_weight / 8 * static_cast<double>(plan.weights));
    count_in_store(prepared);
    return;
  }
  prepared.budget = *budget.bytes;
  const auto job = budget.of.empty() ? plan.exports.begin() : std::ranges::find_if(plan.exports, [&](const auto& one) {
    return one.info->name == budget.of;
  });
  if (job == plan.exports.end()) {
    count_in_store(prepared);
    return;
  }
  prepared.of = job->file.string();
  count_in_file(prepared, *job);
}

/// Nothing to solve: no choice, or no k-th option.
void leave_alone(ModulePlan& module) {
  module.scheme.reset();
  module.format = module.original_format;
}

}  // namespace

std::string_view name_of(SensitivityMeasure measure) {
  return std::ranges::find(kMeasures, measure, &MeasureName::measure)->name;
}

SensitivityMeasure parse_measure(std::string_view name) {
  std::vector<std::string> names;
  for (const MeasureName& known : kMeasures) {
    if (known.name == name) return known.measure;
    names.emplace_back(known.name);
  }
  fail(ErrorKind::usage, "unknown measure '{}'{}; there are: {}", name, suggestion(name, names), join_words(names));
}

PreparedAllocation prepare_allocation(const Recipe& recipe, const OpenedModel& model,
                                      const std::filesystem::path& statistics, SensitivityMeasure measure,
                                      std::size_t windows) {
  if (!recipe.budget) fail(ErrorKind::bad_recipe, "{}: there is no budget; say size or bits_per_weight", recipe.origin);
  if (most_options(recipe) == 0)
    fail(ErrorKind::bad_recipe, "{}: no rule leaves a choice; say choose: [SCHEME, ...]", recipe.origin);
  if (!recipe.transforms.empty())
    fail(ErrorKind::bad_recipe,
         "{}: options are measured on the model as it is, which transforms would change; allocate without them",
         recipe.origin);
  PreparedAllocation prepared{&recipe, &model, StatisticsFolder(statistics), measure, {}, {}, {}, 0, 0, "", {}};
  check_same_model(prepared.statistics, model.architecture());
  prepared.windows =
      load_windows(recipe.calibration.set, model.require_tokenizer(),
                   {std::min(windows, recipe.calibration.windows), recipe.calibration.tokens, recipe.calibration.seed});
  const std::size_t most = most_options(recipe);
  for (std::size_t k = 0; k < most; ++k) {
    prepared.variants.push_back(make_plan(variant_of(recipe, k), model));
    CompressionPlan& plan = prepared.variants.back();
    for (ModulePlan& module : plan.modules) {
      const RuleSpec* const rule = choosing_rule(recipe, module);
      if (rule == nullptr) continue;
      if (!module.spec.block)
        fail(ErrorKind::bad_recipe, "{}: {} cannot choose: losses are measured of linears in blocks; give it a scheme",
             recipe.origin, module.spec.module);
      if (k == 0) prepared.modules.push_back({module.spec.module, 1, {}, 0});
      if (k >= rule->choose.size()) continue;
      std::ranges::find(prepared.modules, module.spec.module, &ModuleChoice::module)
          ->options.push_back({rule->choose[k], module.format, module.bytes, 0, 0, 0});
    }
  }
  count(prepared);
  for (std::size_t k = 0; k < most; ++k)
    for (ModulePlan& module : prepared.variants[k].modules) {
      const RuleSpec* const rule = choosing_rule(recipe, module);
      if (rule == nullptr || k >= rule->choose.size()) leave_alone(module);
    }
  std::vector<AllocationUnit> units;
  for (const ModuleChoice& module : prepared.modules) {
    units.emplace_back();
    for (const ModuleOption& option : module.options) units.back().push_back({option.cost, 0});
  }
  const CostRange range = cost_range(units);
  prepared.range = {prepared.fixed + range.least, prepared.fixed + range.most};
  if (prepared.budget < prepared.range.least)
    fail(ErrorKind::bad_recipe, "{}: a budget of {} bytes is below the smallest possible, {}; the largest is {}",
         recipe.origin, prepared.budget, prepared.range.least, prepared.range.most);
  return prepared;
}

AllocationResult allocate_modules(const PreparedAllocation& prepared, Progress& progress) {
  return Allocator(prepared, progress).run();
}

}  // namespace adze
