// The pictures of a run: matrices by layer and module, losses along depth, sizes, times, memory, the judgement.
#pragma once

#include <string_view>

#include "pipeline/compress.h"
#include "report/chart/bar_chart.h"
#include "report/chart/heat_map.h"
#include "report/chart/strip_chart.h"
#include "report/chart/xy_chart.h"

namespace adze {

/// "q_proj" of "layers.3.self_attn.q_proj"; "lm_head" of itself.
std::string_view kind_of(std::string_view module);

/// J / tr(W H W^T) of each solved matrix of a block; others are no cells.
HeatMap loss_map(const CompressionPlan& plan, const CompressResult& result);
/// Stored bits per weight of each matrix of a block.
HeatMap bits_map(const CompressionPlan& plan);
/// The same losses as loss_map, a line per module.
XyChart loss_along_depth(const CompressionPlan& plan, const CompressResult& result);
/// Tensors as they were and as they are stored, and every export, in MiB.
BarChart size_bars(const PreparedRun& run, const CompressResult& result);
/// Seconds of this process.
BarChart phase_bars(const CompressResult& result);
/// Seconds of solving, by module over all blocks, in whichever process.
BarChart solving_bars(const CompressResult& result);
/// MiB: the parts of the predicted peak, their sum, and what was measured.
BarChart memory_bars(const PreparedRun& run, const CompressResult& result);
/// Mean KL of each window of a judgement with a reference.
StripChart window_strip(const ReferenceResult& judgement);

}  // namespace adze
