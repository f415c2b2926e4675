#include "pipeline/plan.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "base/checked.h"
#include "base/error.h"
#include "base/words.h"
#include "grid/format.h"
#include "pipeline/resources.h"
#include "pipeline/transform_step.h"
#include "pipeline/work_folder.h"

namespace adze {
namespace {

/// What a run keeps in its output folder (work_folder.h): no export may lie there.
bool belongs_to_run(const std::filesystem::path& file) {
  constexpr std::array<std::string_view, 4> kNames{"store", "work", kManifestName, "recipe.yaml"};
  const std::string first = file.empty() ? "" : file.begin()->string();
  return std::ranges::find(kNames, first) != kNames.end() ||
         std::ranges::find(kReportNames, first) != kReportNames.end();
}

/// Works through the recipe and collects problems; nothing is thrown before the end.
class Planner {
 public:
  Planner(const Recipe& recipe, const OpenedModel& model) : recipe_(recipe), model_(model), problems_(recipe.source) {}

  CompressionPlan run() {
    if (std::string remark = left_out_remark(model_); !remark.empty()) plan_.warnings.push_back(std::move(remark));
    check_unsupported();
    make_transforms();
    if (!is_listed()) check_windows();
    for (const SchemeSpec& scheme : recipe_.schemes) plan_.schemes.push_back(resolve_scheme(scheme, problems_));
    if (is_listed()) check_listed();
    list_modules();
    match_rules();
    check_exports();
    problems_.throw_if_any();
    for (const Diagnostic& warning : recipe_.warnings.found())
      plan_.warnings.push_back(recipe_.warnings.format(warning));
    for (std::string& remark : in_words(solver_remarks_)) plan_.warnings.push_back(std::move(remark));
    warn_of_work();
    add_up();
    const Resources resources = predict_resources(recipe_, plan_.architecture, plan_);
    plan_.peak_memory = resources.peak_memory;
    plan_.temporary_disk = resources.temporary_disk;
    return std::move(plan_);
  }

 private:
  void check_unsupported() {
    if (recipe_.budget)
      problems_.report(recipe_.budget->where,
                       "a budget is kept by adze allocate, which writes the recipe to compress with");
    for (const RuleSpec& rule : recipe_.rules)
      if (!rule.choose.empty())
        problems_.report(rule.treatment_where,
                         "adze allocate chooses, and writes the recipe to compress with; or name one scheme");
  }

  void make_transforms() {
    plan_.original_architecture = plan_.architecture = model_.architecture();
    for (const TransformSpec& spec : recipe_.transforms) {
      if (is_listed()) break;  // check_listed() refuses them
      if (spec.optional)
        problems_.report(spec.where,
                         "whether an optional transform is done, adze allocate decides: it writes the recipe "
                         "to compress with");
      const TransformInfo* info = find_transform(spec.kind);
      if (info == nullptr) {
        std::vector<std::string> names;
        for (const TransformInfo& known : transforms()) names.emplace_back(known.name);
        problems_.report(spec.where, "unknown transform '{}'{}", spec.kind,
                         suggestion_or_list(spec.kind, names, "transforms are"));
        continue;
      }
      if (info->comes_first && !plan_.transforms.empty())
        problems_.report(spec.where, "{} must be the first transform: it starts from the original model", spec.kind);
      try {
        MapReader options = read_options(spec, problems_);
        plan_.transforms.push_back(info->configure(options, plan_.architecture));
        options.finish();
        plan_.architecture = plan_.transforms.back()->architecture(plan_.architecture);
      } catch (const Error& error) {
        problems_.report(spec.where, "{}: {}", spec.kind, error.message());
      }
    }
    plan_.files = transformed_files(model_.files, model_.architecture(), plan_.architecture);
  }

  bool is_listed() const { return model_.architecture().is_listed(); }

  /// What a recipe may not ask of a model whose architecture is not known: all that runs it.
  void check_listed() {
    constexpr std::string_view kWhy = "the architecture of this model is not known, only its tensors";
    if (recipe_.calibration.from == InputsFrom::text)
      problems_.report(recipe_.calibration.where,
                       "{}, so that no text can be run through it; write calibration: none, or calibration: weights",
                       kWhy);
    for (const TransformSpec& spec : recipe_.transforms)
      problems_.report(spec.where, "{}, so that nothing can be folded into it; drop 'transform'", kWhy);
    if (recipe_.evaluate)
      problems_.report(recipe_.evaluate->where, "{}, so that it cannot be judged; drop 'evaluate'", kWhy);
    for (std::size_t s = 0; s < plan_.schemes.size(); ++s)
      if (plan_.schemes[s].solver) check_listed_solver(recipe_.schemes[s], *plan_.schemes[s].solver, kWhy);
  }

