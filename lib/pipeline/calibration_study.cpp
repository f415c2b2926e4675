#include "pipeline/calibration_study.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "pipeline/open_model.h"
#include "report/chart/heat_map.h"

namespace adze {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMostNames = 256;  // sets or judges of a picture
constexpr std::uint64_t kMostBytes = std::uint64_t{256} << 20;

std::vector<std::string> names_in(const Json& json) {
  auto names = json.get<std::vector<std::string>>();
  if (names.empty() || names.size() > kMostNames) fail(ErrorKind::bad_data, "{} names of sets or judges", names.size());
  return names;
}

void check_finite(const StudyMatrix& matrix) {
  if (!std::ranges::all_of(matrix.values, [](double value) { return std::isfinite(value); }))
    fail(ErrorKind::bad_data, "'{}' has a value that is not finite", matrix.title);
}

/// log(1 + regret) of every draw as the mean regret in percent.
StudyMatrix regret_matrix(const Json& json, std::string title, std::string caption) {
  StudyMatrix matrix{
      std::move(title), "regret, %", std::move(caption), names_in(json.at("sources")), names_in(json.at("judges")), {}};
  const auto draws = json.at("draws").get<std::vector<std::vector<std::vector<double>>>>();
  matrix.values.resize(matrix.sources.size() * matrix.judges.size());
  if (draws.empty()) fail(ErrorKind::bad_data, "'{}' is of no draw", matrix.title);
  for (const auto& draw : draws) {
    if (draw.size() != matrix.sources.size()) fail(ErrorKind::bad_data, "'{}' lacks rows", matrix.title);
    for (std::size_t s = 0; s < draw.size(); ++s) {
      if (draw[s].size() != matrix.judges.size()) fail(ErrorKind::bad_data, "'{}' lacks columns", matrix.title);
      for (std::size_t j = 0; j < draw[s].size(); ++j) matrix.values[s * draw[s].size() + j] += draw[s][j];
    }
  }
  for (double& value : matrix.values) value = 100 * std::expm1(value / static_cast<double>(draws.size()));
  check_finite(matrix);
  return matrix;
}

/// The place of a name, which joins the others where it is new.
std::size_t place_of(const std::string& name, std::vector<std::string>& names) {
  const auto at = std::ranges::find(names, name);
  if (at != names.end()) return static_cast<std::size_t>(at - names.begin());
  names.push_back(name);
  if (names.size() > kMostNames) fail(ErrorKind::bad_data, "more than {} sets or texts", kMostNames);
  return names.size() - 1;
}

/// Mean KL of whole models, over draws.  json: one entry for each source, draw and text.
StudyMatrix outcome_matrix(const Json& json) {
  StudyMatrix matrix{"Mean KL of whole models",
                     "mean KL",
                     "Models compressed with the row's text and judged on the column's; less is better.",
                     {},
                     {},
                     {}};
  struct Cell {
    std::size_t source, judge;
    double kl;
  };
  std::vector<Cell> cells;
  for (const Json& outcome : json)
    cells.push_back({place_of(outcome.at("source").get<std::string>(), matrix.sources),
                     place_of(outcome.at("text").get<std::string>(), matrix.judges), outcome.at("kl").get<double>()});
  matrix.values.resize(matrix.sources.size() * matrix.judges.size());
  std::vector<std::size_t> counts(matrix.values.size());
  for (const Cell& cell : cells) {
    const std::size_t at = cell.source * matrix.judges.size() + cell.judge;
    matrix.values[at] += cell.kl;
    ++counts[at];
  }
  if (cells.empty() || std::ranges::find(counts, 0U) != counts.end())
    fail(ErrorKind::bad_data, "not every model was judged on every text");
  for (std::size_t i = 0; i < counts.size(); ++i) matrix.values[i] /= static_cast<double>(counts[i]);
  check_finite(matrix);
  return matrix;
}

CalibrationStudy study_of(const Json& json) {
  CalibrationStudy study;
  const Json& design = json.at("design");
  study.identity = design.at("model").at("identity").get<std::string>();
  if (const Json& recipe = design.at("recipe"); !recipe.is_null()) study.recipe = recipe.get<std::string>();
  study.windows = design.at("windows").get<std::size_t>();
  study.tokens = design.at("tokens").get<std::size_t>();
  study.draws = design.at("draws").get<std::size_t>();
  for (const Json& set : design.at("sets")) {
    std::size_t number = 0;
    for (const Json& hash : set.at("draws"))
      study.all_draws.push_back({set.at("name").get<std::string>(), number++, hash.get<std::string>()});
  }
  study.findings = json.at("findings").get<std::vector<std::string>>();
  if (json.contains("outcomes")) study.matrices.push_back(outcome_matrix(json.at("outcomes")));
  if (json.contains("log_regret"))
    study.matrices.push_back(
        regret_matrix(json.at("log_regret"), "Measured regret of layers",
                      "What layers lose more that were solved with the row's inputs, not the column's. The framed "
                      "diagonal is the price of a finite draw: differences below it are noise."));
  study.matrices.push_back(regret_matrix(json.at("expected_log_regret"), "Expected regret of GPTQ",
                                         "The same as second moments foretell it, before anything is compressed."));
  return study;
}

/// Whether cells of row i and column i are of the same name, so that framing them says something.
bool has_own_diagonal(const StudyMatrix& matrix) {
  const std::size_t both = std::min(matrix.sources.size(), matrix.judges.size());
  return std::equal(matrix.sources.begin(), matrix.sources.begin() + static_cast<std::ptrdiff_t>(both),
                    matrix.judges.begin());
}

/// What the run was calibrated with, in the study's words.
std::string own_calibration(const CalibrationStudy& study, const PreparedRun& run) {
  const auto own = std::ranges::find(study.all_draws, run.windows.hash(), &StudyDraw::hash);
  if (own != study.all_draws.end())
    return fmt::format("This run was calibrated with draw {} of '{}'.", own->number, own->set);
  return "This run's windows are none of the study's draws: the matrices say what sets are worth, not what this run "
         "lost.";
}

}  // namespace

