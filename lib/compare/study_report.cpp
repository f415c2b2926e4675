#include "compare/study_report.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/hash.h"
#include "base/words.h"
#include "compare/study_page.h"
#include "linalg/convert.h"
#include "pipeline/open_model.h"
#include "report/table.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

double mean_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

std::vector<std::string> names_of(std::span<const ComparedSet> sets) {
  std::vector<std::string> names;
  for (const ComparedSet& set : sets) names.push_back(set.name);
  return names;
}

/// 0.00123 +- 0.00004, with as many decimals as the second asks for.
std::string with_margin(const Spread& spread) {
  if (!spread.margin) return fmt::format("{:.4g}", spread.mean);
  if (*spread.margin == 0) return fmt::format("{:.4g} ± 0", spread.mean);
  const int decimals = std::clamp(1 - static_cast<int>(std::floor(std::log10(*spread.margin))), 0, 9);
  return fmt::format("{:.{}f} ± {:.{}f}", spread.mean, decimals, *spread.margin, decimals);
}

/// log(1 + regret) as percent.
std::string percent_regret(double log_regret) { return fmt::format("{:.1f}", 100 * std::expm1(log_regret)); }

template <typename Cell>
std::string mismatch_table(const Mismatch& mismatch, const std::string& corner, Cell&& cell) {
  std::vector<Column> columns{{corner, Align::left}};
  for (const std::string& judge : mismatch.judges) columns.push_back({judge});
  columns.push_back({"mean"});
  columns.push_back({"worst"});
  Table table(columns);
  for (std::size_t s = 0; s < mismatch.sources.size(); ++s) {
    std::vector<std::string> row{mismatch.sources[s]};
    for (std::size_t j = 0; j < mismatch.judges.size(); ++j)
      row.push_back(cell(mismatch.cell(s, j)) + (mismatch.best_for(j) == s ? " *" : "  "));
    row.push_back(cell(spread_of(mismatch.means(s))));
    row.push_back(cell(spread_of(mismatch.worsts(s))));
    table.add_row(row);
  }
  return table.text();
}

std::string sets_table(const PreparedStudy& prepared, const Study& study) {
  Table table({{"set", Align::left},
               {"tokens"},
               {"distinct"},
               {"entropy, bits"},
               {"distinct pairs %"},
               {"repeated %"},
               {"effective rank %"},
               {"condition"},
               {"dead"},
               {"rare"}});
  for (std::size_t s = 0; s < prepared.sets.size(); ++s) {
    const TokenProfile& tokens = study.tokens[s];
    double rank = 0, condition = 0;
    std::size_t dead = 0, rare = 0;
    for (const InputComparison& input : study.moments.inputs) {
      const double columns = static_cast<double>(std::min(input.inputs, kMostColumns));
      rank += input.sets[s].effective_rank / columns;
      condition += std::log10(input.sets[s].condition);
      dead += input.sets[s].dead;
      rare += input.sets[s].rare;
    }
    const auto inputs = static_cast<double>(study.moments.inputs.size());
    const bool saved = prepared.sets[s].is_saved();
    const auto known = [&](std::string text) { return saved ? std::string("-") : text; };
    table.add_row(
        {prepared.sets[s].name, known(fmt::format("{}", tokens.tokens)), known(fmt::format("{}", tokens.distinct)),
         known(fmt::format("{:.2f}", tokens.entropy)), known(fmt::format("{:.1f}", 100 * tokens.distinct_pairs)),
         known(fmt::format("{:.2f}", 100 * tokens.repeated)), fmt::format("{:.1f}", 100 * rank / inputs),
         fmt::format("{:.0f}", std::pow(10, condition / inputs)), fmt::format("{}", dead), fmt::format("{}", rare)});
  }
  return table.text();
}

std::string pair_table(const PreparedStudy& prepared, const MatrixD& values, const char* format_percent) {
  std::vector<Column> columns{{format_percent, Align::left}};
  const std::vector<std::string> names = names_of(prepared.sets);
  for (const std::string& name : names) columns.push_back({name});
  Table table(columns);
  for (std::size_t a = 0; a < names.size(); ++a) {
    std::vector<std::string> row{names[a]};
    for (std::size_t b = 0; b < names.size(); ++b) row.push_back(fmt::format("{:.3g}", values(a, b)));
    table.add_row(row);
  }
  return table.text();
}

