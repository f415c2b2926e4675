// Habits of the sources that a compiler does not check. That every header compiles alone is part of the build
// (adze_headers in tests/CMakeLists.txt).
#include <regex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "architecture/repository.h"

namespace adze::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// A header says first what it is for, then guards itself.
std::vector<std::string> check_headers(const std::vector<TextFile>& headers) {
  std::vector<std::string> findings;
  for (const TextFile& header : headers) {
    const std::vector<std::string> lines = lines_of(header.text);
    const auto code = std::ranges::find_if(lines, [](const std::string& line) { return !line.starts_with("//"); });
    if (code == lines.begin()) findings.push_back(header.path + ": does not begin with what it is for");
    if (code == lines.end() || *code != "#pragma once")
      findings.push_back(header.path + ": no #pragma once after the comment");
  }
  return findings;
}

/// A call by which a library would print, end the program, or depend on its surroundings; comments do not count.
std::vector<std::string> check_calls(const std::vector<TextFile>& files) {
  static const std::regex call(
      R"(std::(cout|cerr|clog)\b|\b(printf|fprintf|puts|fputs|getenv|setenv|abort|_exit|exit|quick_exit)\s*\(|fmt::print)");
  std::vector<std::string> findings;
  for (const TextFile& file : files) {
    std::size_t number = 0;
    for (const std::string& line : lines_of(file.text)) {
      ++number;
      std::smatch match;
      const std::string code = line.substr(0, line.find("//"));
      if (std::regex_search(code, match, call))
        findings.push_back(file.path + ":" + std::to_string(number) + ": " + match.str());
    }
  }
  return findings;
}

TEST(Sources, EveryHeaderSaysWhatItIsForAndGuardsItself) {
  std::vector<TextFile> headers = files_below("lib", {".h"});
  for (TextFile& file : files_below("apps", {".h"})) headers.push_back(std::move(file));
  ASSERT_GT(headers.size(), 50u);
  const auto findings = check_headers(headers);
  EXPECT_THAT(findings, IsEmpty()) << joined(findings);
}

TEST(Sources, TheLibraryNeitherPrintsNorExitsNorReadsTheEnvironment) {
  const auto findings = check_calls(files_below("lib", {".h", ".cpp"}));
  EXPECT_THAT(findings, IsEmpty()) << joined(findings);
}

TEST(Sources, AHeaderWithoutPurposeOrGuardIsFound) {
  EXPECT_THAT(check_headers({{"a.h", "// For x.\n#pragma once\n"}}), IsEmpty());
  EXPECT_THAT(check_headers({{"a.h", "#pragma once\n"}}), ElementsAre(HasSubstr("what it is for")));
  EXPECT_THAT(check_headers({{"a.h", "// For x.\n#ifndef A\n"}}), ElementsAre(HasSubstr("#pragma once")));
  EXPECT_THAT(check_headers({{"a.h", "// For x.\n"}}), ElementsAre(HasSubstr("#pragma once")));
}

TEST(Sources, PrintingExitingAndTheEnvironmentAreFound) {
  EXPECT_THAT(check_calls({{"lib/a.cpp", "int a;\n  std::exit(1);\n"}}), ElementsAre("lib/a.cpp:2: exit("));
  for (const char* line :
       {"std::cerr << x;", "const char* v = std::getenv(\"X\");", "fmt::print(\"x\");", "puts(text);"})
    EXPECT_THAT(check_calls({{"lib/a.cpp", line}}), ::testing::SizeIs(1)) << line;
  EXPECT_THAT(
      check_calls({{"lib/a.cpp", "// never calls exit()\nerror.exit_code(); fmt::format(\"\"); on_exit_of(x);"}}),
      IsEmpty());
}

}  // namespace
}  // namespace adze::testing
