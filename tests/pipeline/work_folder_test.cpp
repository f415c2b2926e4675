// Who may use an output folder, and what restarting and finishing remove.
#include "pipeline/work_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <optional>

#include <gtest/gtest.h>

#include "base/file.h"
#include "checkpoint/checkpoint_testing.h"

namespace adze {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempFolder;

/// An output folder with files of a run in it.
struct Place {
  TempFolder folder;
  fs::path out = folder / "out";

  void begin() const {
    const WorkFolder work(out, IfExists::resume);
    write_file(work.ledger(), "ledger");
    write_file(work.store() / "block-0000.h5", "block");
    write_file(out / "model.gguf", "export");
  }
  void finish() const {
    begin();
    write_file(out / kManifestName, "{}");
    WorkFolder(out, IfExists::overwrite).finish();
    write_file(out / kManifestName, "{}");
  }
};

void expect_refused(const fs::path& out, IfExists if_exists, std::string_view words) {
  expect_error(ErrorKind::cannot_create, words, [&] { WorkFolder(out, if_exists); });
}

TEST(WorkFolder, IsMadeWithItsParents) {
  const TempFolder folder;
  const WorkFolder work(folder / "a/b/out", IfExists::resume);
  EXPECT_TRUE(fs::is_directory(folder / "a/b/out/store"));
  EXPECT_TRUE(fs::is_directory(folder / "a/b/out/work"));
  EXPECT_EQ(work.ledger(), folder / "a/b/out/work/ledger");
}

TEST(WorkFolder, ResumingKeepsEverything) {
  const Place place;
  place.begin();
  const WorkFolder work(place.out, IfExists::resume);
  EXPECT_EQ(read_file(work.ledger()), "ledger");
  EXPECT_EQ(read_file(work.store() / "block-0000.h5"), "block");
}

TEST(WorkFolder, RestartingAndOverwritingRemoveEverythingOfAnUnfinishedRun) {
  for (const IfExists if_exists : {IfExists::restart, IfExists::overwrite}) {
    const Place place;
    place.begin();
    const WorkFolder work(place.out, if_exists);
    EXPECT_FALSE(fs::exists(work.ledger()));
    EXPECT_FALSE(fs::exists(place.out / "model.gguf"));
    EXPECT_TRUE(fs::is_empty(work.store()));
  }
}

TEST(WorkFolder, AFinishedRunIsOverwrittenOnlyWhenAsked) {
  const Place place;
  place.finish();
  expect_refused(place.out, IfExists::resume,
                 "/out: a finished run; choose another -o, or replace it with --overwrite");
  expect_refused(place.out, IfExists::restart, "a finished run");
  EXPECT_TRUE(fs::exists(place.out / kManifestName));
  const WorkFolder work(place.out, IfExists::overwrite);
  EXPECT_FALSE(fs::exists(place.out / kManifestName));
}

TEST(WorkFolder, ForeignFilesAreNeverTouched) {
  const Place place;
  fs::create_directory(place.out);
  write_file(place.out / "letter", "mine");
  for (const IfExists if_exists : {IfExists::resume, IfExists::restart, IfExists::overwrite})
    expect_refused(place.out, if_exists, "exists and holds other files");
  write_file(place.folder / "file", "mine");
  expect_refused(place.folder / "file", IfExists::overwrite, "exists and is no folder");
  EXPECT_EQ(read_file(place.out / "letter"), "mine");
}

TEST(WorkFolder, AFolderNamedWorkWithOtherThingsInItIsForeignToo) {
  const Place place;
  fs::create_directories(place.out / "work/letters");
  expect_refused(place.out, IfExists::overwrite, "exists and holds other files");
  fs::remove(place.out / "work/letters");
  const WorkFolder work(place.out, IfExists::resume);  // empty: a process was killed before it had its lock
  EXPECT_TRUE(fs::is_directory(work.store()));
}

TEST(WorkFolder, OnlyOneMayWorkInIt) {
  const Place place;
  std::optional<WorkFolder> first;
  first.emplace(place.out, IfExists::resume);
  for (const IfExists if_exists : {IfExists::resume, IfExists::restart, IfExists::overwrite})
    expect_refused(place.out, if_exists, "/out: another run is at work there");
  first.reset();
  const WorkFolder second(place.out, IfExists::resume);
}

TEST(WorkFolder, AFailedAttemptLeavesNoLock) {
  const Place place;
  place.finish();
  fs::create_directory(place.out / "work");
  expect_refused(place.out, IfExists::resume, "a finished run");
  const WorkFolder work(place.out, IfExists::overwrite);
}

TEST(WorkFolder, FinishingRemovesTheWorkAndKeepsTheResult) {
  const Place place;
  place.begin();
  WorkFolder(place.out, IfExists::resume).finish();
  EXPECT_FALSE(fs::exists(place.out / "work"));
  EXPECT_EQ(read_file(place.out / "model.gguf"), "export");
}

TEST(WorkFolder, LeftoversOfAFinishedRunGoAwayUnlessSomebodyHoldsThem) {
  const Place place;
  place.begin();
  write_file(place.out / kManifestName, "{}");
  {
    const int holder = ::open((place.out / "work/lock").c_str(), O_RDWR);
    ASSERT_EQ(::flock(holder, LOCK_EX), 0);
    expect_refused(place.out, IfExists::resume, "a finished run");
    EXPECT_TRUE(fs::exists(place.out / "work/ledger"));
    ::close(holder);
  }
  expect_refused(place.out, IfExists::resume, "a finished run");
  EXPECT_FALSE(fs::exists(place.out / "work"));
}

}  // namespace
}  // namespace adze
