// Reading much of a file at once: what the system has in memory is copied by all threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/file.h"

namespace adze {

/// As InputFile::read(): throws bad_data outside of the file, io when it cannot be read.
void parallel_read(const InputFile& file, std::uint64_t offset, std::span<std::byte> out);

}  // namespace adze
