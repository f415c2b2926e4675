#include "pipeline/block_step.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <optional>

#include "base/error.h"
#include "calibrate/readers.h"
#include "grid/format.h"

namespace adze {
namespace {

using Clock = std::chrono::steady_clock;

/// How remarks on experts that are sent few tokens begin.
constexpr std::string_view kFewTokens = "its expert is sent";

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

TensorPtr convert(const CompressedTensor& original, const ModulePlan& module) {
  return with_context(module.spec.module, [&]() -> TensorPtr {
    return std::make_shared<DenseTensor>(make_dense(original.decode(), *dtype_from_name(module.format)));
  });
}

std::string names_of(const std::vector<const ModulePlan*>& modules, const std::vector<std::size_t>& members) {
  std::string names;
  for (const std::size_t i : members) names += (names.empty() ? "" : ", ") + modules[i]->spec.module;
  return names;
}

/// The rows of a matrix that are solved as one, in order: slices of kSliceRows.
void add_slices(ConstViewF weights, const ResolvedScheme& scheme, std::vector<ConstViewF>& slices) {
  const std::size_t height = slice_rows(scheme, weights.shape());
  for (std::size_t first = 0; first < weights.rows(); first += height)
    slices.push_back(weights.row_range(first, std::min(height, weights.rows() - first)));
}

/// What the slices of one matrix become: payloads one after the other, losses added up.
Solution join_slices(std::span<Solution> slices, Shape shape) {
  if (slices.size() == 1) return std::move(slices.front());
  Solution whole{nullptr, slices.front().report};
  std::vector<std::byte> payload;
  double loss = 0, energy = 0;
  for (const Solution& slice : slices) {
    payload.insert(payload.end(), slice.tensor->payload().begin(), slice.tensor->payload().end());
    loss += slice.report.loss;
    if (slice.report.relative_loss > 0) energy += slice.report.loss / slice.report.relative_loss;
    if (whole.report.fallback.empty()) whole.report.fallback = slice.report.fallback;
  }
  whole.tensor = tensor_from_payload(slices.front().tensor->format(), shape, std::move(payload));
  whole.report.loss = loss;
  whole.report.relative_loss = energy > 0 ? loss / energy : 0;
  return whole;
}

/// Says how many weights a grid of bounded values had to clip, unless something else is said already.
void note_clipped(const Grid& grid, const MatrixF& weights, SolveReport& report) {
  const std::optional<float> most = grid.largest_value();
  if (!most || !report.fallback.empty()) return;
  const auto clipped = std::ranges::count_if(weights.values(), [&](float weight) { return std::fabs(weight) > *most; });
  if (clipped > 0)
    report.fallback = fmt::format("{:.2g} % of its weights are clipped: {} holds none beyond {}",
                                  100 * static_cast<double>(clipped) / static_cast<double>(weights.values().size()),
                                  grid.name(), *most);
}

/// One solution per weight. Large matrices go to the solver in slices, which bounds its scratch memory; all slices
/// share one factorisation.
std::vector<Solution> solve_all(const ResolvedScheme& scheme, const std::vector<MatrixF>& weights,
                                std::vector<ConstViewD> readers, const Moments& moments, const Partner* partner) {
  Problem problem;
  problem.grid = scheme.grid;
  problem.pattern = scheme.pattern;
  problem.hessian = moments.hessian;
  problem.cross = moments.cross;
  problem.readers = std::move(readers);
  problem.partner = partner;
  std::vector<std::size_t> ends;
  for (const MatrixF& matrix : weights) {
    add_slices(matrix, scheme, problem.weights);
    if (moments.residual.rows() == matrix.rows()) add_slices(moments.residual, scheme, problem.residual);
    ends.push_back(problem.weights.size());
  }
  std::vector<Solution> slices = scheme.solver->solve(problem);
  std::vector<Solution> solutions;
  std::size_t first = 0;
  for (std::size_t i = 0; i < weights.size(); first = ends[i++])
    note_clipped(
        *scheme.grid, weights[i],
        solutions.emplace_back(join_slices(std::span(slices).subspan(first, ends[i] - first), weights[i].shape()))
            .report);
  return solutions;
}

/// The neighbouring block's matrices of the members of a scheme that pairs blocks.
class PartnerWeights {
 public:
  PartnerWeights(const CompressionPlan& plan, const std::vector<const ModulePlan*>& modules,
                 const std::vector<std::size_t>& members, const Moments& moments) {
    if (!plan.schemes[*modules[members.front()]->scheme].solver->pairs_blocks()) return;
    partner_.emplace();
    partner_->hessian = moments.neighbour_hessian;
    for (const std::size_t i : members) {
      partner_->sharing.push_back(modules[i]->sharing);
      if (modules[i]->sharing.paired)
        weights_.push_back(decoded(*modules[i], moments));
      else
        weights_.emplace_back();
    }
    for (const MatrixF& weights : weights_) partner_->weights.push_back(weights);
  }

