// Mixed rows as bytes: what comes back, what is refused.
#include "grid/rows/mixed_rows_tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "grid/format.h"
#include "grid/grid_testing.h"

namespace adze {
namespace {

using grid_testing::random_weights;
using Part = std::shared_ptr<const CompressedTensor>;
using ::testing::HasSubstr;

constexpr const char* kFormat = "rows of 40 bytes [zero] [int2 g32 asym] [int4 g32 sym]";
constexpr std::size_t kCols = 64;
const std::vector<std::uint8_t> kGridOf{1, 2, 0, 2, 1, 2};

Part rows(const char* grid, std::size_t count) {
  return grid_testing::encode(grid_from_name(grid), random_weights({count, kCols}, grid), ScaleRule::search).finish();
}

MixedRowsTensor example() {
  return {
      *parse_mixed_rows_format(kFormat), kCols, kGridOf, {nullptr, rows("int2 g32 asym", 2), rows("int4 g32 sym", 3)}};
}

std::string refusal(const std::string& format, Shape shape, std::vector<std::byte> payload) {
  try {
    tensor_from_payload(format, shape, std::move(payload));
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    return error.message();
  }
  return "";
}

TEST(MixedRowsTensor, HasEachRowOfItsGrid) {
  const MixedRowsTensor tensor = example();
  EXPECT_EQ(tensor.format(), kFormat);
  EXPECT_EQ(tensor.shape(), (Shape{6, kCols}));
  EXPECT_EQ(tensor.bytes(), 240u);
  EXPECT_EQ(format_bytes(kFormat, tensor.shape()), 240u);
  const MatrixF twos = rows("int2 g32 asym", 2)->decode(), fours = rows("int4 g32 sym", 3)->decode();
  const MatrixF values = tensor.decode();
  EXPECT_THAT(values.row(0), ::testing::ElementsAreArray(twos.row(0)));
  EXPECT_THAT(values.row(1), ::testing::ElementsAreArray(fours.row(0)));
  EXPECT_THAT(values.row(2), ::testing::Each(0.0f));
  EXPECT_THAT(values.row(3), ::testing::ElementsAreArray(fours.row(1)));
  EXPECT_THAT(values.row(4), ::testing::ElementsAreArray(twos.row(1)));
  EXPECT_THAT(values.row(5), ::testing::ElementsAreArray(fours.row(2)));
  MatrixF middle(2, kCols);
  tensor.decode_rows(3, 2, middle.values());
  EXPECT_THAT(middle.row(1), ::testing::ElementsAreArray(twos.row(1)));
}

TEST(MixedRowsTensor, ComesBackFromItsBytes) {
  const MixedRowsTensor tensor = example();
  const std::vector<std::byte> payload(tensor.payload().begin(), tensor.payload().end());
  const Part again = tensor_from_payload(tensor.format(), tensor.shape(), payload);
  EXPECT_EQ(again->format(), tensor.format());
  EXPECT_EQ(again->decode(), tensor.decode());
  EXPECT_THAT(again->payload(), ::testing::ElementsAreArray(payload));
  EXPECT_EQ(densified(again)->format(), "f16");
}

TEST(MixedRowsTensor, IndicesTakeAsManyBitsAsTheyNeed) {
  EXPECT_EQ(parse_mixed_rows_format("rows of 9 bytes [zero]")->index_bytes(1000), 0u);
  EXPECT_EQ(parse_mixed_rows_format("rows of 9 bytes [zero] [int2 g32 sym]")->index_bytes(1001), 126u);
  EXPECT_EQ(parse_mixed_rows_format(kFormat)->index_bytes(6), 2u);
  const MixedRowsTensor tensor = example();  // 1, 2, 0, 2 and 1, 2
  EXPECT_EQ(tensor.payload()[0], std::byte{0b10001001});
  EXPECT_EQ(tensor.payload()[1], std::byte{0b00001001});
}

TEST(MixedRowsTensor, HostileBytesAreRefused) {
  const MixedRowsTensor tensor = example();
  const std::vector<std::byte> good(tensor.payload().begin(), tensor.payload().end());
  auto bytes = good;
  bytes.pop_back();
  EXPECT_THAT(refusal(kFormat, {6, kCols}, bytes), HasSubstr("mixed rows of 240 bytes in 239"));
  bytes = good;
  bytes[0] |= std::byte{0x30};
  EXPECT_THAT(refusal(kFormat, {6, kCols}, bytes), HasSubstr("row 2 has grid 3, there are 3"));
  bytes = good;
  bytes.back() = std::byte{1};
  EXPECT_THAT(refusal(kFormat, {6, kCols}, bytes), HasSubstr("not zero after the last row"));
  bytes = good;
  const char* const tight = "rows of 30 bytes [zero] [int2 g32 asym] [int4 g32 sym]";
  bytes.resize(180);
  bytes[0] = std::byte{0xAA};
  bytes[1] = std::byte{0x0A};
  EXPECT_THAT(refusal(tight, {6, kCols}, bytes), HasSubstr("rows of int4 g32 sym take 216 bytes, there are 178"));
  EXPECT_THAT(refusal("rows of 20 bytes [int2 g32 asym] [int4 g32 sym]", {6, kCols}, bytes),
              HasSubstr("the smallest takes"));
}

TEST(MixedRowsTensor, MalformedFormatsAreRefused) {
  for (const char* const format :
       {"rows of ", "rows of x bytes [zero]", "rows of 9 bytes", "rows of 9 bytes zero", "rows of 9 bytes [zero",
        "rows of 9 bytes [int9 g32 sym]", "rows of 9 bytes [int4 tensor sym]", "rows of 9 bytes [zero]x",
        "rows of 99999999999999999999999 bytes [zero]"})
    EXPECT_THROW(format_bytes(format, {2, 64}), Error) << format;
  EXPECT_THROW(format_bytes("rows of 18446744073709551615 bytes [zero]", {2, 64}), Error);
  EXPECT_FALSE(parse_mixed_rows_format("int4 g32 sym"));
}

TEST(MixedRowsTensor, PartsThatDoNotFitAreRefused) {
  const MixedRowsFormat format = *parse_mixed_rows_format(kFormat);
  EXPECT_THROW(MixedRowsTensor(format, kCols, kGridOf, {nullptr, nullptr, rows("int4 g32 sym", 3)}), Error);
  EXPECT_THROW(MixedRowsTensor(format, kCols, kGridOf, {nullptr, rows("int2 g32 asym", 2), rows("int4 g32 sym", 2)}),
               Error);
  EXPECT_THROW(MixedRowsTensor(format, kCols, kGridOf, {nullptr, rows("int2 g32 asym", 2), rows("int4 g32 asym", 3)}),
               Error);
}

}  // namespace
}  // namespace adze
