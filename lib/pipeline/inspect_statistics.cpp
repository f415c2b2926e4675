#include "pipeline/inspect_statistics.h"

#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "pipeline/inspect_kinds.h"
#include "report/table.h"

namespace adze {
namespace {

/// Of an expert that is sent few: those, and how many stand in.
std::string tokens_in_words(const InputSummary& line) {
  if (line.borrowed == 0) return fmt::format("{}", line.tokens);
  return fmt::format("{} + {}", line.tokens - line.borrowed, line.borrowed);
}

}  // namespace

std::string statistics_table(std::span<const InputSummary> inputs) {
  Table table({{"where", Align::left},
               {"input", Align::left},
               {"inputs"},
               {"tokens"},
               {"trace H"},
               {"mean diag"},
               {"dead"},
               {"max |x|"}});
  for (const InputSummary& line : inputs)
    table.add_row({line.where, line.input, fmt::format("{}", line.inputs), tokens_in_words(line),
                   fmt::format("{:.4e}", line.trace), fmt::format("{:.4e}", line.mean_diagonal()),
                   fmt::format("{}", line.dead_inputs), fmt::format("{:.4g}", line.abs_max)});
  return table.text();
}

nlohmann::ordered_json statistics_json(std::span<const InputSummary> inputs) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const InputSummary& line : inputs)
    json.push_back({{"where", line.where},
                    {"input", line.input},
                    {"inputs", line.inputs},
                    {"tokens", line.tokens},
                    {"borrowed_tokens", line.borrowed},
                    {"trace", line.trace},
                    {"mean_diagonal", line.mean_diagonal()},
                    {"dead_inputs", line.dead_inputs},
                    {"abs_max", line.abs_max}});
  return json;
}

namespace inspecting {
namespace {

void add_info(Inspection& inspection, const StatisticsInfo& info) {
  add(inspection, "model", info.model);
  add(inspection, "family", info.family);
  add(inspection, "layers", info.layers);
  add(inspection, "calibration_hash", info.calibration);
  add(inspection, "windows", info.windows);
  add(inspection, "tokens", info.tokens);
  add(inspection, "kernels", info.kernels);
}

/// The first file of a folder, finished or not.
StatisticsReader any_part(const Path& path) {
  const Path head = path / statistics_file_name(0, 0);
  return StatisticsReader(std::filesystem::exists(head) ? head : path / statistics_file_name(0, 1));
}

std::uint64_t files_there(const Path& path, std::size_t layers) {
  std::uint64_t count = 0;
  for (std::size_t part = 0; part <= layers; ++part)
    count += std::filesystem::exists(path / statistics_file_name(part, layers));
  return count;
}

}  // namespace

void describe_statistics(const Path& path, Inspection& inspection) {
  const StatisticsInfo info = any_part(path).info();
  const std::uint64_t there = files_there(path, info.layers);
  add_info(inspection, info);
  add(inspection, "finished", there == info.layers + 1);
  if (there == info.layers + 1) {
    inspection.statistics = StatisticsFolder(path).summarize();
  } else {
    add(inspection, "parts_measured", fmt::format("{} of {}", there, info.layers + 1));
  }
}

void verify_statistics(const Path& path, Inspection& inspection, Progress& progress) {
  const StatisticsInfo info = any_part(path).info();
  progress.start("verifying", info.layers + 1);
  for (std::size_t part = 0; part <= info.layers; ++part) {
    const Path file = path / statistics_file_name(part, info.layers);
    if (std::filesystem::exists(file))
      check(inspection, [&] {
        const StatisticsReader reader(file);
        if (const auto names = differences(reader.info(), info); !names.empty())
          fail(ErrorKind::bad_data, "{}: of another run", file.string());
        for (const std::string& input : inputs_of_part(info, part)) reader.read(input);
      });
    progress.update(part + 1);
  }
}

}  // namespace inspecting
}  // namespace adze
