// Payloads come back byte for byte from whatever they were coded as, and take fewer bytes.
#include "grid/coded/coded_payload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/parallel.h"
#include "grid/factors/shared_tensor.h"
#include "grid/format.h"
#include "grid/grid_testing.h"

namespace adze {
namespace {

using grid_testing::random_weights;
using ::testing::HasSubstr;

std::vector<std::byte> bytes_of_payload(const CompressedTensor& tensor) {
  return {tensor.payload().begin(), tensor.payload().end()};
}

std::vector<std::byte> round_trip(const CompressedTensor& tensor, std::span<const std::byte> coded) {
  return decode_payload(tensor.format(), tensor.shape(), coded);
}

std::uint64_t most_bytes(const CompressedTensor& tensor) {
  return tensor.bytes() + kCodedPayloadFixedBytes + (tensor.bytes() / kChunkSymbols + 1) * kChunkOverheadBytes;
}

std::string refusal(const std::string& format, Shape shape, std::span<const std::byte> coded) {
  try {
    decode_payload(format, shape, coded);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data) << error.message();
    return error.message();
  }
  return "";
}

class CodedGrids : public ::testing::TestWithParam<GridRequest> {
 protected:
  std::shared_ptr<const CompressedTensor> encoded(Shape shape) const {
    return grid_testing::encode(make_grid(GetParam()), random_weights(shape, "coded"), ScaleRule::search).finish();
  }
};

INSTANTIATE_TEST_SUITE_P(EveryGrid, CodedGrids, ::testing::ValuesIn(grid_testing::all_grids()),
                         grid_testing::grid_test_name);

TEST_P(CodedGrids, ComeBackByteForByteAndAreNeverMuchLarger) {
  for (const Shape shape : {Shape{1, 256}, Shape{37, 512}, Shape{260, 768}}) {
    const auto tensor = encoded(shape);
    const CodedPayload coded = encode_payload(*tensor);
    ASSERT_EQ(round_trip(*tensor, coded.bytes), bytes_of_payload(*tensor)) << shape.rows;
    EXPECT_LE(coded.bytes.size(), most_bytes(*tensor));
    EXPECT_EQ(coded.report.coded_bytes, coded.bytes.size());
    EXPECT_EQ(coded.report.payload_bytes, tensor->bytes());
  }
}

TEST_P(CodedGrids, ComeBackFromBytesThatNoSolverWrote) {
  const Shape shape{9, 512};
  RandomStream random(3, "any bytes");
  std::vector<std::byte> payload(make_grid(GetParam())->bytes(shape));
  // E4M3's NaN has no code, and no reader lets one in.
  const bool has_nan = make_grid(GetParam())->code_bits() == 8 && !make_grid(GetParam())->levels().empty();
  for (std::byte& b : payload) {
    b = static_cast<std::byte>(random.below(256));
    if (has_nan && (b & std::byte{0x7F}) == std::byte{0x7F}) b = std::byte{0x7E};
  }
  const QuantizedTensor tensor(make_grid(GetParam()), shape, payload);
  const CodedPayload coded = encode_payload(tensor);
  EXPECT_EQ(round_trip(tensor, coded.bytes), payload);
  EXPECT_LE(coded.bytes.size(), most_bytes(tensor));
}

TEST(CodedPayloads, OfGaussianWeightsSaveWhatTheirEntropySays) {
  struct Row {
    const char* grid;
    double least_saved;
  };
  for (const auto& [grid, least_saved] :
       {Row{"int4 g128 sym", 0.08}, Row{"int4 g32 sym", 0.06}, Row{"gguf/q4_k", 0.025}, Row{"gguf/q6_k", 0.02},
        Row{"int8 g128 sym", 0.05}}) {
    const auto tensor =
        grid_testing::encode(grid_from_name(grid), random_weights({512, 2048}, grid), ScaleRule::minmax).finish();
    const CodedPayload coded = encode_payload(*tensor);
    EXPECT_EQ(round_trip(*tensor, coded.bytes), bytes_of_payload(*tensor)) << grid;
    EXPECT_LT(static_cast<double>(coded.bytes.size()), (1 - least_saved) * static_cast<double>(tensor->bytes()))
        << grid;
    EXPECT_LE(coded.report.codes.conditional, coded.report.codes.order0) << grid;
    EXPECT_LT(coded.report.codes.coded, 1.02 * coded.report.codes.conditional) << grid;
  }
}

TEST(CodedPayloads, OfFloatsSaveTheirExponents) {
  const DenseTensor tensor = make_dense(random_weights({512, 1024}, "dense"), DType::bf16);
  const CodedPayload coded = encode_payload(tensor);
  EXPECT_EQ(round_trip(tensor, coded.bytes), bytes_of_payload(tensor));
  EXPECT_NEAR(8.0 * static_cast<double>(coded.bytes.size()) / static_cast<double>(tensor.shape().count()), 10.6, 0.05)
      << "a sign, 7 bits of mantissa, and an exponent of 2.6 bits";
}

TEST(CodedPayloads, OfOtherKindsOfTensorsComeBack) {
  for (const char* format : {"rank 8 [f16] [f16]", "int4 g32 sym, 2:4", "int4 g32 sym + rank 2 [f16] [bf16]",
                             "train 4x6 by 8x8 bonds 4 [f16]"}) {
    const Shape shape{24, 64};
    RandomStream random(1, format);
    std::vector<std::byte> payload(format_bytes(format, shape));
    for (std::byte& b : payload) b = static_cast<std::byte>(random.below(2));  // no rank of a mask is too large
    const auto tensor = tensor_from_payload(format, shape, payload);
    const CodedPayload coded = encode_payload(*tensor);
    EXPECT_EQ(round_trip(*tensor, coded.bytes), bytes_of_payload(*tensor)) << format;
  }
}

TEST(CodedPayloads, OfATensorThatStoresNothingAreEmpty) {
  const auto elsewhere = std::make_shared<DenseTensor>(make_dense(random_weights({4, 8}, "shared"), DType::f16));
  const SharedTensor tensor("layers.0.mlp.up_proj", elsewhere);
  ASSERT_TRUE(tensor.payload().empty());
  const CodedPayload coded = encode_payload(tensor);
  EXPECT_EQ(coded.bytes.size(), kCodedPayloadFixedBytes);
  EXPECT_TRUE(round_trip(tensor, coded.bytes).empty());
}

TEST(CodedPayloads, AreTheSameForAnyNumberOfThreads) {
  const auto tensor =
      grid_testing::encode(grid_from_name("gguf/q4_k"), random_weights({300, 512}, "threads"), ScaleRule::minmax)
          .finish();
  set_thread_count(1);
  const CodedPayload one = encode_payload(*tensor);
  set_thread_count(4);
  EXPECT_EQ(encode_payload(*tensor).bytes, one.bytes);
  EXPECT_EQ(round_trip(*tensor, one.bytes), bytes_of_payload(*tensor));
  set_thread_count(0);
}

TEST(CodedPayloads, WithAnyByteChangedAreRefused) {
  const auto tensor =
      grid_testing::encode(grid_from_name("int4 g32 asym"), random_weights({8, 64}, "hostile"), ScaleRule::minmax)
          .finish();
  const std::vector<std::byte> whole = encode_payload(*tensor).bytes;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::vector<std::byte> bytes = whole;
    bytes[at] ^= std::byte{0x41};
    EXPECT_NE(refusal(tensor->format(), tensor->shape(), bytes), "") << at;
    EXPECT_NE(refusal(tensor->format(), tensor->shape(), std::span(whole).first(at)), "") << at;
  }
}