std::string mixture_in_words(const PreparedStudy& prepared, const MixtureProposal& mixture) {
  std::vector<std::string> parts;
  for (std::size_t s = 0; s < prepared.sets.size(); ++s)
    parts.push_back(fmt::format("{:.0f} % {}", 100 * mixture.weights[s], prepared.sets[s].name));
  return join_words(parts);
}

std::string sizes_table(const OutcomeStage& outcomes) {
  Table table({{"windows"}, {"mean KL"}, {"sd over draws"}, {"worst text's KL"}});
  for (const SizePoint& point : outcomes.size_curve())
    table.add_row({fmt::format("{}", point.windows), with_margin(point.mean), fmt::format("{:.2g}", point.mean.sd),
                   with_margin(point.worst)});
  return table.text();
}

std::string agreement_in_words(std::span<const Agreement> agreements) {
  std::vector<std::string> parts;
  for (const Agreement& agreement : agreements)
    parts.push_back(fmt::format("{} {:.2f}", agreement.measure, agreement.tau));
  return join_words(parts);
}

/// Losses of the sets alone (no mixture): [set][draw], mean over texts.
std::vector<std::vector<double>> set_outcomes(const Mismatch& kl, std::size_t sets) {
  std::vector<std::vector<double>> outcomes;
  for (std::size_t s = 0; s < sets; ++s) outcomes.push_back(kl.means(s));
  return outcomes;
}

std::vector<std::vector<double>> by_draw(std::span<const std::vector<double>> outcomes) {
  std::vector<std::vector<double>> draws(outcomes.front().size());
  for (std::size_t r = 0; r < draws.size(); ++r)
    for (const auto& source : outcomes) draws[r].push_back(source[r]);
  return draws;
}

bool draws_are_equal(const Mismatch& kl) {
  for (std::size_t s = 0; s < kl.sources.size(); ++s)
    for (std::size_t j = 0; j < kl.judges.size(); ++j)
      for (const double value : kl.values(s, j))
        if (value != kl.draws.front()(0, j)) return false;
  return true;
}

std::string noise_finding(const Mismatch& kl, std::size_t sets) {
  const VarianceShares shares = variance_shares(set_outcomes(kl, sets));
  if (draws_are_equal(kl)) return "Calibration changes nothing: every draw of every set gives the same model.";
  if (kl.draws.size() < 2)
    return "One draw per set: nothing can be said of the noise of drawing; use --draws 3 or more.";
  return fmt::format(
      "Drawing other windows of the same set moves mean KL by {:.2g} (sd); sets differ by {:.2g}, {:.1f} "
      "times as much.",
      shares.within_sd, shares.between_sd, shares.ratio());
}

std::string order_finding(const Mismatch& kl, std::size_t sets) {
  const std::vector<std::vector<double>> outcomes = set_outcomes(kl, sets);
  const std::vector<std::vector<double>> draws = by_draw(outcomes);
  const OrderStability order = order_stability(draws);
  const char* verdict = order.mean_tau < 0.5 ? "no stable order" : "a stable order";
  return fmt::format(
      "The order of the sets from draw to draw: Kendall's tau {:.2f} on average, {:.2f} at its 5 % "
      "percentile, W {:.2f}: {}. The best set wins {:.0f} % of the draws.",
      order.mean_tau, order.low_tau, order.concordance, verdict, 100 * order.winner_share);
}

