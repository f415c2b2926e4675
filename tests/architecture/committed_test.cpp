// What is committed serves a reader anywhere: no paths of one machine, no addresses of package registries.
#include <regex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "architecture/repository.h"

namespace adze::testing {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

/// Written in pieces, so that this file does not find itself.
std::regex forbidden() {
  const std::string home =
      "(^|[^\\w.-])/(wor"
      "k|roo"
      "t|hom"
      "e)/";
  const std::string hosts =
      "registry\\.(np"
      "mjs|yarn"
      "pkg)|pyp"
      "i\\.org|python"
      "hosted\\.org|deb\\.deb"
      "ian\\.org|crates"
      "\\.io";
  return std::regex(home + "|" + hosts);
}

bool is_text(const std::string& bytes) { return bytes.find('\0') == std::string::npos; }

std::vector<std::string> check_text(const TextFile& file) {
  static const std::regex pattern = forbidden();
  std::vector<std::string> findings;
  std::size_t number = 0;
  for (const std::string& line : lines_of(file.text)) {
    ++number;
    if (line.find('/') == std::string::npos && line.find('.') == std::string::npos) continue;
    if (line.size() > 10000) continue;  // data on one line
    std::smatch match;
    if (std::regex_search(line, match, pattern))
      findings.push_back(file.path + ":" + std::to_string(number) + ": " + match.str());
  }
  return findings;
}

TEST(CommittedFiles, HoldNoPathsOfOneMachineAndNoRegistryHosts) {
  const auto paths = committed_paths();
  if (!paths) GTEST_SKIP() << "extra: not a git checkout, so that what is committed is not known";
  ASSERT_GT(paths->size(), 100u);
  std::vector<std::string> findings;
  for (const std::string& path : *paths) {
    if (!fs::is_regular_file(repository() / path)) continue;  // removed, not committed yet
    const TextFile file = read_repository_file(path);
    if (!is_text(file.text)) continue;
    for (std::string& finding : check_text(file)) findings.push_back(std::move(finding));
  }
  EXPECT_THAT(findings, IsEmpty()) << joined(findings);
}

TEST(CommittedFiles, AForbiddenPathOrHostIsFound) {
  const std::string machine =
                        "/wor"
                        "k/main",
                    home =
                        "/roo"
                        "t/x";
  for (const std::string& line : {"cd " + machine, "\"" + home + "\"",
                                  std::string("https://registry.np"
                                              "mjs.org/x"),
                                  std::string("index-url = pyp"
                                              "i.org")})
    EXPECT_THAT(check_text({"x", "fine\n" + line + "\n"}), SizeIs(1)) << line;
  EXPECT_THAT(check_text({"x", "OUT" + machine +
                                   " and ../wor"
                                   "k/ are relative\n"}),
              IsEmpty());
}

}  // namespace
}  // namespace adze::testing
