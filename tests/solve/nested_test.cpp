// Nested codes: greedy choices against all codes there are, what views lose, options.
#include "solve/nested/nested.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include <fmt/format.h>

#include "base/error.h"
#include "grid/integer/integer_matrix.h"
#include "grid/nested/nested_tensor.h"
#include "linalg/gemm.h"
#include "metrics/proxy_loss.h"
#include "solve/solve_testing.h"

namespace adze {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

NestedTensor solve(const MatrixF& w, const MatrixD& h, const std::string& grid, const std::string& options = "{}") {
  const auto tensor = configured("nested", options)->solve(make_problem(w, h, grid_from_name(grid)))[0].tensor;
  return dynamic_cast<const NestedTensor&>(*tensor);
}

double view_loss(const MatrixF& w, const NestedTensor& nested, int bits, const MatrixD& h) {
  return proxy_loss(w, nested.prefix(bits).decode(), h);
}

struct Say {
  int bits;
  double weight;
};

/// sum_b weight_b J_b of each row.
std::vector<double> joint_losses(const MatrixF& w, const QuantizedTensor& integers, const std::vector<Say>& views,
                                 ConstViewD h) {
  std::vector<double> sums(w.rows());
  for (const Say& view : views) {
    const std::vector<double> rows = row_losses(w, NestedTensor::from_integers(integers, view.bits).decode(), h);
    for (std::size_t r = 0; r < sums.size(); ++r) sums[r] += view.weight * rows[r];
  }
  return sums;
}

/// No other code in column `col` of any row would have lost less; `slack` for what single precision rounds.
void expect_best_in_column(const MatrixF& w, const NestedTensor& nested, std::size_t col, const std::vector<Say>& views,
                           ConstViewD h) {
  const QuantizedTensor integers = nested.integers();
  IntegerMatrix matrix = unpack_integers(integers);
  const std::vector<double> least = joint_losses(w, integers, views, h);
  for (unsigned code = 0; code < 1u << matrix.spec.bits; ++code) {
    for (std::size_t r = 0; r < w.rows(); ++r) {
      std::vector<std::uint8_t> codes = matrix.unpacked_row(r);
      codes[col] = static_cast<std::uint8_t>(code);
      matrix.pack_row(r, codes);
    }
    const std::vector<double> other = joint_losses(w, *pack_integers(matrix), views, h);
    for (std::size_t r = 0; r < w.rows(); ++r)
      ASSERT_GE(other[r], least[r] * (1 - 1e-4)) << "row " << r << " column " << col << " code " << code;
  }
}

TEST(Nested, WithoutCouplingHasTheBestCodeOfAllForEveryWeight) {
  const MatrixF w = gaussian({6, 32}, 1, 0.05);
  MatrixD h(32, 32);
  for (std::size_t j = 0; j < 32; ++j) h(j, j) = 1 + static_cast<double>(j);
  const NestedTensor nested = solve(w, h, "int5 g16 asym", "{ views: \"3 2\", view_weights: \"1 0.3 0.1\", damp: 0 }");
  for (const std::size_t col : {0, 7, 16, 31}) expect_best_in_column(w, nested, col, {{5, 1}, {3, 0.3}, {2, 0.1}}, h);
}

TEST(Nested, ChoosesTheLastColumnAsWellAsAnyCodeCould) {
  const MatrixF w = gaussian({40, 24}, 2, 0.05);
  const MatrixD h = correlated_hessian(24, 3);
  std::size_t last = 0;  // with one unit a row columns go by H_jj, the smallest last
  for (std::size_t j = 1; j < 24; ++j)
    if (h(j, j) < h(last, last)) last = j;
  for (const char* grid : {"int4 channel asym", "int4 channel sym", "int6 channel sym"}) {
    const int bits = grid[3] - '0';
    const NestedTensor nested = solve(w, h, grid, "{ views: \"3 2 1\", view_weights: \"1 0.5 0.25 0.125\", damp: 0 }");
    expect_best_in_column(w, nested, last, {{bits, 1}, {3, 0.5}, {2, 0.25}, {1, 0.125}}, h);
  }
}

TEST(Nested, LosesLessTheMoreSayAViewHas) {
  const MatrixF w = gaussian({64, 128}, 4, 0.05);
  const MatrixD h = correlated_hessian(128, 5);
  const NestedTensor top = solve(w, h, "int8 g64 asym", "{ view_weights: \"1 0.000001 0.000001\" }");
  const NestedTensor equal = solve(w, h, "int8 g64 asym", "{ view_weights: \"1 1 1\" }");
  const NestedTensor between = solve(w, h, "int8 g64 asym");
  EXPECT_LT(view_loss(w, top, 8, h), view_loss(w, between, 8, h));
  EXPECT_LT(view_loss(w, between, 8, h), view_loss(w, equal, 8, h));
  EXPECT_LT(view_loss(w, equal, 2, h), view_loss(w, between, 2, h));
  EXPECT_LT(view_loss(w, between, 2, h), view_loss(w, top, 2, h));
  for (const NestedTensor* nested : {&top, &equal, &between}) {
    EXPECT_LT(view_loss(w, *nested, 8, h), view_loss(w, *nested, 4, h));
    EXPECT_LT(view_loss(w, *nested, 4, h), view_loss(w, *nested, 2, h));
    EXPECT_LT(view_loss(w, *nested, 2, h), output_energy(w, h));
  }
}

TEST(Nested, WithOneViewIsGptqWithFixedScales) {
  const MatrixF w = gaussian({32, 128}, 6, 0.05);
  const MatrixD h = correlated_hessian(128, 7);
  const auto loss_of = [&](const std::string& solver, const std::string& options) {
    return configured(solver, options)->solve(make_problem(w, h, grid_from_name("int2 g32 asym")))[0].report.loss;
  };
  const double nested = loss_of("nested", "{}");  // no view below two bits
  EXPECT_LT(nested, 1.3 * loss_of("gptq", "{ polish: 0, static_scales: true }"));
  EXPECT_LT(nested, 0.7 * loss_of("rtn", "{}"));
}

TEST(Nested, WithFewerPlanesIsAPrefixOfTheWhole) {
  const MatrixF w = gaussian({20, 64}, 8, 0.05);
  const MatrixD h = correlated_hessian(64, 9);
  const NestedTensor whole = solve(w, h, "int8 g32 sym");
  for (const int planes : {1, 2, 4, 7}) {
    const NestedTensor part = solve(w, h, "int8 g32 sym", fmt::format("{{ planes: {} }}", planes));
    EXPECT_THAT(part.payload(), ElementsAreArray(whole.payload().first(part.bytes())));
    const auto solver = configured("nested", fmt::format("{{ planes: {} }}", planes));
    EXPECT_EQ(solver->format({w.shape(), *grid_from_name("int8 g32 sym")}), part.format());
  }
}

TEST(Nested, OfZerosIsZeroInTheWidestView) {
  const MatrixF w(4, 64);
  EXPECT_EQ(solve(w, correlated_hessian(64, 1), "int8 g32 asym").decode(), w);
}

TEST(Nested, RefusesOptionsThatMakeNoSense) {
  for (const char* options :
       {"{ views: \"2 4\" }", "{ views: \"8\" }", "{ views: \"4 4\" }", "{ views: \"2.5\" }", "{ views: \"4,2\" }",
        "{ view_weights: \"\" }", "{ view_weights: \"1 0\" }", "{ view_weights: \"1 -1\" }",
        "{ view_weights: \"nan\" }", "{ planes: 9 }", "{ planes: 0 }", "{ damp: 1 }"})
    EXPECT_THROW(configured("nested", options), Error) << options;
  const auto int8 = grid_from_name("int8 g32 sym"), int4 = grid_from_name("int4 g32 sym");
  const Shape shape{4, 64};
  EXPECT_THAT(*configured("nested", "{ planes: 6 }")->cannot_make({shape, *int4}), HasSubstr("planes: 6"));
  EXPECT_THAT(*configured("nested", "{ view_weights: \"1 1 1\" }")->cannot_make({shape, *int4}),
              HasSubstr("3 of them for 2 views"));
  EXPECT_FALSE(configured("nested", "{ view_weights: \"1 1 1\" }")->cannot_make({shape, *int8}));
  EXPECT_TRUE(configured("nested")->cannot_make({shape, *grid_from_name("gguf/q4_0")}));
  EXPECT_TRUE(configured("nested")->cannot_make({shape, *grid_from_name("int8 tensor sym")}));
  EXPECT_TRUE(configured("nested")->cannot_make({{4, 63}, *int8}));
  EXPECT_THROW(configured("mixed-rows", "{ base: nested }"), Error);
}

}  // namespace
}  // namespace adze
