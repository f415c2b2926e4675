#include "checkpoint/gguf_value.h"

namespace adze {

std::string_view name_of(GgufValueType type) {
  constexpr std::array<std::string_view, kGgufValueTypes> kNames{"UINT8",  "INT8",    "UINT16", "INT16",  "UINT32",
                                                                 "INT32",  "FLOAT32", "BOOL",   "STRING", "ARRAY",
                                                                 "UINT64", "INT64",   "FLOAT64"};
  return kNames.at(static_cast<std::size_t>(type));
}

std::string type_in_words(const GgufValue& value) {
  return std::visit([]<typename T>(const T&) { return type_in_words<T>(); }, value);
}

}  // namespace adze
