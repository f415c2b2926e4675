#include "pipeline/run_tables.h"

#include <algorithm>
#include <map>

#include "base/checked.h"
#include "base/words.h"
#include "grid/format.h"
#include "pipeline/cache_size.h"
#include "pipeline/run_figures.h"

namespace adze {
namespace {

struct MatchLine {
  std::size_t modules = 0;
  std::uint64_t before = 0;
  std::uint64_t after = 0;
  std::uint64_t weights = 0;
  std::string original_formats;
};

std::uint64_t count_of(const TensorSpec& spec) { return spec.shape[0] * spec.shape[1]; }

/// "transform: rotate residual=true heads=true seed=0" and what there is to know about it, a line each.
std::string transform_lines(const CompressionPlan& plan) {
  std::string lines;
  for (const auto& transform : plan.transforms) lines += fmt::format("transform: {}\n", in_words(*transform));
  return lines;
}

/// How much of a model whose architecture is not known no scheme may take; "" of others.
std::string kept_tensors(const PreparedRun& run) {
  if (!run.plan.architecture.is_listed()) return "";
  std::size_t count = 0;
  std::uint64_t bytes = 0;
  for (const TensorSpec& spec : expected_tensors(run.plan.architecture)) {
    if (spec.role != TensorRole::kept) continue;
    ++count;
    bytes += checked_mul(checked_product(spec.shape), bytes_of(spec.dtype));
  }
  return fmt::format("passed on byte for byte, being no matrices or embeddings: {} tensors of {}\n", count,
                     bytes_in_words(bytes));
}

/// "kept as they are: embed_tokens, ..."; "" when every module has a rule.
std::string kept_modules(const PreparedRun& run) {
  constexpr std::size_t kShown = 20;
  std::vector<std::string> names;
  for (const ModulePlan& module : run.plan.modules)
    if (!module.rule) names.push_back(module.spec.module);
  if (names.empty()) return "";
  const std::size_t more = names.size() > kShown ? names.size() - kShown : 0;
  names.resize(names.size() - more);
  if (more > 0) names.push_back(fmt::format("{} more", more));
  return fmt::format("kept as they are: {}\n", join_words(names));
}

}  // namespace

Table rules_table(const PreparedRun& run) {
  // Ordered by rule; modules without a rule come last.
  std::map<std::pair<std::size_t, std::string>, MatchLine> lines;
  for (const ModulePlan& module : run.plan.modules) {
    MatchLine& line = lines[{module.rule.value_or(run.recipe->rules.size()), module.format}];
    ++line.modules;
    line.before += module.original_bytes;
    line.after += module.bytes;
    line.weights += count_of(module.spec);
    line.original_formats = module.original_format;
  }
  Table table({{"rule", Align::left},
               {"modules"},
               {"from", Align::left},
               {"to", Align::left},
               {"bytes before"},
               {"bytes after"},
               {"bits/weight"}});
  for (const auto& [key, line] : lines) {
    const bool ruled = key.first < run.recipe->rules.size();
    table.add_row({ruled ? run.recipe->rules[key.first].modules : "(no rule: kept)", fmt::format("{}", line.modules),
                   line.original_formats, key.second, fmt::format("{}", line.before), fmt::format("{}", line.after),
                   fmt::format("{:.3f}", 8.0 * static_cast<double>(line.after) / static_cast<double>(line.weights))});
  }
  return table;
}

std::string match_table(const PreparedRun& run) {
  return transform_lines(run.plan) + rules_table(run).text() + kept_modules(run) + kept_tensors(run);
}

std::string calibration_in_words(const PreparedRun& run) {
  switch (run.recipe->calibration.from) {
    case InputsFrom::text:
      break;
    case InputsFrom::nothing:
      return "none: every input weighs the same";
    case InputsFrom::weights:
      return "none: inputs are what the weights before them make of white noise, where names tell which these are";
  }
  return fmt::format("{} windows of {} tokens", run.windows.count(), run.windows.tokens);
}

std::string sizes_in_words(const PreparedRun& run) {
  std::uint64_t before = 0, after = 0;  // of block linears: embedding and head aside
  for (const ModulePlan& module : run.plan.modules) {
    if (!module.spec.block) continue;
    before += count_of(module.spec);
    after += format_multiplications(module.format, {module.spec.shape[0], module.spec.shape[1]});
  }
  std::string text =
      fmt::format("{} tensors bytes {} -> {} ({:.3f} bits per weight, norms included)\n", run.model->name,
                  run.plan.original_bytes, run.plan.stored_bytes, run.plan.bits_per_weight());
  if (before != after) text += fmt::format("multiplications a token in block linears {} -> {}\n", before, after);
  const CacheSize cache = cache_size(run.plan);
  if (cache.plain != cache.original)
    text += fmt::format("numbers of a token in the key/value cache {} -> {}\n", cache.original, cache.plain);
  if (cache.with_codes != cache.plain)
    text += fmt::format("numbers of a token in a cache of codes between factors {} -> {}\n", cache.original,
                        cache.with_codes);
  return text;
}

std::string loss_table(const CompressResult& result) {
  struct Line {
    std::size_t count = 0;
    double sum = 0;
    double worst = -1;
    std::string worst_module;
  };
  std::map<std::string, Line> lines;
  for (const TensorRecord& record : result.tensors) {
    Line& line = lines[std::string(kind_of(record.module))];
    ++line.count;
    line.sum += record.report.relative_loss;
    if (record.report.relative_loss > line.worst) {
      line.worst = record.report.relative_loss;
      line.worst_module = record.module;
    }
  }
  Table table({{"linear", Align::left}, {"tensors"}, {"mean J / tr(WHW')"}, {"worst"}, {"worst module", Align::left}});
  for (const auto& [name, line] : lines)
    table.add_row({name, fmt::format("{}", line.count),
                   fmt::format("{:.3e}", line.sum / static_cast<double>(line.count)), fmt::format("{:.3e}", line.worst),
                   line.worst_module});
  return table.empty() ? "" : table.text();
}

double run_flops(const PreparedRun& run) {
  const auto tokens = static_cast<double>(run.windows.ids.size());
  double flops = 0;
  double all_weights = 0;
  for (const ModulePlan& module : run.plan.modules) {
    const auto count = static_cast<double>(count_of(module.spec));
    const auto inputs = static_cast<double>(module.spec.shape[1]);
    all_weights += count;
    if (!module.spec.block) continue;
    flops += 2 * 2 * tokens * count;  // forward, most stages twice
    if (module.spec.slot != LinearSlot::k && module.spec.slot != LinearSlot::v && module.spec.slot != LinearSlot::up)
      flops += tokens * inputs * inputs + inputs * inputs * inputs / 3;  // H and its factor, once per input
    if (module.scheme) flops += 8 * count * inputs;                      // feedback, losses, in single and double
  }
  flops += 2 * 2 * all_weights * static_cast<double>(run.evaluation_ids.size());
  return flops;
}

std::string output_folder_text(const CompressionPlan& plan) {
  return fmt::format(
      "  store/         the compressed model, for {}\n"
      "  manifest.json  what was done, with losses and hashes; report.json: timings\n"
      "  report.html    all of it in pictures, for a browser; report.md: as a model card\n",
      plan.architecture.is_listed() ? "adze export" : "adze eval and adze export");
}

}  // namespace adze
