#include "pipeline/compress.h"

#include <algorithm>
#include <chrono>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/peak_memory.h"
#include "checkpoint/sidecar.h"
#include "linalg/convert.h"
#include "model/compressed_store.h"
#include "pipeline/block_step.h"
#include "pipeline/listed_step.h"
#include "pipeline/manifest.h"
#include "pipeline/outer_step.h"
#include "pipeline/resources.h"
#include "pipeline/run_page.h"
#include "pipeline/transform_step.h"

namespace adze {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

StatesLayout states_layout(const PreparedRun& run) {
  if (run.plan.architecture.is_listed()) return {};
  const MemoryChoice& choice = run.memory.choice;
  const std::size_t batch = choice.batch_windows > 0 ? choice.batch_windows : batch_windows(run.windows.tokens);
  return {run.windows.count(), run.windows.tokens, run.plan.architecture.hidden, batch, choice.states_on_disk};
}

/// A stream of hidden states that walks from block to block, and where its generations lie.
struct Stream {
  const char* stem;
  bool compressed;                                     ///< moved on by compressed blocks, or by the original ones
  std::optional<LedgerFile> CommittedStep::*recorded;  ///< the step's generation
  std::optional<HiddenStates> states;

  std::string file(std::size_t blocks_done) const { return fmt::format("work/{}-{:04}.f32", stem, blocks_done); }
};

class Run {
 public:
  Run(const PreparedRun& run, const CompressOptions& options, Progress& progress)
      : run_(run),
        model_(*run.model),
        progress_(progress),
        folder_(options.out, options.if_exists),
        ledger_(folder_.ledger(), run.ingredients,
                options.force ? std::set<std::string>{"kernels"} : std::set<std::string>{}),
        layers_(run.plan.architecture.layers),
        stages_(std::max<std::size_t>(stages_of(run.plan.architecture).size(), 1)),
        study_(options.study) {}

  CompressResult run() {
    const auto start = Clock::now();
    phase_ = start;
    write_file(folder_.out() / "recipe.yaml", run_.recipe->source->text());
    if (blocks_done() < layers_ || !is_done(layers_)) {
      weights_ = transformed_model(run_.plan, model_, run_.windows, states_layout(run_), folder_.work(), progress_);
      if (!is_listed()) forward_.emplace(weights_->architecture(), run_.windows.tokens);
    }
    end_phase("transforms and setting up");
    do_blocks();
    end_phase("blocks");
    do_outer();
    end_phase("embedding and head");
    do_exports();
    end_phase("exports");
    collect();
    if (run_.plan.protocol) {
      evaluate_result();
      end_phase("evaluation");
    }
    result_.seconds = seconds_since(start);
    result_.peak_memory = peak_memory();
    write_reports(folder_.out(), report_text(run_, result_), run_page(run_, result_, inputs_of(run_), study_));
    write_file(folder_.out() / kManifestName, manifest_text(run_, result_));
    folder_.finish();
    return std::move(result_);
  }

 private:
  /// Nothing runs through a model whose architecture is not known: there are no states.
  bool is_listed() const { return run_.plan.architecture.is_listed(); }

  /// What was done since the last phase ended was that.
  void end_phase(const std::string& name) {
    result_.phases.push_back({name, seconds_since(phase_)});
    phase_ = Clock::now();
  }

  /// A committed step whose files are all as they were.
  bool is_done(std::size_t step) const {
    const auto at = ledger_.steps().find(static_cast<std::uint32_t>(step));
    if (at == ledger_.steps().end()) return false;
    for (const LedgerFile& file : at->second.stored)
      if (!is_intact(folder_.out(), file)) return false;
    return true;
  }

  const CommittedStep& committed(std::size_t step) const {
    return ledger_.steps().at(static_cast<std::uint32_t>(step));
  }

  std::size_t blocks_done() const {
    std::size_t done = 0;
    while (done < layers_ && is_done(done)) ++done;
    return done;
  }

