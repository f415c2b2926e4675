// compressed-tensors' legacy "sparse-24-bitmask": two of every four neighbouring weights are stored.
//   NAME.compressed [out x in / 2] floats, row by row; NAME.bitmask U8 [out x ceil(in / 8)], bit j of byte i is column
//   8 i + j; NAME.shape I64 [2, 1]
#pragma once

#include "model/packed/packed_layout.h"

namespace adze {

/// Whether the linear `base` is stored so.
bool is_sparse_24(const RawTensors& raw, const std::string& base);
std::vector<std::string> sparse_24_tensors(const std::string& base);

/// As a pruned matrix of floats, "bf16, 2:4". Throws bad_data for sizes that disagree, floats of 32 bits, and a mask
/// that does not keep two of every four.
TensorPtr read_sparse_24(const RawTensors& raw, const std::string& base, Shape shape);

}  // namespace adze
