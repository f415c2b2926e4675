// What the process has taken, for reports.
#pragma once

#include <cstdint>

namespace adze {

/// The most physical memory that this process has held so far, in bytes; mapped files count while they are resident.
std::uint64_t peak_memory();

}  // namespace adze
