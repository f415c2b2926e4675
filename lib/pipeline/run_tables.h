// Tables about a run for people: what each rule matches, what each solve lost.
#pragma once

#include <string>

#include "pipeline/compress.h"
#include "report/table.h"

namespace adze {

/// One line per rule and resulting format: modules, format, bytes before and after; modules that no rule matches last.
Table rules_table(const PreparedRun& run);
/// The same for a terminal, with transforms before it and the modules that no rule matches below it.
std::string match_table(const PreparedRun& run);

/// "128 windows of 512 tokens", or what is known of inputs without any.
std::string calibration_in_words(const PreparedRun& run);

/// "demo-llama tensors bytes 100 -> 50 (4.5 bits per weight, norms included)", one line.
std::string sizes_in_words(const PreparedRun& run);

/// Relative loss per kind of linear over all blocks: mean and worst.
std::string loss_table(const CompressResult& result);

/// What lies in every output folder, a line each.
std::string output_folder_text(const CompressionPlan& plan);

/// Floating-point operations of the whole run, evaluation included, as SGEMM would count them.
double run_flops(const PreparedRun& run);

}  // namespace adze
