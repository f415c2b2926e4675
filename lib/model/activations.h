// What llama.cpp's CPU kernels do to the inputs of a product before it: they are rounded to 8 bits in blocks where the
// weights are quantized, and to the weights' own type where these are half floats. Perplexity and KL of a GGUF file by
// llama.cpp hold both errors, the weights' and this one. Judging with Activations::q8 shows what a user of that runtime
// gets; exact activations show what the compression alone did. Products themselves stay in single precision.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace adze {

enum class Activations : std::uint8_t { exact, q8 };

/// "exact", "q8". Throws usage, naming both, for anything else.
Activations parse_activations(std::string_view name);

std::string_view name_of(Activations activations);

enum class ActivationRounding : std::uint8_t {
  q8_0,  ///< blocks of 32: codes -127..127, their scale max|x| / 127 as f16
  q8_k,  ///< blocks of 256: the same with a scale in f32
  f16,
  bf16,
};

/// What becomes of inputs of a product with weights of this format ("gguf/q4_k", "f16"; a mask after a comma does not
/// matter). Nothing: they stay as they are, as for every format that llama.cpp does not read.
std::optional<ActivationRounding> rounding_for(std::string_view format, Activations activations);

/// One row of inputs, rounded and back in float. Its size is a multiple of the block where there is one; finite; `in`
/// and `out` may be the same.
void round_activations(ActivationRounding rounding, std::span<const float> in, std::span<float> out);

}  // namespace adze
