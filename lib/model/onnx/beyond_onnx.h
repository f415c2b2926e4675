// Which parts of an architecture the graphs that are written (export/onnx) and read (model/onnx) cannot say.
#pragma once

#include <string>

#include "model/architecture.h"

namespace adze {

/// In words, joined; empty: they say all of it.
std::string beyond_onnx(const Architecture& architecture);

}  // namespace adze