  /// Brings a stream before `block`, where the blocks before it are committed: the latest generation that is whole, run
  /// through the blocks after it. The same bits as when those blocks were solved.
  void load(Stream& stream, std::size_t block) {
    std::size_t from = block;
    for (; from > 0; --from) {
      const auto& file = committed(from - 1).*stream.recorded;
      if (file && is_intact(folder_.out(), *file)) break;
    }
    stream.states.emplace(states_layout(run_));
    if (from == 0) {
      begin(stream, 0);
      embed_windows(*forward_, input_tables(*weights_), run_.windows.ids, *stream.states);
      keep(stream);
    } else {
      stream.states->open(folder_.out() / stream.file(from));
    }
    for (; from < block; ++from) recompute(stream, from);
  }

  void recompute(Stream& stream, std::size_t block) {
    progress_.note(fmt::format("hidden states after block {} are missing: computed again", block));
    begin(stream, block + 1);
    run_block(*forward_,
              stream.compressed
                  ? read_block_file(folder_.store() / block_file_name(block), run_.plan.architecture, block)
                  : weights_->block(block),
              *stream.states);
    keep(stream);
  }

  void begin(Stream& stream, std::size_t blocks_done) {
    stream.states->begin(folder_.out() / stream.file(blocks_done));
  }

  /// States that no commit will save: the next pass reads them from their file, if they live in one.
  static void keep(Stream& stream) {
    if (stream.states->layout().on_disk) stream.states->save();
  }

  void save(Stream& stream, std::size_t blocks_done, CommittedStep& step) {
    stream.states->save();
    step.*stream.recorded = describe_file(folder_.out(), stream.file(blocks_done));
  }

  void do_blocks() {
    const std::size_t first = blocks_done();
    result_.resumed_steps = first;
    if (first == layers_ && is_done(layers_)) return;
    if (first > 0) progress_.note(fmt::format("resuming after block {} of {}", first, layers_));
    for (Stream* stream : streams())
      if (first < layers_ || stream == &states_) load(*stream, first);
    progress_.start("compressing", layers_ * stages_);
    for (std::size_t block = first; block < layers_; ++block) do_block(block);
    progress_.update(layers_ * stages_);
  }

  /// The original model's states walk along where a scheme wants to know how far the compressed ones have drifted.
  std::vector<Stream*> streams() {
    if (is_listed()) return {};
    std::vector<Stream*> all{&states_};
    if (run_.plan.walks_reference(run_.recipe->propagate)) all.push_back(&reference_);
    return all;
  }

  BlockOutcome compressed_list(std::size_t block) {
    progress_.update(block);
    const bool from_weights = run_.recipe->calibration.from == InputsFrom::weights;
    return compress_listed(*run_.recipe, run_.plan, block, weights_->block(block), from_weights);
  }

  BlockOutcome compressed(std::size_t block) {
    if (is_listed()) return compressed_list(block);
    for (Stream* stream : streams()) begin(*stream, block + 1);
    const BlockJob job{run_.plan,
                       *forward_,
                       run_.recipe->propagate,
                       run_.recipe->stages,
                       run_.recipe->calibration.experts,
                       folder_.work() / "states-once.f32",
                       reference_.states ? &*reference_.states : nullptr};
    std::size_t stages_done = block * stages_;
    progress_.update(stages_done);
    return compress_block(job, block, weights_->block(block), *states_.states,
                          [&] { progress_.update(++stages_done); });
  }

  void do_block(std::size_t block) {
    BlockOutcome outcome = compressed(block);
    tell_remarks(outcome.tensors, progress_);
    commit_block(block, std::move(outcome));
  }

  void commit_block(std::size_t block, BlockOutcome outcome) {
    CommittedStep step;
    step.step = static_cast<std::uint32_t>(block);
    const std::string store_name = "store/" + block_file_name(block);
    write_block_file(folder_.out() / store_name, outcome.weights, run_.plan.architecture);
    step.stored = describe_with_sidecar(store_name);
    for (Stream* stream : streams()) save(*stream, block + 1, step);
    step.tensors = std::move(outcome.tensors);
    ledger_.commit(step);
    std::error_code ignored;  // two generations are kept; a leftover goes with the work folder
    if (block > 0)
      for (const Stream* stream : streams()) fs::remove(folder_.out() / stream->file(block - 1), ignored);
  }

