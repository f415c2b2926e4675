#include "linalg/turned_words.h"

#include <cstdint>
#include <cstring>

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linalg/turned_words.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace adze {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kWord = 4, kSide = 4;  // bytes of a word, words of a square

void TurnWord(const std::uint8_t* in, std::uint8_t* out) { std::memcpy(out, in, kWord); }

#if HWY_TARGET == HWY_SCALAR
void TurnSquare(const std::uint8_t* in, std::size_t in_stride, std::uint8_t* out, std::size_t out_stride) {
  for (std::size_t r = 0; r < kSide; ++r)
    for (std::size_t c = 0; c < kSide; ++c) TurnWord(in + r * in_stride + c * kWord, out + c * out_stride + r * kWord);
}
#else
using Bytes = hn::FixedTag<std::uint8_t, 16>;
using Words = hn::FixedTag<std::uint32_t, 4>;
using Pairs = hn::FixedTag<std::uint64_t, 2>;

/// Four words of each of four rows, `stride` bytes apart on either side.
void TurnSquare(const std::uint8_t* in, std::size_t in_stride, std::uint8_t* out, std::size_t out_stride) {
  const Words words;
  const Pairs pairs;
  const auto row = [&](std::size_t r) { return hn::BitCast(words, hn::LoadU(Bytes(), in + r * in_stride)); };
  const auto a = row(0), b = row(1), c = row(2), d = row(3);
  const auto ab_low = hn::BitCast(pairs, hn::InterleaveLower(words, a, b));   // a0 b0, a1 b1
  const auto ab_high = hn::BitCast(pairs, hn::InterleaveUpper(words, a, b));  // a2 b2, a3 b3
  const auto cd_low = hn::BitCast(pairs, hn::InterleaveLower(words, c, d));
  const auto cd_high = hn::BitCast(pairs, hn::InterleaveUpper(words, c, d));
  const auto put = [&](std::size_t r, auto turned) {
    hn::StoreU(hn::BitCast(Bytes(), turned), Bytes(), out + r * out_stride);
  };
  put(0, hn::InterleaveLower(pairs, ab_low, cd_low));
  put(1, hn::InterleaveUpper(pairs, ab_low, cd_low));
  put(2, hn::InterleaveLower(pairs, ab_high, cd_high));
  put(3, hn::InterleaveUpper(pairs, ab_high, cd_high));
}
#endif

/// A cache line of words of each row at a time: rows may lie so far apart that they push each other out of the cache.
/// in: [rows x cols] words.
void TurnWords(const std::uint8_t* in, std::size_t in_stride, std::size_t rows, std::size_t cols, std::uint8_t* out,
               std::size_t out_stride) {
  constexpr std::size_t kLine = 16;
  const auto turn_one = [&](std::size_t r, std::size_t c) {
    TurnWord(in + r * in_stride + c * kWord, out + c * out_stride + r * kWord);
  };
  for (std::size_t left = 0; left < cols; left += kLine) {
    const std::size_t right = HWY_MIN(left + kLine, cols), whole = left + (right - left) / kSide * kSide;
    std::size_t r = 0;
    for (; r + kSide <= rows; r += kSide) {
      for (std::size_t c = left; c < whole; c += kSide)
        TurnSquare(in + r * in_stride + c * kWord, in_stride, out + c * out_stride + r * kWord, out_stride);
      for (std::size_t c = whole; c < right; ++c)
        for (std::size_t i = 0; i < kSide; ++i) turn_one(r + i, c);
    }
    for (; r < rows; ++r)
      for (std::size_t c = left; c < right; ++c) turn_one(r, c);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace adze
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze {

HWY_EXPORT(TurnWords);

void turn_words(MatrixView<const std::byte> in, MatrixView<std::byte> out) {
  constexpr std::size_t kWord = 4;
  if (in.cols() != out.rows() * kWord || out.cols() != in.rows() * kWord)
    fail(ErrorKind::internal, "{} x {} bytes of words turned to {} x {}", in.rows(), in.cols(), out.rows(), out.cols());
  HWY_DYNAMIC_DISPATCH(TurnWords)
  (reinterpret_cast<const std::uint8_t*>(in.data()), in.stride(), in.rows(), out.rows(),
   reinterpret_cast<std::uint8_t*>(out.data()), out.stride());
}

}  // namespace adze
#endif  // HWY_ONCE
