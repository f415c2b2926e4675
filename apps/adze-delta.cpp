// adze-delta: a fine-tuned model as its difference from a base.
#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/words.h"
#include "pipeline/apply_scheme.h"
#include "pipeline/delta/make_delta.h"
#include "pipeline/resolve_scheme.h"
#include "report/table.h"
#include "tool.h"

namespace {

using namespace adze;

struct Options {
  std::string base, tuned, out;
  std::string method = "signs";
  std::string scope;
  std::string drop;
  std::optional<std::uint64_t> seed;
  std::string keep, rank, group, symmetric;
  std::vector<std::string> solver_options;
  bool plain = false;
  std::string tables = "full";
  std::string stats;
  bool overwrite = false;
  bool dry_run = false;
  OpenModelOptions open;
};

double probability_of(const std::string& text) {
  try {
    const SparsityPattern part = SparsityPattern::parse(text);
    if (part.kind() == PatternKind::unstructured)
      return static_cast<double>(part.pruned_of(SparsityPattern::kWhole)) /
             static_cast<double>(SparsityPattern::kWhole);
  } catch (const Error&) {  // said below
  }
  fail(ErrorKind::usage, "--drop {}: write a percentage, such as 90%", text);
}

std::unique_ptr<DeltaMethod> make_signs(const Options& options) {
  const SignScope scope = options.scope == "matrix" ? SignScope::matrix : SignScope::row;
  return sign_delta_method(scope, !options.plain);
}

std::unique_ptr<DeltaMethod> make_drop(const Options& options) {
  return drop_delta_method(options.drop.empty() ? 0.9 : probability_of(options.drop), options.seed.value_or(0),
                           !options.plain);
}

/// A solver as a recipe of one scheme would have it; messages show it as a command line of adze quantize.
std::unique_ptr<DeltaMethod> solver_method(const Options& options, std::vector<SchemeArgument> arguments) {
  for (const std::string& assignment : options.solver_options) arguments.push_back(parse_scheme_option(assignment));
  arguments.push_back({"--modules", "modules", "layers.**", true});  // which is what a recipe must say
  const Recipe recipe = scheme_recipe(arguments);
  Diagnostics problems(recipe.source);
  const ResolvedScheme scheme = resolve_scheme(recipe.schemes.front(), problems);
  if (!problems.empty()) fail(ErrorKind::usage, "{}", problems.format_all());
  return solver_delta_method(scheme.solver, scheme.grid);
}

std::unique_ptr<DeltaMethod> make_low_rank(const Options& options) {
  std::vector<SchemeArgument> arguments;
  if (!options.keep.empty()) arguments.push_back({"--keep", "keep", options.keep, false});
  if (!options.rank.empty()) arguments.push_back({"--rank", "rank", options.rank, false});
  if (arguments.empty()) arguments.push_back({"--rank", "rank", "16", false});
  arguments.push_back({"--solver", "solver", "svd", true});
  return solver_method(options, std::move(arguments));
}

/// Without statistics there is nothing that gptq would do better.
std::unique_ptr<DeltaMethod> make_integers(const Options& options) {
  std::vector<SchemeArgument> arguments{{"--grid", "grid", options.method, true}};
  if (!options.group.empty()) arguments.push_back({"--group", "group", options.group, false});
  if (!options.symmetric.empty()) arguments.push_back({"--symmetric", "symmetric", options.symmetric, false});
  arguments.push_back({"--solver", "solver", options.stats.empty() ? "rtn" : "gptq", true});
  return solver_method(options, std::move(arguments));
}

struct MethodRow {
  const char* name;
  std::unique_ptr<DeltaMethod> (*make)(const Options&);
  std::vector<std::string> takes;  ///< options that are its own
};

const std::vector<MethodRow>& methods() {
  static const std::vector<std::string> of_integers{"--group", "--symmetric", "--option"};
  static const std::vector<MethodRow> rows{{"signs", &make_signs, {"--scope", "--plain"}},
                                           {"drop", &make_drop, {"--drop", "--seed", "--plain"}},
                                           {"low-rank", &make_low_rank, {"--keep", "--rank", "--option"}},
                                           {"int2", &make_integers, of_integers},
                                           {"int3", &make_integers, of_integers},
                                           {"int4", &make_integers, of_integers},
                                           {"int8", &make_integers, of_integers}};
  return rows;
}

const MethodRow& method_row(const Options& options) {
  std::vector<std::string> names;
  for (const MethodRow& row : methods()) {
    if (options.method == row.name) return row;
    names.emplace_back(row.name);
  }
  fail(ErrorKind::usage, "unknown method '{}'{}; methods are {}", options.method, suggestion(options.method, names),
       join_words(names));
}

std::unique_ptr<DeltaMethod> make_method(const Options& options, const CLI::App& app) {
  const MethodRow& row = method_row(options);
  for (const MethodRow& other : methods())
    for (const std::string& option : other.takes)
      if (app.count(option) > 0 && std::ranges::find(row.takes, option) == row.takes.end())
        fail(ErrorKind::usage, "{} is no option of --method {}, which takes {}", option, row.name,
             join_words(row.takes));
  try {
    return row.make(options);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::bad_recipe) throw;
    throw Error(ErrorKind::usage, error.message());  // a probability or seed: nobody wrote a recipe
  }
}

