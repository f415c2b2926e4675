#include "report/judgements_page.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "report/chart/interval_chart.h"
#include "report/chart/xy_chart.h"
#include "report/numbers.h"

namespace adze {
namespace {

constexpr std::size_t kMostExcerpts = 20;  // of one model

IntervalRow row_of(std::string name, const EvaluationResult& result) {
  const ReferenceResult& reference = *result.reference;
  IntervalRow row{std::move(name), reference.kl_mean};
  if (reference.kl_mean_95) {
    row.low = reference.kl_mean_95->low;
    row.high = reference.kl_mean_95->high;
  }
  row.note = fmt::format("{} windows, {}", result.windows, kl_in_words(reference.kl_mean));
  return row;
}

/// Every domain of every model, and all together.
IntervalChart domain_chart(const std::vector<JudgedModel>& models) {
  IntervalChart chart;
  chart.title = "Mean KL by domain";
  chart.category = "domain";
  chart.axis = {"mean KL from the reference, 95 % interval", AxisKind::log10};
  for (const JudgedModel& model : models) {
    const std::string prefix = models.size() > 1 ? model.name + ": " : "";
    for (const DomainResult& domain : model.domains) chart.rows.push_back(row_of(prefix + domain.name, domain.result));
    chart.rows.push_back(row_of(prefix + "all", model.result));
  }
  return chart;
}

XyChart size_chart(const std::vector<JudgedModel>& models) {
  XyChart chart;
  chart.title = "Size and loss";
  chart.x = {"bytes of all tensors", AxisKind::log10};
  chart.y = {"mean KL from the reference", AxisKind::log10};
  ChartSeries points{"models", {}, SeriesStyle::named_points};
  for (const JudgedModel& model : models) {
    const ReferenceResult& reference = *model.result.reference;
    ChartPoint point{static_cast<double>(model.bytes), reference.kl_mean, model.name};
    if (reference.kl_mean_95) {
      point.low = reference.kl_mean_95->low;
      point.high = reference.kl_mean_95->high;
    }
    points.points.push_back(std::move(point));
  }
  std::vector<ChartPoint> front = front_of(points.points);
  for (ChartPoint& point : front) point.low = point.high = std::nan("");
  chart.series = {std::move(points), {"front", std::move(front), SeriesStyle::line}};
  return chart;
}

/// Share of tokens above each KL, at the percentiles that are kept.
XyChart survival_chart(const std::vector<JudgedModel>& models) {
  XyChart chart;
  chart.title = "How many tokens lose how much";
  chart.x = {"KL of a token", AxisKind::log10};
  chart.y = {"share of tokens above", AxisKind::log10};
  for (const JudgedModel& model : models) {
    ChartSeries series{model.name, {}};
    for (const PercentileValue& at : model.result.reference->kl_percentiles)
      series.points.push_back({at.value, 1 - at.fraction, fmt::format("{:g} %", 100 * at.fraction)});
    std::ranges::sort(series.points, {}, &ChartPoint::x);
    chart.series.push_back(std::move(series));
  }
  return chart;
}

/// A fan that is as wide above as below is noise; a heavier lower side is lost probability.
XyChart change_chart(const std::vector<JudgedModel>& models) {
  XyChart chart;
  chart.title = "Change of the true token's probability";
  chart.x = {"percentile of tokens", AxisKind::linear};
  chart.y = {"change of probability", AxisKind::linear};
  for (const JudgedModel& model : models) {
    ChartSeries series{model.name, {}};
    for (const PercentileValue& at : model.result.reference->dp_percentiles)
      series.points.push_back({100 * at.fraction, at.value, fmt::format("{:g} %", 100 * at.fraction)});
    std::ranges::sort(series.points, {}, &ChartPoint::x);
    chart.series.push_back(std::move(series));
  }
  chart.references.push_back({0, "no change"});
  return chart;
}

XyChart lorenz_chart(const std::vector<JudgedModel>& models) {
  XyChart chart;
  chart.title = "Where the added loss is";
  chart.x = {"share of the tokens that lost, worst first", AxisKind::log10};
  chart.y = {"share of all added loss", AxisKind::linear};
  for (const JudgedModel& model : models) {
    if (!model.result.reference->audit) continue;
    ChartSeries series{model.name, {}};
    for (const PercentileValue& at : model.result.reference->audit->lorenz)
      series.points.push_back({at.fraction, at.value, ""});
    chart.series.push_back(std::move(series));
  }
  return chart;
}

std::vector<Excerpt> excerpts_of(const Audit& audit, const std::vector<std::string>& domains,
                                 const Tokenizer& tokenizer) {
  std::vector<Excerpt> excerpts;
  for (const WorstToken& token : audit.tokens) {
    if (excerpts.size() == kMostExcerpts) break;
    const Exemplar& exemplar = token.exemplar;
    const auto text_of = [&](std::int32_t id) { return tokenizer.decode(std::span(&id, 1)); };
    Excerpt excerpt;
    excerpt.title = fmt::format("{}, window {}, position {}", domains[token.part], exemplar.window, exemplar.position);
    excerpt.parts.push_back({tokenizer.decode(exemplar.context)});
    excerpt.parts.push_back({text_of(exemplar.target), 1, fmt::format("KL {:.2f}", exemplar.score.kl)});
    excerpt.note = fmt::format("KL {:.2f}. Probability of the true token {:.3f}, was {:.3f}; likeliest '{}', was '{}'.",
                               exemplar.score.kl, std::exp(-exemplar.score.nll), std::exp(-exemplar.score.nll_base),
                               text_of(exemplar.score.top), text_of(exemplar.score.top_base));
    excerpts.push_back(std::move(excerpt));
  }
  return excerpts;
}

void add_distances(const Judgements& judged, Page& page) {
  const std::vector<JudgedModel>& models = judged.models;
  Section& section = page.section("Distance from the reference");
  if (models.front().domains.size() > 1 || models.size() > 1)
    section.figure(domain_chart(models), "Intervals resample whole windows; what does not overlap is a difference.");
  if (models.size() > 1) section.figure(size_chart(models), "Nothing on the front is beaten in both size and loss.");
  section.figure(survival_chart(models),
                 "A small mean with a long tail means rare tokens that are badly wrong: look at them below.");
  section.figure(change_chart(models), "As much above as below is noise; more below is probability that was lost.");
}

void add_audit(const Judgements& judged, const Tokenizer& tokenizer, Page& page) {
  const bool audited = std::ranges::any_of(
      judged.models, [](const JudgedModel& model) { return model.result.reference->audit.has_value(); });
  if (!audited) return;
  Section& section = page.section("What was forgotten");
  section.figure(lorenz_chart(judged.models), "The steeper the start, the fewer tokens carry the loss.");
  for (const JudgedModel& model : judged.models) {
    if (!model.result.reference->audit || model.result.reference->audit->tokens.empty()) continue;
    section.text(model.name + ": the tokens that changed most");
    section.excerpts(excerpts_of(*model.result.reference->audit, judged.domains, tokenizer));
  }
}

}  // namespace

Page judgements_page(const Judgements& judged, const Tokenizer& tokenizer) {
  const EvaluationResult& first = judged.models.front().result;
  Page page(
      "Models judged",
      fmt::format("{}, protocol {}{}: {} windows, {} tokens scored", judged.texts, first.protocol,
                  judged.activations == Activations::exact ? "" : ", activations q8", first.windows, first.tokens),
      "adze eval " ADZE_VERSION);
  page.section("Models").table(judgements(judged.models));
  if (!first.reference) return page;
  add_distances(judged, page);
  add_audit(judged, tokenizer, page);
  std::vector<std::string> names;
  for (const JudgedModel& model : judged.models) names.push_back(model.name);
  if (!judged.comparisons.empty())
    page.section("Models against each other")
        .file("paired differences on the same windows", comparison_table(judged.comparisons, names));
  page.section("All statistics").file("every statistic with its interval", statistics_table(judged.models));
  return page;
}

}  // namespace adze
