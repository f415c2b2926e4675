#include "pipeline/resources.h"

#include <algorithm>
#include <functional>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "base/words.h"
#include "calibrate/pass_memory.h"
#include "evaluate/evaluate.h"
#include "pipeline/block_step.h"
#include "pipeline/transform_step.h"

namespace adze {
namespace {

constexpr std::uint64_t kDouble = sizeof(double);
constexpr std::uint64_t kFloat = sizeof(float);

std::uint64_t threads() { return static_cast<std::uint64_t>(thread_count()); }

std::uint64_t weights_of(const ModulePlan& module) { return module.spec.shape[0] * module.spec.shape[1]; }

/// Modules that are solved together.
using Group = std::vector<const ModulePlan*>;

/// What a solver holds beside weights and H while it solves one slice of `module`.
std::uint64_t slice_bytes(const CompressionPlan& plan, const ModulePlan& module) {
  const ResolvedScheme& resolved = plan.schemes[*module.scheme];
  const Grid& grid = *resolved.grid;
  const std::uint64_t inputs = module.spec.shape[1];
  const std::uint64_t rows = slice_rows(resolved, {module.spec.shape[0], inputs});
  const std::uint64_t count = rows * inputs;
  // Grids with one side per tensor are fitted to a copy of all weights with an importance each.
  const std::uint64_t fitted = grid.one_side_per_tensor() ? 2 * count * kFloat : 0;
  const std::uint64_t codes =
      fitted + count * sizeof(std::int16_t) + count / grid.step_cols(inputs) * sizeof(StepGroup);
  constexpr std::uint64_t kLossRows = 512;  // metrics/proxy_loss.cpp: a tile's differences and its product, in double,
  constexpr std::uint64_t kLossCols = 256;  // and a panel of H
  const std::uint64_t tiles = std::min(threads(), divide_up(rows, kLossRows));
  const std::uint64_t loss = tiles * (std::min(rows, kLossRows) * (inputs + kLossCols) + inputs * kLossCols) * kDouble;
  const bool has_moment = module.spec.role != TensorRole::embedding;
  return codes + count * kFloat + (has_moment ? loss : 0);
}

/// What is alive while a group is solved, H and originals aside.
std::vector<MemoryPart> solving_parts(const CompressionPlan& plan, const Group& group, bool has_moment,
                                      bool has_cross) {
  std::map<std::size_t, Group> by_scheme;
  for (const ModulePlan* module : group)
    if (module->scheme) by_scheme[*module->scheme].push_back(module);
  std::uint64_t weights = 0, scratch = 0, results = 0;
  for (const auto& [scheme, members] : by_scheme) {
    std::uint64_t count = 0, slice = 0, largest = 0;
    for (const ModulePlan* module : members) {
      count += weights_of(*module);
      largest = std::max(largest, weights_of(*module));
      results += module->bytes;
      slice = std::max(slice, slice_bytes(plan, *module));
    }
    const SolverScratch solver = plan.schemes[scheme].solver->scratch(
        {static_cast<std::size_t>(members.front()->spec.shape[1]), count, largest, has_moment, has_cross});
    weights = std::max(weights, count * kFloat);
    scratch = std::max({scratch, solver.factoring, solver.solving + slice});
  }
  return {{"weights in single precision", weights}, {"factor, codes and approximation", scratch}, {"results", results}};
}

/// Blocks and what lies outside, as stored before and after.
struct BlockSize {
  std::uint64_t original = 0;
  std::uint64_t compressed = 0;
};

/// Keeps the largest phase.
class Peak {
 public:
  explicit Peak(const Architecture& architecture) : program_(program_bytes(architecture)) {}

  void add(std::string name, std::vector<MemoryPart> parts) {
    parts.insert(parts.begin(), {"program", program_});
    MemoryPhase phase{std::move(name), std::move(parts)};
    if (phase.bytes() > phase_.bytes()) phase_ = std::move(phase);
  }
  const MemoryPhase& phase() const { return phase_; }

