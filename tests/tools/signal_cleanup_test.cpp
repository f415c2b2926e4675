// Ctrl-C while a program writes: it says that it stopped and leaves no half-written file behind.
#include <csignal>

#include "tools/tools_testing.h"

namespace adze {
namespace {

using namespace testing;

constexpr int kAttempts = 40;  // a moment of some milliseconds is to be met

/// Runs `tool` on the demo model to `output` and interrupts it when a file named output + `ending` is there.
struct Stop {
  std::string tool;
  std::string output;
  std::string ending;
  std::vector<std::string> options;
};

class SignalCleanup : public ::testing::TestWithParam<Stop> {};

TEST_P(SignalCleanup, LeavesNothingHalfWritten) {
  const Stop& stop = GetParam();
  int caught = 0;
  for (int i = 0; i < kAttempts && caught == 0; ++i) {
    const Workplace place;
    const std::string output = (place.path() / stop.output).string();
    std::vector<std::string> arguments{demo_model().string(), "-o", output};
    arguments.insert(arguments.end(), stop.options.begin(), stop.options.end());
    const ProgramOptions options{.interruption = Interruption{SIGINT, when_exists(output + stop.ending)},
                                 .largest_file = {}};
    const ProgramResult result = run_program(stop.tool, arguments, options);
    expect_nothing_half_written(place.path());
    if (result.exit_code == 0) continue;  // it was faster
    expect_exit(result, 75, {"stopped; run the same command again\n"});
    EXPECT_EQ(result.out, "");
    ++caught;
  }
  EXPECT_EQ(caught, 1) << "every signal came too late";
}

INSTANTIATE_TEST_SUITE_P(Tools, SignalCleanup,
                         ::testing::Values(Stop{"adze-export", "m.gguf", ".unverified.tmp", {}},
                                           Stop{"adze-export", "m.gguf", ".unverified", {}},
                                           Stop{"adze-import", "m.h5", ".tmp", {}},
                                           Stop{"adze-import", "m.h5", ".tmp", {"--copy"}}),
                         [](const auto& given) { return fmt::format("{}_{}", given.index, given.param.tool.substr(5)); });

}  // namespace
}  // namespace adze
