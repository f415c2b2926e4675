#include "linalg/mirror.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace adze {
namespace {

/// Entries that all differ.
MatrixD numbered(std::size_t n) {
  MatrixD h(n, n);
  for (std::size_t i = 0; i < h.values().size(); ++i) h.values()[i] = static_cast<double>(i);
  return h;
}

TEST(Mirror, CopiesOneTriangleAndLeavesTheOther) {
  for (const std::size_t n : {0U, 1U, 2U, 31U, 32U, 33U, 64U, 100U}) {
    const MatrixD before = numbered(n);
    MatrixD upper = before, lower = before;
    mirror_upper(upper);
    mirror_lower(lower);
    for (std::size_t r = 0; r < n; ++r)
      for (std::size_t c = 0; c < n; ++c) {
        ASSERT_EQ(upper(r, c), before(std::min(r, c), std::max(r, c))) << n << ": " << r << ", " << c;
        ASSERT_EQ(lower(r, c), before(std::max(r, c), std::min(r, c))) << n << ": " << r << ", " << c;
      }
  }
}

TEST(Mirror, StaysWithinAView) {
  const MatrixD before = numbered(50);
  MatrixD h = before;
  const ViewD part = h.view().row_range(5, 40).col_range(3, 40);
  mirror_upper(part);
  EXPECT_EQ(part(39, 0), part(0, 39));
  EXPECT_EQ(h(4, 10), before(4, 10));
  EXPECT_EQ(h(45, 10), before(45, 10));
  EXPECT_EQ(h(20, 2), before(20, 2));
  EXPECT_EQ(h(20, 43), before(20, 43));
}

}  // namespace
}  // namespace adze
