// Inputs of a block as a calibration would measure them, made up at random; and transforms from a line of options.
#pragma once

#include <map>
#include <string>

#include "base/error.h"
#include "model/memory_source.h"
#include "recipe/document.h"
#include "transform/transform.h"

namespace adze::testing {

struct BlockInputsOf {
  static constexpr std::size_t kTokens = 300;
  BlockInputs inputs;
  std::map<Stage, MatrixF> x;

  BlockInputsOf(const Architecture& architecture, const BlockWeights& block, const std::string& key) {
    for (const Stage stage : stages_of(architecture)) {
      const std::size_t width =
          stage == Stage::down ? block[LinearSlot::down].weight->shape().cols : width_of(architecture, stage);
      MatrixF& values = x[stage];
      values = random_matrix({kTokens, width}, key + name_of(stage));
      for (std::size_t t = 0; t < kTokens; ++t)  // neighbours are correlated
        for (std::size_t c = 1; c < width; ++c) values(t, c) += 0.7f * values(t, c - 1);
      measure(stage);
    }
  }

  void spread_column(Stage stage, std::size_t col, float factor) {
    MatrixF& values = x.at(stage);
    for (std::size_t t = 0; t < kTokens; ++t) values(t, col) *= factor;
    measure(stage);
  }

  void measure(Stage stage) {
    const MatrixF& values = x.at(stage);
    InputStatistics statistics(values.cols());
    statistics.add(values, kTokens);
    inputs.stages[stage] = std::move(statistics);
  }
};

inline std::shared_ptr<const Transform> make_transform(const std::string& kind, const std::string& options,
                                                       const Architecture& original) {
  const Document document = Document::parse("{ " + options + " }", "options");
  Diagnostics problems(document.source());
  MapReader reader(document.root(), kind, problems);
  auto made = find_transform(kind)->configure(reader, original);
  reader.finish();
  problems.throw_if_any();
  return made;
}

/// The message with which options are refused.
inline std::string refused(const std::string& kind, const std::string& options, const Architecture& original) {
  try {
    make_transform(kind, options, original);
  } catch (const Error& error) {
    return error.message();
  }
  return "it was accepted: " + options;
}

}  // namespace adze::testing