  std::vector<LedgerFile> describe_with_sidecar(const std::string& name) const {
    return {describe_file(folder_.out(), name), describe_file(folder_.out(), sidecar_path(name).string())};
  }

  /// Embedding, final norm and head. The head's H is that of the compressed blocks' output; an untied embedding has
  /// none.
  void do_outer() {
    if (is_done(layers_)) return;
    progress_.start("embedding and head", 1);
    CommittedStep step;
    step.step = static_cast<std::uint32_t>(layers_);
    OuterOutcome outcome;
    if (!is_listed()) outcome = compressed_outer();
    step.tensors = outcome.tensors;
    tell_remarks(step.tensors, progress_);
    const std::string name = std::string("store/") + kOuterFileName;
    write_outer_file(folder_.out() / name,
                     transformed_files(model_.files, model_.architecture(), weights_->architecture()), outcome.made);
    step.stored = describe_with_sidecar(name);
    ledger_.commit(step);
    progress_.update(1);
  }

  OuterOutcome compressed_outer() {
    InputStatistics statistics;
    if (solves_head(run_.plan, run_.plan.architecture))
      statistics = measure_head_input(*forward_, norm_of(*weights_), *states_.states);
    for (Stream* stream : streams()) stream->states.reset();
    return compress_outer(run_.plan, *weights_, statistics.second_moment);
  }

  void do_exports() {
    for (std::size_t e = 0; e < run_.plan.exports.size(); ++e) {
      if (is_done(layers_ + 1 + e)) continue;
      const ExportJob& job = run_.plan.exports[e];
      const std::string name = job.file.string();
      make_folder((folder_.out() / job.file).parent_path());
      const CompressedStore store(folder_.store());
      const ExportPlan exported =
          export_plan(run_.plan, job, store.architecture(), store.files(), model_, run_.provenance);
      job.exporter->write(exported, store, folder_.out() / job.file, progress_);
      CommittedStep step;
      step.step = static_cast<std::uint32_t>(layers_ + 1 + e);
      std::uint64_t bytes = 0;
      for (const fs::path& file : job.exporter->files(exported, job.file))
        bytes += step.stored.emplace_back(describe_file(folder_.out(), file.string())).bytes;
      if (bytes > job.bytes || (bytes < job.bytes && !job.exporter->size_depends_on_values()))
        fail(ErrorKind::internal, "{}: {} bytes were predicted, {} written", name, job.bytes, bytes);
      ledger_.commit(step);
    }
  }

  void collect() {
    for (const auto& [number, step] : ledger_.steps()) {
      result_.tensors.insert(result_.tensors.end(), step.tensors.begin(), step.tensors.end());
      result_.files.insert(result_.files.end(), step.stored.begin(), step.stored.end());
    }
    result_.files.push_back(describe_file(folder_.out(), "recipe.yaml"));
  }

  void evaluate_result() {
    const auto& prefix = model_.require_tokenizer().vocabulary().prefix_ids;
    const CompressedStore compressed(folder_.store());
    result_.evaluation = evaluate(compressed, model_.weights.get(), run_.evaluation_ids,
                                  prefix.empty() ? std::nullopt : std::optional(prefix.front()), *run_.plan.protocol,
                                  progress_, {.windows_at_once = run_.memory.choice.evaluation_windows});
  }

