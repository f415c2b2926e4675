// A folder that appears whole or not at all, and what it may replace.
#include "pipeline/whole_folder.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "checkpoint/checkpoint_testing.h"

namespace adze {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempFolder;

constexpr const char* kManifest = R"({"adze":1,"version":"0"})";

/// As a run fills it.
void fill(const WholeFolder& folder, std::string_view block) {
  write_file(folder.path() / "store" / "block-0000.h5", block);
  write_file(folder.path() / "report.json", "{}");
  write_file(folder.path() / kManifestName, kManifest);
}

void make(const fs::path& out, std::string_view block, bool overwrite = false) {
  WholeFolder folder(out, overwrite);
  fill(folder, block);
  folder.commit();
}

std::size_t entries(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(WholeFolder, AppearsOnCommitAndNothingElseDoes) {
  const TempFolder place;
  const fs::path out = place / "out/";
  {
    WholeFolder folder(out, false);
    fill(folder, "one");
    EXPECT_FALSE(fs::exists(out));
    folder.commit();
  }
  EXPECT_EQ(read_file(place / "out/store/block-0000.h5"), "one");
  EXPECT_EQ(entries(place / "out"), 3U);
  EXPECT_EQ(entries(place.path()), 1U);
}

TEST(WholeFolder, LeavesNothingWithoutACommit) {
  const TempFolder place;
  {
    const WholeFolder folder(place / "out", false);
    fill(folder, "one");
  }
  EXPECT_EQ(entries(place.path()), 0U);
}

TEST(WholeFolder, TakesAnEmptyFolderAndNoOther) {
  const TempFolder place;
  fs::create_directory(place / "out");
  make(place / "out", "one");
  expect_error(ErrorKind::cannot_create, "exists; choose another -o", [&] { make(place / "out", "two"); });
  place.put("file", "mine");
  expect_error(ErrorKind::cannot_create, "exists; choose another -o", [&] { make(place / "file", "two"); });
  expect_error(ErrorKind::cannot_create, "is no folder", [&] { make(place / "file", "two", true); });
  EXPECT_EQ(read_file(place / "out/store/block-0000.h5"), "one");
  EXPECT_EQ(entries(place.path()), 2U);
}

TEST(WholeFolder, ReplacesARunWhenTheNewOneIsComplete) {
  const TempFolder place;
  make(place / "out", "one");
  {
    const WholeFolder unfinished(place / "out", true);
    fill(unfinished, "two");
  }
  EXPECT_EQ(read_file(place / "out/store/block-0000.h5"), "one");
  make(place / "out", "two", true);
  EXPECT_EQ(read_file(place / "out/store/block-0000.h5"), "two");
  EXPECT_EQ(entries(place.path()), 1U);
}

TEST(WholeFolder, NeverRemovesWhatNoRunMade) {
  const TempFolder place;
  make(place / "out", "one");
  {
    WholeFolder folder(place / "out", true);
    fill(folder, "two");
    place.put("out/letter.txt", "mine");  // meanwhile
    expect_error(ErrorKind::cannot_create, "letter.txt", [&] { folder.commit(); });
  }
  EXPECT_EQ(read_file(place / "out/store/block-0000.h5"), "one");
  EXPECT_EQ(entries(place.path()), 1U);
  fs::create_directory(place / "new.tmp");
  place.put("new.tmp/letter.txt", "mine");
  expect_error(ErrorKind::cannot_create, "holds other files", [&] { make(place / "new", "two"); });
  EXPECT_EQ(read_file(place / "new.tmp/letter.txt"), "mine");
}

TEST(WholeFolder, RefusesWhileAnotherProcessFillsIt) {
  const TempFolder place;
  const WholeFolder first(place / "out", false);
  expect_error(ErrorKind::cannot_create, "another run is at work there", [&] { make(place / "out", "two"); });
  EXPECT_TRUE(fs::exists(first.path() / "store"));
}

}  // namespace
}  // namespace adze