 private:
  std::uint64_t program_;
  MemoryPhase phase_;
};

void add_judging(Peak& peak, const Architecture& architecture, const std::vector<JudgedSize>& models,
                 const EvaluationSize& size, std::size_t at_once) {
  const std::size_t windows = at_once > 0 ? std::min(at_once, size.windows) : size.windows;
  std::uint64_t outside = 0, block = 0;
  for (const JudgedSize& model : models) {
    outside += model.outside;
    block = std::max(block, model.largest_block);
  }
  const std::uint64_t active = std::min<std::uint64_t>(threads(), windows);
  const MemoryPart states{"hidden states", models.size() * windows * size.tokens * architecture.hidden * kFloat};
  peak.add("evaluating blocks", {{"tables", outside},
                                 states,
                                 {"block", block},
                                 {"scratch of windows", active * window_scratch_bytes(architecture, size.tokens)}});
  peak.add("evaluating logits",
           {{"tables", outside}, states, {"logits", active * scoring_bytes(architecture.vocab, architecture.hidden)}});
}

/// Streams of hidden states that are alive together.
std::uint64_t streams_of(const Recipe& recipe, const CompressionPlan& plan) {
  const bool twice = recipe.stages == StageMode::once && recipe.propagate == PropagateMode::compressed;
  return 1 + (twice ? 1 : 0) + (plan.walks_reference(recipe.propagate) ? 1 : 0);
}

class Phases {
 public:
  Phases(const Recipe& recipe, const Architecture& architecture, const CompressionPlan& plan,
         const MemoryChoice& choice, const EvaluationSize& evaluation)
      : recipe_(recipe),
        architecture_(architecture),
        plan_(plan),
        choice_(choice),
        evaluation_(evaluation),
        stages_(stages_of(architecture)),
        widest_(plan.original_architecture),
        peak_(architecture) {
    layout_ = {recipe.calibration.windows, recipe.calibration.tokens, architecture.hidden,
               choice.batch_windows > 0 ? choice.batch_windows : batch_windows(recipe.calibration.tokens),
               choice.states_on_disk};
    for (const ModulePlan& module : plan.modules) {
      if (module.spec.block) {
        groups_[{*module.spec.block, *module.spec.stage()}].push_back(&module);
        BlockSize& block = blocks_[*module.spec.block];
        block.original += module.loaded_bytes;
        block.compressed += module.bytes;
      } else {
        outside_.push_back(&module);
      }
    }
  }

  MemoryPhase peak() {
    std::uint64_t table = 0;
    for (const ModulePlan* module : outside_) table = std::max(table, module->loaded_bytes);
    peak_.add("embedding the windows",
              {{"table", table}, {"hidden states", streams_of(recipe_, plan_) * states_bytes(layout_)}});
    if (needs_transform_pass(plan_)) add_transforming();
    for (const auto& transform : plan_.transforms) {
      if (const auto judged = transform->judged_survey())
        add_judged_survey(*judged);
      else if (transform->needs_survey())
        add_surveying();
    }
    for (const auto& [key, group] : groups_) add_stage(key.first, key.second, group);
    add_outside();
    add_export();
    if (evaluation_.windows > 0) add_evaluation();
    return peak_.phase();
  }

 private:
  /// A block, H of all its stages at once, and what the pruning of its widest input takes: H damped, inverted and cut,
  /// the matrix in double.
  void add_transforming() {
    std::uint64_t most = 0, moments = 0, widest = 0, measuring = 0;
    for (const auto& [number, block] : blocks_) most = std::max(most, block.original);
    for (const Stage stage : stages_of(widest_)) {
      if (stage.is_expert()) continue;
      const Shape shape = linears_of(widest_, stage).front().shape;
      moments += moment_bytes(shape.cols);
      widest = std::max(widest, 3 * moment_bytes(shape.cols) + 2 * shape.count() * kDouble);
      measuring = std::max(measuring, measuring_bytes(widest_, stage, layout_));
    }
    peak_.add("transforming a block", {{"hidden states", 2 * states_bytes(layout_)},
                                       {"block", 2 * most},
                                       {"H of all inputs", moments},
                                       {"inputs and scratch", std::max(widest, measuring)}});
  }

  /// The original model's states and one of its blocks, the sum, one H, and their eigenvectors with workspace.
  void add_surveying() {
    StatesLayout layout = layout_;
    layout.hidden = widest_.hidden;
    std::uint64_t most = 0;
    for (const auto& [number, block] : blocks_) most = std::max(most, block.original);
    peak_.add("surveying the residual stream",
              {{"hidden states", states_bytes(layout)},
               {"block", most},
               {"H and its eigenvectors", 5 * moment_bytes(widest_.hidden)},
               {"inputs and scratch", measuring_bytes(widest_, Stage::gate_up, layout)}});
  }

