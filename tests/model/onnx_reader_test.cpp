// ONNX files that nobody's exporter writes, put together field by field: sizes and numbers that must be refused before
// they cost memory or become values.
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/checkpoint_testing.h"
#include "model/onnx/onnx_file.h"
#include "model/onnx/onnx_matrix.h"

namespace adze {
namespace {

using ::testing::Each;

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 128; value /= 128) bytes += static_cast<char>(value % 128 + 128);
  return bytes + static_cast<char>(value);
}
std::string number(std::uint64_t field, std::uint64_t value) { return varint(field * 8) + varint(value); }
std::string text(std::uint64_t field, const std::string& bytes) {
  return varint(field * 8 + 2) + varint(bytes.size()) + bytes;
}
std::string repeated(std::uint64_t field, const std::vector<std::string>& all) {
  std::string bytes;
  for (const std::string& one : all) bytes += text(field, one);
  return bytes;
}
std::string times(std::size_t count, const std::string& bytes) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i) all += bytes;
  return all;
}

std::string attribute(const std::string& name, std::uint64_t value) {
  return text(5, text(1, name) + number(3, value) + number(20, 2));
}
std::string node(const std::string& op, const std::vector<std::string>& inputs, const std::string& attributes = "") {
  return text(1, repeated(1, inputs) + text(2, op + "/output_0") + text(3, op) + text(4, op) + attributes);
}
std::string initializer(const std::string& name, std::uint64_t type, const std::vector<std::uint64_t>& dims,
                        const std::string& raw) {
  std::string bytes;
  for (const std::uint64_t dim : dims) bytes += number(1, dim);
  return text(5, bytes + number(2, type) + text(8, name) + text(9, raw));
}
std::string floats(std::size_t count, float value) {
  const auto word = std::bit_cast<std::uint32_t>(value);
  std::string one;
  for (int shift = 0; shift < 32; shift += 8) one += static_cast<char>(word >> shift & 0xFFU);
  return times(count, one);
}

OnnxFile file_of(const std::string& graph) { return {"nowhere", text(7, graph)}; }

void expect_refused(const std::string& words, const std::function<void()>& body) {
  testing::expect_error(ErrorKind::bad_data, words, body);
}

std::string small_initializers(int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += initializer(std::to_string(i), 2, {0}, "");
  return all;
}

/// 65536 of them, and one for every 64 bytes.
TEST(OnnxFiles, HoldNoMoreNodesAndInitializersThanTheirBytesAllow) {
  const std::string empty = text(1, "");
  EXPECT_EQ(file_of(times(65536, empty)).nodes().size(), 65536u);
  expect_refused("nodes", [&] { file_of(times(70000, empty)); });
  EXPECT_EQ(file_of(times(70000, empty) + text(2, std::string(300000, 'x'))).nodes().size(), 70000u);

  EXPECT_EQ(file_of(small_initializers(65536)).tensors().size(), 65536u);
  expect_refused("initializers", [] { file_of(small_initializers(100000)); });
}

TEST(OnnxFiles, BoundWhatANodeTakesAndGives) {
  std::string attributes;
  for (int i = 0; i < 64; ++i) attributes += attribute(std::to_string(i), 0);
  const std::string in = text(1, ""), out = text(2, "");
  const OnnxFile most = file_of(text(1, times(4096, in) + times(4096, out) + attributes));
  EXPECT_EQ(most.nodes().front().inputs.size(), 4096u);
  EXPECT_EQ(most.nodes().front().outputs.size(), 4096u);
  EXPECT_EQ(most.nodes().front().numbers.size(), 64u);
  expect_refused("more than 4096 inputs", [&] { file_of(text(1, times(4097, in))); });
  expect_refused("more than 4096 outputs", [&] { file_of(text(1, times(4097, out))); });
  expect_refused("more than 64 attributes", [&] { file_of(text(1, attributes + attribute("x", 0))); });
}

/// One row of `cols` codes of 1, as DequantizeLinear has them: [in, out].
TensorPtr dequantized(std::uint64_t cols, std::uint64_t block, float scale) {
  const OnnxFile file =
      file_of(node("DequantizeLinear", {"codes", "scales"}, attribute("axis", 0) + attribute("block_size", block)) +
              node("MatMul", {"x", "DequantizeLinear/output_0"}) +
              initializer("codes", 3, {cols, 1}, std::string(cols, '\x01')) +
              initializer("scales", 1, {cols / block, 1}, floats(cols / block, scale)));
  return product_matrix(file, *file.find_node("MatMul"), {1, cols});
}

TEST(OnnxMatrices, HaveBlocksThatTheGridHas) {
  EXPECT_THAT(dequantized(4, 2, 0.5f)->decode().values(), Each(0.5f));
  EXPECT_THAT(dequantized(65536, 65536, 0.5f)->decode().values(), Each(0.5f));
  expect_refused("blocks of 1 columns", [] { dequantized(4, 1, 0.5f); });
  expect_refused("blocks of 131072 columns", [] { dequantized(131072, 131072, 0.5f); });
}

/// One row of 16 codes of 0, eight steps below the zero point.
TensorPtr blocks_of(float scale) {
  const OnnxFile file = file_of(
      node("MatMulNBits", {"x", "codes", "scales"},
           attribute("K", 16) + attribute("N", 1) + attribute("bits", 4) + attribute("block_size", 16)) +
      initializer("codes", 2, {1, 1, 8}, std::string(8, '\0')) + initializer("scales", 1, {1, 1}, floats(1, scale)));
  return block_matrix(file, *file.find_node("MatMulNBits"), {1, 16});
}

TEST(OnnxMatrices, HaveFiniteValuesOnly) {
  EXPECT_THAT(blocks_of(1e37f)->decode().values(), Each(-8e37f));
  for (const float scale : {3e38f, -3e38f, HUGE_VALF, std::bit_cast<float>(0x7FC00000U)}) {
    expect_refused("not finite", [&] { blocks_of(scale); });
    expect_refused("not finite", [&] { dequantized(4, 2, scale); });
  }
}

}  // namespace
}  // namespace adze
