// GGUF for llama.cpp: blocks of all gguf/ grids go in byte for byte, integer grids that Q4_0 and Q8_0 hold exactly are
// repacked, float weights keep their dtype, vectors become F32, and the rows of q and k are reordered where the runtime
// rotates neighbouring elements. One file or several of a limited size, little-endian, with tokenizer and chat
// template.
//
// Refuses everything that would change a value, and tokenizers that the runtime does not know: it would load them and
// read another text.
#pragma once

#include <memory>

#include "export/exporter.h"

namespace adze {

std::unique_ptr<Exporter> make_gguf_exporter();

}  // namespace adze
