#include "report/run_report.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include <fmt/format.h>

#include "report/escaped.h"
#include "report/numbers.h"
#include "report/table.h"

namespace adze {
namespace {

constexpr int kMostDecimals = 8;
constexpr std::size_t kContextBytes = 48;

/// As many decimals as show two digits of this.
int decimals_for(double error) {
  return std::clamp(1 - static_cast<int>(std::floor(std::log10(error))), 0, kMostDecimals);
}

/// "0.00456 [0.00431, 0.00482]"; with a standard error where there is no interval.
std::string with_interval(double value, const std::optional<Interval>& interval, double error) {
  if (!interval) return number_with_error(value, error);
  const double half = 0.5 * (interval->high - interval->low);
  if (!(half > 0)) return fmt::format("{:.4g}", value);
  const int decimals = decimals_for(half);
  return fmt::format("{:.{}f} [{:.{}f}, {:.{}f}]", value, decimals, interval->low, decimals, interval->high, decimals);
}

std::string kl_cell(const ReferenceResult& r) { return with_interval(r.kl_mean, r.kl_mean_95, r.kl_mean_se); }

std::string worst_cell(const JudgedModel& model) {
  const auto worst = worst_domain(model.domains);
  if (!worst) return "";
  const DomainResult& domain = model.domains[*worst];
  return fmt::format("{} {:.3g}", domain.name, domain.result.reference->kl_mean);
}

bool any_reference(const std::vector<JudgedModel>& models) {
  return std::ranges::any_of(models, [](const JudgedModel& model) { return model.result.reference.has_value(); });
}
bool any_domains(const std::vector<JudgedModel>& models) {
  return std::ranges::any_of(models, [](const JudgedModel& model) { return model.domains.size() > 1; });
}

/// Four decimals whatever the error: models are paired, and differ by far less.
std::string perplexity_cell(const EvaluationResult& result) {
  return fmt::format("{:.4f}±{:.2f}", result.perplexity, result.perplexity_se);
}

/// With a star where the domain stands apart from the mean of all.
std::string domain_cell(const EvaluationResult& domain, const EvaluationResult& all) {
  if (!domain.reference) return perplexity_cell(domain);
  const auto& interval = domain.reference->kl_mean_95;
  const double mean = all.reference->kl_mean;
  const bool apart = interval && (interval->low > mean || interval->high < mean);
  return kl_cell(*domain.reference) + (apart ? " *" : "");
}

std::string share_cell(const std::optional<double>& share) { return share ? fmt::format("{:.3f}", *share) : ""; }

std::string text_of(const Tokenizer& tokenizer, std::span<const std::int32_t> ids) {
  return escaped(tokenizer.decode(ids));
}
std::string quoted_token(const Tokenizer& tokenizer, std::int32_t id) {
  return "'" + text_of(tokenizer, std::span(&id, 1)) + "'";
}

/// The end of a context, cut where a character begins.
std::string tail_of(std::string text) {
  if (text.size() <= kContextBytes) return text;
  std::size_t first = text.size() - kContextBytes;
  while (first < text.size() && (static_cast<unsigned char>(text[first]) & 0xC0) == 0x80) ++first;
  return "…" + text.substr(first);
}

}  // namespace

Table judgements(const std::vector<JudgedModel>& models) {
  const bool compared = any_reference(models), domains = any_domains(models);
  std::vector<Column> columns{{"model", Align::left}, {"bytes"}, {"bits/weight"}};
  if (compared)
    for (const char* const title : {"mean KL [95 %]", "99.9% KL", "max KL", "same top %", "ΔPPL [95 %]"})
      columns.push_back({title});
  if (compared && domains) columns.push_back({"worst domain"});
  columns.push_back({"perplexity"});
  if (compared) columns.push_back({"in words", Align::left});
  Table table(columns);
  for (const JudgedModel& model : models) {
    std::vector<std::string> cells{model.name, fmt::format("{}", model.bytes),
                                   fmt::format("{:.3f}", model.bits_per_weight)};
    if (const auto& r = model.result.reference) {
      cells.push_back(kl_cell(*r));
      cells.push_back(number_with_error(r->kl_999, r->kl_999_se));
      cells.push_back(fmt::format("{:.3g}", r->kl_max));
      cells.push_back(number_with_error(100 * r->same_top, 100 * r->same_top_se));
      cells.push_back(with_interval(r->ppl_difference.value, r->ppl_difference.interval_95, r->ppl_difference.se));
      if (domains) cells.push_back(worst_cell(model));
    }
    cells.resize(columns.size() - (compared ? 2 : 1));
    cells.push_back(perplexity_cell(model.result));
    if (const auto& r = model.result.reference)
      cells.emplace_back(r->kl_max == 0 ? "the same" : kl_in_words(r->kl_mean));
    table.add_row(std::move(cells));
  }
  return table;
}

std::string judgement_table(const std::vector<JudgedModel>& models) { return judgements(models).text(); }

std::string domain_table(const std::vector<JudgedModel>& models) {
  std::vector<Column> columns{{"domain", Align::left}, {"windows"}};
  for (const JudgedModel& model : models) columns.push_back({model.name});
  Table table(columns);
  const std::vector<DomainResult>& domains = models.front().domains;
  for (std::size_t d = 0; d < domains.size(); ++d) {
    std::vector<std::string> cells{domains[d].name, fmt::format("{}", domains[d].result.windows)};
    for (const JudgedModel& model : models) cells.push_back(domain_cell(model.domains[d].result, model.result));
    table.add_row(std::move(cells));
  }
  std::vector<std::string> all{"all", fmt::format("{}", models.front().result.windows)};
  for (const JudgedModel& model : models) all.push_back(domain_cell(model.result, model.result));
  table.add_row(std::move(all));
  return table.text();
}

std::string statistics_table(const std::vector<JudgedModel>& models) {
  std::vector<Column> columns{{"statistic", Align::left}};
  for (const JudgedModel& model : models) columns.push_back({model.name});
  Table table(columns);
  const auto add = [&](std::string_view name, const std::function<std::string(const EvaluationResult&)>& cell) {
    std::vector<std::string> cells{std::string(name)};
    for (const JudgedModel& model : models) cells.push_back(cell(model.result));
    table.add_row(std::move(cells));
  };
  const bool compared = any_reference(models);
  for (const StatisticInfo& info : statistics())
    if (compared || info.of_model_alone)
      add(info.name, [&](const EvaluationResult& result) {
        const Estimate& estimate = result.means[info.statistic];
        return with_interval(estimate.value, estimate.interval_95, estimate.se);
      });
  add("calibration_error", [](const EvaluationResult& r) { return fmt::format("{:.4f}", r.calibration.of_model); });
  if (models.front().result.ranks)
    add("erank_hidden", [](const EvaluationResult& r) {
      return with_interval(r.ranks->of_model.value, r.ranks->of_model.interval_95, r.ranks->of_model.se);
    });
  if (!compared) return table.text();
  add("calibration_error_base",
      [](const EvaluationResult& r) { return fmt::format("{:.4f}", r.calibration.of_reference); });
  if (models.front().result.ranks)
    add("erank_hidden_change", [](const EvaluationResult& r) {
      return with_interval(r.ranks->difference.value, r.ranks->difference.interval_95, r.ranks->difference.se);
    });
  add("overlap, 1 % percentile",
      [](const EvaluationResult& r) { return fmt::format("{:.4f}", r.reference->overlap_1); });
  add("correlation of nll",
      [](const EvaluationResult& r) { return fmt::format("{:.6f}", r.reference->nll_correlation); });
  add("dp tail ratio", [](const EvaluationResult& r) { return fmt::format("{:.3f}", r.reference->dp_tail_ratio); });
  add("design effect of KL",
      [](const EvaluationResult& r) { return fmt::format("{:.2f}", r.reference->kl_design.effect); });
  add("effective tokens",
      [](const EvaluationResult& r) { return fmt::format("{:.0f}", r.reference->kl_design.effective_tokens); });
  for (std::size_t i = 0; i < models.front().result.reference->kl_above.size(); ++i)
    add(fmt::format("tokens with KL above {:g}", models.front().result.reference->kl_above[i].nats),
        [&](const EvaluationResult& r) { return fmt::format("{}", r.reference->kl_above[i].tokens); });
  return table.text();
}

std::string comparison_table(std::span<const ModelComparison> comparisons, std::span<const std::string> names) {
  Table table({{"A", Align::left},
               {"B", Align::left},
               {"of", Align::left},
               {"A - B [95 %]"},
               {"P(A better)"},
               {"p (Holm)"},
               {"equivalent"},
               {"windows needed"}});
  const auto cells = [&](const ModelComparison& pair, const char* what, const PairedDifference& difference) {
    return std::vector<std::string>{names[pair.a],
                                    names[pair.b],
                                    what,
                                    with_interval(difference.value, difference.interval_95, 0),
                                    share_cell(difference.a_better),
                                    share_cell(difference.p_holm)};
  };
  for (const ModelComparison& pair : comparisons) {
    if (pair.kl) table.add_row(cells(pair, "KL", *pair.kl));
    std::vector<std::string> loss = cells(pair, "loss", pair.loss);  // the margin is one of loss
    loss.emplace_back(pair.loss.equivalent ? "yes" : "no");
    loss.push_back(fmt::format("{:.0f}", pair.loss.windows_needed));
    table.add_row(std::move(loss));
  }
  return table.text();
}

std::string audit_table(const Audit& audit, std::span<const std::string> parts, const Tokenizer& tokenizer) {
  Table table({{"text", Align::left},
               {"at"},
               {"KL"},
               {"context", Align::left},
               {"token", Align::left},
               {"P"},
               {"Q"},
               {"P's choice", Align::left},
               {"Q's choice", Align::left}});
  for (const WorstToken& token : audit.tokens) {
    const Exemplar& exemplar = token.exemplar;
    table.add_row({parts[token.part], fmt::format("{}:{}", exemplar.window, exemplar.position),
                   fmt::format("{:.2f}", exemplar.score.kl), tail_of(text_of(tokenizer, exemplar.context)),
                   quoted_token(tokenizer, exemplar.target), fmt::format("{:.3f}", std::exp(-exemplar.score.nll_base)),
                   fmt::format("{:.3f}", std::exp(-exemplar.score.nll)),
                   quoted_token(tokenizer, exemplar.score.top_base), quoted_token(tokenizer, exemplar.score.top)});
  }
  std::string text = table.text();
  for (const PercentileValue& point : audit.lorenz)
    if (point.fraction == 0.01)
      text += fmt::format("1 % of tokens carry {:.0f} % of the added loss\n", 100 * point.value);
  return text;
}

std::string population_table(const PopulationAudit& audit, std::span<const std::string> parts,
                             const Tokenizer& tokenizer) {
  Table table({{"text", Align::left},
               {"at"},
               {"flips %"},
               {"KL"},
               {"context", Align::left},
               {"token", Align::left},
               {"most models say", Align::left}});
  for (const ChangedPrediction& found : audit.worst)
    table.add_row({parts[found.part], fmt::format("{}:{}", found.window, found.position),
                   fmt::format("{:.0f}", 100 * found.flip_share), fmt::format("{:.2f}", found.kl),
                   tail_of(text_of(tokenizer, found.context)), quoted_token(tokenizer, found.target),
                   quoted_token(tokenizer, found.modal)});
  return fmt::format(
      "{} of {} predictions changed by most of {} models; they add {:.4f} nats of loss a token, {:.4f} "
      "without those\n{}",
      audit.exemplars, audit.tokens, audit.models, audit.added_loss, audit.added_loss_without, table.text());
}

}  // namespace adze
