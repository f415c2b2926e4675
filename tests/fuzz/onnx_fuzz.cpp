// Opens any bytes as a model.onnx without side files; what is accepted must be readable to the last byte.
#include <cstdint>
#include <string>

#include "base/error.h"
#include "model/onnx/onnx_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const adze::OnnxFile file("/nowhere", std::string(reinterpret_cast<const char*>(data), size));
    for (const adze::OnnxTensor& tensor : file.tensors()) (void)file.read(tensor);
    for (const adze::OnnxNode& node : file.nodes())
      for (const std::string& input : node.inputs) (void)file.maker_of(input);
  } catch (const adze::Error&) {
  }
  return 0;
}