std::string best_set_finding(const PreparedStudy& prepared, const OutcomeStage& outcomes, const Mismatch& kl) {
  const std::size_t sets = prepared.sets.size();
  std::vector<std::size_t> order(sets);
  for (std::size_t s = 0; s < sets; ++s) order[s] = s;
  std::ranges::stable_sort(order, {}, [&](std::size_t s) { return mean_of(kl.means(s)); });
  const std::vector<double> a = kl.means(order[0]), b = kl.means(order[1]);
  const Interval interval = outcomes.difference(order[0], order[1]);
  const Verdict verdict = kl.draws.size() < 2 ? Verdict::unresolved : compare_draws(a, b);
  return fmt::format(
      "Of the sets, '{}' loses least on average ({}); second is '{}' ({}): P(first better) {:.2f}, "
      "difference [{:.2g}, {:.2g}]: {}.",
      kl.sources[order[0]], with_margin(spread_of(a)), kl.sources[order[1]], with_margin(spread_of(b)),
      probability_less(a, b), interval.low, interval.high,
      verdict == Verdict::better && interval.high < 0 ? "decisive" : "unresolved");
}

std::string mixture_finding(const PreparedStudy& prepared, const OutcomeStage& outcomes, const Mismatch& kl) {
  const std::size_t mixture = prepared.sets.size();
  Mismatch sets = kl;  // the mixture left out, to find the best of them
  sets.sources.pop_back();
  const std::size_t single = sets.best_at_worst();
  const std::vector<double> a = kl.worsts(mixture), b = kl.worsts(single);
  std::size_t text = 0;
  for (std::size_t t = 0; t < kl.judges.size(); ++t)
    if (kl.cell(mixture, t).mean > kl.cell(mixture, text).mean) text = t;
  const Interval interval = outcomes.difference(mixture, single, text);
  const char* verdict = interval.high < 0  ? "better beyond noise"
                        : interval.low > 0 ? "worse beyond noise"
                                           : "no different beyond noise";
  return fmt::format(
      "The mixture's worst text ('{}') has KL {}; the best single set for the worst text, '{}', {} at its "
      "worst. Difference on '{}' [{:.2g}, {:.2g}]: {}.",
      kl.judges[text], with_margin(spread_of(a)), kl.sources[single], with_margin(spread_of(b)), kl.judges[text],
      interval.low, interval.high, verdict);
}

std::string size_finding(const EnoughWindows& enough, double least) {
  std::string text;
  if (enough.windows && !enough.still_falling)
    text = fmt::format(
        "{} windows are enough: more change the mean by less than a quarter of {} KL, and so do other "
        "draws.",
        *enough.windows, least);
  else
    text = fmt::format(
        "More windows still help, or draws of this size differ by more than a quarter of {} KL: try twice "
        "as many.",
        least);
  if (enough.worse_with_more) text += " Beware: the largest size is worse than a smaller one.";
  return text;
}

std::string diagonal_finding(const PreparedStudy& prepared, const Mismatch& kl) {
  std::size_t shared = 0, own_best = 0;
  for (std::size_t t = 0; t < kl.judges.size(); ++t)
    for (std::size_t s = 0; s < prepared.sets.size(); ++s) {
      if (kl.sources[s] != kl.judges[t]) continue;
      ++shared;
      double best = kl.cell(0, t).mean;
      for (std::size_t other = 1; other < prepared.sets.size(); ++other) best = std::min(best, kl.cell(other, t).mean);
      own_best += kl.cell(s, t).mean <= best;
    }
  return shared == 0 ? ""
                     : fmt::format("Of {} texts with a set of the same name, {} are best served by that set.", shared,
                                   own_best);
}

Json matrix_json(const MatrixD& matrix) {
  Json rows = Json::array();
  for (std::size_t r = 0; r < matrix.rows(); ++r)
    rows.push_back(std::vector<double>(matrix.row(r).begin(), matrix.row(r).end()));
  return rows;
}

Json mismatch_json(const Mismatch& mismatch) {
  Json json{{"sources", mismatch.sources}, {"judges", mismatch.judges}, {"draws", Json::array()}};
  for (const MatrixD& draw : mismatch.draws) json["draws"].push_back(matrix_json(draw));
  return json;
}

Json agreements_json(std::span<const Agreement> agreements) {
  Json json = Json::object();
  for (const Agreement& agreement : agreements) json[agreement.measure] = agreement.tau;
  return json;
}

