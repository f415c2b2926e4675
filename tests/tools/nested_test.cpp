// Nested codes as a user has them: one solve, one pack, and smaller models cut out of it; entropy-coded packs.
#include "tools/scheme_testing.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;

/// The demo in nested codes of 8 bits, made once.
const fs::path& nested() {
  static const Workplace place;
  static const fs::path out = [] {
    const std::string recipe =
        "adze: 1\ncalibration: { set: " + bundled_text("calib/narrative.txt") +
        ", windows: 4, tokens: 128, seed: 7 }\n"
        "schemes: { s: { grid: int8, group: 64, symmetric: false, solver: nested, views: \"4 2\" } }\n"
        "rules: [ { modules: \"layers.**\", scheme: s } ]\nexport: [ { format: pack, file: all.adze } ]\n";
    expect_exit(compress(place.put("r.yaml", recipe).string(), demo_model(), place.out(), {"-q"}), 0);
    return fs::path(place.out());
  }();
  return out;
}

ProgramResult cut(const fs::path& from, int planes, const fs::path& to) {
  return run_program("adze-export",
                     {from.string(), "--planes", std::to_string(planes), "--format", "pack", "-o", to.string()});
}

TEST(NestedTools, SmallerModelsAreCutOutOfOneFile) {
  const Workplace place;
  const fs::path all = nested() / "all.adze", four = place / "four.adze", two = place / "two.adze";
  expect_exit(cut(all, 4, four), 0);
  expect_exit(cut(four, 2, two), 0);
  EXPECT_LT(fs::file_size(four), fs::file_size(all));
  EXPECT_LT(fs::file_size(two), fs::file_size(four));
  const double whole = divergence(all.string()), half = divergence(four.string()), quarter = divergence(two.string());
  EXPECT_EQ(whole, divergence(nested().string()));
  EXPECT_GT(half, whole);
  EXPECT_GT(quarter, 2 * half);
  EXPECT_LT(quarter, 1.0);  // still a model
}

TEST(NestedTools, RefuseViewsThatAreNotThere) {
  const Workplace place;
  const fs::path four = place / "four.adze", out = place / "out.adze";
  expect_exit(cut(nested(), 4, four), 0);
  const ProgramResult more = cut(four, 6, out);
  EXPECT_EQ(more.exit_code, 65) << more.err;
  expect_exit(cut(demo_model(), 4, out), 65, {"has no nested codes"});
  EXPECT_EQ(cut(four, 9, out).exit_code, 64);
  EXPECT_FALSE(fs::exists(out));
}

TEST(EntropyTools, ACodedPackIsTheSameModelInFewerBytes) {
  const Workplace place;
  const fs::path all = nested() / "all.adze", coded = place / "coded.adze", again = place / "again.adze";
  const Arguments arguments{all.string(), "--format", "pack-entropy", "-o", coded.string()};
  const ProgramResult dry = run_program("adze-export", joined(arguments, {"--dry-run"}));
  expect_exit(dry, 0);
  EXPECT_THAT(dry.out, HasSubstr("at most"));
  const ProgramResult made = run_program("adze-export", joined(arguments, {"--json"}));
  expect_exit(made, 0);
  EXPECT_EQ(Json::parse(made.out).at("bytes"), fs::file_size(coded));
  EXPECT_LT(fs::file_size(coded), fs::file_size(all));
  const ProgramResult shown = run_program("adze-inspect", {coded.string(), "--verify"});
  expect_exit(shown, 0);
  EXPECT_THAT(shown.out, HasSubstr("verified: no damage found"));
  expect_exit(run_program("adze-export", {coded.string(), "--format", "pack", "-o", again.string()}), 0);
  EXPECT_EQ(run_program("adze-inspect", {again.string(), "--verify"}).exit_code, 0);
  EXPECT_EQ(divergence(again.string()), divergence(all.string()));
}

}  // namespace
}  // namespace adze::testing
