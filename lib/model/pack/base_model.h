// The model that a delta pack is the difference from: its tensors by name, each compared with the hash that the pack
// has of it before it is used.
//
// A hash is of name, shape and decoded values, so that the same model as a Hugging Face folder, a model store or a GGUF
// file of floats is the same base.
#pragma once

#include <memory>
#include <string>

#include "checkpoint/tensor_source.h"
#include "model/pack/manifest.h"
#include "model/weights.h"

namespace adze {

/// Of a tensor's name, shape and values in single precision.
std::string tensor_hash(const std::string& name, const CompressedTensor& values);

/// A matrix, or a vector as one row, as `source` has it, checked for NaN and Inf. Throws bad_data when there is none of
/// that name and shape.
TensorPtr load_tensor(const TensorSource& source, const std::string& name, Shape shape);

/// What makes tensors of one model differ in kind from those of another, with both values; empty: nothing. Numbers that
/// are in no tensor's shape may differ (RoPE, context, norms' epsilon).
std::string structure_difference(const Architecture& one, const Architecture& other);

struct BaseModel {
  std::string origin;  ///< for messages
  Architecture architecture;
  std::shared_ptr<const TensorSource> source;

  /// The base's tensor of that name. Throws bad_data, naming both, when it is not the one that the pack was made with.
  /// `pack`: the delta's manifest.
  TensorPtr tensor(const PackManifest& pack, const PackTensor& tensor) const;
  /// What can be known without reading a matrix: sizes, and all vectors. Throws bad_data.
  void check(const PackManifest& pack) const;
};

}  // namespace adze