Json design_json(const PreparedStudy& prepared) {
  const StudyRequest& request = prepared.request;
  Json json{{"version", ADZE_VERSION},
            {"kernels", kernel_name()},
            {"model", {{"name", prepared.model->name}, {"identity", model_identity(*prepared.model)}}},
            {"recipe", request.recipe == nullptr ? Json() : Json(request.recipe->text_hash)},
            {"windows", request.rule.windows},
            {"tokens", request.rule.tokens},
            {"draws", prepared.draws},
            {"seed", request.rule.seed},
            {"stages", request.stages},
            {"blocks", request.blocks},
            {"protocol", request.protocol},
            {"sets", Json::array()},
            {"texts", Json::array()}};
  for (const ComparedSet& set : prepared.sets) {
    Json draws = Json::array();
    for (const TokenWindows& draw : set.draws) draws.push_back(draw.hash());
    json["sets"].push_back({{"name", set.name}, {"draws", draws}});
  }
  for (const JudgingText& text : prepared.texts)
    json["texts"].push_back(
        {{"name", text.name}, {"tokens", text.ids.size()}, {"hash", hash_hex(std::as_bytes(std::span(text.ids)))}});
  return json;
}

Json input_json(const InputComparison& input, const std::vector<std::string>& names) {
  Json json{{"input", input.place.name()}, {"columns", input.inputs}, {"sets", Json::object()}};
  for (std::size_t s = 0; s < names.size(); ++s) {
    const SetAtInput& set = input.sets[s];
    json["sets"][names[s]] = {{"effective_rank", set.effective_rank},
                              {"stable_rank", set.stable_rank},
                              {"participation", set.participation},
                              {"condition", set.condition},
                              {"mean_square", set.mean_square},
                              {"dead", set.dead},
                              {"rare", set.rare},
                              {"tokens", set.tokens}};
  }
  json["captured"] = matrix_json(input.captured);
  json["outlier_overlap"] = matrix_json(input.outliers);
  json["correlation_distance"] = matrix_json(input.correlation);
  const auto add = [&](const char* name, double MomentDistance::*measure) {
    MatrixD values(input.distances.shape());
    for (std::size_t i = 0; i < values.values().size(); ++i) values.values()[i] = input.distances.values()[i].*measure;
    json[name] = matrix_json(values);
  };
  add("frobenius", &MomentDistance::frobenius);
  add("stein", &MomentDistance::stein);
  add("s_divergence", &MomentDistance::s_divergence);
  add("affine_invariant", &MomentDistance::affine_invariant);
  add("hilbert", &MomentDistance::hilbert);
  return json;
}

Json outcomes_json(const OutcomeStage& stage, std::span<const SourceOutcomes> sources) {
  Json json = Json::array();
  for (const SourceOutcomes& source : sources)
    for (std::size_t r = 0; r < source.draws.size(); ++r)
      for (std::size_t t = 0; t < stage.texts.size(); ++t) {
        const Outcome& outcome = source.draws[r][t];
        json.push_back({{"source", source.name},
                        {"windows", source.windows},
                        {"draw", r},
                        {"text", stage.texts[t]},
                        {"kl", outcome.kl},
                        {"perplexity", outcome.perplexity},
                        {"perplexity_base", outcome.perplexity_base},
                        {"same_top", outcome.same_top}});
      }
  return json;
}

std::string moments_csv(const PreparedStudy& prepared, const Study& study) {
  std::string csv =
      "input,columns,from,to,frobenius,correlation,stein,s_divergence,affine_invariant,hilbert,captured,"
      "outlier_overlap\n";
  for (const InputComparison& input : study.moments.inputs)
    for (std::size_t a = 0; a < prepared.sets.size(); ++a)
      for (std::size_t b = 0; b < prepared.sets.size(); ++b) {
        const MomentDistance& d = input.distances(a, b);
        csv += fmt::format("{},{},{},{},{:.8g},{:.8g},{:.8g},{:.8g},{:.8g},{:.8g},{:.8g},{:.8g}\n", input.place.name(),
                           input.inputs, prepared.sets[a].name, prepared.sets[b].name, d.frobenius,
                           input.correlation(a, b), d.stein, d.s_divergence, d.affine_invariant, d.hilbert,
                           input.captured(a, b), input.outliers(a, b));
      }
  return csv;
}