  const Partner* get() const { return partner_ ? &*partner_ : nullptr; }

 private:
  static MatrixF decoded(const ModulePlan& module, const Moments& moments) {
    if (moments.neighbour == nullptr)
      fail(ErrorKind::internal, "{} shares a factor with a block that is not known", module.spec.module);
    return (*moments.neighbour)[*module.spec.slot].weight->decode();
  }

  std::vector<MatrixF> weights_;
  std::optional<Partner> partner_;
};

/// A stage's moments; cross moments in single precision, which halves what they take while the stage is solved.
struct Measured {
  InputStatistics inputs;
  MatrixF cross;
  MatrixF residual;

  Moments moments() const { return {inputs.second_moment, cross, residual, {}}; }
};

MatrixF to_single(MatrixD matrix) {
  MatrixF single(matrix.shape());
  std::ranges::transform(matrix.values(), single.values().begin(), [](double v) { return static_cast<float>(v); });
  return single;
}

/// Takes the turn of both passes; measures when the stage is solved. joins: the stage makes up for the states' drift.
Measured measure(bool solves, bool joins, Stage stage, BlockPass& pass, const BlockWeights& seen, BlockPass* reference,
                 const BlockWeights& original) {
  if (solves && reference != nullptr) {
    ReferencedStatistics both = pass.measure_against(*reference, original, stage, seen);
    Measured measured{std::move(both.inputs), to_single(std::move(both.cross)), {}};
    if (joins) measured.residual = to_single(std::move(both.residual));
    return measured;
  }
  if (reference != nullptr) reference->pass_by(stage, original);
  if (solves) return {pass.measure(stage, seen), {}, {}};
  pass.pass_by(stage, seen);
  return {};
}

}  // namespace

std::size_t slice_rows(const ResolvedScheme& scheme, Shape shape) {
  // A multiple of every tile height that solvers and losses use, so that slicing changes no code.
  constexpr std::size_t kSliceRows = 8192;
  const bool whole = scheme.grid->one_side_per_tensor() || scheme.pattern || scheme.solver->couples_rows();
  return whole ? shape.rows : std::min(shape.rows, kSliceRows);
}

namespace {

/// The matrices of a scheme that share one input, on their way from original to solution.
class SchemeGroup {
 public:
  SchemeGroup(const CompressionPlan& plan, std::size_t scheme, const std::vector<const ModulePlan*>& modules,
              const Moments& moments, std::vector<TensorPtr>& tensors, std::vector<TensorRecord>& records)
      : plan_(plan),
        scheme_(plan.schemes[scheme]),
        modules_(modules),
        moments_(moments),
        tensors_(tensors),
        records_(records) {}

  /// Those that the store has need not be solved; the others are, together: one factorisation.
  void solve(std::vector<std::size_t> members, SolutionStore* store) {
    if (scheme_.solver->pairs_blocks()) store = nullptr;  // a solution depends on another block, too
    std::map<std::size_t, std::string> keys;
    if (store != nullptr) {
      const std::string measured = moments_hash(moments_);
      for (const std::size_t i : members) keys[i] = solution_key(scheme_, *tensors_[i], measured, reader_of(i));
      std::erase_if(members, [&](std::size_t i) {
        std::optional<Solution> found = store->find(keys[i]);
        if (!found) return false;
        store->note_found();
        take(i, *found, 0, keys[i]);
        return true;
      });
    }
    if (members.empty()) return;
    const Clock::time_point start = Clock::now();
    const std::vector<Solution> solutions = solved(members);
    const double seconds = seconds_since(start) / static_cast<double>(members.size());
    for (std::size_t m = 0; m < members.size(); ++m) {
      if (store != nullptr) store->put(keys[members[m]], solutions[m]);
      take(members[m], solutions[m], seconds, keys[members[m]]);
    }
  }