  void check_listed_solver(const SchemeSpec& spec, const Solver& solver, std::string_view why) {
    if (solver.pairs_blocks())
      problems_.report(spec.solver_where, "{} pairs neighbouring blocks, and {}; take rtn", spec.solver, why);
    else if (solver.needs_inputs() && recipe_.calibration.from == InputsFrom::nothing && !recipe_.origin.empty())
      problems_.report(spec.solver_where,
                       "{} needs inputs, which a run of the model gives, but {}; take rtn, or calibration: weights, "
                       "which takes inputs from the weights before them (UDFC)",
                       spec.solver, why);
  }

  /// Window lengths and the protocol's name, which need the model and the registry of protocols to be judged.
  void check_windows() {
    if (recipe_.calibration.from != InputsFrom::text && !recipe_.origin.empty())
      problems_.report(recipe_.calibration.where,
                       "only models whose architecture is not known are compressed without text here; give a set, or "
                       "use adze quantize, with --data-free or without");
    check_length(recipe_.calibration.where, recipe_.calibration.tokens);
    if (!recipe_.evaluate) return;
    const EvaluateSpec& spec = *recipe_.evaluate;
    check_length(spec.where, spec.context);
    try {
      plan_.protocol = parse_protocol(fmt::format("{}-{}", spec.protocol, spec.context));
    } catch (const Error& error) {
      problems_.add(spec.protocol_where, error.message());
    }
  }

  void check_length(Mark where, std::size_t tokens) {
    const std::size_t most = model_.architecture().max_positions;
    if (tokens > most) problems_.report(where, "windows of {} tokens, but the model's context is {}", tokens, most);
  }

  void list_modules() {
    const TensorSource& source = model_.require_source();
    for (const TensorSpec& spec : expected_tensors(plan_.architecture)) {
      const TensorInfo* stored = source.find(spec.hf_name);
      const bool untied = stored == nullptr && spec.role == TensorRole::head && model_.architecture().tied;
      if (untied) stored = source.find(expected_tensors(model_.architecture()).front().hf_name);
      if (stored == nullptr) fail(ErrorKind::bad_data, "{}: tensor '{}' is missing", source.origin(), spec.hf_name);
      if (!spec.is_matrix()) {
        const std::uint64_t count = checked_product(spec.shape);
        plan_.stored_bytes += count * bytes_of(*dtype_from_name(vector_format(spec)));
        plan_.original_bytes += stored->bytes;
        plan_.weights += count;
        continue;
      }
      ModulePlan module{spec,
                        std::nullopt,
                        std::nullopt,
                        std::string(name_of(stored->dtype)),
                        0,
                        untied ? 0 : stored->bytes,
                        std::string(name_of(stored->dtype))};
      module.bytes = format_bytes(module.format, spec.matrix_shape());
      module.loaded_bytes = plan_.transforms.empty() ? stored->bytes : spec.matrix_shape().count() * sizeof(float);
      plan_.modules.push_back(std::move(module));
    }
    for (const TensorSpec& spec : expected_tensors(model_.architecture()))  // of blocks that a transform drops
      if (const TensorInfo* stored = source.find(spec.hf_name);
          spec.block && *spec.block >= plan_.architecture.layers && stored != nullptr)
        plan_.original_bytes += stored->bytes;
  }

  /// Names by which rules may call a module: a tied table is the embedding and the head.
  std::vector<std::string> names_of(const ModulePlan& module) const {
    if (module.spec.role == TensorRole::embedding && plan_.architecture.tied) return {module.spec.module, "lm_head"};
    return {module.spec.module};
  }

  /// A recipe that adze allocate writes has a rule for each module: these are looked up, not tried.
  void sort_rules() {
    rule_matches_.assign(recipe_.rules.size(), false);
    for (std::size_t r = 0; r < recipe_.rules.size(); ++r) {
      const std::string& modules = recipe_.rules[r].modules;
      if (modules.find_first_of("*?") == std::string::npos)
        rules_of_one_.emplace(modules, r);
      else
        rules_of_many_.push_back(r);
    }
  }