void add_regret_rows(const std::string& stage, const std::string& where, const Mismatch& names,
                     std::span<const MatrixD> draws, std::string& csv) {
  for (std::size_t r = 0; r < draws.size(); ++r)
    for (std::size_t s = 0; s < names.sources.size(); ++s)
      for (std::size_t j = 0; j < names.judges.size(); ++j)
        csv += fmt::format("{},{},{},{},{},{:.8g}\n", stage, where, r, names.sources[s], names.judges[j],
                           std::expm1(draws[r](s, j)));
}

std::string regret_csv(const Study& study) {
  std::string csv = "stage,where,draw,calibrated_on,judged_on,regret\n";
  for (const InputComparison& input : study.moments.inputs)
    add_regret_rows("expected", input.place.name(), study.moments.expected_regret, input.log_regret, csv);
  if (study.regret)
    for (const MatrixRegret& matrix : study.regret->matrices)
      add_regret_rows("measured", matrix.module, study.regret->regret, matrix.log_regret, csv);
  return csv;
}

std::string outcome_csv(const OutcomeStage& stage) {
  std::string csv = "source,windows,draw,text,kl,perplexity,perplexity_base,same_top\n";
  const auto add = [&](std::span<const SourceOutcomes> sources) {
    for (const SourceOutcomes& source : sources)
      for (std::size_t r = 0; r < source.draws.size(); ++r)
        for (std::size_t t = 0; t < stage.texts.size(); ++t) {
          const Outcome& o = source.draws[r][t];
          csv += fmt::format("{},{},{},{},{:.10g},{:.8g},{:.8g},{:.8g}\n", source.name, source.windows, r,
                             stage.texts[t], o.kl, o.perplexity, o.perplexity_base, o.same_top);
        }
  };
  add(stage.sources);
  if (!stage.sizes.empty()) add(std::span(stage.sizes).first(stage.sizes.size() - 1));  // the last is a source
  return csv;
}

}  // namespace

std::vector<std::string> findings(const PreparedStudy& prepared, const Study& study) {
  std::vector<std::string> result;
  const std::size_t sets = prepared.sets.size();
  if (study.outcomes) {
    const Mismatch kl = study.outcomes->kl();
    result.push_back(noise_finding(kl, sets));
    if (!draws_are_equal(kl)) {
      if (kl.draws.size() > 1) result.push_back(order_finding(kl, sets));
      result.push_back(best_set_finding(prepared, *study.outcomes, kl));
      if (const std::string text = diagonal_finding(prepared, kl); !text.empty()) result.push_back(text);
      result.push_back(mixture_finding(prepared, *study.outcomes, kl));
      if (!prepared.sizes.empty()) result.push_back(size_finding(study.enough, prepared.request.least_difference));
      result.push_back(fmt::format("Agreement with the order of whole models on each text (Kendall's tau): {}.",
                                   agreement_in_words(study.with_outcomes)));
    }
  } else {
    const Mismatch& regret = study.regret ? study.regret->regret : study.moments.expected_regret;
    const char* how = study.regret ? "layer by layer" : "as predicted from second moments";
    result.push_back(fmt::format("'{}' serves all judges best on average, '{}' the worst served one ({}).",
                                 regret.sources[regret.best_on_average()], regret.sources[regret.best_at_worst()],
                                 how));
  }
  if (study.regret)
    result.push_back(fmt::format("Agreement with the order of layers' regret between sets (Kendall's tau): {}.",
                                 agreement_in_words(study.with_regret)));
  return result;
}

