#include <algorithm>
#include <map>
#include <set>

#include "base/checked.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/words.h"
#include "grid/format.h"
#include "model/tensors.h"
#include "pipeline/allocation/allocation.h"
#include "pipeline/allocation/file_size.h"
#include "pipeline/apply_scheme.h"

namespace adze {
namespace {

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

/// The rule that a module follows, if any.
const RuleSpec* rule_of(const Recipe& recipe, const ModulePlan& module) {
  return module.rule ? &recipe.rules[*module.rule] : nullptr;
}

bool chooses(const RuleSpec* rule) { return rule != nullptr && !rule->choose.empty(); }

/// Of the file as `adze compress` makes it where every module takes its first option.
FileSize file_size(const PreparedAllocation& prepared, const ExportJob& job) {
  const CompressionPlan& plan = prepared.variants.front();
  return {export_plan(plan, job, plan.architecture, plan.files, *prepared.model,
                      {{"adze.version", ADZE_VERSION},
                       {"adze.recipe", prepared.recipe->text_hash},
                       {"adze.calibration", prepared.windows.hash()}}),
          job.exporter};
}

void count_in_store(PreparedAllocation& prepared) {
  const CompressionPlan& first = prepared.variants.front();
  prepared.fixed = first.stored_bytes;
  for (ModuleChoice& module : prepared.modules) {
    if (!module.chooses) continue;
    const std::uint64_t least = std::ranges::min(module.options, {}, &ModuleOption::bytes).bytes;
    prepared.fixed -= module.options.front().bytes - least;
    for (ModuleOption& option : module.options) option.cost = option.bytes - least;
  }
}

const ExportJob* bounded_export(const PreparedAllocation& prepared) {
  const std::string& of = prepared.recipe->budget->of;
  const auto& exports = prepared.variants.front().exports;
  const auto job = of.empty() ? exports.begin()
                              : std::ranges::find_if(exports, [&](const auto& one) { return one.info->name == of; });
  return job == exports.end() ? nullptr : &*job;
}

/// What is left of a device's memory for the file.
std::uint64_t bytes_that_fit(const FitSpec& fit, const Architecture& architecture, const std::string& origin) {
  const std::uint64_t cache = checked_mul(checked_mul(checked_mul(2, architecture.layers), architecture.kv_width()),
                                          checked_mul(std::uint64_t{fit.context}, bytes_of(DType::f16)));
  const std::uint64_t taken = checked_add(cache, fit.reserve);
  if (taken >= fit.ram)
    fail(ErrorKind::bad_recipe,
         "{}: a cache of {} tokens takes {} bytes and the reserve {}: nothing of {} is left for the model", origin,
         fit.context, cache, fit.reserve, fit.ram);
  return fit.ram - taken;
}

/// Of the model before transforms, so that shapes compete for the same bytes.
double original_weights(const PreparedAllocation& prepared) {
  double weights = 0;
  for (const TensorSpec& spec : expected_tensors(prepared.model->architecture())) {
    double count = 1;
    for (const std::uint64_t size : spec.shape) count *= static_cast<double>(size);
    weights += count;
  }
  return weights;
}

/// Which bytes are meant, how many there may be, and what every option takes of them.
void count_bytes(PreparedAllocation& prepared) {
  const Recipe& recipe = *prepared.recipe;
  const BudgetSpec& budget = *recipe.budget;
  const CompressionPlan& plan = prepared.variants.front();
  if (budget.bits_per_weight) {
    prepared.budget = static_cast<std::uint64_t>(*budget.bits_per_weight / 8 * original_weights(prepared));
    return count_in_store(prepared);
  }
  if (budget.bytes) prepared.budget = *budget.bytes;
  if (budget.fit) prepared.budget = bytes_that_fit(*budget.fit, plan.architecture, recipe.origin);
  const ExportJob* const job = bounded_export(prepared);
  if (job == nullptr) return count_in_store(prepared);
  prepared.of = job->file.string();
  FileSize file = file_size(prepared, *job);
  prepared.fixed = price_options(file, prepared.modules);
}

/// Of linears in blocks: the head is the same whatever becomes of them.
void count_multiplications(PreparedAllocation& prepared) {
  std::uint64_t original = 0;
  for (const TensorSpec& spec : expected_tensors(prepared.model->architecture()))
    if (spec.block && spec.shape.size() == 2) original += spec.shape[0] * spec.shape[1];
  std::set<std::string_view> solved;
  for (const ModuleChoice& module : prepared.modules) solved.insert(module.module);
  for (const ModulePlan& module : prepared.variants.front().modules)
    if (module.spec.block && !solved.contains(module.spec.module))
      prepared.fixed_multiplications += module.spec.matrix_shape().count();
  if (const auto part = prepared.recipe->budget->multiplications)
    prepared.multiplications = static_cast<std::uint64_t>(*part * static_cast<double>(original));
}

/// Nothing to solve in this variant.
void leave_alone(ModulePlan& module) {
  module.scheme.reset();
  module.format = module.original_format;
}

/// Modules that have a scheme, or a choice of them, with the options of every variant.
void list_options(PreparedAllocation& prepared) {
  const Recipe& recipe = *prepared.recipe;
  std::map<std::string_view, std::size_t> places;  // of a module's name, which the first variant keeps
  for (std::size_t k = 0; k < prepared.variants.size(); ++k)
    for (const ModulePlan& module : prepared.variants[k].modules) {
      const RuleSpec* const rule = rule_of(recipe, module);
      if (rule == nullptr || rule->store || !module.spec.takes_schemes() ||
          (!chooses(rule) && (k > 0 || !module.scheme)))
        continue;
      if (k == 0) {
        places.emplace(module.spec.module, prepared.modules.size());
        prepared.modules.push_back({module.spec.module, module.spec.block, *module.rule, chooses(rule), 1, {}, 0});
      }
      if (chooses(rule) && k >= rule->choose.size()) continue;
      const std::string scheme = chooses(rule) ? rule->choose[k] : *rule->scheme;
      const std::uint64_t multiplications =
          module.spec.block ? format_multiplications(module.format, module.spec.matrix_shape()) : 0;
      prepared.modules[places.at(module.spec.module)].options.push_back(
          {scheme, module.format, module.bytes, 0, multiplications, 0, 0, 0, ""});
    }
}

/// After sizes are counted: every matrix is solved once in each of its options.
void leave_what_is_solved_elsewhere(PreparedAllocation& prepared) {
  for (std::size_t k = 0; k < prepared.variants.size(); ++k)
    for (ModulePlan& module : prepared.variants[k].modules) {
      const RuleSpec* const rule = rule_of(*prepared.recipe, module);
      if (chooses(rule) ? k >= rule->choose.size() : k > 0) leave_alone(module);
    }
}

Stage stage_of_module(const PreparedAllocation& prepared, const ModuleChoice& module) {
  return *prepared.variants.front().find(module.module)->spec.stage();
}

/// True for experts, or q, k and v, where an export has those of a block in one tensor.
bool is_stacked(const PreparedAllocation& prepared, const ModuleChoice& module) {
  const CompressionPlan& plan = prepared.variants.front();
  return module.block && plan.find(module.module)->spec.shares_gguf_tensor() &&
         std::ranges::any_of(plan.exports, [](const ExportJob& job) { return job.exporter->stacks_experts(); });
}

/// What is tied to matrices by their input. Runtimes hold the experts of a block in one tensor, so all of them agree.
std::string shared_input(Stage stage) {
  return stage.is_expert() ? fmt::format("experts {}", name_of(Stage(stage.kind))) : name_of(stage);
}

/// Which modules choose together, as text; a module by itself where its rule ties nothing.
std::string group_of(const PreparedAllocation& prepared, const RuleSpec& rule, const ModuleChoice& module) {
  if (rule.tie == TieMode::none && is_stacked(prepared, module))
    return fmt::format("rule {} {}", module.rule, prepared.variants.front().find(module.module)->spec.gguf_name);
  if (rule.tie == TieMode::none || (rule.tie != TieMode::all && !module.block)) return module.module;
  if (rule.tie == TieMode::all) return fmt::format("rule {}", module.rule);
  if (rule.tie == TieMode::block) return fmt::format("rule {} block {}", module.rule, *module.block);
  return fmt::format("rule {} block {} {}", module.rule, *module.block,
                     shared_input(stage_of_module(prepared, module)));
}

/// Throws bad_recipe where one of the matrices that read an input is outside of a rule that ties them.
void check_tied_inputs(const PreparedAllocation& prepared, const ModuleChoice& module) {
  const Recipe& recipe = *prepared.recipe;
  const CompressionPlan& plan = prepared.variants.front();
  for (const LinearInfo& info : linears_of(plan.architecture, stage_of_module(prepared, module))) {
    const ModulePlan& other = *plan.find(module_name(*module.block, info));
    if (other.spec.role == TensorRole::linear && other.rule != std::optional(module.rule))
      fail(ErrorKind::bad_recipe,
           "{}: the rule '{}' ties matrices that read one input, but {} does not follow it, so it and {} cannot agree",
           recipe.origin, recipe.rules[module.rule].modules, other.spec.module, module.module);
  }
}

/// Throws bad_recipe where matrices that the export has in one tensor choose by different rules. first: of each tensor.
void check_stacked(const PreparedAllocation& prepared, const ModuleChoice& module,
                   std::map<std::string, const ModuleChoice*>& first) {
  if (!module.chooses || !is_stacked(prepared, module)) return;
  const TensorSpec& spec = prepared.variants.front().find(module.module)->spec;
  const ModuleChoice& other = *first.emplace(spec.gguf_name, &module).first->second;
  if (other.rule != module.rule)
    fail(ErrorKind::bad_recipe,
         "{}: {} and {} follow different rules, but gguf has {} of a block in one tensor; give them one rule",
         prepared.recipe->origin, other.module, module.module, gguf_stack_in_words(spec));
}

void make_units(PreparedAllocation& prepared) {
  std::map<std::string, std::size_t> groups;
  std::map<std::string, const ModuleChoice*> stacks;
  for (std::size_t m = 0; m < prepared.modules.size(); ++m) {
    const ModuleChoice& module = prepared.modules[m];
    const RuleSpec& rule = prepared.recipe->rules[module.rule];
    if (rule.tie == TieMode::input && module.block) check_tied_inputs(prepared, module);
    check_stacked(prepared, module, stacks);
    const auto [at, is_new] = groups.insert({group_of(prepared, rule, module), prepared.units.size()});
    if (module.chooses && !module.block && !prepared.request.measure->knows_tables)
      fail(ErrorKind::bad_recipe,
           "{}: {} cannot choose by the measure {}, which is of matrices in blocks; give it a scheme, or take kl",
           prepared.recipe->origin, module.module, prepared.request.measure->name);
    if (is_new) prepared.units.emplace_back();
    prepared.units[at->second].push_back(m);
  }
}

void check_budget(PreparedAllocation& prepared) {
  std::vector<AllocationUnit> units;
  std::uint64_t least_work = prepared.fixed_multiplications, most_work = least_work;
  for (const std::vector<std::size_t>& members : prepared.units) {
    AllocationUnit& unit = units.emplace_back();
    for (std::size_t o = 0; o < prepared.modules[members.front()].options.size(); ++o) {
      unit.emplace_back();
      for (const std::size_t m : members) {
        unit.back().cost += prepared.modules[m].options[o].cost;
        unit.back().work += prepared.modules[m].options[o].multiplications;
      }
    }
    least_work += std::ranges::min(unit, {}, &AllocationOption::work).work;
    most_work += std::ranges::max(unit, {}, &AllocationOption::work).work;
  }
  const CostRange range = cost_range(units);
  prepared.range = {prepared.fixed + range.least, prepared.fixed + range.most};
  if (prepared.budget && *prepared.budget < prepared.range.least)
    fail(ErrorKind::bad_recipe, "{}: a budget of {} bytes is below the smallest possible, {}; the largest is {}",
         prepared.recipe->origin, *prepared.budget, prepared.range.least, prepared.range.most);
  if (prepared.multiplications && *prepared.multiplications < least_work)
    fail(ErrorKind::bad_recipe, "{}: {} multiplications a token are below the fewest possible, {}; the most are {}",
         prepared.recipe->origin, *prepared.multiplications, least_work, most_work);
  if (!prepared.budget || !prepared.multiplications) return;
  for (AllocationUnit& unit : units)
    for (AllocationOption& option : unit) option.loss = static_cast<double>(option.work);
  const Allocation fewest = allocate(units, *prepared.budget - prepared.fixed);
  if (fewest.work + prepared.fixed_multiplications > *prepared.multiplications)
    fail(ErrorKind::bad_recipe,
         "{}: no choice of {} bytes takes as few as {} multiplications a token; the fewest are {}",
         prepared.recipe->origin, *prepared.budget, *prepared.multiplications,
         fewest.work + prepared.fixed_multiplications);
}

void check_recipe(const Recipe& recipe, const AllocationRequest& request) {
  if (!recipe.budget)
    fail(ErrorKind::bad_recipe, "{}: there is no budget; say size, bits_per_weight, kl or fit", recipe.origin);
  if (recipe.calibration.from != InputsFrom::text)
    fail(ErrorKind::bad_recipe, "{}: losses are measured with text; give calibration a set", recipe.origin);
  if (most_options(recipe) == 0)
    fail(ErrorKind::bad_recipe, "{}: no rule leaves a choice; say choose: [SCHEME, ...]", recipe.origin);
  if (recipe.budget->kl && !request.measure->in_kl)
    fail(ErrorKind::bad_recipe, "{}: a budget of KL needs a measure that predicts it, and {} does not; kl does",
         recipe.origin, request.measure->name);
}

/// Of the model that transforms make: of the original, and of what is done to it with which text.
std::string identity_of(const PreparedAllocation& prepared) {
  const CompressionPlan& plan = prepared.variants.front();
  if (plan.transforms.empty()) return prepared.identity;
  Hasher hasher;
  const CalibrationSpec& calibration = prepared.recipe->calibration;
  hasher.add(
      fmt::format("{}\n{} {} {}\n", prepared.identity, calibration.windows, calibration.tokens, calibration.seed));
  for (const auto& transform : plan.transforms) hasher.add(transform->description() + "\n");
  if (std::ranges::any_of(plan.transforms, [](const auto& one) { return one->needs_inputs(); }))
    for (const ModulePlan& module : plan.modules) hasher.add(module.format + "\n");  // it may look at grids
  return hasher.hex();
}

}  // namespace

std::uint64_t planned_bytes(const PreparedAllocation& prepared, const std::vector<ModuleChoice>& modules) {
  if (prepared.of.empty()) {
    std::uint64_t bytes = prepared.fixed;
    for (const ModuleChoice& module : modules) bytes += module.option().cost;
    return bytes;
  }
  FileSize file = file_size(prepared, *bounded_export(prepared));
  for (const ModuleChoice& module : modules) file.set(module.module, module.option().format);
  return file.bytes();
}

const MeasureInfo* parse_measure(std::string_view name) {
  if (const MeasureInfo* const known = find_measure(name)) return known;
  std::vector<std::string> names;
  for (const MeasureInfo& known : measures()) names.emplace_back(known.name);
  fail(ErrorKind::usage, "unknown measure '{}'{}; there are: {}", name, suggestion(name, names), join_words(names));
}

void check_plan(const Recipe& shape, const OpenedModel& model) { make_plan(variant_of(shape, 0), model); }

PreparedAllocation prepare_allocation(const Recipe& recipe, const OpenedModel& model,
                                      const AllocationRequest& request) {
  check_recipe(recipe, request);
  PreparedAllocation prepared{.recipe = &recipe, .model = &model, .request = request};
  if (recipe.transforms.empty()) {
    prepared.weights = model.weights;
    if (!request.statistics.empty()) {
      prepared.statistics.emplace(request.statistics);
      check_same_model(*prepared.statistics, model.architecture());
    }
  }
  prepared.identity = model_identity(model);
  const CalibrationSpec& calibration = recipe.calibration;
  prepared.windows =
      load_windows(calibration.set, model.require_tokenizer(),
                   {std::min(request.windows, calibration.windows), calibration.tokens, calibration.seed});
  for (std::size_t k = 0; k < most_options(recipe); ++k) {
    prepared.variants.push_back(make_plan(variant_of(recipe, k), model));
    if (const ResolvedScheme* const pairing = prepared.variants.back().pairing_scheme())
      fail(ErrorKind::bad_recipe, "{}: scheme '{}' pairs blocks, which choose by themselves", recipe.origin,
           pairing->name);
  }
  prepared.identity = identity_of(prepared);
  list_options(prepared);
  count_bytes(prepared);
  count_multiplications(prepared);
  leave_what_is_solved_elsewhere(prepared);
  make_units(prepared);
  check_budget(prepared);
  return prepared;
}

}  // namespace adze
