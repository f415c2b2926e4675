// The inner loop of error feedback: a row that is a sum of scaled rows.
#pragma once

#include <span>

#include "base/matrix.h"

namespace adze {

/// sum[k] += coefficients[0] rows(0, k) + coefficients[1] rows(1, k) + ...  Each element is added up in row order, so
/// its bits depend on neither the other elements nor their number.
/// coefficients: at most rows.rows() entries; sum: rows.cols() entries.
void accumulate_rows(std::span<const float> coefficients, ConstViewF rows, std::span<float> sum);

}  // namespace adze
