// Reads any bytes as a config.json; what is accepted must describe tensors whose sizes can be computed.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "model/architecture.h"
#include "model/tensors.h"

namespace {

constexpr std::size_t kMostLayers = 64;  // more tell nothing new and take time

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const adze::Architecture architecture = adze::parse_architecture(adze::parse_json(text, "config.json"), "fuzz");
    if (architecture.layers > kMostLayers) return 0;
    for (const adze::TensorSpec& spec : adze::expected_tensors(architecture))
      if (adze::checked_product(spec.shape) == 0) std::abort();
  } catch (const adze::Error&) {
  }
  return 0;
}
