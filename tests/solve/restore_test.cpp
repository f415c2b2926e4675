// Masked least squares against normal equations.
#include "solve/restore/restore.h"

#include <gtest/gtest.h>

#include "base/parallel.h"
#include "masked_testing.h"
#include "solve/masks/mask_rules.h"

namespace adze {
namespace {

Mask half_mask(const MatrixF& w) {
  return choose_mask(magnitude_scores(w), SparsityPattern::unstructured(0.5), Competition::row);
}

TEST(Restore, EqualsNormalEquations) {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const std::size_t n = 5 + 20 * seed;
    const MatrixF w = gaussian({130, n}, seed);
    const MatrixD h = damped(correlated_hessian(n, seed));
    const Mask mask = half_mask(w);
    const MatrixF best = masked_least_squares(w, h, mask);
    const MatrixF restored = restore_kept(w, to_float(h), mask);
    EXPECT_LT(loss_of(w, restored, h), 1.001 * loss_of(w, best, h)) << n;
    for (std::size_t r = 0; r < w.rows(); ++r)
      for (std::size_t c = 0; c < n; ++c)
        if (!mask.kept(r, c)) {
          ASSERT_EQ(restored(r, c), 0.0f);
        }
  }
}

TEST(Restore, ReproducesTheGoldenRows) {
  const MatrixF w = golden_weights();
  Mask mask(w.shape());
  mask.prune(0, 2);
  mask.prune(1, 0);
  const MatrixF restored = restore_kept(w, to_float(damped(golden_hessian())), mask, {100, 1e-7});
  const double row0[] = {0.296751, -0.223483, 0, 0.945005};
  const double row1[] = {0, 0.161093, -0.560900, 0.292364};
  for (std::size_t c = 0; c < 4; ++c) {
    EXPECT_NEAR(restored(0, c), row0[c], 2e-5);
    EXPECT_NEAR(restored(1, c), row1[c], 2e-5);
  }
  EXPECT_NEAR(row_loss(w, restored, damped(golden_hessian()), 0), 0.045077, 1e-5);
  EXPECT_NEAR(row_loss(w, restored, damped(golden_hessian()), 1), 0.072053, 1e-5);
}

TEST(Restore, MovesNothingWhereInputsAreIndependent) {
  const MatrixF w = gaussian({4, 16}, 1);
  MatrixF h(16, 16);
  for (std::size_t i = 0; i < 16; ++i) h(i, i) = 1.0f + static_cast<float>(i);
  const Mask mask = half_mask(w);
  const MatrixF restored = restore_kept(w, h, mask);
  for (std::size_t r = 0; r < 4; ++r)
    for (std::size_t c = 0; c < 16; ++c) EXPECT_EQ(restored(r, c), mask.kept(r, c) ? w(r, c) : 0.0f);
}

TEST(LeastSquares, MovesOnlyWhatIsFree) {
  const MatrixF w = gaussian({3, 32}, 2);
  const MatrixD h = damped(correlated_hessian(32, 2));
  const MatrixF start = gaussian({3, 32}, 3);
  Mask free(w.shape());
  for (std::size_t r = 0; r < 3; ++r) free.prune(r, 0, 16);
  const MatrixF moved = least_squares(w, start, to_float(h), free);
  for (std::size_t r = 0; r < 3; ++r) {
    for (std::size_t c = 0; c < 16; ++c) EXPECT_EQ(moved(r, c), start(r, c));
    EXPECT_LT(row_loss(w, moved, h, r), row_loss(w, start, h, r));
  }
}

TEST(Restore, GivesTheSameBitsForAnyNumberOfThreads) {
  const MatrixF w = gaussian({300, 96}, 4);
  const MatrixF h = to_float(damped(correlated_hessian(96, 4)));
  const Mask mask = half_mask(w);
  const MatrixF expected = restore_kept(w, h, mask);
  for (const int threads : {1, 2, 5}) {
    set_thread_count(threads);
    EXPECT_EQ(restore_kept(w, h, mask), expected) << threads;
  }
  set_thread_count(0);
}

}  // namespace
}  // namespace adze
