// Where a model's bytes are, and how fast it is read, for people.
#pragma once

#include <string>

#include "evaluate/latency.h"
#include "model/stored_size.h"

namespace adze {

/// A line for each class of tensors, for the matrices of all blocks, and for everything.
std::string size_table(const SizeByClass& size);

/// One sentence: tokens a second with their range, threads, kernel, share of SGEMM.
std::string latency_in_words(const LatencyResult& latency);

}  // namespace adze