  std::optional<std::size_t> first_rule(const std::string& name) {
    std::optional<std::size_t> first;
    const auto matches = [&](std::size_t r) {
      rule_matches_[r] = true;
      first = std::min(first.value_or(r), r);
    };
    const auto [from, to] = rules_of_one_.equal_range(name);
    for (auto rule = from; rule != to; ++rule) matches(rule->second);
    for (const std::size_t r : rules_of_many_)
      if (glob_match(recipe_.rules[r].modules, name)) matches(r);
    return first;
  }

  void match_rules() {
    sort_rules();
    std::vector<std::string> all_names;
    for (ModulePlan& module : plan_.modules) {
      for (const std::string& name : names_of(module)) {
        all_names.push_back(name);
        const auto rule = first_rule(name);
        if (!rule) continue;
        if (module.rule && !same_treatment(*module.rule, *rule))
          problems_.report(recipe_.rules[*rule].where,
                           "embed_tokens and lm_head are one table in this model, but the rules '{}' and '{}' treat it "
                           "differently",
                           recipe_.rules[*module.rule].modules, recipe_.rules[*rule].modules);
        module.rule = module.rule ? std::min(*module.rule, *rule) : rule;
      }
      if (module.rule) apply(recipe_.rules[*module.rule], module);
    }
    for (std::size_t r = 0; r < recipe_.rules.size(); ++r)
      if (!rule_matches_[r])
        problems_.report(recipe_.rules[r].where, "'{}' matches no module{}", recipe_.rules[r].modules,
                         why_unmatched(recipe_.rules[r].modules, all_names));
  }

  /// What was meant; or, of a model whose architecture is not known, that it names what no scheme may take.
  std::string why_unmatched(const std::string& glob, const std::vector<std::string>& names) const {
    for (const TensorSpec& spec : expected_tensors(plan_.architecture))
      if (spec.role == TensorRole::kept && (glob_match(glob, spec.module) || glob + ".weight" == spec.module))
        return fmt::format(
            "; '{}' is kept as it is: only tensors of two dimensions, of floats, named .weight and no "
            "embeddings, are compressed",
            spec.module);
    return suggestion(glob, names);
  }

  bool same_treatment(std::size_t a, std::size_t b) const {
    return recipe_.rules[a].scheme == recipe_.rules[b].scheme && recipe_.rules[a].store == recipe_.rules[b].store;
  }

  void apply(const RuleSpec& rule, ModulePlan& module) {
    if (rule.store) return store_as(*rule.store, module);
    if (!module.spec.takes_schemes() || !rule.scheme) return;  // choose: reported already
    if (const auto reason = use_scheme(*rule.scheme, module)) {
      if (!rule.fallback) {
        if (reported_.insert(*reason).second)
          problems_.report(rule.treatment_where, "{}: {}; or give {}", module.spec.module, *reason,
                           recipe_.origin.empty() ? "--fallback a dtype" : "the rule a fallback");
      } else if (rule.fallback->store) {
        store_as(*rule.fallback->store, module);
      } else if (const auto still = use_scheme(*rule.fallback->scheme, module)) {
        problems_.report(rule.fallback->where, "{}: {}", module.spec.module, *still);
      }
    }
  }

  void store_as(DType dtype, ModulePlan& module) {
    module.scheme.reset();
    module.format = std::string(name_of(dtype));
    module.bytes = format_bytes(module.format, module.spec.matrix_shape());
  }

  /// Nothing when the scheme takes the module, else why not.
  std::optional<std::string> use_scheme(const std::string& name, ModulePlan& module) {
    const auto at = std::ranges::find(plan_.schemes, name, &ResolvedScheme::name);
    if (at == plan_.schemes.end() || !at->grid || !at->solver) return std::nullopt;  // reported already
    const Shape shape = module.spec.matrix_shape();
    Target target = at->target(shape);
    if (at->solver->pairs_blocks()) target.sharing = sharing_of(module, name);
    if (auto reason = at->solver->cannot_make(target)) return reason;
    if (at->pattern && module.spec.role == TensorRole::embedding) return why_no_pruning();
    if (!at->solver->stores_rows_apart() && module.spec.role == TensorRole::embedding)
      return "rows of an embedding table are looked up one by one, which factors are no good for; quantize the table, "
             "or give it store: f16";
    module.scheme = static_cast<std::size_t>(at - plan_.schemes.begin());
    module.sharing = target.sharing;
    module.format = at->solver->format(target);
    module.bytes = format_bytes(module.format, shape);
    if (const std::string remark = at->solver->remark(target); !remark.empty())
      add_remark(remark, fmt::format("{}: {}", module.spec.module, remark), solver_remarks_);
    return std::nullopt;
  }

