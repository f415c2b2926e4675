// One block of a model whose architecture is not known (model/listing.h): each matrix is solved by itself, without
// inputs or with those that the matrix before it makes of white noise, as far as names tell which that is.
//
// With H = What1 What1^T of the matrix What1 [n x h] whose outputs W2 [o x n] reads, as it was compressed, and, where
// its scheme says `shift`, the cross moment (W1 - What1) What1^T, the solver's shifted target is UDFC's reconstruction
// (arXiv 2308.07209; calibrate/surrogate.h does the same with what an architecture says of norms, heads and gates).
// Inputs of all others are taken to be white: H is the identity.
#pragma once

#include <cstddef>

#include "pipeline/block_step.h"
#include "recipe/recipe.h"

namespace adze {

/// from_weights: take inputs from weights where that can be. What is kept is passed on. store: as solve_stage takes it.
/// Throws as solve_modules().
BlockOutcome compress_listed(const Recipe& recipe, const CompressionPlan& plan, std::size_t block,
                             const BlockWeights& original, bool from_weights, SolutionStore* store = nullptr);

}  // namespace adze
