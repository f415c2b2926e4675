// Reads any bytes as an importance matrix of either kind; what is accepted must survive being written and read again.
#include <cstdint>
#include <cstdlib>

#include "base/error.h"
#include "checkpoint/imatrix.h"
#include "checkpoint/imatrix_dat.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const adze::fuzz::MemoryFile memory(data, size);
  try {
    adze::ImatrixKind kind{};
    const adze::Imatrix imatrix = adze::read_imatrix(memory.path(), &kind);
    for (const adze::ImatrixEntry& entry : imatrix.entries)
      if (entry.means().size() != entry.cols() * entry.counts.size()) std::abort();
    if (kind != adze::ImatrixKind::dat) return 0;
    if (adze::parse_imatrix_dat(adze::imatrix_dat_bytes(imatrix)) != imatrix) std::abort();
  } catch (const adze::Error&) {
  }
  return 0;
}