  /// Versions of the original beside it: the original's states before and after, a version's, and what scores them.
  void add_judged_survey(const Transform::JudgedSurvey& survey) {
    JudgedSize version, original;
    for (const auto& [number, block] : blocks_)
      original.largest_block = std::max(original.largest_block, block.original);
    for (const ModulePlan* module : outside_) original.outside += module->loaded_bytes;
    version.largest_block = survey.blocks * original.largest_block;
    const JudgedSize before;  // the original's states where versions begin
    add_judging(peak_, widest_, {version, original, before}, {survey.windows, layout_.tokens, true}, 0);
  }

  void add_stage(std::size_t block, Stage stage, const Group& group) {
    std::uint64_t results = 0;  // of the stages before
    for (const Stage before : stages_) {
      if (before == stage) break;
      for (const ModulePlan* module : groups_.at({block, before}))
        if (module->format != module->original_format) results += module->bytes;
    }
    const std::vector<MemoryPart> held = {{"hidden states", streams_of(recipe_, plan_) * states_bytes(layout_)},
                                          {"block as stored", blocks_.at(block).original + results}};
    const bool solved = std::ranges::any_of(group, [](const ModulePlan* module) { return module->scheme.has_value(); });
    const std::string where = fmt::format("block {}, {}", block, name_of(stage));
    if (solved) {
      std::vector<MemoryPart> parts = held;
      parts.push_back({"H", moment_bytes(group.front()->spec.shape[1])});
      std::vector<MemoryPart> measuring = parts;
      const bool walks = plan_.walks_reference(recipe_.propagate);
      measuring.push_back(
          {"inputs and scratch of a batch", (walks ? 2 : 1) * measuring_bytes(architecture_, stage, layout_)});
      if (walks) {
        const std::uint64_t cross = cross_entries(stage, group.front()->spec.shape[1]);
        measuring.push_back({"cross moments", cross * kDouble});
        parts.push_back({"cross moments", cross * kFloat});
      }
      peak_.add("measuring " + where, std::move(measuring));
      for (MemoryPart& part : solving_parts(plan_, group, true, walks)) parts.push_back(std::move(part));
      peak_.add("solving " + where, std::move(parts));
    }
    if (stage != stages_.back()) return;
    std::vector<MemoryPart> leaving = held;
    const std::uint64_t windows = std::min<std::uint64_t>({threads(), layout_.windows, layout_.batch_windows});
    leaving.push_back({"scratch of windows", windows * window_scratch_bytes(architecture_, layout_.tokens)});
    peak_.add(fmt::format("leaving block {}", block), std::move(leaving));
  }

  /// Entries of a stage's cross moments: with its inputs and, where its output joins the states, with these.
  std::uint64_t cross_entries(Stage stage, std::uint64_t inputs) const {
    const bool joins_states = stage == Stage::o || (stage == Stage::down && !architecture_.is_mixture());
    return inputs * (inputs + (joins_states ? architecture_.hidden : 0));
  }

  /// Embedding, then head; what the former became is alive while the latter is solved.
  void add_outside() {
    std::uint64_t before = 0;
    for (const ModulePlan* module : outside_) {
      const bool moment = module->spec.role == TensorRole::head || architecture_.tied;
      std::vector<MemoryPart> parts = {{"results before", before}};
      if (moment && module->scheme) {
        const std::uint64_t batch = std::min(layout_.batch_windows, layout_.windows) * layout_.tokens;
        peak_.add("measuring the input of the head",
                  {{"hidden states", streams_of(recipe_, plan_) * states_bytes(layout_)},
                   {"H", moment_bytes(architecture_.hidden)},
                   {"inputs of a batch", batch * architecture_.hidden * kFloat}});
      }
      if (needs_head_moment()) parts.push_back({"H", moment_bytes(architecture_.hidden)});
      if (module->scheme) {
        for (MemoryPart& part : solving_parts(plan_, {module}, moment, false)) parts.push_back(std::move(part));
        // Decoding holds the original beside the decoded weights; solving no longer does.
        peak_.add("decoding " + module->spec.module, {{"results before", before},
                                                      {"as stored", module->loaded_bytes},
                                                      {"weights in single precision", weights_of(*module) * kFloat}});
      } else {
        const bool converts = module->format != module->original_format;
        parts.push_back({"as stored", module->loaded_bytes});
        if (converts) parts.push_back({"converted", module->bytes + weights_of(*module) * kFloat});
      }
      peak_.add("solving " + module->spec.module, parts);
      before += module->bytes;
    }
  }