/// Headers whose codes no grid of so many bits has: what is packed stays within its bits.
TEST(CodedPayloads, CodesBeyondTheGridAreCutAndThenRefused) {
  for (const char* const format : {"int4 channel sym", "int8 channel sym", "int3 g64 asym", "fp8", "gguf/q4_0"}) {
    const auto grid = grid_from_name(format);
    const auto tensor =
        grid_testing::encode(grid, grid_testing::random_weights({64, 512}, format), ScaleRule::search).finish();
    const CodedPayload coded = encode_payload(*tensor);
    std::uint32_t way = 0;
    std::memcpy(&way, coded.bytes.data(), sizeof way);
    for (const std::int32_t lowest : {-255, 255}) {
      std::vector<std::byte> forged = coded.bytes;
      std::memcpy(forged.data() + 8, &lowest, sizeof lowest);  // after the way and the size of side data
      EXPECT_THROW(decode_payload(format, {64, 512}, forged), Error) << format << " " << way;
    }
  }
}

TEST(CodedPayloads, OfOtherFormatsAndShapesAreRefused) {
  const auto tensor =
      grid_testing::encode(grid_from_name("int4 g32 sym"), random_weights({8, 64}, "hostile"), ScaleRule::minmax)
          .finish();
  const std::vector<std::byte> coded = encode_payload(*tensor).bytes;
  const std::string format = tensor->format();
  EXPECT_NE(refusal(format, {9, 64}, coded), "");
  EXPECT_NE(refusal(format, {8, 32}, coded), "");
  EXPECT_NE(refusal("int4 g64 sym", {8, 64}, coded), "");
  EXPECT_NE(refusal("f16", {8, 64}, coded), "");
  EXPECT_THAT(refusal(format, {std::size_t{1} << 40, 64}, coded), HasSubstr("cannot stand for"));
  EXPECT_THAT(refusal(format, {std::size_t{1} << 60, 64}, coded), HasSubstr("overflow"));
  for (const char* any : {"int4 g32 sym", "int4 channel sym", "gguf/q4_k", "f16"})
    for (const Shape empty : {Shape{0, 64}, Shape{8, 0}, Shape{0, 0}}) EXPECT_NE(refusal(any, empty, coded), "");
}

}  // namespace
}  // namespace adze
