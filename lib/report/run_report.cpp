#include "report/run_report.h"

#include <fmt/format.h>

#include "report/numbers.h"
#include "report/table.h"

namespace adze {
namespace {

std::string percent(double share, double error) { return number_with_error(100 * share, 100 * error); }

}  // namespace

std::string judgement_table(const std::vector<JudgedModel>& models) {
  Table table({{"model", Align::left},
               {"bytes"},
               {"bits/weight"},
               {"perplexity"},
               {"ln PPL ratio"},
               {"mean KL"},
               {"median KL"},
               {"99.9% KL"},
               {"same top %"},
               {"RMS dp %"}});
  for (const JudgedModel& model : models) {
    std::vector<std::string> cells{model.name, fmt::format("{}", model.bytes),
                                   fmt::format("{:.3f}", model.bits_per_weight),
                                   // Four decimals whatever the error: models are paired, and differ by far less.
                                   fmt::format("{:.4f}±{:.2f}", model.result.perplexity, model.result.perplexity_se)};
    if (const auto& r = model.result.reference) {
      cells.push_back(number_with_error(r->ln_ppl_ratio, r->ln_ppl_ratio_se));
      cells.push_back(number_with_error(r->kl_mean, r->kl_mean_se));
      cells.push_back(number_with_error(r->kl_median, r->kl_median_se));
      cells.push_back(number_with_error(r->kl_999, r->kl_999_se));
      cells.push_back(percent(r->same_top, r->same_top_se));
      cells.push_back(percent(r->rms_dp, r->rms_dp_se));
    }
    table.add_row(std::move(cells));
  }
  return table.text();
}

}  // namespace adze