 private:
  ConstViewD reader_of(std::size_t i) const { return moments_.readers.empty() ? ConstViewD() : moments_.readers[i]; }

  std::vector<Solution> solved(const std::vector<std::size_t>& members) {
    std::vector<MatrixF> weights;
    std::vector<ConstViewD> readers;
    const PartnerWeights partner(plan_, modules_, members, moments_);
    for (const std::size_t i : members) {
      if (!moments_.readers.empty()) readers.push_back(moments_.readers[i]);
      weights.push_back(tensors_[i]->decode());
      tensors_[i].reset();
    }
    return with_context(names_of(modules_, members),
                        [&] { return solve_all(scheme_, weights, std::move(readers), moments_, partner.get()); });
  }

  void take(std::size_t i, const Solution& solution, double seconds, const std::string& key) {
    tensors_[i] = solution.tensor;
    records_.push_back(
        {modules_[i]->spec.module, solution.tensor->format(), solution.tensor->bytes(), solution.report, seconds, key});
  }

  const CompressionPlan& plan_;
  const ResolvedScheme& scheme_;
  const std::vector<const ModulePlan*>& modules_;
  const Moments& moments_;
  std::vector<TensorPtr>& tensors_;
  std::vector<TensorRecord>& records_;
};

}  // namespace

std::vector<TensorPtr> solve_modules(const CompressionPlan& plan, const std::vector<const ModulePlan*>& modules,
                                     std::vector<TensorPtr> originals, const Moments& moments,
                                     std::vector<TensorRecord>& records, SolutionStore* store) {
  std::map<std::size_t, std::vector<std::size_t>> by_scheme;
  for (std::size_t i = 0; i < modules.size(); ++i) {
    if (modules[i]->scheme) {
      by_scheme[*modules[i]->scheme].push_back(i);
    } else if (modules[i]->format != originals[i]->format()) {
      originals[i] = convert(*originals[i], *modules[i]);
    }
  }
  for (const auto& [scheme, members] : by_scheme)
    SchemeGroup(plan, scheme, modules, moments, originals, records).solve(members, store);
  return originals;
}

namespace {

/// Says of what was solved that its expert has seen few tokens, beside what else there is to say.
void note_borrowed(const InputStatistics& inputs, std::span<TensorRecord> records) {
  const std::string note =
      fmt::format("{} {} of the calibration's tokens, fewer than {} for each of its inputs; {} others stand in",
                  kFewTokens, inputs.tokens - inputs.borrowed, kExpertTokensPerInput, inputs.borrowed);
  for (TensorRecord& record : records) {
    std::string& fallback = record.report.fallback;
    fallback = fallback.empty() ? note : fmt::format("{}; {}", fallback, note);
  }
}

}  // namespace

bool solves_stage(const CompressionPlan& plan, std::size_t block, Stage stage) {
  return std::ranges::any_of(linears_of(plan.architecture, stage), [&](const LinearInfo& info) {
    return plan.find(module_name(block, info))->scheme.has_value();
  });
}

bool shares_stage(const CompressionPlan& plan, std::size_t block, Stage stage) {
  return std::ranges::any_of(linears_of(plan.architecture, stage), [&](const LinearInfo& info) {
    return plan.find(module_name(block, info))->sharing.paired;
  });
}

void solve_stage(const CompressionPlan& plan, std::size_t block, Stage stage, const BlockWeights& original,
                 const InputStatistics& inputs, Moments moments, BlockOutcome& outcome, SolutionStore* store) {
  constexpr std::size_t kReaderWindow = 2048;  // distances beyond it are not counted
  std::vector<const ModulePlan*> modules;
  std::vector<TensorPtr> originals;
  std::vector<MatrixD> readers;
  const std::vector<LinearInfo> linears = linears_of(plan.architecture, stage);
  for (const LinearInfo& info : linears) {
    modules.push_back(plan.find(module_name(block, info)));
    originals.push_back(original[info.slot].weight);
    const auto& scheme = modules.back()->scheme;
    const bool wanted = scheme && plan.schemes[*scheme].solver->wants_readers();
    const std::size_t window = std::min(plan.architecture.max_positions, kReaderWindow);
    readers.push_back(wanted ? reading_moment(plan.architecture, info.slot, original, inputs, window) : MatrixD());
  }
  for (const MatrixD& reader : readers) moments.readers.push_back(reader.view());
  const std::size_t before = outcome.tensors.size();
  const std::vector<TensorPtr> solved =
      solve_modules(plan, modules, std::move(originals), moments, outcome.tensors, store);
  for (std::size_t i = 0; i < solved.size(); ++i) outcome.weights[linears[i].slot].weight = solved[i];
  if (inputs.borrowed > 0) note_borrowed(inputs, std::span(outcome.tensors).subspan(before));
}

void tell_remarks(const std::vector<TensorRecord>& tensors, Progress& progress) {
  std::size_t with_few_tokens = 0;
  for (const TensorRecord& record : tensors) {
    const bool has_few_tokens = record.report.fallback.starts_with(kFewTokens);
    with_few_tokens += has_few_tokens;
    const bool is_told = has_few_tokens && with_few_tokens > 1;  // one stands for all
    if (!record.report.fallback.empty() && !is_told)
      progress.warn(fmt::format("{}: {}", record.module, record.report.fallback));
    if (record.report.dead_inputs > 0)
      progress.note(fmt::format("{}: {} inputs are always zero on the calibration set", record.module,
                                record.report.dead_inputs));
  }
  if (with_few_tokens > 1)
    progress.warn(fmt::format("so are {} other matrices of experts in this block; calibrate with more tokens",
                              with_few_tokens - 1));
}

bool wants_cache(const CompressionPlan& plan) {
  return std::ranges::any_of(plan.exports, [](const ExportJob& job) { return job.cache != CacheScales::none; });
}

BlockOutcome compress_block(const BlockJob& job, std::size_t block, const BlockWeights& original, HiddenStates& states,
                            const std::function<void()>& stage_done) {
  BlockOutcome outcome{original, {}};
  const bool compressed_inputs = job.propagate == PropagateMode::compressed;
  const bool sees_itself = compressed_inputs && job.stages == StageMode::staged;
  // Measured once, with the block's own weights untouched: the pass must not move the states that go on.
  std::optional<HiddenStates> copy;
  if (compressed_inputs && !sees_itself) copy = states.detached(job.scratch_states);
  BlockPass pass(job.forward, copy ? *copy : states, job.experts);
  std::optional<BlockPass> reference;
  if (job.reference != nullptr) reference.emplace(job.forward, *job.reference, job.experts);
  const BlockWeights& seen = sees_itself ? outcome.weights : original;
  for (const Stage stage : stages_of(job.plan.architecture)) {
    const Measured measured = with_context(fmt::format("block {}, input of {}", block, name_of(stage)), [&] {
      // Measured once, `down` sees the drift that `o` was asked to take away already: only one of them may.
      const bool joins = job.stages == StageMode::staged || stage == Stage::down;
      return measure(solves_stage(job.plan, block, stage), joins, stage, pass, seen, reference ? &*reference : nullptr,
                     original);
    });
    solve_stage(job.plan, block, stage, original, measured.inputs, measured.moments(), outcome);
    stage_done();
  }
  if (reference) reference->finish(original);
  CacheMaxima cache;
  if (copy) {
    cache = run_block(job.forward, outcome.weights, states);
  } else {
    pass.finish(seen);
    cache = pass.cache();
  }
  if (wants_cache(job.plan)) outcome.weights.cache = cache;
  return outcome;
}

}  // namespace adze
