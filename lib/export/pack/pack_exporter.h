// The exporter "pack": adze's own file of one model (docs/pack-format.md), memory-mappable, with everything that a
// compressed store can hold in the bytes that it has there: sparse matrices, factors, sums, mixed rows, every grid.
// "pack-entropy" is the same file with payloads coded (grid/coded/coded_payload.h) where that makes them smaller: for
// downloads and archives, since they are decoded before anything computes with them.
// Refuses a size to split by: a pack is one file.
#pragma once

#include <memory>

#include "export/exporter.h"

namespace adze {

std::unique_ptr<Exporter> make_pack_exporter();
std::unique_ptr<Exporter> make_pack_entropy_exporter();

}  // namespace adze