CalibrationStudy parse_study(std::string_view text, const std::string& origin) {
  const Json json = parse_json(text, origin);
  return with_context(origin, [&] {
    try {
      return study_of(json);
    } catch (const Json::exception& error) {
      fail(ErrorKind::bad_data, "is no study of adze compare: {}", error.what());
    }
  });
}

CalibrationStudy load_study(const std::filesystem::path& path, const OpenedModel& model) {
  const std::filesystem::path file = std::filesystem::is_directory(path) ? path / "compare.json" : path;
  CalibrationStudy study = parse_study(read_file(file, kMostBytes), file.string());
  if (study.identity != model_identity(model))
    fail(ErrorKind::usage, "{}: is a study of another model than {}; compare the sets for this one, or leave it out",
         file.string(), model.name);
  return study;
}

void add_study(const CalibrationStudy& study, const PreparedRun& run, Page& page) {
  Section& section = page.section("Calibration sets compared");
  std::string with = "Nothing was compressed for it.";
  if (!study.recipe.empty())
    with = study.recipe == run.recipe->text_hash
               ? "Layers and models were compressed with this run's recipe."
               : "Layers and models were compressed with another recipe than this run.";
  section.text(
      fmt::format("A study of this model by adze compare, {} draws of {} windows of {} tokens of each set. {} {}",
                  study.draws, study.windows, study.tokens, with, own_calibration(study, run)));
  for (const std::string& finding : study.findings) section.text(finding);
  for (const StudyMatrix& matrix : study.matrices) {
    HeatMap map;
    map.title = matrix.title;
    map.row = "calibrated on";
    map.column = "judged on";
    map.value = matrix.value;
    map.rows = matrix.sources;
    map.columns = matrix.judges;
    map.values = matrix.values;
    map.marks_diagonal = has_own_diagonal(matrix);
    section.figure(map, matrix.caption);
  }
}

}  // namespace adze
