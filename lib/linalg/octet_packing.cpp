#include "linalg/octet_packing.h"

#include <array>
#include <cstdint>
#include <cstring>

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linalg/octet_packing.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace adze {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A tile takes a cache line of each row of codes and fills one of each row of words: rows of either side may lie so far
// apart that they push each other out of the cache.
constexpr std::size_t kLine = 64, kTileRows = 2 * kLine, kTileCols = 2 * kLine;
constexpr std::size_t kWord = 4, kOctet = 8;  // bytes and codes of a word

/// Where its codes and its words begin; strides are bytes.
struct Tile {
  const std::uint8_t* codes;
  std::size_t codes_stride;
  std::uint8_t* words;
  std::size_t words_stride;
  bool has_next;  ///< whether another whole one lies to the right
};

#if HWY_TARGET == HWY_SCALAR
void PackTile(const Tile& tile) {
  constexpr std::array<std::size_t, kOctet> kRowOf{0, 2, 4, 6, 1, 3, 5, 7};
  const auto code = [&](std::size_t row, std::size_t col) {
    return tile.codes[row * tile.codes_stride + col / 2] >> (4 * (col % 2)) & 15;
  };
  for (std::size_t c = 0; c < kTileCols; ++c)
    for (std::size_t b = 0; b < kLine; ++b) {
      const std::size_t top = b / kWord * kOctet, nibble = b % kWord * 2;
      tile.words[c * tile.words_stride + b] =
          static_cast<std::uint8_t>(code(top + kRowOf[nibble], c) | code(top + kRowOf[nibble + 1], c) << 4);
    }
}
#else
using Bytes = hn::FixedTag<std::uint8_t, 16>;
using Halves = hn::FixedTag<std::uint16_t, 8>;
using Words = hn::FixedTag<std::uint32_t, 4>;
using Vector = hn::VFromD<Bytes>;

constexpr std::size_t kVector = 16, kVectorCols = 2 * kVector;
constexpr std::size_t kSide = kVector / kWord;  // of a square of words
constexpr std::size_t kOctets = kTileRows / kOctet, kOctetBytes = kTileCols * kWord;

/// Elements of both in turns; those of the lower halves in `a`.
template <typename Elements>
HWY_INLINE void Mix(Vector& a, Vector& b) {
  const Elements elements;
  const auto low = hn::BitCast(elements, a), high = hn::BitCast(elements, b);
  a = hn::BitCast(Bytes(), hn::InterleaveLower(elements, low, high));
  b = hn::BitCast(Bytes(), hn::InterleaveUpper(elements, low, high));
}

/// Two rows as bytes of both, the codes of `low_row` in the low bits: those of even columns, and those of odd ones.
HWY_INLINE void JoinRows(const std::uint8_t* low_row, const std::uint8_t* high_row, Vector& even, Vector& odd) {
  const Halves halves;  // since nothing shifts bytes; the mask takes away what comes from the byte beside
  const auto low = hn::BitCast(halves, hn::LoadU(Bytes(), low_row));
  const auto high = hn::BitCast(halves, hn::LoadU(Bytes(), high_row));
  // The odd codes of the one and the even codes of the other change places.
  const auto change = hn::And(hn::Xor(hn::ShiftRight<4>(low), high), hn::Set(halves, 0x0F0F));
  even = hn::BitCast(Bytes(), hn::Xor(low, hn::ShiftLeft<4>(change)));
  odd = hn::BitCast(Bytes(), hn::Xor(high, change));
}

/// Bytes i of all four, as word i.
HWY_INLINE void StoreWords(Vector a, Vector b, Vector c, Vector d, std::uint8_t* words) {
  Mix<Bytes>(a, b);
  Mix<Bytes>(c, d);
  Mix<Halves>(a, c);
  Mix<Halves>(b, d);
  hn::StoreU(a, Bytes(), words);
  hn::StoreU(c, Bytes(), words + kVector);
  hn::StoreU(b, Bytes(), words + 2 * kVector);
  hn::StoreU(d, Bytes(), words + 3 * kVector);
}

/// Eight rows of kVectorCols columns as words: those of even columns, then those of odd ones.
HWY_INLINE void PackOctet(const std::uint8_t* in, std::size_t stride, std::uint8_t* words) {
  Vector even_02, even_46, even_13, even_57, odd_02, odd_46, odd_13, odd_57;
  JoinRows(in, in + 2 * stride, even_02, odd_02);
  JoinRows(in + 4 * stride, in + 6 * stride, even_46, odd_46);
  JoinRows(in + stride, in + 3 * stride, even_13, odd_13);
  JoinRows(in + 5 * stride, in + 7 * stride, even_57, odd_57);
  StoreWords(even_02, even_46, even_13, even_57, words);
  StoreWords(odd_02, odd_46, odd_13, odd_57, words + kVectorCols / 2 * kWord);
}

/// Four words of each of four rows the other way round.
HWY_INLINE void TransposeWords(const std::uint8_t* in, std::size_t in_stride, std::uint8_t* out,
                               std::size_t out_stride) {
  Vector a = hn::LoadU(Bytes(), in), b = hn::LoadU(Bytes(), in + in_stride);
  Vector c = hn::LoadU(Bytes(), in + 2 * in_stride), d = hn::LoadU(Bytes(), in + 3 * in_stride);
  Mix<Words>(a, c);
  Mix<Words>(b, d);
  Mix<Words>(a, b);
  Mix<Words>(c, d);
  hn::StoreU(a, Bytes(), out);
  hn::StoreU(b, Bytes(), out + out_stride);
  hn::StoreU(c, Bytes(), out + 2 * out_stride);
  hn::StoreU(d, Bytes(), out + 3 * out_stride);
}

/// The processor does not guess lines that are strides apart, so it is told of those of the next tile, a few at a time.
HWY_INLINE void FetchNext(const Tile& tile, std::size_t octet) {
  for (std::size_t i = octet * kOctet; i < (octet + 1) * kOctet; ++i) {
    __builtin_prefetch(tile.codes + i * tile.codes_stride + kLine);
    __builtin_prefetch(tile.words + (kTileCols + i) * tile.words_stride, 1);
  }
}

void PackTile(const Tile& tile) {
  HWY_ALIGN std::uint8_t words[kOctets * kOctetBytes];
  for (std::size_t octet = 0; octet < kOctets; ++octet) {
    if (tile.has_next) FetchNext(tile, octet);
    for (std::size_t left = 0; left < kTileCols; left += kVectorCols)
      PackOctet(tile.codes + octet * kOctet * tile.codes_stride + left / 2, tile.codes_stride,
                words + octet * kOctetBytes + left * kWord);
  }
  for (std::size_t left = 0; left < kTileCols; left += kVectorCols)
    for (std::size_t i = 0; i < kVectorCols; i += kSide) {
      // The first half of these words is of even columns, the second of odd ones.
      const std::size_t col = left + 2 * i % kVectorCols + 2 * i / kVectorCols;
      for (std::size_t octet = 0; octet < kOctets; octet += kSide)
        TransposeWords(words + octet * kOctetBytes + (left + i) * kWord, kOctetBytes,
                       tile.words + col * tile.words_stride + octet * kWord, 2 * tile.words_stride);
    }
}
#endif

/// A tile of which some rows or columns are not there.
void PackPart(const Tile& tile, std::size_t rows, std::size_t cols) {
  std::array<std::uint8_t, kTileRows * kLine> codes{}, words;
  for (std::size_t r = 0; r < rows; ++r)
    std::memcpy(codes.data() + r * kLine, tile.codes + r * tile.codes_stride, (cols + 1) / 2);
  PackTile({codes.data(), kLine, words.data(), kLine, false});
  for (std::size_t c = 0; c < cols; ++c)
    std::memcpy(tile.words + c * tile.words_stride, words.data() + c * kLine, rows / 2);
}

void PackOctets(const std::uint8_t* codes, std::size_t codes_stride, std::size_t rows, std::size_t cols,
                std::uint8_t* words, std::size_t words_stride) {
  for (std::size_t left = 0; left < cols; left += kTileCols)
    for (std::size_t top = 0; top < rows; top += kTileRows) {
      const std::size_t height = HWY_MIN(kTileRows, rows - top), width = HWY_MIN(kTileCols, cols - left);
      const Tile tile{codes + top * codes_stride + left / 2, codes_stride, words + left * words_stride + top / 2,
                      words_stride, left + 2 * kTileCols <= cols};
      if (height == kTileRows && width == kTileCols)
        PackTile(tile);
      else
        PackPart(tile, height, width);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace adze
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze {

HWY_EXPORT(PackOctets);

void pack_octets(MatrixView<const std::byte> codes, MatrixView<std::byte> words) {
  if (codes.rows() % 8 != 0 || codes.cols() != (words.rows() + 1) / 2 || words.cols() != codes.rows() / 2)
    fail(ErrorKind::internal, "{} x {} bytes of codes packed to {} x {}", codes.rows(), codes.cols(), words.rows(),
         words.cols());
  HWY_DYNAMIC_DISPATCH(PackOctets)
  (reinterpret_cast<const std::uint8_t*>(codes.data()), codes.stride(), codes.rows(), words.rows(),
   reinterpret_cast<std::uint8_t*>(words.data()), words.stride());
}

}  // namespace adze
#endif  // HWY_ONCE
