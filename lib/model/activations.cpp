#include "model/activations.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstddef>

#include "base/dtype.h"
#include "base/error.h"

namespace adze {
namespace {

struct NamedActivations {
  std::string_view name;
  Activations value;
};
constexpr std::array kNames{NamedActivations{"exact", Activations::exact}, NamedActivations{"q8", Activations::q8}};

/// llama.cpp's vec_dot_type. Q4_1's and Q5_1's Q8_1 has the codes and scales of Q8_0; its sum of a block, in f16, is
/// taken to be exact here.
struct FormatRounding {
  std::string_view format;
  ActivationRounding rounding;
};
using enum ActivationRounding;
constexpr std::array kRoundings{
    FormatRounding{"gguf/q4_0", q8_0},  FormatRounding{"gguf/q4_1", q8_0},   FormatRounding{"gguf/q5_0", q8_0},
    FormatRounding{"gguf/q5_1", q8_0},  FormatRounding{"gguf/q8_0", q8_0},   FormatRounding{"gguf/iq4_nl", q8_0},
    FormatRounding{"gguf/mxfp4", q8_0}, FormatRounding{"nvfp4", q8_0},       FormatRounding{"gguf/q2_k", q8_k},
    FormatRounding{"gguf/q3_k", q8_k},  FormatRounding{"gguf/q4_k", q8_k},   FormatRounding{"gguf/q5_k", q8_k},
    FormatRounding{"gguf/q6_k", q8_k},  FormatRounding{"gguf/iq4_xs", q8_k}, FormatRounding{"gguf/tq1_0", q8_k},
    FormatRounding{"gguf/tq2_0", q8_k}, FormatRounding{"f16", f16},          FormatRounding{"bf16", bf16}};

constexpr float kMostCode = 127.0f;

/// To the nearest integer, ties to even, below 2^22: adding 1.5 * 2^23 leaves no bits below one.
float to_nearest(float value) {
  constexpr float kMagic = 12582912.0f;
  return (value + kMagic) - kMagic;
}

/// Of the value of the largest magnitude the first one, with its sign.
float extreme(std::span<const float> values) {
  float most = 0;
  for (const float value : values)
    if (std::abs(value) > std::abs(most)) most = value;
  return most;
}

void round_block(std::span<const float> in, float inverse, float step, std::span<float> out) {
  for (std::size_t i = 0; i < in.size(); ++i) out[i] = step * std::min(kMostCode, to_nearest(inverse * in[i]));
}

void round_q8_0(std::span<const float> in, std::span<float> out) {
  const float most = std::abs(extreme(in));
  const float step = f16_to_float(float_to_f16(most / kMostCode));
  round_block(in, most == 0 ? 0 : kMostCode / most, step, out);
}

/// The value of the largest magnitude becomes -127 whatever its sign.
void round_q8_k(std::span<const float> in, std::span<float> out) {
  const float most = extreme(in);
  const float inverse = most == 0 ? 0 : -kMostCode / most;
  round_block(in, inverse, most == 0 ? 0 : 1 / inverse, out);
}

void round_f16(std::span<const float> in, std::span<float> out) {
  std::ranges::transform(in, out.begin(), [](float value) { return f16_to_float(float_to_f16(value)); });
}

void round_bf16(std::span<const float> in, std::span<float> out) {
  std::ranges::transform(in, out.begin(), [](float value) { return bf16_to_float(float_to_bf16(value)); });
}

struct Rounding {
  ActivationRounding which;
  std::size_t block;
  void (*round)(std::span<const float>, std::span<float>);
};
constexpr std::array kFunctions{Rounding{q8_0, 32, round_q8_0}, Rounding{q8_k, 256, round_q8_k},
                                Rounding{f16, 1, round_f16}, Rounding{bf16, 1, round_bf16}};

}  // namespace

Activations parse_activations(std::string_view name) {
  const auto* const row = std::ranges::find(kNames, name, &NamedActivations::name);
  if (row == kNames.end()) fail(ErrorKind::usage, "unknown activations '{}'; use exact or q8", name);
  return row->value;
}

std::string_view name_of(Activations activations) {
  return std::ranges::find(kNames, activations, &NamedActivations::value)->name;
}

std::optional<ActivationRounding> rounding_for(std::string_view format, Activations activations) {
  if (activations == Activations::exact) return std::nullopt;
  const auto* const row = std::ranges::find(kRoundings, format.substr(0, format.find(',')), &FormatRounding::format);
  return row == kRoundings.end() ? std::nullopt : std::optional(row->rounding);
}

void round_activations(ActivationRounding rounding, std::span<const float> in, std::span<float> out) {
  const Rounding& row = kFunctions[static_cast<std::size_t>(rounding)];
  assert(in.size() == out.size() && row.which == rounding && in.size() % row.block == 0);
  const std::size_t block = row.block == 1 ? in.size() : row.block;
  for (std::size_t first = 0; first < in.size(); first += block)
    row.round(in.subspan(first, block), out.subspan(first, block));
}

}  // namespace adze
