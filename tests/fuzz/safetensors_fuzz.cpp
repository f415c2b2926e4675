// Opens any bytes as a safetensors file; what is accepted must be readable to the last byte.
#include <cstdint>
#include <cstdlib>

#include "base/error.h"
#include "checkpoint/safetensors.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const adze::fuzz::MemoryFile memory(data, size);
  try {
    const adze::SafetensorsFile file(memory.path());
    std::uint64_t bytes = file.data_start();
    for (const adze::SafetensorsTensor& tensor : file.tensors()) {
      std::vector<std::byte> content(tensor.bytes());
      file.file().read(file.data_start() + tensor.begin, content);
      bytes += tensor.bytes();
    }
    if (bytes != size) std::abort();  // every byte belongs to exactly one tensor
  } catch (const adze::Error&) {
  }
  return 0;
}
