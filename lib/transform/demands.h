// What transforms need of the parts of a model's blocks. Each throws bad_recipe, naming the transform and the part,
// where the model has others.
#pragma once

#include <string_view>

#include "model/architecture.h"

namespace adze {

/// States are read through RMS norms of their own and written as they are: what turns or cuts them folds into the
/// linears.
void require_readable_states(const Architecture& architecture, std::string_view transform);
/// Nothing follows from the hidden size but sizes, and gains are stored as they are: what cuts the states may.
void require_free_hidden_size(const Architecture& architecture, std::string_view transform);
/// Heads have no norms of their own, one RoPE of all their elements and scores by their size: what cuts them folds into
/// the linears.
void require_plain_heads(const Architecture& architecture, std::string_view transform);
/// No norm spans several heads and their size is stated, so that any of them may go.
void require_heads_apart(const Architecture& architecture, std::string_view transform);
/// Blocks have one FFN, not a mixture of experts, whose channels or weights are set against each other.
void require_one_ffn(const Architecture& architecture, std::string_view transform);
/// All layers see the same tokens, so that any of them may go.
void require_equal_layers(const Architecture& architecture, std::string_view transform);

}  // namespace adze
