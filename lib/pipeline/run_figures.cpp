#include "pipeline/run_figures.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>

namespace adze {
namespace {

constexpr double kNoCell = std::numeric_limits<double>::quiet_NaN();

double mebibytes(std::uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

/// The row of a linear: the experts of a block share one.
LinearSlot row_key(LinearSlot slot) {
  if (slot.is_expert()) slot.expert = 0;
  return slot;
}

std::string row_name(const LinearInfo& linear) {
  return fmt::format("{}{}", linear.slot.is_expert() ? "experts " : "", kind_of(linear.module));
}

/// A map with a row for each linear of a block, experts taken together by their mean, and a column for each block.
HeatMap block_map(const CompressionPlan& plan, std::string title, std::string value,
                  const std::function<double(const ModulePlan&)>& of) {
  HeatMap map{std::move(title), "module", "layer", std::move(value), {}, {}, {}};
  std::map<LinearSlot, std::size_t> row_of;
  for (const LinearInfo& linear : block_linears(plan.architecture))
    if (row_of.insert({row_key(linear.slot), map.rows.size()}).second) map.rows.push_back(row_name(linear));
  for (std::size_t block = 0; block < plan.architecture.layers; ++block) map.columns.push_back(std::to_string(block));
  map.values.assign(map.rows.size() * map.columns.size(), kNoCell);
  std::vector<std::size_t> counts(map.values.size());
  for (const ModulePlan& module : plan.modules) {
    if (!module.spec.block || !module.spec.slot) continue;
    const std::size_t cell = row_of.at(row_key(*module.spec.slot)) * map.columns.size() + *module.spec.block;
    const double found = of(module);
    if (std::isnan(found)) continue;
    const auto before = static_cast<double>(counts[cell]++);
    map.values[cell] = before == 0 ? found : (map.values[cell] * before + found) / (before + 1);
  }
  return map;
}

std::uint64_t written_bytes(const ExportJob& job, const CompressResult& result) {
  const std::string name = job.file.lexically_normal().generic_string();
  std::uint64_t bytes = 0;
  for (const LedgerFile& file : result.files)
    if (file.path == name || file.path.starts_with(name + "/")) bytes += file.bytes;
  return bytes > 0 ? bytes : job.bytes;  // the parts of a split file have other names; their sum was predicted
}

}  // namespace

std::string_view kind_of(std::string_view module) {
  const std::size_t dot = module.rfind('.');
  return dot == std::string_view::npos ? module : module.substr(dot + 1);
}

HeatMap loss_map(const CompressionPlan& plan, const CompressResult& result) {
  std::map<std::string_view, double> losses;
  for (const TensorRecord& record : result.tensors) losses[record.module] = record.report.relative_loss;
  HeatMap map =
      block_map(plan, "Loss by layer and module", "relative loss, J / tr(W H Wᵀ)", [&](const ModulePlan& module) {
        const auto found = losses.find(module.spec.module);
        return found == losses.end() ? kNoCell : found->second;
      });
  map.kind = AxisKind::log10;
  return map;
}

HeatMap bits_map(const CompressionPlan& plan) {
  return block_map(plan, "Bits by layer and module", "stored bits per weight", [](const ModulePlan& module) {
    return 8 * static_cast<double>(module.bytes) / static_cast<double>(module.spec.shape[0] * module.spec.shape[1]);
  });
}

XyChart loss_along_depth(const CompressionPlan& plan, const CompressResult& result) {
  const HeatMap map = loss_map(plan, result);
  XyChart chart{"Loss along depth", {"layer"}, {"relative loss", AxisKind::log10}, {}};
  for (std::size_t r = 0; r < map.rows.size(); ++r) {
    ChartSeries series{map.rows[r], {}};
    for (std::size_t c = 0; c < map.columns.size(); ++c)
      if (!std::isnan(map.at(r, c))) series.points.push_back({static_cast<double>(c), map.at(r, c)});
    if (!series.points.empty()) chart.series.push_back(std::move(series));
  }
  return chart;
}

BarChart size_bars(const PreparedRun& run, const CompressResult& result) {
  BarChart chart{"Tensors and files",
                 "what",
                 "MiB",
                 {""},
                 {{"original tensors", {mebibytes(run.plan.original_bytes)}},
                  {"compressed tensors", {mebibytes(run.plan.stored_bytes)}}}};
  for (const ExportJob& job : run.plan.exports)
    chart.rows.push_back({job.file.generic_string(), {mebibytes(written_bytes(job, result))}});
  return chart;
}

BarChart phase_bars(const CompressResult& result) {
  BarChart chart{"Time", "phase", "seconds", {""}, {}};
  for (const PhaseTime& phase : result.phases) chart.rows.push_back({phase.name, {phase.seconds}});
  return chart;
}

BarChart solving_bars(const CompressResult& result) {
  BarChart chart{"Time of solving", "module", "seconds", {""}, {}};
  for (const TensorRecord& record : result.tensors) {
    const std::string_view kind = kind_of(record.module);
    auto row = std::ranges::find(chart.rows, kind, &BarRow::name);
    if (row == chart.rows.end()) row = chart.rows.insert(row, {std::string(kind), {0}});
    row->values[0] += record.seconds;
  }
  return chart;
}

BarChart memory_bars(const PreparedRun& run, const CompressResult& result) {
  BarChart chart{"Memory", "what", "MiB", {""}, {}};
  for (const MemoryPart& part : run.memory.peak.parts) chart.rows.push_back({part.what, {mebibytes(part.bytes)}});
  std::ranges::stable_sort(chart.rows, std::greater{}, [](const BarRow& row) { return row.values[0]; });
  chart.rows.push_back({"predicted, in all", {mebibytes(run.memory.peak_memory)}});
  chart.rows.push_back({"measured", {mebibytes(result.peak_memory)}});
  return chart;
}

StripChart window_strip(const ReferenceResult& judgement) {
  return {"KL of windows",
          "what",
          {"mean KL of a window"},
          {"windows"},
          {{"KL", {judgement.window_kl}}},
          {{judgement.kl_mean, "mean of all tokens"}}};
}

}  // namespace adze
