#include "recipe/scalars.h"

#include <gtest/gtest.h>

namespace adze {
namespace {

Node plain(std::string text) {
  Node node;
  node.kind = NodeKind::scalar;
  node.text = std::move(text);
  return node;
}

TEST(Scalars, FollowTheCoreSchema) {
  for (const char* text : {"true", "True", "TRUE", "false", "False", "FALSE"})
    EXPECT_EQ(scalar_type(plain(text)), ScalarType::boolean) << text;
  for (const char* text : {"0", "7", "-12", "+3", "010", "0x1F", "0o17", "99999999999999999999999"})
    EXPECT_EQ(scalar_type(plain(text)), ScalarType::integer) << text;
  for (const char* text : {"0.5", "-.5", "1.", "1e3", "+1.5E-7"})
    EXPECT_EQ(scalar_type(plain(text)), ScalarType::real) << text;
  for (const char* text : {"yes", "on",  "tRue",  "1_000", "1:30", "0x",  "0o8", "-0x1", ".",     "-",    "+", "e3",
                           "1e",  "1e+", "1.5.2", ".inf",  ".nan", "nan", "inf", "50%",  "4 GiB", "int4", ""})
    EXPECT_EQ(scalar_type(plain(text)), ScalarType::text) << text;
}

TEST(Scalars, TakeQuotedValuesAsText) {
  Node node = plain("128");
  node.quoted = true;
  EXPECT_EQ(scalar_type(node), ScalarType::text);
}

TEST(Scalars, ReadWholeNumbersExactly) {
  EXPECT_EQ(parse_core_integer("18446744073709551615")->magnitude, UINT64_MAX);
  EXPECT_TRUE(parse_core_integer("18446744073709551616")->overflow);
  EXPECT_TRUE(parse_core_integer("-12")->negative);
  EXPECT_EQ(parse_core_integer("010")->magnitude, 10u);
  EXPECT_EQ(parse_core_integer("0x1F")->magnitude, 31u);
  EXPECT_EQ(parse_core_integer("0o17")->magnitude, 15u);
}

TEST(Scalars, ReadReals) {
  EXPECT_EQ(parse_core_real("+1.5e2"), 150.0);
  EXPECT_EQ(parse_core_real("-.25"), -0.25);
  EXPECT_EQ(parse_core_real("1e999"), std::nullopt);
  EXPECT_EQ(parse_core_real("0x10"), std::nullopt);
}

TEST(Scalars, ReadPercentagesOnlyWithTheirSign) {
  EXPECT_EQ(parse_percent("50%"), 0.5);
  EXPECT_EQ(parse_percent("12.5 %"), 0.125);
  EXPECT_EQ(parse_percent("0.5"), std::nullopt);
  EXPECT_EQ(parse_percent("%"), std::nullopt);
  EXPECT_EQ(parse_percent("5%%"), std::nullopt);
}

TEST(Scalars, ReadBytesOnlyWithTheirUnit) {
  EXPECT_EQ(parse_sized_bytes("4 GiB"), std::uint64_t{4} << 30);
  EXPECT_EQ(parse_sized_bytes("1.5kB"), 1500u);
  EXPECT_EQ(parse_sized_bytes("4"), std::nullopt);
  EXPECT_EQ(parse_sized_bytes("4 GB/s"), std::nullopt);
  EXPECT_EQ(parse_sized_bytes("GiB"), std::nullopt);
  EXPECT_EQ(parse_sized_bytes("nanB"), std::nullopt);
  EXPECT_EQ(parse_sized_bytes("-1 B"), std::nullopt);
  EXPECT_EQ(parse_sized_bytes(""), std::nullopt);
}

}  // namespace
}  // namespace adze
