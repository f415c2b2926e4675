// Dependencies point downwards only, as docs/architecture.md says.
#include "architecture/layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace adze::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Layers layers_of_the_page() { return parse_layers(read_repository_file("docs/architecture.md").text); }

std::vector<TextFile> sources() {
  std::vector<TextFile> files = files_below("lib", {".h", ".cpp"});
  for (TextFile& file : files_below("apps", {".h", ".cpp"})) files.push_back(std::move(file));
  return files;
}

TEST(Layers, EveryIncludePointsDownwards) {
  const auto findings = check_includes(sources(), layers_of_the_page());
  EXPECT_THAT(findings, IsEmpty()) << joined(findings);
}

TEST(Layers, EveryFolderOfTheLibraryStandsInTheTableAndTheOtherWayRound) {
  std::set<std::string> folders{"apps"};
  for (const fs::directory_entry& entry : fs::directory_iterator(repository() / "lib"))
    if (entry.is_directory()) folders.insert(entry.path().filename().string());
  std::set<std::string> in_table;
  for (const auto& [folder, height] : layers_of_the_page()) in_table.insert(folder);
  EXPECT_EQ(in_table, folders);
}

TEST(Layers, LibrariesLinkWhatTheyIncludeAndNothingAboveThem) {
  const auto findings = check_links(sources(), read_repository_file("lib/CMakeLists.txt").text, layers_of_the_page());
  EXPECT_THAT(findings, IsEmpty()) << joined(findings);
}

TEST(Layers, APageWithoutTheTableHasNoLayers) {
  EXPECT_THAT(parse_layers("# Architecture\n\n| `base` | x |\n"), IsEmpty());
}

class BrokenLayers : public ::testing::Test {
 protected:
  static Layers layers() {
    return parse_layers(
        "<!-- layers: highest first -->\n| layer | for |\n|---|---|\n| `apps` | |\n| `solve`, `export` | |\n"
        "| `base` | |\n<!-- end of layers -->\n| `other` | |\n");
  }
  static std::vector<std::string> check(const std::string& path, const std::string& line) {
    return check_includes({{path, "#pragma once\n" + line + "\n"}}, layers());
  }
};

TEST_F(BrokenLayers, TheTableIsReadFromTheTopAndEndsAtItsMark) {
  EXPECT_EQ(layers(), (Layers{{"apps", 2}, {"solve", 1}, {"export", 1}, {"base", 0}}));
}

TEST_F(BrokenLayers, DownwardsAndInsideAFolderAreAllowed) {
  EXPECT_THAT(check("lib/solve/x.cpp", "#include \"base/error.h\""), IsEmpty());
  EXPECT_THAT(check("lib/solve/gptq/x.cpp", "#include \"solve/solver.h\""), IsEmpty());
  EXPECT_THAT(check("lib/base/x.cpp", "#include <vector>"), IsEmpty());
  EXPECT_THAT(check("apps/x.cpp", "#include \"tool.h\""), IsEmpty());
}

TEST_F(BrokenLayers, UpwardsIsFoundWithItsFileAndLine) {
  EXPECT_THAT(check("lib/base/x.cpp", "#include \"solve/solver.h\""),
              ElementsAre("lib/base/x.cpp:2: 'solve/solver.h' points upwards or sideways"));
}

TEST_F(BrokenLayers, SidewaysIsFound) {
  EXPECT_THAT(check("lib/solve/x.cpp", " #  include \"export/exporter.h\""), ElementsAre(HasSubstr("sideways")));
}

TEST_F(BrokenLayers, UnknownFoldersRelativePathsAndBareNamesAreFound) {
  EXPECT_THAT(check("lib/solve/x.cpp", "#include \"helpers/all.h\""), ElementsAre(HasSubstr("no folder")));
  EXPECT_THAT(check("lib/solve/x.cpp", "#include \"../base/error.h\""), ElementsAre(HasSubstr("relative")));
  EXPECT_THAT(check("lib/solve/x.cpp", "#include \"solver.h\""), ElementsAre(HasSubstr("from lib/")));
  EXPECT_THAT(check("lib/base/x.cpp", "#include <solve/solver.h>"), ElementsAre(HasSubstr("quotes")));
  EXPECT_THAT(check("lib/new/x.cpp", ""), ElementsAre(HasSubstr("not in the layer table")));
}

TEST_F(BrokenLayers, LinksUpwardsAndIncludesWithoutLinksAreFound) {
  const std::vector<TextFile> files{{"lib/solve/x.cpp", "#include \"base/error.h\"\n"}};
  EXPECT_THAT(check_links(files, "adze_library(solve PUBLIC adze_base)\n", layers()), IsEmpty());
  EXPECT_THAT(check_links(files, "adze_library(solve PUBLIC fmt::fmt)\n", layers()),
              ElementsAre(HasSubstr("does not link it")));
  EXPECT_THAT(check_links({}, "adze_library(base PUBLIC adze_solve)\n", layers()),
              ElementsAre(HasSubstr("not below it")));
}

}  // namespace
}  // namespace adze::testing
