// Statistics as an importance matrix: the diagonal of every H under the GGUF names of the matrices that read it, for
// llama.cpp's own quantizers.
#pragma once

#include "calibrate/statistics_folder.h"
#include "checkpoint/imatrix.h"

namespace adze {

/// One entry per linear of the blocks, and output.weight for the head (a quantizer leaves out names that it has no
/// tensor for). Linears that share an input have equal entries. .gguf: sums of x and of x^2 over tokens; .dat: per
/// window, as that kind counts. Throws as StatisticsFolder.
Imatrix imatrix_of(const StatisticsFolder& statistics, ImatrixKind kind);

}  // namespace adze
