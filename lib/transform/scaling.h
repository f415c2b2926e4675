// Scales of inputs that fold into the weights: W' = W diag(s) reads x / s, and whatever makes x is divided by s. What
// makes it is a norm's gain (q, k, v; gate, up), or the rows of the linear before (v for o, up for down), between which
// nothing but linear maps stand: attention mixes tokens, not channels, and the gate only multiplies. Without a gate,
// up's rows can take them where the activation is ReLU.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "model/weights.h"
#include "recipe/reader.h"

namespace adze {

/// The inputs that scales are offered for.
inline constexpr std::array<Stage, 4> kScaledStages = {Stage::qkv, Stage::o, Stage::gate_up, Stage::down};

/// All linears that read the input of a stage: of gate_up also those of experts.
std::vector<LinearInfo> readers_of(const Architecture& architecture, Stage stage);

/// Scales that a stage can have. Of o those of the value channels, which all query heads of a group read.
std::size_t scale_count(const Architecture& architecture, Stage stage);

/// Folds scales into a block: columns of the stage's linears are multiplied with them, what makes their inputs is
/// divided by them. All linears that change become f32. scales: scale_count() positive numbers. Throws bad_data, naming
/// the matrix, when a value does not fit f32.
void scale_inputs(const Architecture& architecture, Stage stage, std::span<const float> scales, std::size_t index,
                  BlockWeights& block);

/// One scale per column of the stage's linears: those of value channels repeated for every query head.
std::vector<float> column_scales(const Architecture& architecture, Stage stage, std::span<const float> scales);

/// Those of `stages` whose inputs something makes that can take the scales: of qkv and gate_up a norm. In mixtures
/// `down` is none: experts have inputs of their own; nor is it behind a GELU without a gate.
std::vector<Stage> scalable_stages(const Architecture& architecture, std::span<const Stage> stages);

/// `inputs: [qkv, o, gate_up, down]`: stages by name, all of `allowed` unless given. Reports names that are none, and
/// those that are no input with something before it that can take the scales, with `why`.
std::vector<Stage> read_stages(MapReader& options, std::span<const Stage> allowed, std::string_view why);

/// "qkv,gate_up"
std::string names_of(std::span<const Stage> stages);

}  // namespace adze
