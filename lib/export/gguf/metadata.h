// Everything of a GGUF file but the tensor data, from an export plan: general and architecture keys, provenance, and
// the list of tensors with their types.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checkpoint/gguf_writer.h"
#include "export/exporter.h"
#include "export/gguf/storage.h"

namespace adze {

/// A tensor of the file that is none of the plan, in F32.
struct GgufVector {
  std::string name;
  std::vector<float> values;
};

struct GgufContent {
  std::vector<GgufKeyValue> metadata;
  /// One for each of `members`; then `rope_divisors`; then scales of NVFP4.
  std::vector<GgufTensorSpec> tensors;
  /// Which tensors of the plan lie in each tensor of the file: one, those of all experts, q, k and v, or gate and up,
  /// in their order.
  std::vector<std::vector<std::size_t>> members;
  std::vector<GgufStorage> storages;      ///< one per tensor of the plan
  std::vector<GgufVector> rope_divisors;  ///< for llama3 and longrope: rope_freqs.weight, or those of two contexts
};

/// "blk.0.attn_q.scale" beside "blk.0.attn_q.weight".
std::string gguf_scale_name(const TensorSpec& spec);

/// Why no GGUF says this architecture: a setting that the runtime has not, or has otherwise; nothing where one can.
std::optional<std::string> gguf_refuses(const Architecture& architecture);

/// Bytes of the tensor of the file in which this one lies, all of it in its format, with padding, its entry in the head
/// and scales beside it. Throws bad_data for what GGUF cannot hold.
std::uint64_t gguf_own_bytes(const Architecture& architecture, const PlannedTensor& planned);

/// Throws bad_data for what GGUF cannot hold (gguf_storage, tokenizer_metadata) or when there is no tokenizer, internal
/// when the plan's tensors are not those of its architecture.
GgufContent gguf_content(const ExportPlan& plan);

}  // namespace adze
