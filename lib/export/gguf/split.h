// Cuts a GGUF export into files of a limited size, as llama.cpp's loader wants them: the first holds all metadata, each
// of them its part of the tensors, in order, and three split.* keys.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "export/gguf/metadata.h"

namespace adze {

/// One file of an export.
struct GgufPart {
  std::vector<GgufKeyValue> metadata;
  std::vector<GgufTensorSpec> tensors;
};

/// max_bytes: of a whole file, header and padding included; 0: no limit. What fits into one file is one part without
/// split.* keys. Otherwise tensors fill one file after the other; the first may hold none. Throws bad_data when the
/// metadata or a tensor alone exceed a file, or when there would be more than 65535 files.
std::vector<GgufPart> split_gguf(const GgufContent& content, std::uint64_t max_bytes);

/// Exact size of all files together.
std::uint64_t predict_gguf_bytes(std::span<const GgufPart> parts);

}  // namespace adze
