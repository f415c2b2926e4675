// Opens any bytes as a GGUF file; what is accepted must be readable to the last tensor, and our writer, given the same
// records, must refuse them or lay out the tensors at the same places after the header.
#include <cstdint>
#include <cstdlib>

#include "base/error.h"
#include "checkpoint/gguf_writer.h"
#include "memory_file.h"

namespace {

void check_layout(const adze::GgufFile& file) {
  std::vector<adze::GgufTensorSpec> specs;
  for (const adze::GgufTensor& tensor : file.tensors()) specs.push_back({tensor.name, tensor.type->id, tensor.dims});
  const adze::GgufLayout layout = adze::layout_gguf(file.metadata(), specs);
  for (std::size_t i = 0; i < specs.size(); ++i)
    if (layout.tensors[i].offset != file.tensors()[i].offset) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const adze::fuzz::MemoryFile memory(data, size);
  try {
    const adze::GgufFile file(memory.path());
    for (const adze::GgufTensor& tensor : file.tensors()) {
      std::vector<std::byte> content(tensor.bytes);
      file.read(tensor, 0, content);
    }
    check_layout(file);
  } catch (const adze::Error&) {
  }
  return 0;
}
