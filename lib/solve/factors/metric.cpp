#include "solve/factors/metric.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "solve/common.h"

namespace adze {
namespace {

using Kind = FactorMetric::Kind;

constexpr std::array kMetrics{Named<Kind>{"hessian", Kind::hessian}, Named<Kind>{"diagonal", Kind::diagonal},
                              Named<Kind>{"none", Kind::none}};

}  // namespace

MatrixD FactorMetric::moment(const Problem& problem) const {
  if (kind == Kind::none || !problem.has_hessian()) return {};
  MatrixD moment(problem.hessian.shape());
  if (kind == Kind::hessian) {
    for (std::size_t r = 0; r < moment.rows(); ++r) std::ranges::copy(problem.hessian.row(r), moment.row(r).begin());
    return moment;
  }
  const std::vector<float> importance = input_importance(problem);
  for (std::size_t i = 0; i < importance.size(); ++i)
    moment(i, i) = std::pow(static_cast<double>(importance[i]), alpha);
  return moment;
}

std::string FactorMetric::in_words() const {
  return fmt::format("metric={} alpha={}", std::ranges::find(kMetrics, kind, &Named<Kind>::value)->name, alpha);
}

FactorMetric read_factor_metric(MapReader& options) {
  FactorMetric metric;
  metric.kind = options.optional("metric").one_of<Kind>(kMetrics).value_or(metric.kind);
  const Value alpha = options.optional("alpha");
  metric.alpha = alpha.real(0, 2).value_or(metric.alpha);
  if (alpha.present() && metric.kind != Kind::diagonal) alpha.complain("is of metric: diagonal");
  return metric;
}

}  // namespace adze