std::string inputs_in_words(const PreparedDelta& delta) {
  if (!delta.statistics) return "no statistics: every input weighs the same, losses are squared errors of weights";
  const StatisticsInfo& info = delta.statistics->info();
  return fmt::format("statistics of {}: {} windows, {} tokens", info.model, info.windows, info.tokens);
}

/// Of all tensors of one format.
struct Kind {
  std::uint64_t tensors = 0, weights = 0, bytes = 0;
};

std::string kinds_table(const PreparedDelta& delta) {
  std::map<std::string, Kind> kinds;
  for (const PackTensor& tensor : delta.manifest.tensors) {
    Kind& kind = kinds[tensor.in_words()];
    ++kind.tensors;
    kind.weights += tensor.matrix_shape().count();
    kind.bytes += tensor.region.bytes;
  }
  Table table({{"stored", Align::left}, {"tensors"}, {"bytes"}, {"bits per weight"}});
  for (const auto& [name, kind] : kinds)
    table.add_row({name, fmt::format("{}", kind.tensors), fmt::format("{}", kind.bytes),
                   fmt::format("{:.3f}", 8.0 * static_cast<double>(kind.bytes) / static_cast<double>(kind.weights))});
  return table.text();
}

std::string losses_table(const std::vector<DeltaRecord>& records, bool drops) {
  std::vector<Column> columns{{"matrix", Align::left}, {"bits per weight"}, {"J / tr(WHW')"}, {"J / tr(DHD')"}};
  if (drops) columns.push_back({"expected J / tr(WHW')"});
  Table table(columns);
  for (const DeltaRecord& record : records) {
    if (!record.is_delta) continue;
    std::vector<std::string> cells{
        record.module,
        fmt::format("{:.3f}", 8.0 * static_cast<double>(record.bytes) / static_cast<double>(record.weights)),
        fmt::format("{:.3e}", record.relative_loss), fmt::format("{:.3e}", record.report.relative_loss)};
    if (drops) cells.push_back(fmt::format("{:.3e}", record.relative_variance));
    table.add_row(std::move(cells));
  }
  return table.empty() ? "" : table.text() + "\n";
}

nlohmann::ordered_json as_json(const PreparedDelta& delta, const std::vector<DeltaRecord>& records,
                               const std::string& out) {
  nlohmann::ordered_json json{{"file", out},
                              {"base", delta.manifest.base->name},
                              {"base_hash", delta.manifest.base->hash},
                              {"method", delta.method->description()},
                              {"inputs", inputs_in_words(delta)},
                              {"bytes", delta.manifest.file_bytes},
                              {"bits_per_weight", delta.manifest.bits_per_weight()}};
  for (std::size_t i = 0; i < delta.manifest.tensors.size(); ++i) {
    const PackTensor& tensor = delta.manifest.tensors[i];
    nlohmann::ordered_json entry{
        {"tensor", tensor.name}, {"stored", tensor.in_words()}, {"bytes", tensor.region.bytes}};
    if (!records.empty() && records[i].is_delta) {
      entry["loss"] = records[i].report.loss;
      entry["relative_loss"] = records[i].relative_loss;
      entry["relative_loss_of_delta"] = records[i].report.relative_loss;
      if (delta.method->drop_probability() > 0) entry["relative_variance"] = records[i].relative_variance;
    }
    json["tensors"].push_back(std::move(entry));
  }
  return json;
}

void check_output(const Options& options) {
  if (options.out.empty()) {
    if (options.dry_run) return;
    fail(ErrorKind::usage, "-o D.adze is required (or --dry-run)");
  }
  std::error_code ignored;
  for (const std::string& model : {options.base, options.tuned})
    if (std::filesystem::equivalent(options.out, model, ignored))
      fail(ErrorKind::cannot_create, "{}: is a model of this very delta; choose another -o", options.out);
  if (!options.overwrite && std::filesystem::exists(options.out))
    fail(ErrorKind::cannot_create, "{}: exists; replace it with --overwrite", options.out);
}

