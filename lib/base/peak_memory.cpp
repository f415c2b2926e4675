#include "base/peak_memory.h"

#include <sys/resource.h>

namespace adze {

std::uint64_t peak_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  constexpr std::uint64_t kUnit = 1024;  // of ru_maxrss under Linux
  return static_cast<std::uint64_t>(usage.ru_maxrss) * kUnit;
}

}  // namespace adze
