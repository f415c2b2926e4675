#include "linalg/octet_unpacking.h"

#include <array>
#include <cstdint>
#include <cstring>

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linalg/octet_unpacking.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace adze {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kInputs = 128, kOutputs = 128;  // of a square: a cache line of each, two codes a byte

/// Where its words and its codes begin, and how many bytes their rows are apart.
struct Square {
  const std::uint8_t* from;
  std::uint8_t* to;
  std::size_t from_stride, to_stride;
  bool fetches;  ///< lines of the square of the outputs after these, which must be whole
};

#if HWY_TARGET == HWY_SCALAR
void UnpackSquare(const Square& square) {
  constexpr std::array<unsigned, 8> kShift{0, 16, 4, 20, 8, 24, 12, 28};
  const auto code = [&](std::size_t input, std::size_t output) {
    std::uint32_t word = 0;
    std::memcpy(&word, square.from + input * square.from_stride + output / 8 * sizeof(word), sizeof(word));
    return word >> kShift[output % 8] & 15U;
  };
  for (std::size_t o = 0; o < kOutputs; ++o)
    for (std::size_t i = 0; i < kInputs; i += 2)
      square.to[o * square.to_stride + i / 2] = static_cast<std::uint8_t>(code(i, o) | code(i + 1, o) << 4);
}
#else
using U8 = hn::FixedTag<std::uint8_t, 16>;
using U16 = hn::FixedTag<std::uint16_t, 8>;
using U32 = hn::FixedTag<std::uint32_t, 4>;
using U64 = hn::FixedTag<std::uint64_t, 2>;

/// Of four inputs of a kind, every other one, the words of a line: [word][byte of the word][four inputs of eight].
constexpr std::size_t kLineWords = kCacheLine / 4, kEights = kInputs / 8;
struct Sorted {
  HWY_ALIGN std::uint8_t of[kLineWords][kEights][16];
};

/// Four words of each of four vectors, the other way round.
HWY_INLINE void TurnFour(hn::VFromD<U32>& a, hn::VFromD<U32>& b, hn::VFromD<U32>& c, hn::VFromD<U32>& d) {
  const U32 words;
  const U64 pairs;
  const auto ab_first = hn::BitCast(pairs, hn::InterleaveLower(words, a, b));  // a0 b0, a1 b1
  const auto ab_last = hn::BitCast(pairs, hn::InterleaveUpper(words, a, b));   // a2 b2, a3 b3
  const auto cd_first = hn::BitCast(pairs, hn::InterleaveLower(words, c, d));
  const auto cd_last = hn::BitCast(pairs, hn::InterleaveUpper(words, c, d));
  a = hn::BitCast(words, hn::InterleaveLower(pairs, ab_first, cd_first));
  b = hn::BitCast(words, hn::InterleaveUpper(pairs, ab_first, cd_first));
  c = hn::BitCast(words, hn::InterleaveLower(pairs, ab_last, cd_last));
  d = hn::BitCast(words, hn::InterleaveUpper(pairs, ab_last, cd_last));
}

/// Words of inputs 0, 2, 4 and 6 of `words`.
HWY_INLINE void SortInputs(const std::uint8_t* words, std::size_t stride, std::size_t eight, Sorted& sorted) {
  HWY_ALIGN static constexpr std::uint8_t kByByte[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  const auto by_byte = hn::Load(U8(), kByByte);
  for (std::size_t w = 0; w < kLineWords; w += 4) {
    auto a = hn::BitCast(U32(), hn::LoadU(U8(), words + 4 * w));
    auto b = hn::BitCast(U32(), hn::LoadU(U8(), words + 4 * w + 2 * stride));
    auto c = hn::BitCast(U32(), hn::LoadU(U8(), words + 4 * w + 4 * stride));
    auto d = hn::BitCast(U32(), hn::LoadU(U8(), words + 4 * w + 6 * stride));
    TurnFour(a, b, c, d);
    hn::Store(hn::TableLookupBytes(hn::BitCast(U8(), a), by_byte), U8(), sorted.of[w][eight]);
    hn::Store(hn::TableLookupBytes(hn::BitCast(U8(), b), by_byte), U8(), sorted.of[w + 1][eight]);
    hn::Store(hn::TableLookupBytes(hn::BitCast(U8(), c), by_byte), U8(), sorted.of[w + 2][eight]);
    hn::Store(hn::TableLookupBytes(hn::BitCast(U8(), d), by_byte), U8(), sorted.of[w + 3][eight]);
  }
}

/// A byte of a word of 16 even inputs and of the 16 odd ones beside them, as codes of the two outputs whose nibbles
/// are in it.
HWY_INLINE void StoreCodes(hn::VFromD<U32> even, hn::VFromD<U32> odd, std::uint8_t* low, std::uint8_t* high) {
  const U16 halves;
  const auto mask = hn::Set(halves, 0x0F0F);
  const auto e = hn::BitCast(halves, even), o = hn::BitCast(halves, odd);
  hn::StoreU(hn::BitCast(U8(), hn::Or(hn::And(mask, e), hn::ShiftLeft<4>(hn::And(mask, o)))), U8(), low);
  hn::StoreU(hn::BitCast(U8(), hn::Or(hn::And(mask, hn::ShiftRight<4>(e)), hn::AndNot(mask, o))), U8(), high);
}

/// Inputs of four eights as codes of the eight outputs of a word, 16 bytes of each.
HWY_INLINE void UnpackWord(const std::uint8_t (*even)[16], const std::uint8_t (*odd)[16], std::uint8_t* codes,
                           std::size_t stride) {
  auto even_0 = hn::BitCast(U32(), hn::Load(U8(), even[0])), odd_0 = hn::BitCast(U32(), hn::Load(U8(), odd[0]));
  auto even_1 = hn::BitCast(U32(), hn::Load(U8(), even[1])), odd_1 = hn::BitCast(U32(), hn::Load(U8(), odd[1]));
  auto even_2 = hn::BitCast(U32(), hn::Load(U8(), even[2])), odd_2 = hn::BitCast(U32(), hn::Load(U8(), odd[2]));
  auto even_3 = hn::BitCast(U32(), hn::Load(U8(), even[3])), odd_3 = hn::BitCast(U32(), hn::Load(U8(), odd[3]));
  TurnFour(even_0, even_1, even_2, even_3);
  TurnFour(odd_0, odd_1, odd_2, odd_3);
  StoreCodes(even_0, odd_0, codes, codes + 2 * stride);
  StoreCodes(even_1, odd_1, codes + 4 * stride, codes + 6 * stride);
  StoreCodes(even_2, odd_2, codes + stride, codes + 3 * stride);
  StoreCodes(even_3, odd_3, codes + 5 * stride, codes + 7 * stride);
}

void UnpackSquare(const Square& square) {
  Sorted even, odd;
  for (std::size_t eight = 0; eight < kEights; ++eight) {
    const std::uint8_t* const inputs = square.from + 8 * eight * square.from_stride;
    // Lines of the next square, which are nowhere near these: no processor would guess them.
    for (std::size_t i = 0; square.fetches && i < 8; ++i) {
      __builtin_prefetch(inputs + i * square.from_stride + kCacheLine);
      __builtin_prefetch(square.to + (kOutputs + 8 * eight + i) * square.to_stride, 1);
    }
    SortInputs(inputs, square.from_stride, eight, even);
    SortInputs(inputs + square.from_stride, square.from_stride, eight, odd);
  }
  for (std::size_t w = 0; w < kLineWords; ++w)
    for (std::size_t eight = 0; eight < kEights; eight += 4)
      UnpackWord(even.of[w] + eight, odd.of[w] + eight, square.to + 8 * w * square.to_stride + 4 * eight,
                 square.to_stride);
}
#endif

/// What is there of a square.
void UnpackRest(const Square& square, std::size_t inputs, std::size_t outputs) {
  std::array<std::uint8_t, kInputs * kCacheLine> padded{}, unpacked;
  for (std::size_t i = 0; i < inputs; ++i)
    std::memcpy(padded.data() + i * kCacheLine, square.from + i * square.from_stride, outputs / 2);
  UnpackSquare({padded.data(), unpacked.data(), kCacheLine, kCacheLine, false});
  for (std::size_t o = 0; o < outputs; ++o)
    std::memcpy(square.to + o * square.to_stride, unpacked.data() + o * kCacheLine, (inputs + 1) / 2);
}

void UnpackOctets(const std::uint8_t* words, std::size_t words_stride, std::size_t inputs, std::size_t outputs,
                  std::uint8_t* codes, std::size_t codes_stride) {
  for (std::size_t i = 0; i < inputs; i += kInputs)
    for (std::size_t o = 0; o < outputs; o += kOutputs) {
      const std::size_t inputs_left = inputs - i, outputs_left = outputs - o;
      const Square square{words + i * words_stride + o / 2, codes + o * codes_stride + i / 2, words_stride,
                          codes_stride, outputs_left >= 2 * kOutputs};
      if (inputs_left >= kInputs && outputs_left >= kOutputs)
        UnpackSquare(square);
      else
        UnpackRest(square, HWY_MIN(kInputs, inputs_left), HWY_MIN(kOutputs, outputs_left));
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace adze
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze {

HWY_EXPORT(UnpackOctets);

void unpack_octets(MatrixView<const std::byte> words, MatrixView<std::byte> codes) {
  if (codes.rows() % 8 != 0 || words.cols() != codes.rows() / 2 || codes.cols() != (words.rows() + 1) / 2)
    fail(ErrorKind::internal, "{} x {} bytes of words unpacked to {} x {}", words.rows(), words.cols(), codes.rows(),
         codes.cols());
  HWY_DYNAMIC_DISPATCH(UnpackOctets)
  (reinterpret_cast<const std::uint8_t*>(words.data()), words.stride(), words.rows(), codes.rows(),
   reinterpret_cast<std::uint8_t*>(codes.data()), codes.stride());
}

}  // namespace adze
#endif  // HWY_ONCE