  bool needs_head_moment() const {
    return std::ranges::any_of(outside_, [&](const ModulePlan* module) {
      return module->scheme && (module->spec.role == TensorRole::head || architecture_.tied);
    });
  }

  /// The compressed model's tables, a block of it with the next one read ahead, and a matrix: as it is stored, what is
  /// made of it, and what is being written.
  void add_export() {
    if (plan_.exports.empty()) return;
    std::uint64_t most = 0, outside = 0, widest = 0;
    for (const auto& [number, block] : blocks_) most = std::max(most, block.compressed);
    for (const ModulePlan* module : outside_) outside += module->bytes;
    for (const ModulePlan& module : plan_.modules) widest = std::max(widest, module.bytes);
    peak_.add("exporting", {{"tables", outside}, {"blocks", 2 * most}, {"matrix being written", 3 * widest}});
  }

  void add_evaluation() {
    JudgedSize original, compressed;
    for (const auto& [number, block] : blocks_) {
      original.largest_block = std::max(original.largest_block, block.original);
      compressed.largest_block = std::max(compressed.largest_block, block.compressed);
    }
    for (const ModulePlan* module : outside_) {
      compressed.outside += module->bytes;
      original.outside = std::max(original.outside, module->loaded_bytes);  // loaded when needed, one at a time
    }
    add_judging(peak_, architecture_, {compressed, original}, evaluation_, choice_.evaluation_windows);
  }