  /// The same linear of the neighbouring block takes the scheme, too: shapes are the same, so what does not fit one
  /// does not fit the other.
  BlockSharing sharing_of(const ModulePlan& module, const std::string& scheme) {
    if (!module.spec.block || is_listed()) return {};
    const std::size_t block = *module.spec.block, neighbour = neighbour_of(block);
    if (neighbour >= plan_.architecture.layers) return {};
    const std::string prefix = fmt::format("layers.{}.", block);
    const std::string other = fmt::format("layers.{}.", neighbour) + module.spec.module.substr(prefix.size());
    const auto rule = first_rule(other);
    if (!rule || recipe_.rules[*rule].scheme != scheme) return {};
    return {true, neighbour < block ? other : ""};
  }

  std::string why_no_pruning() const {
    if (plan_.architecture.tied)
      return "lm_head is the embedding table in this model, and pruning it would prune the embedding of tokens, which "
             "no "
             "H speaks for; quantize the table, or give it store: f16";
    return "the embedding table has no inputs to prune by; quantize it, or give it store: f16";
  }

  void check_exports() {
    for (const ExportSpec& spec : recipe_.exports) {
      const ExporterInfo* info = find_exporter(spec.format);
      if (info == nullptr) {
        std::vector<std::string> names;
        for (const ExporterInfo& known : exporters()) names.emplace_back(known.name);
        problems_.report(spec.where, "unknown export format '{}'{}", spec.format,
                         suggestion_or_list(spec.format, names, "formats are"));
        continue;
      }
      if (const auto reason = cannot_list(*info, plan_.architecture)) {
        problems_.report(spec.where, "{}", *reason);
        continue;
      }
      if (spec.kv_cache && is_listed())
        problems_.report(spec.kv_cache_where,
                         "scales of a cache are measured by running the model, whose architecture "
                         "is not known; drop 'kv_cache'");
      if (belongs_to_run(spec.file))
        problems_.report(spec.file_where, "'{}' belongs to the run itself; choose another name", spec.file.string());
      ExportJob job{info, info->make(), spec.file, 0, {}, spec.split_max_bytes};
      if (spec.kv_cache) job.cache = cache_scales(spec, *job.exporter);
      Remarks remarks;
      for (const ModulePlan& module : plan_.modules) check_held(spec, job, module, remarks);
      if (job.exporter->stacks_experts()) check_stacks(spec);
      job.remarks = in_words(remarks);
      plan_.exports.push_back(std::move(job));
    }
  }

  CacheScales cache_scales(const ExportSpec& spec, const Exporter& exporter) {
    const auto scales = cache_scales_from_name(*spec.kv_cache);
    if (!scales)
      problems_.report(spec.kv_cache_where, "unknown kv_cache '{}'; there is fp8, a scale for each block",
                       *spec.kv_cache);
    else if (!exporter.holds_cache_scales())
      problems_.report(spec.kv_cache_where,
                       "{} has no place for scales of a cache; compressed-tensors and compressed-tensors-w8a8 have",
                       spec.format);
    return scales.value_or(CacheScales::none);
  }

  /// What is said of the first tensor of a kind (of its format, say), and how many more are of it.
  struct Remark {
    std::string text;
    std::size_t others = 0;
  };
  using Remarks = std::map<std::string, Remark>;

  static void add_remark(const std::string& kind, std::string text, Remarks& remarks) {
    const auto [at, is_new] = remarks.insert({kind, {std::move(text)}});
    if (!is_new) ++at->second.others;
  }

  static std::vector<std::string> in_words(const Remarks& remarks) {
    std::vector<std::string> texts;
    for (const auto& [kind, remark] : remarks)
      texts.push_back(remark.others == 0 ? remark.text
                                         : fmt::format("{}; so are {} others", remark.text, remark.others));
    return texts;
  }

  /// The experts of a block lie in one tensor, which has one format; so do q, k and v, gate and up, of some families.
  void check_stacks(const ExportSpec& spec) {
    std::map<std::string, const ModulePlan*> first;
    for (const ModulePlan& module : plan_.modules) {
      const ModulePlan& other = *first.insert({module.spec.gguf_name, &module}).first->second;
      // Factors and sums are multiplied out there.
      const bool is_one = dense_format(other.format) == dense_format(module.format);
      if (is_one || !reported_.insert(spec.format + " stacks").second) continue;
      problems_.report(spec.where,
                       "{} is {} and {} is {}, but {} has {} of a block in one tensor of one format; give them "
                       "one scheme, as adze allocate does",
                       other.spec.module, other.format, module.spec.module, module.format, spec.format,
                       gguf_stack_in_words(module.spec));
    }
  }

