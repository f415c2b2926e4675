// A model whose architecture is not known: a list of tensors with names, dtypes and shapes (Architecture::listed), for
// what needs no more. Nothing can be run, so nothing is calibrated, judged or transformed; what each tensor is, is told
// by one rule:
//
//   A tensor of two dimensions, of f32, f16 or bf16, whose name ends with ".weight" and has no part that speaks of an
//   embedding, is a matrix that schemes may take; every other tensor is kept, byte for byte.
//
// Matrices are called by their names without ".weight". Tensors whose names are the same up to the first number are a
// block, "encoder.layer.3" say; those without a number are one, too. Blocks and tensors are in the order of names.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/folder_files.h"
#include "checkpoint/tensor_source.h"
#include "model/tensors.h"

namespace adze {

/// Among the files that stores keep: what says that a model is a list, and which.
inline constexpr const char* kListingFile = "adze-tensors.json";
/// Architecture::family of such a model, for people.
inline constexpr const char* kNoFamilyName = "weights only";

/// What a model of an architecture that is not known can have done to it, for messages about one.
inline constexpr std::string_view kWeightsOnlyHint =
    "with --weights-only import, compress, quantize and export take its tensors by names and shapes alone, and run "
    "nothing";

/// The list of what lies there. Throws bad_data where there is no tensor.
Architecture list_tensors(const TensorSource& source);

/// The text of kListingFile, and back. Throws bad_data for what this program does not write.
std::string listing_text(const Architecture& architecture);
Architecture parse_listing(std::string_view text, const std::string& origin);

/// The list among a model's files; nothing where config.json tells the architecture. origin: of the files, for
/// messages.
std::optional<Architecture> listing_among(std::span<const StoreFile> files, const std::string& origin);

/// expected_tensors() of a list: block by block, and by name.
std::vector<TensorSpec> listed_tensors(const Architecture& architecture);
/// Those of one block.
std::vector<TensorSpec> tensors_of_block(const Architecture& architecture, std::size_t block);

/// For each tensor of a block the one whose outputs are its inputs, as far as names and shapes tell: of
/// "mlp.down_proj" [h x n] that is "mlp.up_proj" [n x h] beside it. Nothing for others.
std::vector<std::optional<std::size_t>> feeders_of(std::span<const TensorSpec> block);

/// Throws bad_data, saying why and what to do, for a model whose architecture is not known.
void require_known(const Architecture& architecture, const std::string& origin);

}  // namespace adze
