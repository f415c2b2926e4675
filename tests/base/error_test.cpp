// Errors: kinds and exit codes, the chain of contexts, checked arithmetic.
#include "base/error.h"

#include <array>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/checked.h"

namespace adze {
namespace {

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();

template <typename Body>
Error thrown_by(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {ErrorKind::internal, ""};
}

TEST(Error, ItsKindIsTheExitCodeOfTheTools) {
  constexpr std::array kCodes{std::pair{ErrorKind::gate, 1},           std::pair{ErrorKind::usage, 64},
                              std::pair{ErrorKind::bad_data, 65},      std::pair{ErrorKind::missing_input, 66},
                              std::pair{ErrorKind::internal, 70},      std::pair{ErrorKind::out_of_memory, 71},
                              std::pair{ErrorKind::cannot_create, 73}, std::pair{ErrorKind::io, 74},
                              std::pair{ErrorKind::stopped, 75},       std::pair{ErrorKind::bad_recipe, 78}};
  for (const auto& [kind, code] : kCodes) EXPECT_EQ(Error(kind, "x").exit_code(), code);
}

TEST(Error, FormatsItsMessageFromTheArguments) {
  const Error error = thrown_by([] { fail(ErrorKind::bad_data, "{}: {} rows, not {}", "a.h5", 3, 4); });
  EXPECT_EQ(error.message(), "a.h5: 3 rows, not 4");
  EXPECT_STREQ(error.what(), "a.h5: 3 rows, not 4");
  EXPECT_EQ(error.kind(), ErrorKind::bad_data);
}

TEST(Error, ContextsReadFromTheOutsideIn) {
  const Error error = thrown_by(
      [] { with_context("model.h5", [] { with_context("tensor 'w'", [] { fail(ErrorKind::io, "cannot read"); }); }); });
  EXPECT_EQ(error.message(), "model.h5: tensor 'w': cannot read");
  EXPECT_EQ(error.kind(), ErrorKind::io);
}

TEST(Error, WithContextHandsTheResultThrough) {
  std::vector<int> values{1, 2};
  EXPECT_EQ(with_context("x", [] { return 7; }), 7);
  with_context("x", [&]() -> std::vector<int>& { return values; }).push_back(3);
  EXPECT_EQ(values.size(), 3u);
}

TEST(Error, WithContextLeavesOtherExceptionsAlone) {
  EXPECT_THROW(with_context("x", [] { throw std::out_of_range("y"); }), std::out_of_range);
}

TEST(CheckedArithmetic, AddsAndMultipliesUpToTheLastValue) {
  EXPECT_EQ(checked_add(kMost - 1, 1), kMost);
  EXPECT_EQ(checked_mul(kMost / 3, 3), kMost);
  EXPECT_EQ(checked_mul(0, kMost), 0u);
  EXPECT_EQ(checked_product({}), 1u);
  const std::vector<std::uint64_t> dims{1ULL << 31, 1ULL << 32};
  EXPECT_EQ(checked_product(dims), 1ULL << 63);
}

TEST(CheckedArithmetic, OverflowIsBadDataWithBothOperands) {
  EXPECT_EQ(thrown_by([] { checked_add(kMost, 1); }).message(), "size overflow: 18446744073709551615 + 1");
  EXPECT_EQ(thrown_by([] { checked_mul(1ULL << 32, 1ULL << 32); }).message(), "size overflow: 4294967296 x 4294967296");
  const std::vector<std::uint64_t> dims{1ULL << 32, 1ULL << 32, 0};
  EXPECT_EQ(thrown_by([&] { checked_product(dims); }).kind(), ErrorKind::bad_data);
}

TEST(CheckedArithmetic, CastsRefuseValuesThatWouldChange) {
  EXPECT_EQ(checked_cast<std::uint8_t>(255), 255);
  EXPECT_EQ(checked_cast<std::int8_t>(-128), -128);
  EXPECT_EQ(thrown_by([] { checked_cast<std::uint8_t>(256); }).kind(), ErrorKind::bad_data);
  EXPECT_EQ(thrown_by([] { checked_cast<std::uint64_t>(-1); }).message(), "value -1 is out of range");
  EXPECT_EQ(thrown_by([] { checked_cast<std::int64_t>(kMost); }).kind(), ErrorKind::bad_data);
}

TEST(CheckedArithmetic, RoundsUpWithoutOverflowInTheQuotient) {
  EXPECT_EQ(divide_up(0, 8), 0u);
  EXPECT_EQ(divide_up(1, 8), 1u);
  EXPECT_EQ(divide_up(8, 8), 1u);
  EXPECT_EQ(divide_up(kMost, 2), kMost / 2 + 1);
  EXPECT_EQ(round_up(9, 8), 16u);
  EXPECT_EQ(round_up(16, 8), 16u);
}

}  // namespace
}  // namespace adze
