// What the tests of adze-quantize and adze-prune share: the demo's statistics, and runs of the two programs on it.
#pragma once

#include <nlohmann/json.hpp>

#include "tools/tools_testing.h"

namespace adze::testing {

using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

inline Arguments joined(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// Statistics of the demo over the windows of small_recipe(); measured once.
inline const std::string& demo_statistics() {
  static const Workplace place;
  static const std::string folder = [] {
    expect_exit(run_program("adze-calibrate", {demo_model().string(), "--set", bundled_text("calib/narrative.txt"),
                                               "--windows", "8", "--tokens", "128", "--seed", "7", "-o", place.out()}),
                0);
    return place.out();
  }();
  return folder;
}

inline Arguments on_demo(const Arguments& more) { return joined({demo_model().string()}, more); }
inline Arguments with_statistics(const Arguments& more) {
  return joined({demo_model().string(), "--stats", demo_statistics()}, more);
}

/// Neither the output nor anything beside it.
inline void expect_no_output(const Workplace& place) {
  EXPECT_FALSE(fs::exists(place.out()));
  EXPECT_FALSE(fs::exists(place.out() + ".tmp"));
}

/// A command line, without -o, that must be refused before it makes anything.
inline void expect_tool_refuses(const std::string& tool, const Arguments& arguments, int code, Words words) {
  const Workplace place;
  const ProgramResult result = run_program(tool, joined(arguments, {"-o", place.out()}));
  expect_exit(result, code, words);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, ::testing::StartsWith(tool + ": error: "));
  expect_no_output(place);
}

/// Mean divergence of `model` from the demo on held-out text.
inline double divergence(const std::string& model) {
  const Workplace place;
  const std::string text =
      place.put("text.txt", read_file(bundled_text("heldout/narrative.txt")).substr(0, 12000)).string();
  const ProgramResult result = run_program(
      "adze-eval", {model, "--reference", demo_model().string(), "--text", text, "--protocol", "lcpp-128", "--json"});
  expect_exit(result, 0);
  return Json::parse(result.out).at("kl_mean").get<double>();
}

/// Name -> bytes of the compressed store in `out`.
inline std::map<std::string, std::string> store_files(const std::string& out) {
  return result_files(fs::path(out) / "store");
}

}  // namespace adze::testing
