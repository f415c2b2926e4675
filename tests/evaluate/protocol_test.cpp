#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "evaluate/protocol.h"

namespace adze {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::int32_t> numbers(int count) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), 10);
  return ids;
}

TEST(Protocol, PresetsAreNamed) {
  const Protocol lcpp = parse_protocol("lcpp-512");
  EXPECT_EQ(lcpp.name, "lcpp-512");
  EXPECT_EQ(lcpp.window, 512u);
  EXPECT_EQ(lcpp.score_from, 256u);
  EXPECT_EQ(lcpp.scored_per_window(), 255u);
  EXPECT_EQ(lcpp.bos, BosPolicy::each);
  const Protocol gptq = parse_protocol("gptq-2048");
  EXPECT_EQ(gptq.scored_per_window(), 2047u);
  EXPECT_EQ(gptq.bos, BosPolicy::first);
}

TEST(Protocol, RefusesOtherNames) {
  for (const char* name : {"", "lcpp", "lcpp-", "lcpp-7", "gptq-1048577", "gptq-512x", "gptq--512", "hf-512",
                           "gptq-99999999999999999999"}) {
    try {
      parse_protocol(name);
      FAIL() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      EXPECT_THAT(error.message(), HasSubstr(std::string("'") + name + "'"));
    }
  }
}

TEST(MakeWindows, GptqPutsBosBeforeTheTextOnly) {
  const auto windows = make_windows(numbers(16), 1, parse_protocol("gptq-8"));
  ASSERT_EQ(windows.rows(), 2u);
  EXPECT_THAT(windows.row(0), ElementsAre(1, 10, 11, 12, 13, 14, 15, 16));
  EXPECT_THAT(windows.row(1), ElementsAre(17, 18, 19, 20, 21, 22, 23, 24));  // one token is left over
}

TEST(MakeWindows, LcppPutsBosOverTheFirstTokenOfEachWindow) {
  const auto windows = make_windows(numbers(16), 1, parse_protocol("lcpp-8"));
  ASSERT_EQ(windows.rows(), 2u);
  EXPECT_THAT(windows.row(0), ElementsAre(1, 10, 11, 12, 13, 14, 15, 16));
  EXPECT_THAT(windows.row(1), ElementsAre(1, 18, 19, 20, 21, 22, 23, 24));
}

TEST(MakeWindows, WithoutBosTheTextStaysAsItIs) {
  const auto lcpp = make_windows(numbers(8), std::nullopt, parse_protocol("lcpp-8"));
  EXPECT_EQ(lcpp(0, 0), 10);
  const auto none = make_windows(numbers(8), 1, {"plain", 8, 0, BosPolicy::none});
  EXPECT_EQ(none(0, 0), 10);
}

TEST(MakeWindows, RefusesATextShorterThanOneWindowNamingBothNumbers) {
  EXPECT_EQ(make_windows(numbers(7), 1, parse_protocol("gptq-8")).rows(), 1u);
  try {
    make_windows(numbers(6), 1, parse_protocol("gptq-8"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    EXPECT_THAT(error.message(), AllOf(HasSubstr("has 7 tokens"), HasSubstr("gptq-8 needs at least 8")));
  }
}

TEST(CheckProtocol, NeedsTwoScoredPositions) {
  EXPECT_NO_THROW(check_protocol({"p", 8, 5, BosPolicy::none}));
  EXPECT_THROW(check_protocol({"p", 8, 6, BosPolicy::none}), Error);
  EXPECT_THROW(check_protocol({"p", 2, 0, BosPolicy::none}), Error);
}

}  // namespace
}  // namespace adze
