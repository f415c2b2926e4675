#include "report/layer_table.h"

#include <fmt/format.h>

#include "report/table.h"

namespace adze {
namespace {

const std::string kNone = "-";

std::string bits_in_words(double bits) { return fmt::format("{:.3f}", bits); }

}  // namespace

std::string layer_table(std::span<const LayerResult> layers) {
  Table table({{"matrix", Align::left},
               {"format", Align::left},
               {"bits/weight"},
               {"output error %"},
               {"limit"},
               {"above limit"},
               {"loss factor"},
               {"above structured"}});
  bool worse = false;
  for (const LayerResult& layer : layers) {
    const auto above = [&](const std::optional<LimitGap>& gap) {
      return gap ? fmt::format("{:+.3f}", layer.bits() - gap->limit) : kNone;
    };
    worse = worse || layer.worse_than_nothing();
    table.add_row({layer.module, layer.format, bits_in_words(layer.bits()),
                   fmt::format("{:.4g}{}", 100 * layer.relative_loss(), layer.worse_than_nothing() ? " (!)" : ""),
                   layer.independent ? bits_in_words(layer.independent->limit) : kNone, above(layer.independent),
                   layer.independent ? fmt::format("{:.2f}", layer.independent->loss_factor) : kNone,
                   above(layer.structured)});
  }
  const LayerTotals totals = total_of(layers);
  if (totals.inexact_weights > 0)
    table.add_row({"all that lost anything", "", bits_in_words(totals.inexact_bits()), "", bits_in_words(totals.limit),
                   fmt::format("{:+.3f}", totals.inexact_bits() - totals.limit), "",
                   fmt::format("{:+.3f}", totals.inexact_bits() - totals.structured_limit)});
  return table.text() + (worse ? "(!) further from the original than a matrix of zeros\n" : "");
}

}  // namespace adze
