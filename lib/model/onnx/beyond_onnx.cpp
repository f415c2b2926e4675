#include "model/onnx/beyond_onnx.h"

#include <vector>

#include "base/words.h"

namespace adze {

std::string beyond_onnx(const Architecture& architecture) {
  std::vector<std::string> parts;
  if (architecture.is_mixture()) parts.emplace_back("a mixture of experts");
  // A graph would have to choose by the length of the text, and turn anew what is in the cache.
  if (!architecture.rope.long_divisors.empty()) parts.emplace_back("two sets of RoPE factors");
  return join_words(parts);
}

}  // namespace adze
