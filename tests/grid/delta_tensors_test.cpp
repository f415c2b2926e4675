// Signs and dropped values as stored tensors: bytes as documented, masks against draws one by one, hostile formats.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/dtype.h"
#include "base/error.h"
#include "base/parallel.h"
#include "grid/any_format.h"
#include "grid/delta/dropped_tensor.h"
#include "grid/delta/sign_tensor.h"
#include "grid/format.h"

namespace adze {
namespace {

using namespace grid_testing;
using ::testing::HasSubstr;

constexpr const char* kName = "layers.0.mlp.up_proj";

std::string message_of(const std::string& format, Shape shape, std::size_t bytes) {
  try {
    tensor_from_payload(format, shape, std::vector<std::byte>(bytes));
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    return error.message();
  }
}

TEST(SignTensor, HasBytesAsDocumented) {
  MatrixF values(2, 9);
  for (float& v : values.values()) v = 0.5f;
  values(0, 0) = values(0, 8) = values(1, 3) = -0.5f;
  values(1, 4) = -0.0f;  // counts as positive
  const std::vector<std::uint16_t> scales{0x3C00, 0x4000};
  const SignTensor signs = SignTensor::of_values(SignScope::row, values, scales);
  const std::vector<unsigned char> meant{0x00, 0x3C, 0x00, 0x40, 1, 1, 8, 0};
  ASSERT_EQ(signs.bytes(), meant.size());
  EXPECT_EQ(std::memcmp(signs.payload().data(), meant.data(), meant.size()), 0);
  const MatrixF decoded = signs.decode();
  EXPECT_EQ(decoded(0, 8), -1);
  EXPECT_EQ(decoded(0, 7), 1);
  EXPECT_EQ(decoded(1, 3), -2);
  EXPECT_EQ(decoded(1, 4), 2);
  const SignTensor alike = SignTensor::of_values(SignScope::matrix, values, std::span(scales).first(1));
  EXPECT_EQ(alike.bytes(), 2u + 4u);
  EXPECT_EQ(alike.decode()(1, 3), -1);
}

TEST(DropMask, KeepsWhatItsDrawsSay) {
  const Shape shape{37, 53};
  const DropMask mask(0.9, 7, kName);
  RandomStream random(7, kName);
  std::uint64_t kept = 0;
  for (std::size_t r = 0; r < shape.rows; ++r) {
    std::vector<std::size_t> places, meant;
    mask.for_kept(shape, r, [&](std::size_t c) { places.push_back(c); });
    for (std::size_t c = 0; c < shape.cols; ++c)
      if (random.uniform() >= 0.9) meant.push_back(c);
    ASSERT_EQ(places, meant) << r;
    kept += meant.size();
  }
  EXPECT_EQ(mask.kept(shape), kept);
  EXPECT_NEAR(static_cast<double>(kept), 0.1 * 37 * 53, 60);
  EXPECT_NE(DropMask(0.9, 8, kName).kept_of_row(shape, 0) + DropMask(0.9, 7, "other").kept_of_row(shape, 0), 0u);
}

TEST(DroppedTensor, HoldsWhatIsKeptAndNothingElse) {
  const Shape shape{20, 50};
  const MatrixF weights = random_weights(shape, "w");
  const DropMask mask(0.75, 3, kName);
  const DroppedTensor dropped = DroppedTensor::of_values(mask, weights, 2.5f);
  EXPECT_EQ(dropped.bytes(), 4 + 2 * mask.kept(shape));
  EXPECT_EQ(dropped.multiplications(), mask.kept(shape));
  MatrixF meant(shape);
  for (std::size_t r = 0; r < shape.rows; ++r)
    mask.for_kept(shape, r, [&](std::size_t c) { meant(r, c) = 2.5f * f16_to_float(float_to_f16(weights(r, c))); });
  EXPECT_EQ(dropped.decode(), meant);
  MatrixF middle(3, 50);
  dropped.decode_rows(7, 3, middle.values());
  for (std::size_t c = 0; c < 50; ++c) EXPECT_EQ(middle(2, c), meant(9, c));
}

TEST(DroppedTensor, IsTheSameForAnyNumberOfThreads) {
  const MatrixF weights = random_weights({64, 100}, "w");
  const auto decoded = [&](int threads) {
    set_thread_count(threads);
    return DroppedTensor::of_values({0.5, 3, kName}, weights, 2).decode();
  };
  const MatrixF one = decoded(1);
  EXPECT_EQ(decoded(4), one);
  set_thread_count(0);
}

TEST(DroppedTensor, RefusesMasksOfAnotherCount) {
  const Shape shape{8, 32};
  const std::string good = dropped_of(0.5, shape);
  EXPECT_EQ(message_of(good, shape, format_bytes(good, shape)), "");
  EXPECT_THAT(message_of(good, shape, format_bytes(good, shape) - 2), HasSubstr("bytes, not"));
  const std::string other = dropped_of(0.5, {8, 33});
  ASSERT_NE(other, good);
  EXPECT_THAT(message_of(other, shape, format_bytes(other, shape)), HasSubstr("its mask keeps"));
}

TEST(DroppedTensor, RefusesFormatsThatAreNone) {
  const std::string tail = std::string(" seed 7 keeps 4 of ") + kName;
  for (const std::string& bad :
       {"dropped 99.95%" + tail, "dropped 100%" + tail, "dropped 2:4" + tail, "dropped 50% in rows" + tail,
        "dropped 050%" + tail, "dropped 50 %" + tail, std::string("dropped 50% seed 7 keeps 4 of "),
        std::string("dropped 50% seed 7 keeps 4 of a b"), std::string("dropped 50% seed -7 keeps 4 of a"),
        std::string("dropped 50% seed 1000000000000000000 keeps 4 of a"), std::string("dropped 50% keeps 4 of a"),
        std::string("dropped 50% seed 7 keeps 04 of a"), std::string("signs per column"), std::string("signs")})
    EXPECT_NE(message_of(bad, {2, 4}, 12), "") << bad;
}

TEST(DroppedTensor, DoesNotLetAFewBytesStandForAHugeMatrix) {
  const std::string empty = std::string("dropped 99.9% seed 7 keeps 0 of ") + kName;
  EXPECT_THAT(message_of(empty, {std::size_t{1} << 30, std::size_t{1} << 20}, 4), HasSubstr("keeps 0"));
  EXPECT_NE(message_of(empty, {std::size_t{1} << 40, std::size_t{1} << 40}, 4), "");
}

}  // namespace
}  // namespace adze
