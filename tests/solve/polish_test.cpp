#include "solve/polish/polish.h"

#include <gtest/gtest.h>

#include "base/parallel.h"
#include "grid/quantized_tensor.h"
#include "metrics/proxy_loss.h"
#include "solve/common.h"
#include "solve_testing.h"

namespace adze {
namespace {

MatrixF single(const MatrixD& h) {
  MatrixF result(h.shape());
  for (std::size_t i = 0; i < h.values().size(); ++i) result.values()[i] = static_cast<float>(h.values()[i]);
  return result;
}

Encoding rounded(const MatrixF& weights, const char* grid) {
  Encoding encoding(grid_from_name(grid), weights.shape());
  encoding.fit_all(weights, std::vector<float>(weights.cols(), 1.0f), ScaleRule::search);
  for (std::size_t r = 0; r < weights.rows(); ++r) encoding.round_row(r, weights.row(r));
  return encoding;
}

double loss_of(const MatrixF& weights, const Encoding& encoding, const MatrixD& h) {
  return proxy_loss(weights, encoding.finish()->decode(), h);
}

class PolishOnGrid : public testing::TestWithParam<const char*> {};

TEST_P(PolishOnGrid, NeverRaisesTheLossAndLowersItWithEverySweep) {
  const MatrixF w = gaussian({200, 512}, 31, 0.05);
  const MatrixD h = correlated_hessian(512, 32);
  double before = loss_of(w, rounded(w, GetParam()), h);
  for (const int sweeps : {1, 2, 4}) {
    Encoding encoding = rounded(w, GetParam());
    polish(w, single(h), {sweeps, true}, encoding);
    const double after = loss_of(w, encoding, h);
    EXPECT_LE(after, before) << sweeps;
    if (sweeps == 1) {
      EXPECT_LT(after, 0.9 * before) << "inputs are strongly correlated: the first sweep must pay";
    }
    before = after;
  }
}

TEST_P(PolishOnGrid, MovingScalesTooIsBetterThanCodesAlone) {
  const MatrixF w = gaussian({200, 512}, 33, 0.05);
  const MatrixD h = correlated_hessian(512, 34);
  Encoding codes = rounded(w, GetParam());
  polish(w, single(h), {3, false}, codes);
  Encoding both = rounded(w, GetParam());
  polish(w, single(h), {3, true}, both);
  EXPECT_LT(loss_of(w, both, h), loss_of(w, codes, h));
}

TEST_P(PolishOnGrid, GivesTheSameBytesForAnyThreadCountAndAnyCutOfRows) {
  const MatrixF w = gaussian({300, 256}, 35, 0.05);
  const MatrixF h = single(correlated_hessian(256, 36));
  std::vector<std::vector<std::byte>> payloads;
  for (const int threads : {1, 2, 5}) {
    set_thread_count(threads);
    Encoding encoding = rounded(w, GetParam());
    polish(w, h, {2, true}, encoding);
    const auto tensor = encoding.finish();
    payloads.emplace_back(tensor->payload().begin(), tensor->payload().end());
  }
  set_thread_count(0);
  EXPECT_EQ(payloads[0], payloads[1]);
  EXPECT_EQ(payloads[0], payloads[2]);
  std::vector<std::byte> joined;
  for (const auto& [first, count] : {std::pair{0, 128}, std::pair{128, 172}}) {
    MatrixF part(static_cast<std::size_t>(count), 256);
    std::copy_n(w.row(static_cast<std::size_t>(first)).data(), part.values().size(), part.data());
    Encoding encoding = rounded(part, GetParam());
    polish(part, h, {2, true}, encoding);
    const auto tensor = encoding.finish();
    joined.insert(joined.end(), tensor->payload().begin(), tensor->payload().end());
  }
  EXPECT_EQ(joined, payloads[0]);
}

INSTANTIATE_TEST_SUITE_P(Grids, PolishOnGrid,
                         testing::Values("int4 g32 asym", "int3 g128 sym", "int4 g256 sym", "gguf/q4_0", "gguf/q4_k",
                                         "gguf/q2_k", "gguf/q3_k", "gguf/iq4_xs"),
                         [](const auto& parameter) {
                           std::string name = parameter.param;
                           for (char& c : name)
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           return name;
                         });

/// After enough sweeps no single code can be changed for the better: tried one by one, in double.
TEST(Polish, EndsWhereNoSingleCodeCanBeImproved) {
  const MatrixF w = gaussian({3, 64}, 37, 0.05);
  const MatrixD h = correlated_hessian(64, 38);
  Encoding encoding = rounded(w, "int3 g32 sym");
  polish(w, single(h), {100, false}, encoding);
  const double best = loss_of(w, encoding, h);
  for (std::size_t r = 0; r < w.rows(); ++r)
    for (std::size_t c = 0; c < w.cols(); ++c)
      for (const int move : {-1, 1}) {
        std::int16_t& code = encoding.codes(r)[c];
        const auto moved = static_cast<std::int16_t>(code + move);
        if (moved < -4 || moved > 3) continue;
        const std::int16_t kept = std::exchange(code, moved);
        EXPECT_GT(loss_of(w, encoding, h), best * (1 - 1e-5)) << r << "," << c;
        code = kept;
      }
}

TEST(Polish, LeavesRoundedWeightsAloneWhereInputsAreUncorrelated) {
  const MatrixF w = gaussian({64, 256}, 39, 0.05);
  MatrixF h(256, 256);
  for (std::size_t j = 0; j < 256; ++j) h(j, j) = 1.0f + static_cast<float>(j % 7);
  Encoding encoding = rounded(w, "int4 g128 sym");
  const auto before = encoding.finish();
  polish(w, h, {3, false}, encoding);
  const auto after = encoding.finish();
  EXPECT_TRUE(std::ranges::equal(before->payload(), after->payload()));
}

TEST(Polish, TakesWholeRowsAsOneUnitWithoutMovingTheirScale) {
  const MatrixF w = gaussian({70, 1024}, 40, 0.05);
  const MatrixD h = correlated_hessian(1024, 41);
  Encoding encoding = rounded(w, "int4 channel sym");
  const double before = loss_of(w, encoding, h);
  polish(w, single(h), {1, true}, encoding);
  EXPECT_LT(loss_of(w, encoding, h), 0.9 * before);
}

}  // namespace
}  // namespace adze