void run_delta(const Options& options, Tool& tool) {
  const std::unique_ptr<DeltaMethod> method = make_method(options, tool.app());
  check_output(options);
  OpenModelOptions of_base = options.open;
  of_base.base.reset();
  const OpenedModel base = open_model(options.base, of_base);
  const OpenedModel tuned = open_model(options.tuned, options.open);
  std::optional<std::filesystem::path> statistics;
  if (!options.stats.empty()) statistics = options.stats;
  const PreparedDelta delta =
      prepare_delta(base, tuned, *method, statistics, {options.tables == "delta"}, tool.progress());
  std::vector<DeltaRecord> records;
  if (!options.dry_run) records = write_delta(delta, options.out, tool.progress());
  if (tool.options().json) return Tool::print(as_json(delta, records, options.out).dump(1) + "\n");
  Tool::print(losses_table(records, method->drop_probability() > 0) + kinds_table(delta) +
              fmt::format("\n{}\n{} less {}: {:.3f} bits per weight\n{}{} bytes ({}){}\n", inputs_in_words(delta),
                          options.tuned, options.base, delta.manifest.bits_per_weight(),
                          options.out.empty() ? "" : options.out + ": ", delta.manifest.file_bytes,
                          bytes_in_words(delta.manifest.file_bytes),
                          options.dry_run ? ", not written" : ", written and read back"));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  Tool tool(
      "adze-delta",
      "Stores a fine-tuned model as what it differs by from the model that it was made from. The result is a pack\n"
      "that every tool opens together with that base: adze eval D.adze --base BASE. Losses are weighed by the\n"
      "inputs that adze calibrate has measured of the fine-tuned model.",
      "  adze delta BASE TUNED --stats STATS -o D.adze\n"
      "  adze delta BASE TUNED --stats STATS --method low-rank --rank 16 -o D.adze\n"
      "  adze delta BASE TUNED --method drop --drop 95% --seed 1 -o D.adze --dry-run\n"
      "  adze delta BASE TUNED --stats STATS --method int4 --group 64 -o D.adze\n"
      "  adze export D.adze --base BASE --format safetensors -o TUNED-AGAIN");
  CLI::App& app = tool.app();
  app.add_option("base", options.base, "the base: a Hugging Face folder, a model store, a GGUF file or a pack")
      ->required();
  app.add_option("tuned", options.tuned, "the fine-tuned model, likewise")->required();
  app.add_option("-o,--output", options.out, "the pack to write");
  app.add_option("--method", options.method, "signs, drop, low-rank, int2, int3, int4 or int8")->capture_default_str();
  app.add_option("--scope", options.scope, "signs: a scale of each row, or one of the matrix (default: row)")
      ->check(CLI::IsMember({"row", "matrix"}));
  app.add_option("--drop", options.drop, "drop: the part of entries that is not stored (default: 90%)")
      ->type_name("PERCENT");
  app.add_option("--seed", options.seed, "drop: which entries these are (default: 0)")->type_name("N");
  app.add_flag("--plain", options.plain,
               "signs, drop: scales as published, mean |D| and 1 / (1 - p), instead of those of least loss");
  app.add_option("--rank", options.rank, "low-rank: of the factors, or a part of the smaller side, 5% (default: 16)")
      ->type_name("N");
  app.add_option("--keep", options.keep, "low-rank, instead: the part of a matrix' numbers that is stored: 10%")
      ->type_name("PERCENT");
  app.add_option("--group", options.group, "integers: columns that share a scale")->type_name("N");
  app.add_option("--symmetric", options.symmetric, "integers: true, or false for a zero point per group")
      ->type_name("BOOL");
  app.add_option("--option", options.solver_options,
                 "low-rank and integers: an option of svd, gptq or the grid, such as damp=0.05; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_option("--tables", options.tables, "embedding and head where they differ: in full, or as deltas, too")
      ->check(CLI::IsMember({"full", "delta"}))
      ->capture_default_str();
  app.add_option("--stats,--statistics", options.stats,
                 "a folder of adze calibrate, of the fine-tuned model; without, all inputs weigh the same")
      ->type_name("DIR");
  app.add_flag("--overwrite", options.overwrite, "replace an existing file");
  app.add_flag("--dry-run", options.dry_run, "compare the models, print what becomes of what, write nothing");
  add_model_options(app, options.open);
  return tool.run(argc, argv, [&] { run_delta(options, tool); });
}