std::string study_text(const PreparedStudy& prepared, const Study& study) {
  std::string text = fmt::format("{}: {} sets, {} draws of {} windows of {} tokens\n\n{}\n", prepared.model->name,
                                 prepared.sets.size(), prepared.draws, prepared.request.rule.windows,
                                 prepared.request.rule.tokens, sets_table(prepared, study));
  text += "distance of second moments (relative Frobenius, mean over inputs; diagonal: two draws of one set)\n\n" +
          pair_table(prepared, study.moments.mean(&MomentDistance::frobenius), "") + "\n";
  text += "stage 1: expected regret of GPTQ, %: calibrated on the row, judged on the column (* best)\n\n" +
          mismatch_table(study.moments.expected_regret, "", [](const Spread& s) { return percent_regret(s.mean); }) +
          "\n";
  text +=
      fmt::format("mixture proposed: {}; expected regret {} % at worst, {} % on average (equal parts: {} and {})\n\n",
                  mixture_in_words(prepared, *study.mixture), percent_regret(study.mixture->worst),
                  percent_regret(study.mixture->mean), percent_regret(study.mixture->uniform_worst),
                  percent_regret(study.mixture->uniform_mean));
  if (study.regret)
    text += "stage 2: measured regret of layers, %\n\n" +
            mismatch_table(study.regret->regret, "", [](const Spread& s) { return percent_regret(s.mean); }) + "\n";
  if (study.outcomes) {
    text +=
        fmt::format("stage 3: mean KL of whole models, protocol {} (± half of the 95 % interval over draws)\n\n{}\n",
                    prepared.request.protocol, mismatch_table(study.outcomes->kl(), "", with_margin));
    if (!study.outcomes->sizes.empty())
      text +=
          fmt::format("windows of the {}\n\n{}\n", study.outcomes->sizes.front().name, sizes_table(*study.outcomes));
  }
  for (const std::string& finding : findings(prepared, study)) text += "- " + finding + "\n";
  for (const std::string& warning : study.warnings) text += "warning: " + warning + "\n";
  return text;
}

Json study_json(const PreparedStudy& prepared, const Study& study) {
  Json json{{"design", design_json(prepared)}, {"findings", findings(prepared, study)}, {"warnings", study.warnings}};
  const std::vector<std::string> names = names_of(prepared.sets);
  for (std::size_t s = 0; s < names.size(); ++s) {
    const TokenProfile& tokens = study.tokens[s];
    json["tokens"][names[s]] = {{"tokens", tokens.tokens},
                                {"distinct", tokens.distinct},
                                {"entropy_bits", tokens.entropy},
                                {"distinct_pairs", tokens.distinct_pairs},
                                {"repeated", tokens.repeated}};
  }
  json["token_divergence"] = matrix_json(study.token_divergence);
  json["token_coverage"] = matrix_json(study.token_coverage);
  for (const InputComparison& input : study.moments.inputs) json["inputs"].push_back(input_json(input, names));
  json["expected_log_regret"] = mismatch_json(study.moments.expected_regret);
  const MixtureProposal& mixture = *study.mixture;
  json["mixture"] = {
      {"weights", Json::object()}, {"expected_log_regret", mixture.log_regret}, {"worst", mixture.worst},
      {"mean", mixture.mean},      {"uniform_worst", mixture.uniform_worst},    {"uniform_mean", mixture.uniform_mean}};
  for (std::size_t s = 0; s < names.size(); ++s) json["mixture"]["weights"][names[s]] = mixture.weights[s];
  if (study.regret) {
    json["log_regret"] = mismatch_json(study.regret->regret);
    json["agreement_with_regret"] = agreements_json(study.with_regret);
  }
  if (study.outcomes) {
    json["outcomes"] = outcomes_json(*study.outcomes, study.outcomes->sources);
    json["sizes"] = outcomes_json(*study.outcomes, study.outcomes->sizes);
    json["agreement_with_outcomes"] = agreements_json(study.with_outcomes);
    json["enough_windows"] = study.enough.windows ? Json(*study.enough.windows) : Json();
  }
  return json;
}

void write_study(const PreparedStudy& prepared, const Study& study) {
  const std::filesystem::path& out = prepared.request.out;
  write_file(out / "compare.json", study_json(prepared, study).dump(1) + "\n");
  write_file(out / "moments.csv", moments_csv(prepared, study));
  write_file(out / "regret.csv", regret_csv(study));
  if (study.outcomes) write_file(out / "outcome.csv", outcome_csv(*study.outcomes));
  const Page page = study_page(prepared, study);
  write_file(out / "report.html", page.html());
  write_file(out / "report.md", page.markdown());
}

}  // namespace adze
