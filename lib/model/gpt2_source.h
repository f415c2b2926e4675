// A checkpoint of GPT-2 seen as one of OPT, whose model it is (FamilyInfo::read_as): linears are stored [in x out], as
// columns of one product those of q, k and v, and are transposed and taken apart; positions begin at row 0 of their
// table, where OPT's begin at row 2, and get rows of zeros that no token has; buffers of the causal mask go. Everything
// after reads, compresses and exports OPT, which runtimes know as well; as GGUF it is GPT-2 again.
#pragma once

#include <memory>

#include "checkpoint/tensor_source.h"
#include "model/architecture.h"

namespace adze {

/// Whether the names of tensors are GPT-2's, with "transformer." in front or without.
bool has_gpt2_names(const TensorSource& source);

/// Such a source under the names of the architecture. Throws bad_data for a tensor that is taken apart or transposed
/// and has another shape than config.json asks for, and for one that is there under two names.
std::shared_ptr<const TensorSource> gpt2_source(const Architecture& architecture,
                                                std::shared_ptr<const TensorSource> source);

}  // namespace adze
