// Reads any bytes as the list of tensors that a store keeps; what is accepted must come back as it is, and describe
// tensors whose sizes can be computed, each once.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/checked.h"
#include "base/error.h"
#include "model/listing.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const adze::Architecture architecture = adze::parse_listing(text, "fuzz");
    if (adze::parse_listing(adze::listing_text(architecture), "again") != architecture) std::abort();
    const std::vector<adze::TensorSpec> specs = adze::expected_tensors(architecture);
    if (specs.size() != architecture.listed.size()) std::abort();
    for (const adze::TensorSpec& spec : specs) {
      adze::checked_product(spec.shape);
      if (*spec.block >= architecture.layers) std::abort();
    }
    adze::feeders_of(adze::tensors_of_block(architecture, 0));
  } catch (const adze::Error&) {
  }
  return 0;
}
