// Stage 1: what can be told from second moments alone, without compressing anything (specification
// evaluation.md, 10.2).
//
// Beside the distances of metrics/moment_distance.h it predicts regret: what GPTQ with one set's moments is expected to
// lose when another judges, over what it loses with the judge's own. Inputs wider than kMostColumns are compared on
// that many columns, drawn by the input's name: GPTQ on those alone is a problem of the same kind.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/matrix.h"
#include "compare/measured_moments.h"
#include "compare/mismatch.h"
#include "metrics/moment_distance.h"

namespace adze {

inline constexpr std::size_t kMostColumns = 2048;

/// What one set is like at one input: of its first draw.
struct SetAtInput {
  double effective_rank = 0, stable_rank = 0, participation = 0, condition = 0;
  double mean_square = 0;  ///< of an entry of x: how loud the set is here
  std::size_t dead = 0;    ///< columns that are always zero
  std::size_t rare = 0;    ///< columns with (mean |x|)^2 < kRare mean x^2: quiet but for few tokens
  std::uint64_t tokens = 0;
};
inline constexpr double kRare = 0.05;  ///< a normal variable has 2 / pi

struct InputComparison {
  InputPlace place;
  std::size_t inputs = 0;
  std::vector<SetAtInput> sets;
  Matrix<MomentDistance> distances;  ///< [sets x sets], first draws; the diagonal: first draw against the second
  MatrixD correlation;               ///< [sets x sets] likewise
  MatrixD captured;                  ///< [sets x sets]: share of the column's trace that the row has seen
  MatrixD outliers;                  ///< [sets x sets]: overlap of the loudest 1 % of the columns
  std::vector<MatrixD> log_regret;   ///< per draw [sets x (sets + texts)]: log(1 + expected regret)
};

struct MomentStage {
  std::vector<InputComparison> inputs;
  Mismatch expected_regret;  ///< log(1 + regret), mean over inputs

  /// Mean over inputs of one of the measures, [sets x sets].
  MatrixD mean(MatrixD InputComparison::*measure) const;
  MatrixD mean(double MomentDistance::*measure) const;
};

/// The moment on at most kMostColumns columns of that input.
ComparedMoment compared(const InputPlace& place, MatrixD h);

MomentStage compare_moments(const MeasuredMoments& moments, std::span<const ComparedSet> sets,
                            std::span<const JudgingText> texts, Progress& progress);

}  // namespace adze