  const Recipe& recipe_;
  const Architecture& architecture_;
  const CompressionPlan& plan_;
  MemoryChoice choice_;
  EvaluationSize evaluation_;
  std::vector<Stage> stages_;
  Architecture widest_;  ///< before transforms
  StatesLayout layout_;
  std::map<std::pair<std::size_t, Stage>, Group> groups_;  ///< by block and stage
  std::map<std::size_t, BlockSize> blocks_;
  Group outside_;
  Peak peak_;
};

/// Of a model whose architecture is not known: its matrices are solved one after the other, block by block.
MemoryPhase listed_peak(const Recipe& recipe, const CompressionPlan& plan) {
  std::map<std::size_t, BlockSize> blocks;
  std::uint64_t widest = 0, most = 0;
  for (const TensorSpec& spec : expected_tensors(plan.architecture)) {
    const std::uint64_t bytes = checked_mul(checked_product(spec.shape), bytes_of(spec.dtype));
    blocks[*spec.block].original += bytes;
    if (!spec.is_matrix()) blocks[*spec.block].compressed += bytes;  // the same bytes, held once
    if (!spec.is_matrix()) widest = std::max(widest, bytes);
  }
  for (const ModulePlan& module : plan.modules) {
    blocks[*module.spec.block].compressed += module.bytes;
    widest = std::max(widest, module.bytes);
  }
  Peak peak(plan.architecture);
  for (const ModulePlan& module : plan.modules) {
    const BlockSize& block = blocks[*module.spec.block];
    std::vector<MemoryPart> parts = {{"block as stored", block.original}, {"results before", block.compressed}};
    if (module.scheme) {
      const bool fed = recipe.calibration.from == InputsFrom::weights ||
                       plan.schemes[*module.scheme].solver->needs_inputs();  // --data-free
      const std::uint64_t inputs = module.spec.shape[1];
      if (fed) parts.push_back({"H and cross moments", moment_bytes(inputs) * 2});
      for (MemoryPart& part : solving_parts(plan, {&module}, fed, fed)) parts.push_back(std::move(part));
    } else if (module.format != module.original_format) {
      parts.push_back({"converted", module.bytes + weights_of(module) * kFloat});
    }
    peak.add("solving " + module.spec.module, std::move(parts));
  }
  for (const auto& [number, block] : blocks) most = std::max(most, block.compressed);
  peak.add("writing", {{"blocks", 2 * most}, {"tensor being written", 3 * widest}});
  return peak.phase();
}

/// Choices from the most convenient on: how much of the default batch is held, and where states lie.
std::vector<MemoryChoice> choices(std::size_t tokens, std::size_t windows) {
  const std::size_t slice = slice_windows(tokens);
  const std::size_t most = std::min<std::size_t>(batch_windows(tokens), round_up(windows, slice));
  std::vector<MemoryChoice> all;
  for (const bool on_disk : {false, true})
    for (std::size_t batch = most;; batch = std::max(batch / 2, slice)) {
      all.push_back({batch, on_disk, 0});
      if (batch <= slice) break;
    }
  return all;
}

[[noreturn]] void refuse(const MemoryPhase& least, std::uint64_t limit, std::string_view advice) {
  fail(ErrorKind::out_of_memory, "the run needs {} at least, while {} ({}); --memory allows {}; {}",
       bytes_in_words(least.bytes()), least.name, parts_in_words(least), bytes_in_words(limit), advice);
}

}  // namespace

std::uint64_t MemoryPhase::bytes() const {
  std::uint64_t sum = 0;
  for (const MemoryPart& part : parts) sum = checked_add(sum, part.bytes);
  return sum;
}

Resources predict_resources(const Recipe& recipe, const Architecture& architecture, const CompressionPlan& plan,
                            const MemoryChoice& choice, const EvaluationSize& evaluation) {
  Resources resources;
  resources.choice = choice;
  if (architecture.is_listed()) {
    resources.peak = listed_peak(recipe, plan);
    resources.peak_memory = resources.peak.bytes();
    return resources;
  }
  resources.peak = Phases(recipe, architecture, plan, choice, evaluation).peak();
  resources.peak_memory = resources.peak.bytes();
  const std::uint64_t tokens = checked_mul(recipe.calibration.windows, recipe.calibration.tokens);
  const bool twice = recipe.stages == StageMode::once && recipe.propagate == PropagateMode::compressed;
  const std::uint64_t generations =
      2 * (plan.walks_reference(recipe.propagate) ? 2 : 1) + (choice.states_on_disk && twice ? 1 : 0);
  resources.temporary_disk = generations * checked_mul(tokens, architecture.hidden * kFloat);
  if (needs_transform_pass(plan)) resources.temporary_disk += plan.weights * kFloat;
  return resources;
}

Resources choose_resources(const Recipe& recipe, const Architecture& architecture, const CompressionPlan& plan,
                           const EvaluationSize& evaluation, std::optional<std::uint64_t> limit) {
  if (!limit) return predict_resources(recipe, architecture, plan, {}, evaluation);
  Resources resources;
  for (MemoryChoice choice : choices(recipe.calibration.tokens, recipe.calibration.windows)) {
    for (choice.evaluation_windows = evaluation.windows;; choice.evaluation_windows /= 2) {
      resources = predict_resources(recipe, architecture, plan, choice, evaluation);
      if (resources.peak_memory <= *limit) return resources;
      if (choice.evaluation_windows < 2) break;
    }
  }
  refuse(resources.peak, *limit, "allow that much, or use fewer --threads or shorter windows");
}

JudgedSize judged_size(const ModelWeights& model) {
  JudgedSize size;
  const TensorPtr table = model.embedding();
  size.outside = table->bytes();
  if (const TensorPtr positions = model.positions()) size.outside += positions->bytes();
  if (const TensorPtr head = model.head(); head != table) size.outside += head->bytes();
  model.block(0).for_each_linear([&](const Linear& linear) { size.largest_block += linear.weight->bytes(); });
  return size;
}

Resources choose_evaluation(const Architecture& architecture, const std::vector<JudgedSize>& models,
                            const EvaluationSize& evaluation, std::optional<std::uint64_t> limit) {
  Resources resources;
  std::size_t& windows = resources.choice.evaluation_windows;
  for (windows = evaluation.windows; windows > 0; windows /= 2) {
    Peak peak(architecture);
    add_judging(peak, architecture, models, evaluation, windows);
    resources.peak = peak.phase();
    resources.peak_memory = resources.peak.bytes();
    if (!limit || resources.peak_memory <= *limit) return resources;
  }
  if (!limit || evaluation.windows == 0) return resources;
  refuse(resources.peak, *limit, "allow that much, or use fewer --threads or a protocol of shorter windows");
}

std::string parts_in_words(const MemoryPhase& phase) {
  constexpr std::uint64_t kWorthNaming = std::uint64_t{1} << 20;
  std::vector<MemoryPart> parts = phase.parts;
  std::ranges::stable_sort(parts, std::greater<>(), &MemoryPart::bytes);
  std::vector<std::string> words;
  for (const MemoryPart& part : parts)
    if (part.bytes >= kWorthNaming) words.push_back(fmt::format("{} {}", part.what, bytes_in_words(part.bytes)));
  return fmt::format("{}", fmt::join(words, ", "));
}

}  // namespace adze
