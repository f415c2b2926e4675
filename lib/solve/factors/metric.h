// In which sense factors are best: H, its diagonal, or neither.
#pragma once

#include <string>

#include "base/matrix.h"
#include "recipe/reader.h"
#include "solve/solver.h"

namespace adze {

struct FactorMetric {
  enum class Kind {
    hessian,   ///< H itself
    diagonal,  ///< inputs weighed by their size alone: diag(H)^alpha, H scaled to a mean of 1
    none,      ///< every input weighs the same
  };
  Kind kind = Kind::hessian;
  double alpha = 1;  ///< 1 is optimal where H is diagonal, and SLiM's saliency; ASVD takes 0.5

  /// The moment to use in place of H, [in x in]; empty for the identity.
  MatrixD moment(const Problem& problem) const;
  std::string in_words() const;
};

/// `metric: hessian | diagonal | none` and `alpha`.
FactorMetric read_factor_metric(MapReader& options);

}  // namespace adze
