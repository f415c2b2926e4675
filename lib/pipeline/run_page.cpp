#include "pipeline/run_page.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/file.h"
#include "base/parallel.h"
#include "base/words.h"
#include "linalg/convert.h"
#include "pipeline/calibration_study.h"
#include "pipeline/run_figures.h"
#include "pipeline/run_tables.h"
#include "report/numbers.h"
#include "report/run_report.h"

namespace adze {
namespace {

constexpr std::size_t kWorst = 12;  // matrices in the table of the largest losses

std::string percent(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? "–" : fmt::format("{:.1f} %", 100 * static_cast<double>(part) / static_cast<double>(whole));
}

/// A table of one row as one of two columns, which is easier to read.
Table turned(const Table& table) {
  Table turned({{"", Align::left}, {"", Align::left}});
  for (std::size_t c = 0; c < table.columns().size(); ++c)
    turned.add_row({table.columns()[c].title, table.rows().front()[c]});
  return turned;
}

std::string between(const ReferenceResult& judged) {
  const std::optional<Interval>& interval = judged.kl_mean_95;
  if (!interval) return "± " + short_number(judged.kl_mean_se);
  return fmt::format("95 %: {} to {}", short_number(interval->low), short_number(interval->high));
}

std::size_t fallbacks_of(const CompressResult& result) {
  return static_cast<std::size_t>(std::ranges::count_if(
      result.tensors, [](const TensorRecord& record) { return !record.report.fallback.empty(); }));
}

std::vector<Tile> tiles_of(const PreparedRun& run, const CompressResult& result) {
  const CompressionPlan& plan = run.plan;
  std::vector<Tile> tiles{
      {"Size of tensors", bytes_in_words(plan.stored_bytes),
       fmt::format("{} of {}", percent(plan.stored_bytes, plan.original_bytes), bytes_in_words(plan.original_bytes))},
      {"Bits per weight", fmt::format("{:.3f}", plan.bits_per_weight()), "norms included"}};
  if (result.evaluation) {
    const EvaluationResult& judged = *result.evaluation;
    if (const auto& r = judged.reference)
      tiles.push_back({"KL from the original", short_number(r->kl_mean), between(*r)});
    tiles.push_back(
        {"Perplexity", short_number(judged.perplexity),
         judged.reference ? "of the original: " + short_number(judged.reference->perplexity_base) : judged.protocol});
  }
  if (const std::size_t fallbacks = fallbacks_of(result))
    tiles.push_back({"Fallbacks", fmt::format("{}", fallbacks), fmt::format("of {} matrices", result.tensors.size())});
  tiles.push_back({"Time", fmt::format("{:.1f} s", result.seconds), fmt::format("{} threads", thread_count())});
  return tiles;
}

std::vector<std::string> warnings_of(const PreparedRun& run, const CompressResult& result) {
  std::vector<std::string> warnings = run.plan.warnings;
  for (const ExportJob& job : run.plan.exports)
    for (const std::string& remark : job.remarks)
      warnings.push_back(fmt::format("{}: {}", job.file.generic_string(), remark));
  if (const std::size_t fallbacks = fallbacks_of(result))
    warnings.push_back(fmt::format("{} of {} matrices were not solved as asked: the section on fallbacks says which",
                                   fallbacks, result.tensors.size()));
  return warnings;
}

void add_summary(Page& page, const PreparedRun& run, const CompressResult& result) {
  Section& section = page.section("Summary").tiles(tiles_of(run, result));
  if (auto warnings = warnings_of(run, result); !warnings.empty()) section.warnings(std::move(warnings));
}

Table scheme_table(const PreparedRun& run) {
  Table table({{"scheme", Align::left}, {"grid", Align::left}, {"solver", Align::left}, {"options", Align::left}});
  for (std::size_t s = 0; s < run.plan.schemes.size(); ++s) {
    const ResolvedScheme& scheme = run.plan.schemes[s];
    std::string options = scheme.solver->description();
    if (scheme.pattern) options += " sparsity=" + scheme.pattern->text();
    table.add_row({scheme.name, scheme.grid->name(), run.recipe->schemes[s].solver, options});
  }
  return table;
}

void add_what_was_done(Page& page, const PreparedRun& run, std::vector<Fact> inputs) {
  const Architecture& a = run.plan.architecture;
  std::vector<Fact> facts{
      {"model", fmt::format("{}, {}", run.model->name, a.family)},
      {"sizes", a.is_listed()
                    ? fmt::format("{} tensors, {} weights in all", a.listed.size(), run.plan.weights)
                    : fmt::format("{} layers of width {}, {} weights in all", a.layers, a.hidden, run.plan.weights)}};
  for (const auto& transform : run.plan.transforms) facts.push_back({"transform", in_words(*transform)});
  facts.insert(facts.end(), std::make_move_iterator(inputs.begin()), std::make_move_iterator(inputs.end()));
  facts.push_back({"program", fmt::format("adze {}, kernels {}", ADZE_VERSION, kernel_name())});
  page.section("What was done, and with what")
      .facts(std::move(facts))
      .table(scheme_table(run), "Schemes of the recipe")
      .table(rules_table(run), "What each rule matched")
      .file("The recipe", run.recipe->source->text());
}

void add_quality(Page& page, const PreparedRun& run, const CompressResult& result) {
  Section& section = page.section("Quality against the original");
  if (!result.evaluation) {
    section.text("Not judged: the recipe has no evaluate. adze eval judges the result on any text.");
    return;
  }
  const EvaluationResult& judged = *result.evaluation;
  section
      .text(
          fmt::format("Protocol {}: {} windows, {} tokens scored. KL is the divergence of the next-token distribution "
                      "from the original's; ± is one standard error.",
                      judged.protocol, judged.windows, judged.tokens))
      .table(turned(judgements({{run.model->name, run.plan.stored_bytes, run.plan.bits_per_weight(), judged}})));
  if (judged.reference)
    section.figure(window_strip(*judged.reference),
                   "One dot per window, a stroke at the median: a few windows far to the right say where to look.");
}

Table worst_table(const CompressResult& result) {
  std::vector<const TensorRecord*> worst;
  for (const TensorRecord& record : result.tensors) worst.push_back(&record);
  std::ranges::stable_sort(worst, std::greater{}, [](const TensorRecord* r) { return r->report.relative_loss; });
  worst.resize(std::min(worst.size(), kWorst));
  Table table({{"module", Align::left}, {"format", Align::left}, {"bytes"}, {"relative loss"}, {"loss"}});
  for (const TensorRecord* const record : worst)
    table.add_row({record->module, record->format, fmt::format("{}", record->bytes),
                   fmt::format("{:.3e}", record->report.relative_loss), fmt::format("{:.3e}", record->report.loss)});
  return table;
}

void add_losses(Page& page, const PreparedRun& run, const CompressResult& result) {
  Section& section = page.section("Losses of matrices");
  if (result.tensors.empty()) {
    section.text("No matrix was solved: all are stored as floats.");
    return;
  }
  section
      .text(
          "The relative loss of a matrix is the squared error of its outputs on the calibration text, as a part of "
          "the outputs' own squares.")
      .figure(loss_map(run.plan, result), "Light cells lose most. Matrices that were not solved have no cell.")
      .figure(loss_along_depth(run.plan, result), "The same losses, to see how they change from layer to layer.")
      .table(worst_table(result), "The largest relative losses");
}

/// Matrices that were not solved quite as asked, or have inputs that never move.
Table fallback_table(const CompressResult& result) {
  Table table({{"module", Align::left}, {"instead", Align::left}, {"damping"}, {"dead inputs"}});
  for (const TensorRecord& record : result.tensors)
    if (!record.report.fallback.empty() || record.report.dead_inputs > 0)
      table.add_row({record.module, record.report.fallback, short_number(record.report.damping),
                     fmt::format("{}", record.report.dead_inputs)});
  return table;
}

void add_fallbacks(Page& page, const CompressResult& result) {
  Section& section = page.section("Fallbacks");
  Table table = fallback_table(result);
  if (table.empty())
    section.text("None: every matrix was solved as the recipe asks, and every input moves on the calibration text.");
  else
    section.table(std::move(table),
                  "Dead inputs are 0 on all of the calibration text: nothing is known of their weights.");
}

void add_costs(Page& page, const PreparedRun& run, const CompressResult& result) {
  Section& section = page.section("Time and memory");
  if (result.resumed_steps > 0)
    section.text(fmt::format("{} steps were done by earlier processes, whose times are not in the first picture.",
                             result.resumed_steps));
  if (!result.phases.empty()) section.figure(phase_bars(result), "Of this process, by the clock.");
  if (!result.tensors.empty()) section.figure(solving_bars(result), "Of the solvers alone, over all blocks.");
  section.figure(
      memory_bars(run, result),
      fmt::format("What is alive at the predicted peak, while {}; and the most that was held.", run.memory.peak.name));
}

}  // namespace

std::vector<Fact> inputs_of(const PreparedRun& run) {
  if (run.recipe->calibration.from != InputsFrom::text) return {{"calibration", calibration_in_words(run)}};
  return {{"calibration",
           fmt::format("{}: {} windows of {} tokens, seed {}", run.recipe->calibration.set.filename().string(),
                       run.windows.count(), run.windows.tokens, run.recipe->calibration.seed)},
          {"hash of the windows", run.windows.hash()}};
}

Page run_page(const PreparedRun& run, const CompressResult& result, std::vector<Fact> inputs,
              const CalibrationStudy* study) {
  Page page(fmt::format("{} in {:.2f} bits", run.model->name, run.plan.bits_per_weight()),
            "What was done, with what, and what it cost", fmt::format("Made by adze {}.", ADZE_VERSION));
  add_summary(page, run, result);
  add_what_was_done(page, run, std::move(inputs));
  page.section("Sizes")
      .figure(size_bars(run, result), "Tensors without files around them, and each export as a whole.")
      .figure(bits_map(run.plan), "Scales and masks included; matrices that are kept have the bits of their dtype.");
  add_quality(page, run, result);
  add_losses(page, run, result);
  if (study != nullptr) add_study(*study, run, page);
  add_fallbacks(page, result);
  add_costs(page, run, result);
  return page;
}

void write_reports(const std::filesystem::path& folder, const std::string& json, const Page& page) {
  const std::array<std::string, kReportNames.size()> texts{json, page.html(), page.markdown()};
  for (std::size_t i = 0; i < texts.size(); ++i) write_file(folder / kReportNames[i], texts[i]);
}

}  // namespace adze