  const PreparedRun& run_;
  const OpenedModel& model_;
  Progress& progress_;
  WorkFolder folder_;
  Ledger ledger_;
  std::optional<Forward> forward_;  ///< of weights_
  std::size_t layers_;
  std::size_t stages_;                           ///< of a block
  const CalibrationStudy* study_;                ///< for the page; null: none
  std::shared_ptr<const ModelWeights> weights_;  ///< what is compressed: the original, or what transforms make of it
  Stream states_{"states", run_.recipe->propagate == PropagateMode::compressed, &CommittedStep::states, {}};
  Stream reference_{"reference", false, &CommittedStep::reference, {}};
  CompressResult result_;
  Clock::time_point phase_;  ///< its beginning
};

}  // namespace

namespace {

EvaluationSize evaluation_size(const PreparedRun& run) {
  if (!run.plan.protocol) return {};
  return {run.evaluation_ids.size() / run.plan.protocol->window, run.plan.protocol->window, true};
}

/// windows: asked for once the recipe has passed its checks.
PreparedRun prepare(const Recipe& recipe, const OpenedModel& model, const std::function<TokenWindows()>& windows,
                    std::optional<std::uint64_t> memory_limit) {
  PreparedRun run;
  run.recipe = &recipe;
  run.model = &model;
  if (!model.architecture().is_listed()) model.require_tokenizer();
  run.plan = make_plan(recipe, model);
  if (const ResolvedScheme* const pairing = run.plan.pairing_scheme())
    fail(
        ErrorKind::bad_recipe,
        "{}: the solver of scheme '{}' pairs blocks, which a run from block to block cannot; adze factorize does, with "
        "the statistics of adze calibrate",
        recipe.origin, pairing->name);
  run.windows = windows();
  run.provenance = {
      {"adze.version", ADZE_VERSION}, {"adze.recipe", recipe.text_hash}, {"adze.calibration", run.windows.hash()}};
  for (ExportJob& job : run.plan.exports)
    job.bytes = job.exporter->predict_bytes(
        export_plan(run.plan, job, run.plan.architecture, run.plan.files, model, run.provenance));
  if (run.plan.protocol) {
    run.evaluation_ids = tokenize_set(load_text_set(recipe.evaluate->text), model.require_tokenizer());
    if (run.evaluation_ids.size() < run.plan.protocol->window)
      fail(ErrorKind::bad_data, "{}: {} tokens, one window of {} is needed", recipe.evaluate->text.string(),
           run.evaluation_ids.size(), run.plan.protocol->window);
    constexpr double kMostShared = 0.001;
    if (const double share = shared_text(run.windows, run.evaluation_ids); share > kMostShared)
      run.plan.warnings.push_back(fmt::format(
          "{:.1f} % of the evaluation text was calibrated with: the judgement flatters; evaluate on other text",
          100 * share));
  }
  run.memory = choose_resources(recipe, run.plan.architecture, run.plan, evaluation_size(run), memory_limit);
  run.plan.peak_memory = run.memory.peak_memory;
  run.plan.temporary_disk = run.memory.temporary_disk;
  run.ingredients = {{"recipe", recipe.text_hash},
                     {"model", model_identity(model)},
                     {"calibration", run.windows.hash()},
                     {"version", ADZE_VERSION},
                     {"kernels", kernel_name()}};
  return run;
}

}  // namespace

PreparedRun prepare_run(const Recipe& recipe, const OpenedModel& model, std::optional<std::uint64_t> memory_limit) {
  const CalibrationSpec& calibration = recipe.calibration;
  const WindowRule rule{calibration.windows, calibration.tokens, calibration.seed};
  return prepare(
      recipe, model,
      [&] {
        if (calibration.from != InputsFrom::text) return TokenWindows();
        return load_windows(calibration.set, model.require_tokenizer(), rule);
      },
      memory_limit);
}

PreparedRun prepare_run(const Recipe& recipe, const OpenedModel& model, TokenWindows windows,
                        std::optional<std::uint64_t> memory_limit) {
  return prepare(
      recipe, model, [&] { return std::move(windows); }, memory_limit);
}

CompressResult compress(const PreparedRun& run, const CompressOptions& options, Progress& progress) {
  return Run(run, options, progress).run();
}

}  // namespace adze
