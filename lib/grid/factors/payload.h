// What tensors made of two others have in common. Internal to grid/factors.
#pragma once

#include <cstddef>
#include <vector>

#include "grid/compressed_tensor.h"

namespace adze {

/// One payload after the other.
inline std::vector<std::byte> joined_payload(const CompressedTensor& first, const CompressedTensor& second) {
  std::vector<std::byte> payload(first.payload().begin(), first.payload().end());
  payload.insert(payload.end(), second.payload().begin(), second.payload().end());
  return payload;
}

}  // namespace adze
