// A fixture that judges pages in a real browser: headless Chromium, driven by tests/node/page.mjs. Skips where there is
// none.
#pragma once

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "node/node_program.h"

namespace adze::testing {

class Browser : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists("/usr/bin/chromium"))
      GTEST_SKIP() << "no Chromium: install Debian's package chromium, or run tests/run.sh";
    if (const std::string reason = missing_package("playwright-core"); !reason.empty()) GTEST_SKIP() << reason;
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  /// What page.mjs found: "findings", and how many "figures", "tables", "tooltips" it saw. `way`: width and scheme;
  /// empty: all of them.
  nlohmann::json check(const std::string& html, const std::string& way = "") const {
    std::ofstream(folder_ / "page.html", std::ios::binary) << html;
    const std::filesystem::path log = folder_ / "log";
    const auto out = output_of(node_program() + " " + quoted(node_folder() / "page.mjs") + " check " +
                               quoted(folder_ / "page.html") + " " + way + " 2>" + quoted(log));
    if (!out) throw std::runtime_error("page.mjs failed: " + read_file(log));
    return nlohmann::json::parse(*out);
  }

  const std::filesystem::path folder_ =
      std::filesystem::path(::testing::TempDir()) /
      ("adze_browser_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
};

}  // namespace adze::testing
