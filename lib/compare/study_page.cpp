#include "compare/study_page.h"

#include <algorithm>
#include <cmath>

#include "compare/study_report.h"
#include "report/chart/bar_chart.h"
#include "report/chart/heat_map.h"
#include "report/chart/strip_chart.h"
#include "report/chart/xy_chart.h"
#include "report/numbers.h"

namespace adze {
namespace {

/// Mean losses as excess over the best source of each judge: what is chosen by going down a column.
HeatMap mismatch_map(const Mismatch& mismatch, std::string title, std::string value, bool as_regret) {
  HeatMap map;
  map.title = std::move(title);
  map.row = "calibrated on";
  map.column = "judged on";
  map.value = std::move(value);
  map.rows = mismatch.sources;
  map.columns = mismatch.judges;
  map.marks_diagonal = true;
  for (std::size_t s = 0; s < mismatch.sources.size(); ++s)
    for (std::size_t j = 0; j < mismatch.judges.size(); ++j) {
      const double mean = mismatch.cell(s, j).mean;
      map.values.push_back(as_regret ? 100 * std::expm1(mean) : mean);
    }
  return map;
}

HeatMap excess_map(const Mismatch& kl) {
  HeatMap map = mismatch_map(kl, "Excess of mean KL over the best source of each text", "excess, %", false);
  map.palette = Palette::sequential;
  for (std::size_t j = 0; j < kl.judges.size(); ++j) {
    const double best = kl.cell(kl.best_for(j), j).mean;
    for (std::size_t s = 0; s < kl.sources.size(); ++s) {
      double& value = map.values[s * kl.judges.size() + j];
      value = best > 0 ? 100 * (value / best - 1) : 0;
    }
  }
  return map;
}

HeatMap pair_map(const PreparedStudy& prepared, const MatrixD& values, std::string title, std::string value) {
  HeatMap map;
  map.title = std::move(title);
  map.row = "from";
  map.column = "to";
  map.value = std::move(value);
  for (const ComparedSet& set : prepared.sets) map.rows.push_back(set.name);
  map.columns = map.rows;
  map.values.assign(values.values().begin(), values.values().end());
  map.marks_diagonal = true;
  return map;
}

/// One row per text, one strip per source, one dot per draw.
StripChart outcome_strips(const OutcomeStage& outcomes) {
  StripChart chart;
  chart.title = "Mean KL of every draw";
  chart.category = "text";
  chart.axis = {"mean KL from the original", AxisKind::log10};
  for (const SourceOutcomes& source : outcomes.sources) chart.series.push_back(source.name);
  for (std::size_t t = 0; t < outcomes.texts.size(); ++t) {
    StripRow row{outcomes.texts[t], {}};
    for (const SourceOutcomes& source : outcomes.sources) {
      std::vector<double> draws;
      for (const auto& draw : source.draws) draws.push_back(draw[t].kl);
      row.values.push_back(std::move(draws));
    }
    chart.rows.push_back(std::move(row));
  }
  return chart;
}

XyChart size_chart(const OutcomeStage& outcomes) {
  XyChart chart;
  chart.title = "How many windows";
  chart.x = {"calibration windows", AxisKind::log2};
  chart.y = {"mean KL from the original", AxisKind::linear};
  ChartSeries mean{"mean over texts", {}}, worst{"worst text", {}};
  const auto point = [](std::size_t windows, const Spread& spread) {
    return ChartPoint{static_cast<double>(windows), spread.mean, fmt::format("{} windows", windows), spread.best,
                      spread.worst};
  };
  for (const SizePoint& size : outcomes.size_curve()) {
    mean.points.push_back(point(size.windows, size.mean));
    worst.points.push_back(point(size.windows, size.worst));
  }
  chart.series = {mean, worst};
  return chart;
}

/// Rank of every source in every draw: lines that cross are orders that noise decides.
XyChart rank_chart(const Mismatch& kl) {
  XyChart chart;
  chart.title = "Rank of each source from draw to draw";
  chart.x = {"draw", AxisKind::linear};
  chart.y = {"rank (1: least mean KL)", AxisKind::linear};
  for (std::size_t s = 0; s < kl.sources.size(); ++s) {
    ChartSeries series{kl.sources[s], {}};
    const std::vector<double> own = kl.means(s);
    for (std::size_t r = 0; r < own.size(); ++r) {
      double rank = 1;
      for (std::size_t other = 0; other < kl.sources.size(); ++other) rank += kl.means(other)[r] < own[r];
      series.points.push_back({static_cast<double>(r + 1), rank, fmt::format("{}, draw {}", kl.sources[s], r + 1)});
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

/// Expected against measured regret, one point per pair of sets, and the line where they are equal.
XyChart regret_scatter(const Study& study, std::size_t sets) {
  XyChart chart;
  chart.title = "Expected and measured regret";
  chart.x = {"expected from second moments, %", AxisKind::log10};
  chart.y = {"measured on layers, %", AxisKind::log10};
  ChartSeries pairs{"pairs of sets", {}, SeriesStyle::points};
  double least = 1e9, most = 1e-9;
  const Mismatch& expected = study.moments.expected_regret;
  const Mismatch& measured = study.regret->regret;
  for (std::size_t a = 0; a < sets; ++a)
    for (std::size_t b = 0; b < sets; ++b) {
      const double x = 100 * std::expm1(expected.cell(a, b).mean), y = 100 * std::expm1(measured.cell(a, b).mean);
      if (x <= 0 || y <= 0) continue;
      least = std::min({least, x, y});
      most = std::max({most, x, y});
      pairs.points.push_back({x, y, fmt::format("{} judged on {}", expected.sources[a], expected.judges[b])});
    }
  chart.series.push_back(std::move(pairs));
  if (least < most) chart.series.push_back({"equal", {{least, least}, {most, most}}, SeriesStyle::line});
  return chart;
}

/// A profile along depth: how far two draws of a set are apart, and how far the other sets.
XyChart depth_chart(const PreparedStudy& prepared, const MomentStage& stage) {
  XyChart chart;
  chart.title = "Distance of second moments along depth";
  chart.x = {"input, from the first block to the head", AxisKind::linear};
  chart.y = {"relative Frobenius distance", AxisKind::log10};
  ChartSeries between{"between sets, mean", {}}, within{"two draws of one set, mean", {}};
  const auto sets = static_cast<double>(prepared.sets.size());
  for (std::size_t i = 0; i < stage.inputs.size(); ++i) {
    const InputComparison& input = stage.inputs[i];
    double across = 0, inside = 0;
    for (std::size_t a = 0; a < prepared.sets.size(); ++a)
      for (std::size_t b = 0; b < prepared.sets.size(); ++b)
        (a == b ? inside : across) += input.distances(a, b).frobenius;
    const auto x = static_cast<double>(i);
    between.points.push_back({x, across / (sets * (sets - 1)), input.place.name()});
    within.points.push_back({x, inside / sets, input.place.name()});
  }
  chart.series = {between, within};
  return chart;
}

BarChart mixture_chart(const PreparedStudy& prepared, const MixtureProposal& mixture) {
  BarChart chart;
  chart.title = "The mixture that is proposed";
  chart.category = "set";
  chart.value = "share of the windows, %";
  chart.series = {"share"};
  for (std::size_t s = 0; s < prepared.sets.size(); ++s)
    chart.rows.push_back({prepared.sets[s].name, {100 * mixture.weights[s]}});
  return chart;
}

void add_answer(const PreparedStudy& prepared, const Study& study, Page& page) {
  Section& section = page.section("What was found");
  for (const std::string& finding : findings(prepared, study)) section.text(finding);
  section.warnings(study.warnings);
}

void add_outcomes(const PreparedStudy& prepared, const Study& study, Page& page) {
  const OutcomeStage& outcomes = *study.outcomes;
  const Mismatch kl = outcomes.kl();
  page.section("Whole models")
      .text(
          fmt::format("Every model was compressed with the windows of one draw and judged on every text, protocol {}.",
                      prepared.request.protocol))
      .figure(outcome_strips(outcomes),
              "Dots that lie apart by more than the strips are wide are differences; the rest is the noise of drawing.")
      .figure(excess_map(kl), "Read down a column: which set serves this text. Framed: the set of the text's own name.")
      .figure(mismatch_map(kl, "Mean KL", "mean KL", false), "Rows are calibration sets, columns texts that judge.");
  if (kl.draws.size() > 1)
    page.section("Stability of the order")
        .figure(rank_chart(kl), "Lines that cross are orders that the choice of windows decides, not the set.");
  if (!outcomes.sizes.empty())
    page.section("How much text")
        .figure(size_chart(outcomes),
                "Ribbons reach from the best draw to the worst. Where the curve is flat and the "
                "ribbon narrow, more text is of no use.");
}

void add_regret(const PreparedStudy& prepared, const Study& study, Page& page) {
  page.section("Layer by layer")
      .text(
          "Every matrix of some blocks was solved with one set's second moment and judged with another's; regret is "
          "what "
          "it loses more than the judge's own solution. Nothing is judged by windows it was calibrated on.")
      .figure(mismatch_map(study.regret->regret, "Measured regret of layers", "regret, %", true),
              "The framed diagonal is the price of a finite draw: differences below it are noise.")
      .figure(regret_scatter(study, prepared.sets.size()),
              "What second moments alone foretold, against what solving layers gave.");
}

void add_moments(const PreparedStudy& prepared, const Study& study, Page& page) {
  page.section("Second moments")
      .figure(mismatch_map(study.moments.expected_regret, "Expected regret of GPTQ", "regret, %", true),
              "From second moments alone, before anything is compressed.")
      .figure(pair_map(prepared, study.moments.mean(&MomentDistance::frobenius), "Distance of second moments",
                       "relative Frobenius distance"),
              "Framed: two draws of one set.")
      .figure(pair_map(prepared, study.moments.mean(&InputComparison::captured), "Coverage",
                       "share of the column's energy"),
              "How much of the column's inputs lies in the directions that hold 90 % of the row's.")
      .figure(depth_chart(prepared, study.moments), "Where sets differ, and where they only seem to.")
      .figure(mixture_chart(prepared, *study.mixture), "Shares of a set of windows, the worst served judge in mind.");
  if (std::ranges::none_of(prepared.sets, &ComparedSet::is_saved))
    page.section("Tokens").figure(pair_map(prepared, study.token_divergence, "Divergence of token frequencies",
                                           "Jensen-Shannon divergence, bits"),
                                  "0: alike; 1: no token in common.");
}

void add_reproduction(const PreparedStudy& prepared, Page& page) {
  const StudyRequest& request = prepared.request;
  std::vector<Fact> facts{{"model", prepared.model->name},
                          {"draws", fmt::format("{} of {} windows of {} tokens, seed {}", prepared.draws,
                                                request.rule.windows, request.rule.tokens, request.rule.seed)}};
  for (const ComparedSet& set : prepared.sets)
    facts.push_back({"set " + set.name, set.is_saved()
                                            ? set.path.filename().string()
                                            : set.path.filename().string() + ", " + set.draws.front().hash()});
  for (const JudgingText& text : prepared.texts)
    facts.push_back(
        {"text " + text.name, fmt::format("{}, {} tokens", text.path.filename().string(), text.ids.size())});
  Section& section = page.section("How to do it again").facts(std::move(facts));
  if (request.recipe != nullptr) section.file("recipe", std::string(request.recipe->source->text()));
}

}  // namespace

Page study_page(const PreparedStudy& prepared, const Study& study) {
  Page page("Calibration sets compared",
            fmt::format("{}: {} sets, {} draws each, stages 1 to {}", prepared.model->name, prepared.sets.size(),
                        prepared.draws, prepared.request.stages),
            "adze compare " ADZE_VERSION);
  add_answer(prepared, study, page);
  if (study.outcomes) add_outcomes(prepared, study, page);
  if (study.regret) add_regret(prepared, study, page);
  add_moments(prepared, study, page);
  add_reproduction(prepared, page);
  return page;
}

}  // namespace adze
