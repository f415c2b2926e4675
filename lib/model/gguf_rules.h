// What llama.cpp takes for granted of a family, where no key of a GGUF says it: reading a file fills it in, writing one
// refuses models of which it is not so. From llama.cpp's loaders of each architecture.
#pragma once

#include <cstddef>
#include <string_view>

#include "model/architecture.h"

namespace adze {

/// Of Llama and Mistral, which share it; biases are read where they are.
inline constexpr std::string_view kGgufLlama = "llama";

/// The row that says what the model's GGUF is like: its family's, or that of Phi-3 where heads are rotated in part,
/// RoPE has factors for two contexts or an attention factor, which llama.cpp's `llama` has not (it refuses such a
/// rope.dimension_count).
const FamilyInfo& gguf_row(const Architecture& architecture);

/// The key of the epsilon of norms, behind the family's name.
std::string_view gguf_norm_eps_key(const FamilyInfo& family);

/// Whether a layer sees all tokens, where the family has layers with a window.
bool gguf_sees_all(const FamilyInfo& family, std::size_t layer);
/// Scores are divided by its root: head_dim, but hidden / heads in the largest Gemma 2 and 3, known by their depth.
double gguf_score_scalar(const Architecture& architecture);
/// sqrt(hidden) in single precision, or 1.
double gguf_embedding_scale(const Architecture& architecture);

}  // namespace adze
