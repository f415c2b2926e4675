// The exporter "pack": adze's own file of one model (docs/pack-format.md), memory-mappable, with everything that a
// compressed store can hold in the bytes that it has there: sparse matrices, factors, sums, mixed rows, every grid.
// Refuses a size to split by: a pack is one file.
#pragma once

#include <memory>

#include "export/exporter.h"

namespace adze {

std::unique_ptr<Exporter> make_pack_exporter();

}  // namespace adze
