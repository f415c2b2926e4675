#include "linalg/mirror.h"

#include <algorithm>

namespace adze {
namespace {

/// Calls body(row, column) for every entry above the diagonal, square by square.
template <typename Body>
void for_upper(std::size_t n, Body&& body) {
  constexpr std::size_t kSquare = 32;
  for (std::size_t r0 = 0; r0 < n; r0 += kSquare)
    for (std::size_t c0 = r0; c0 < n; c0 += kSquare)
      for (std::size_t r = r0; r < std::min(r0 + kSquare, n); ++r)
        for (std::size_t c = std::max(c0, r + 1); c < std::min(c0 + kSquare, n); ++c) body(r, c);
}

}  // namespace

void mirror_upper(ViewD h) {
  assert(h.rows() == h.cols());
  for_upper(h.rows(), [&](std::size_t r, std::size_t c) { h(c, r) = h(r, c); });
}

void mirror_lower(ViewD h) {
  assert(h.rows() == h.cols());
  for_upper(h.rows(), [&](std::size_t r, std::size_t c) { h(r, c) = h(c, r); });
}

}  // namespace adze
