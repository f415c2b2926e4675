// How solvers that factorise store their factors: how large they may be, in which format, and how numbers become stored
// values. Bytes depend on the shape alone.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "grid/compressed_tensor.h"
#include "grid/grid.h"
#include "recipe/reader.h"
#include "solve/factors/low_rank.h"
#include "solve/solver.h"

namespace adze {

/// Which form a product of rank r takes.
enum class FactorForm {
  plain,    ///< both factors whole: r (m + n) numbers
  pivoted,  ///< r columns of the right factor are those of the identity: r (m + n - r) numbers (grid/factors)
};

std::string_view name_of(FactorForm form);
/// `form: plain | pivoted` of a scheme; plain is the default.
FactorForm read_factor_form(MapReader& options);

/// How much of a layer is kept: a part of its numbers, positions counted as numbers of 16 bits; or a rank, or a part of
/// the smaller side that is the rank. One of the first three is not 0.
struct FactorBudget {
  double keep = 0;
  std::size_t rank = 0;
  std::size_t align = 8;  ///< ranks that follow from a part are multiples of it, for the kernels of runtimes
  double rank_part = 0;

  std::string in_words() const;
};

/// `keep: 80%`, `rank: 64` or `rank: 50%`, and `align`. Without either it is `otherwise`; where that is empty, one is
/// needed.
FactorBudget read_budget(MapReader& options, const FactorBudget& otherwise = {});

/// What becomes of one matrix; rank 0: factors would take no less than the matrix, which is stored as it is.
struct RankChoice {
  std::size_t rank = 0;
  std::optional<std::string> trouble;  ///< no rank will do, and why
};
/// sharers: matrices that have one right factor, stored once. A rank beyond the target's own rows serves them together.
RankChoice choose_rank(const FactorBudget& budget, FactorForm form, const Target& target, std::size_t sharers = 1);

/// owner: the module that stores the right factor; empty: this one.
std::string factor_format(std::size_t rank, FactorForm form, const Grid& grid, const std::string& owner = "");

/// A matrix in a grid: floats rounded to nearest, anything else by GPTQ with the second moment of its inputs (empty:
/// the identity). What GPTQ did instead of what was asked is added to `remarks`.
std::shared_ptr<const CompressedTensor> store_matrix(ConstViewF values, ConstViewD h,
                                                     const std::shared_ptr<const Grid>& grid, std::string& remarks);

/// The right factor as stored, with `rank` rows; where it has less, the rest is zero. h: the moment of its inputs
/// (empty: the identity).
std::shared_ptr<const CompressedTensor> store_right(const MatrixD& right, std::size_t rank, ConstViewD h,
                                                    FactorForm form, const std::shared_ptr<const Grid>& grid,
                                                    std::string& remarks);

/// The left factor that is best for a right one as it is stored, in the sense of h, rounded with the moment of its own
/// inputs, Z H Z^T, in which its loss is exact. weights: [m x n], what the product is to be.
std::shared_ptr<const CompressedTensor> store_left(ConstViewD weights, ConstViewD h, const CompressedTensor& right,
                                                   const std::shared_ptr<const Grid>& grid, std::string& remarks);

/// Their product, in the form and with the rank that `factor_format` names.
std::shared_ptr<const CompressedTensor> store_factors(ConstViewD weights, ConstViewD h, const Factors& factors,
                                                      std::size_t rank, FactorForm form,
                                                      const std::shared_ptr<const Grid>& grid, std::string& remarks);

}  // namespace adze
