#include "report/run_report.h"

#include <fmt/format.h>

#include "report/table.h"

namespace adze {
namespace {

/// Digits as the error allows: "0.00456 ± 0.00003".
std::string with_error(double value, double error) { return fmt::format("{:.6f} ± {:.6f}", value, error); }

}  // namespace

std::string judgement_table(const std::vector<JudgedModel>& models) {
  Table table({{"model", Align::left},
               {"bytes"},
               {"bits/weight"},
               {"perplexity"},
               {"mean KL"},
               {"median KL"},
               {"99.9% KL"},
               {"same top"},
               {"RMS dp"}});
  for (const JudgedModel& model : models) {
    std::vector<std::string> cells{model.name, fmt::format("{}", model.bytes), fmt::format("{:.3f}", model.bits_per_weight),
                                   fmt::format("{:.4f} ± {:.4f}", model.result.perplexity, model.result.perplexity_se)};
    if (const auto& r = model.result.reference) {
      cells.push_back(with_error(r->kl_mean, r->kl_mean_se));
      cells.push_back(fmt::format("{:.6f}", r->kl_median));
      cells.push_back(fmt::format("{:.4f}", r->kl_999));
      cells.push_back(fmt::format("{:.2f} %", 100 * r->same_top));
      cells.push_back(fmt::format("{:.3f} %", 100 * r->rms_dp));
    }
    table.add_row(std::move(cells));
  }
  return table.text();
}

}  // namespace adze
