#include "checkpoint/gguf_types.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/checked.h"

namespace adze {
namespace {

constexpr std::array kTypes{GgufType{0, "F32", 1, 4, DType::f32},
                            GgufType{1, "F16", 1, 2, DType::f16},
                            GgufType{2, "Q4_0", 32, 18},
                            GgufType{3, "Q4_1", 32, 20},
                            GgufType{6, "Q5_0", 32, 22},
                            GgufType{7, "Q5_1", 32, 24},
                            GgufType{8, "Q8_0", 32, 34},
                            GgufType{9, "Q8_1", 32, 36, {}, false},
                            GgufType{10, "Q2_K", 256, 84},
                            GgufType{11, "Q3_K", 256, 110},
                            GgufType{12, "Q4_K", 256, 144},
                            GgufType{13, "Q5_K", 256, 176},
                            GgufType{14, "Q6_K", 256, 210},
                            GgufType{15, "Q8_K", 256, 292, {}, false},
                            GgufType{16, "IQ2_XXS", 256, 66},
                            GgufType{17, "IQ2_XS", 256, 74},
                            GgufType{18, "IQ3_XXS", 256, 98},
                            GgufType{19, "IQ1_S", 256, 50},
                            GgufType{20, "IQ4_NL", 32, 18},
                            GgufType{21, "IQ3_S", 256, 110},
                            GgufType{22, "IQ2_S", 256, 82},
                            GgufType{23, "IQ4_XS", 256, 136},
                            GgufType{24, "I8", 1, 1, DType::i8},
                            GgufType{25, "I16", 1, 2, DType::i16},
                            GgufType{26, "I32", 1, 4, DType::i32},
                            GgufType{27, "I64", 1, 8, DType::i64},
                            GgufType{28, "F64", 1, 8, DType::f64},
                            GgufType{29, "IQ1_M", 256, 56},
                            GgufType{30, "BF16", 1, 2, DType::bf16},
                            GgufType{34, "TQ1_0", 256, 54},
                            GgufType{35, "TQ2_0", 256, 66},
                            GgufType{39, "MXFP4", 32, 17},
                            GgufType{40, "NVFP4", 64, 36},
                            GgufType{41, "Q1_0", 128, 18},
                            GgufType{42, "Q2_0", 64, 18}};

struct IdRange {
  std::uint32_t first;
  std::uint32_t last;
  std::string_view words;
};

// The first row that holds the id explains it. 36 was removed from mainline and is I2_S in ik_llama.cpp.
constexpr std::array kOtherIds{
    IdRange{36, 36, "ik_llama.cpp extension?"},        IdRange{4, 5, "a type removed from the format"},
    IdRange{31, 33, "a type removed from the format"}, IdRange{37, 38, "a type removed from the format"},
    IdRange{97, 99, "ik_llama.cpp extension?"},        IdRange{133, 158, "ik_llama.cpp extension?"},
    IdRange{202, 399, "ik_llama.cpp extension?"}};

constexpr std::size_t kMaxDims = 4;
constexpr std::uint64_t kMaxDim = std::uint64_t{1} << 40;
constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 62;

[[noreturn]] void fail_unknown(std::uint32_t id) {
  for (const IdRange& range : kOtherIds)
    if (range.first <= id && id <= range.last) fail(ErrorKind::bad_data, "unknown type id {} ({})", id, range.words);
  fail(ErrorKind::bad_data, "unknown type id {}; the file is newer than this program or damaged", id);
}

bool same_letters(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](unsigned char x, unsigned char y) { return std::toupper(x) == std::toupper(y); });
}

}  // namespace

std::span<const GgufType> gguf_types() { return kTypes; }

const GgufType& gguf_type(std::uint32_t id) {
  const auto at = std::ranges::find(kTypes, id, &GgufType::id);
  if (at == kTypes.end()) fail_unknown(id);
  if (!at->in_files) fail(ErrorKind::bad_data, "type {} (id {}) is for computation only, never stored", at->name, id);
  return *at;
}

const GgufType* find_gguf_type(std::string_view name) {
  const auto at = std::ranges::find_if(kTypes, [&](const GgufType& type) { return same_letters(type.name, name); });
  return at == kTypes.end() ? nullptr : &*at;
}

std::uint64_t gguf_tensor_bytes(const GgufType& type, std::span<const std::uint64_t> dims) {
  if (dims.size() > kMaxDims) fail(ErrorKind::bad_data, "{} dimensions, at most {} are allowed", dims.size(), kMaxDims);
  std::uint64_t elements = 1;
  for (const std::uint64_t dim : dims) {
    if (dim == 0 || dim > kMaxDim) fail(ErrorKind::bad_data, "dimension {} is outside 1 to 2^40", dim);
    elements = checked_mul(elements, dim);
    if (elements >= kMaxElements) fail(ErrorKind::bad_data, "{} elements, 2^62 or more", elements);
  }
  const std::uint64_t row = dims.empty() ? 1 : dims[0];
  if (row % type.block_elements != 0)
    fail(ErrorKind::bad_data, "rows of {} are not a multiple of the {} elements of a {} block", row,
         type.block_elements, type.name);
  return checked_mul(elements / type.block_elements, type.block_bytes);
}

}  // namespace adze