  void check_held(const ExportSpec& spec, const ExportJob& job, const ModulePlan& module, Remarks& remarks) {
    const PlannedTensor tensor{module.spec, module.format};
    if (const auto reason = job.exporter->cannot_hold(plan_.architecture, tensor)) {
      if (reported_.insert(spec.format + module.format).second) problems_.report(spec.where, "{}", *reason);
    } else if (const auto remark = job.exporter->remark(plan_.architecture, tensor)) {
      add_remark(module.format, *remark, remarks);
    }
  }

  /// Exact methods take operations in the third power of the inputs for every row.
  void warn_of_work() {
    constexpr double kWorthAWarning = 2e11;  // some ten seconds of two cores
    double operations = 0;
    std::string_view where;
    for (const ModulePlan& module : plan_.modules) {
      if (!module.scheme) continue;
      const Shape shape = module.spec.matrix_shape();
      const double more = plan_.schemes[*module.scheme].solver->extra_operations(
          {shape.cols, shape.count(), shape.count(), true, false});
      operations += more;
      if (more > 0) where = module.spec.module;
    }
    if (operations > kWorthAWarning)
      plan_.warnings.push_back(
          fmt::format("exact solving takes about {:.1g} operations (up to {}); form: shared or rounding: shared, or "
                      "solver: sparsegpt, take far fewer",
                      operations, where));
  }

  void add_up() {
    for (const ModulePlan& module : plan_.modules) {
      plan_.stored_bytes += module.bytes;
      plan_.original_bytes += module.original_bytes;
      plan_.weights += module.spec.matrix_shape().count();
    }
  }

  const Recipe& recipe_;
  const OpenedModel& model_;
  Diagnostics problems_;
  CompressionPlan plan_;
  std::vector<bool> rule_matches_;
  std::multimap<std::string, std::size_t> rules_of_one_;  ///< by the module's name
  std::vector<std::size_t> rules_of_many_;                ///< those with wildcards
  Remarks solver_remarks_;
  std::set<std::string> reported_;  ///< one message per reason, not one per module
};

}  // namespace

bool CompressionPlan::walks_reference(PropagateMode propagate) const {
  const auto wants = [](const ResolvedScheme& scheme) { return scheme.solver->wants_reference(); };
  return propagate == PropagateMode::compressed && !architecture.is_listed() &&
         std::ranges::any_of(schemes, wants) &&  // few, and modules may be many
         std::ranges::any_of(modules, [&](const ModulePlan& module) {
           return module.spec.block && module.scheme && wants(schemes[*module.scheme]);
         });
}

void ModuleList::push_back(ModulePlan module) {
  if (!places_.emplace(module.spec.module, modules_.size()).second)
    fail(ErrorKind::internal, "two modules are named '{}'", module.spec.module);
  modules_.push_back(std::move(module));
}

const ModulePlan* ModuleList::find(std::string_view name) const {
  const auto at = places_.find(name);
  return at == places_.end() ? nullptr : &modules_[at->second];
}

const ResolvedScheme* CompressionPlan::pairing_scheme() const {
  for (const ModulePlan& module : modules)
    if (module.scheme && schemes[*module.scheme].solver->pairs_blocks()) return &schemes[*module.scheme];
  return nullptr;
}

CompressionPlan make_plan(const Recipe& recipe, const OpenedModel& model) { return Planner(recipe, model).run(); }

ExportPlan export_plan(const CompressionPlan& plan, const ExportJob& job, const Architecture& architecture,
                       std::span<const StoreFile> files, const OpenedModel& model,
                       std::vector<std::pair<std::string, std::string>> provenance) {
  ExportPlan exported{architecture, {},         model.tokenizer ? &*model.tokenizer : nullptr,
                      files,        model.name, std::move(provenance)};
  for (const TensorSpec& spec : expected_tensors(architecture)) {
    const ModulePlan* module = plan.find(spec.module);
    exported.tensors.push_back({spec, module != nullptr && spec.is_matrix() ? module->format : vector_format(spec)});
  }
  exported.split_max_bytes = job.split_max_bytes;
  exported.cache = job.cache;
  return exported;
}

}  // namespace adze
