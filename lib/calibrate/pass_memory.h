// What passes over token windows hold in memory, in bytes: for predictions before a run. Each function mirrors the
// buffers of the code it names; a test compares the sum with the resident memory of a real run.
#pragma once

#include <cstdint>

#include "calibrate/hidden_states.h"
#include "model/architecture.h"
#include "model/tensors.h"

namespace adze {

/// What is not computed but measured (docs/performance.md): code, libraries, tokenizer and tables; a stack and small
/// allocations of each thread; packing buffers of OpenBLAS and scratch that malloc keeps, by the widest input.
inline constexpr std::uint64_t kProgramBytes = std::uint64_t{32} << 20;
inline constexpr std::uint64_t kThreadBytes = std::uint64_t{5} << 20;
inline constexpr std::uint64_t kBytesPerColumn = std::uint64_t{3} << 10;

/// The program with all its threads, for matrices as wide as this model's.
std::uint64_t program_bytes(const Architecture& architecture);

/// HiddenStates.
std::uint64_t states_bytes(const StatesLayout& layout);

/// BlockPass::measure without H and states: the batch's inputs and each thread's scratch.
std::uint64_t measuring_bytes(const Architecture& architecture, Stage stage, const StatesLayout& layout);

/// The same of BlockPass::measure_all.
std::uint64_t measuring_all_bytes(const Architecture& architecture, const StatesLayout& layout);

/// One window on its way through a block: Workspace and what run_block or BlockPass allocate, for each thread.
std::uint64_t window_scratch_bytes(const Architecture& architecture, std::size_t tokens);

/// InputStatistics::second_moment.
inline std::uint64_t moment_bytes(std::uint64_t inputs) { return inputs * inputs * sizeof(double); }

}  // namespace adze
