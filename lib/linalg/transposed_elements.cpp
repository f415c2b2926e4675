#include "linalg/transposed_elements.h"

#include <array>
#include <cstdint>
#include <cstring>

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linalg/transposed_elements.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace adze {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Where elements lie on either side; strides are bytes.
struct Place {
  const std::uint8_t* in;
  std::size_t in_stride;
  std::uint8_t* out;
  std::size_t out_stride;
};

constexpr std::size_t kLine = 64;  // bytes of the cache
template <typename Element>
constexpr std::size_t kTile = kLine / sizeof(Element);  // rows and columns: a cache line of each

#if HWY_TARGET == HWY_SCALAR
template <typename Element>
void TransposeTile(const Place& at) {
  for (std::size_t r = 0; r < kTile<Element>; ++r)
    for (std::size_t c = 0; c < kTile<Element>; ++c)
      std::memcpy(at.out + c * at.out_stride + r * sizeof(Element), at.in + r * at.in_stride + c * sizeof(Element),
                  sizeof(Element));
}
#else
constexpr std::size_t kVector = 16;
using Bytes = hn::FixedTag<std::uint8_t, kVector>;
template <typename Element>
using Elements = hn::FixedTag<Element, kVector / sizeof(Element)>;
template <typename Element>
using Vector = hn::VFromD<Elements<Element> >;

/// Elements of both in turns; those of the lower halves in `a`.
template <typename Element>
HWY_INLINE void Mix(Vector<Element>& a, Vector<Element>& b) {
  const Elements<Element> elements;
  const auto low = hn::InterleaveLower(elements, a, b);
  b = hn::InterleaveUpper(elements, a, b);
  a = low;
}

template <typename Element>
HWY_INLINE Vector<Element> Row(const Place& at, std::size_t r) {
  return hn::BitCast(Elements<Element>(), hn::LoadU(Bytes(), at.in + r * at.in_stride));
}
template <typename Element>
HWY_INLINE void Put(Vector<Element> row, const Place& at, std::size_t r) {
  hn::StoreU(hn::BitCast(Bytes(), row), Bytes(), at.out + r * at.out_stride);
}

/// As many rows and columns as a vector has elements. Rows half a square apart are mixed, then those a quarter apart,
/// until all are.
template <typename Element>
void TransposeSquare(const Place& at);

template <>
HWY_INLINE void TransposeSquare<std::uint32_t>(const Place& at) {
  using E = std::uint32_t;
  auto a = Row<E>(at, 0), b = Row<E>(at, 1), c = Row<E>(at, 2), d = Row<E>(at, 3);
  Mix<E>(a, c), Mix<E>(b, d);
  Mix<E>(a, b), Mix<E>(c, d);
  Put<E>(a, at, 0), Put<E>(b, at, 1), Put<E>(c, at, 2), Put<E>(d, at, 3);
}

template <>
HWY_INLINE void TransposeSquare<std::uint16_t>(const Place& at) {
  using E = std::uint16_t;
  auto a = Row<E>(at, 0), b = Row<E>(at, 1), c = Row<E>(at, 2), d = Row<E>(at, 3);
  auto e = Row<E>(at, 4), f = Row<E>(at, 5), g = Row<E>(at, 6), h = Row<E>(at, 7);
  Mix<E>(a, e), Mix<E>(b, f), Mix<E>(c, g), Mix<E>(d, h);
  Mix<E>(a, c), Mix<E>(b, d), Mix<E>(e, g), Mix<E>(f, h);
  Mix<E>(a, b), Mix<E>(c, d), Mix<E>(e, f), Mix<E>(g, h);
  Put<E>(a, at, 0), Put<E>(b, at, 1), Put<E>(c, at, 2), Put<E>(d, at, 3);
  Put<E>(e, at, 4), Put<E>(f, at, 5), Put<E>(g, at, 6), Put<E>(h, at, 7);
}

/// By way of a place of its own: rows of either side may push each other out of the cache.
template <typename Element>
void TransposeTile(const Place& at) {
  constexpr std::size_t kSquare = kVector / sizeof(Element);
  HWY_ALIGN std::uint8_t tile[kTile<Element> * kLine];
  for (std::size_t top = 0; top < kTile<Element>; top += kSquare)
    for (std::size_t left = 0; left < kTile<Element>; left += kSquare)
      TransposeSquare<Element>({at.in + top * at.in_stride + left * sizeof(Element), at.in_stride,
                                tile + left * kLine + top * sizeof(Element), kLine});
  for (std::size_t c = 0; c < kTile<Element>; ++c) std::memcpy(at.out + c * at.out_stride, tile + c * kLine, kLine);
}
#endif

/// A tile of which some rows or columns are not there.
template <typename Element>
void TransposePart(const Place& at, std::size_t rows, std::size_t cols) {
  std::array<std::uint8_t, kTile<Element> * kLine> elements{}, transposed;
  for (std::size_t r = 0; r < rows; ++r)
    std::memcpy(elements.data() + r * kLine, at.in + r * at.in_stride, cols * sizeof(Element));
  TransposeTile<Element>({elements.data(), kLine, transposed.data(), kLine});
  for (std::size_t c = 0; c < cols; ++c)
    std::memcpy(at.out + c * at.out_stride, transposed.data() + c * kLine, rows * sizeof(Element));
}

/// The processor does not guess lines that are strides apart, so it is told of those of the tile to the right.
template <typename Element>
HWY_INLINE void FetchNext(const Place& at, std::size_t rows) {
  for (std::size_t r = 0; r < rows; ++r) __builtin_prefetch(at.in + r * at.in_stride + kLine);
  for (std::size_t c = kTile<Element>; c < 2 * kTile<Element>; ++c) __builtin_prefetch(at.out + c * at.out_stride, 1);
}

template <typename Element>
void Transpose(const Place& all, std::size_t rows, std::size_t cols) {
  constexpr std::size_t kSide = kTile<Element>;
  for (std::size_t left = 0; left < cols; left += kSide)
    for (std::size_t top = 0; top < rows; top += kSide) {
      const std::size_t height = HWY_MIN(kSide, rows - top), width = HWY_MIN(kSide, cols - left);
      const Place at{all.in + top * all.in_stride + left * sizeof(Element), all.in_stride,
                     all.out + left * all.out_stride + top * sizeof(Element), all.out_stride};
      if (left + 2 * kSide <= cols) FetchNext<Element>(at, height);
      if (height == kSide && width == kSide)
        TransposeTile<Element>(at);
      else
        TransposePart<Element>(at, height, width);
    }
}

void TransposeElements(const std::uint8_t* in, std::size_t in_stride, std::size_t rows, std::size_t cols,
                       std::uint8_t* out, std::size_t out_stride, std::size_t width) {
  const Place all{in, in_stride, out, out_stride};
  if (width == sizeof(std::uint16_t))
    Transpose<std::uint16_t>(all, rows, cols);
  else
    Transpose<std::uint32_t>(all, rows, cols);
}

}  // namespace HWY_NAMESPACE
}  // namespace adze
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze {

HWY_EXPORT(TransposeElements);

void transpose_elements(MatrixView<const std::byte> in, MatrixView<std::byte> out, std::size_t width) {
  if ((width != 2 && width != 4) || in.cols() != out.rows() * width || out.cols() != in.rows() * width)
    fail(ErrorKind::internal, "{} x {} bytes of elements of {} transposed to {} x {}", in.rows(), in.cols(), width,
         out.rows(), out.cols());
  HWY_DYNAMIC_DISPATCH(TransposeElements)
  (reinterpret_cast<const std::uint8_t*>(in.data()), in.stride(), in.rows(), out.rows(),
   reinterpret_cast<std::uint8_t*>(out.data()), out.stride(), width);
}

}  // namespace adze
#endif  // HWY_ONCE
