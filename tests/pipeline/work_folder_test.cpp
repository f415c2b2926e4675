// Who may use an output folder, and what restarting and finishing remove.
#include "pipeline/work_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <optional>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "base/file.h"
#include "checkpoint/checkpoint_testing.h"

namespace adze {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempFolder;

constexpr const char* kManifest =
    R"({"adze":1,"version":"0","files":[{"path":"model.gguf"},{"path":"more/b.gguf"},{"path":"../beside"},{}]})";

/// An output folder with files of a run in it.
struct Place {
  static constexpr const char* recipe =
      "adze: 1\ncalibration: { set: a.txt }\nschemes: { s: { grid: int4 } }\n"
      "rules: [ { modules: \"**\", scheme: s } ]\n"
      "export: [ { format: gguf, file: model.gguf }, { format: gguf, file: more/b.gguf } ]\n";
  TempFolder folder;
  fs::path out = folder / "out";

  void begin() const {
    const WorkFolder work(out, IfExists::resume);
    write_file(work.ledger(), "ledger");
    write_file(work.store() / "block-0000.h5", "block");
    write_file(work.work() / "states-0001.f32", "states");
    write_file(out / "recipe.yaml", recipe);
    make_folder(out / "more");
    for (const char* const name : {"model.gguf", "more/b.gguf"}) write_file(out / name, "export");
  }
  void finish() const {
    begin();
    write_file(out / kManifestName, kManifest);
    for (const char* const name : kReportNames) write_file(out / name, "{}");
    expect_refused_as_finished();
  }
  void expect_refused_as_finished() const {
    expect_error(ErrorKind::cannot_create, "a finished run", [&] { WorkFolder(out, IfExists::resume); });
    EXPECT_FALSE(fs::exists(out / "work"));
  }
  std::set<std::string> names() const {
    std::set<std::string> all;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder.path()))
      all.insert(entry.path().lexically_relative(folder.path()).string());
    return all;
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

/// What is left once a run was cleared and another begun.
const std::set<std::string> kFresh{"out", "out/store", "out/work", "out/work/lock"};

TEST(WorkFolder, RestartingAndOverwritingRemoveEverythingOfAnUnfinishedRun) {
  for (const IfExists if_exists : {IfExists::restart, IfExists::overwrite}) {
    const Place place;
    place.begin();
    for (const char* const name : {"model.gguf.tmp", "model.gguf.unverified.tmp", "recipe.yaml.tmp", "report.json.tmp",
                                   "store/block-0000.h5.tmp", "store/model.h5.xxh3", "work/states-0002.f32.tmp"})
      write_file(place.out / name, "half");
    const WorkFolder work(place.out, if_exists);
    EXPECT_EQ(place.names(), kFresh);
  }
}

/// Exports that are folders, one whole and one that was being made when the process was killed.
TEST(WorkFolder, RestartingAndOverwritingRemoveFoldersOfExports) {
  for (const IfExists if_exists : {IfExists::restart, IfExists::overwrite}) {
    const Place place;
    place.begin();
    std::string recipe = Place::recipe;
    recipe.insert(recipe.find("{ format: gguf, file: more"), "{ format: gptq, file: ct }, ");
    write_file(place.out / "recipe.yaml", recipe);
    for (const char* const folder : {"ct", "ct.tmp"}) {
      make_folder(place.out / folder);
      for (const char* const name : {"config.json", "model-00001-of-00002.safetensors", "README.md.tmp"})
        write_file(place.out / folder / name, "x");
    }
    write_file(place.out / "ct/notes.txt", "mine");
    expect_refused(place.out, if_exists, "holds 'ct/notes.txt', which no run made");
    fs::remove(place.out / "ct/notes.txt");
    const WorkFolder work(place.out, if_exists);
    EXPECT_EQ(place.names(), kFresh);
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
  EXPECT_EQ(place.names(), kFresh);
}

/// Every name at which somebody may have put something of his own.
TEST(WorkFolder, OneForeignFileAndNothingIsRemoved) {
  for (const char* const name : {"letter", "model.gguf.bak", "store/letter", "more/letter", "letters/one", "aaa"}) {
    SCOPED_TRACE(name);
    for (const bool finished : {false, true}) {
      const Place place;
      finished ? place.finish() : place.begin();
      make_folder((place.out / name).parent_path());
      write_file(place.out / name, "mine");
      const auto before = place.names();
      const std::string words = fmt::format("/out: holds '{}', which no run made",
                                            fs::path(name).parent_path() == "letters" ? "letters" : name);
      expect_refused(place.out, IfExists::overwrite, words);
      if (!finished) expect_refused(place.out, IfExists::restart, words);
      EXPECT_EQ(place.names(), before);
    }
  }
}

TEST(WorkFolder, AManifestCannotNameFilesOutsideTheFolder) {
  const Place place;
  place.finish();
  write_file(place.folder / "beside", "mine");
  const WorkFolder work(place.out, IfExists::overwrite);
  EXPECT_EQ(read_file(place.folder / "beside"), "mine");
}

TEST(WorkFolder, ALinkIsRemovedAndNotWhatItPointsTo) {
  const Place place;
  place.finish();
  fs::create_directory(place.folder / "elsewhere");
  write_file(place.folder / "elsewhere/letter", "mine");
  fs::remove(place.out / "model.gguf");
  fs::create_directory_symlink(place.folder / "elsewhere", place.out / "model.gguf");
  const WorkFolder work(place.out, IfExists::overwrite);
  EXPECT_FALSE(fs::is_symlink(place.out / "model.gguf"));
  EXPECT_EQ(read_file(place.folder / "elsewhere/letter"), "mine");
}

TEST(WorkFolder, AManifestOfAnotherProgramIsForeign) {
  for (const char* const text :
       {"{}", "{\"version\":1}", "{\"adze\":1}", "[\"adze\",\"version\"]", "adze version", ""}) {
    SCOPED_TRACE(text);
    const Place place;
    fs::create_directory(place.out);
    write_file(place.out / kManifestName, text);
    write_file(place.out / "app.js", "mine");
    for (const IfExists if_exists : {IfExists::resume, IfExists::restart, IfExists::overwrite})
      expect_refused(place.out, if_exists, "exists and holds other files");
    EXPECT_EQ(read_file(place.out / "app.js"), "mine");
    const Place begun;  // in the folder of a run it is no sign that the run is finished, and not replaced either
    begun.begin();
    write_file(begun.out / kManifestName, text);
    for (const IfExists if_exists : {IfExists::resume, IfExists::restart, IfExists::overwrite})
      expect_refused(begun.out, if_exists, "holds 'manifest.json', which no run made");
    EXPECT_EQ(read_file(begun.out / kManifestName), text);
  }
}

TEST(WorkFolder, AWorkFolderOfAnotherProgramIsForeign) {
  const Place place;
  fs::create_directories(place.out / "work");
  write_file(place.out / "work/lock", "");
  write_file(place.out / "work/letter", "mine");
  for (const IfExists if_exists : {IfExists::resume, IfExists::restart, IfExists::overwrite})
    expect_refused(place.out, if_exists, "exists and holds other files");
  write_file(place.out / kManifestName, kManifest);
  expect_refused(place.out, IfExists::resume, "a finished run");
  expect_refused(place.out, IfExists::overwrite, "holds 'work', which no run made");
  EXPECT_EQ(read_file(place.out / "work/letter"), "mine");
}

TEST(WorkFolder, CheckingRefusesTheSameAndChangesNothing) {
  const Place place;
  WorkFolder::check(place.out, IfExists::resume);
  EXPECT_FALSE(fs::exists(place.out));
  place.begin();
  for (const IfExists if_exists : {IfExists::resume, IfExists::restart, IfExists::overwrite})
    WorkFolder::check(place.out, if_exists);
  write_file(place.out / kManifestName, kManifest);
  const auto before = place.names();
  expect_error(ErrorKind::cannot_create, "a finished run", [&] { WorkFolder::check(place.out, IfExists::resume); });
  WorkFolder::check(place.out, IfExists::overwrite);
  EXPECT_EQ(place.names(), before);
  const WorkFolder busy(place.out, IfExists::overwrite);
  expect_error(ErrorKind::cannot_create, "another run is at work",
               [&] { WorkFolder::check(place.out, IfExists::resume); });
}

/// Killed at any point of finish(): before the lock is gone, after it.
TEST(WorkFolder, AnInterruptedFinishLeavesNothingForGood) {
  for (const char* const left : {"states", "lock", "nothing"}) {
    SCOPED_TRACE(left);
    const Place place;
    place.finish();
    fs::create_directory(place.out / "work");
    if (std::string(left) != "nothing") write_file(place.out / "work/lock", "");
    if (std::string(left) == "states") write_file(place.out / "work/states-0006.f32", "x");
    place.expect_refused_as_finished();
  }
}

/// Killed at any point of clear(): what is left is still recognised and cleared.
TEST(WorkFolder, AnInterruptedClearCanBeRepeated) {
  const std::vector<std::string> order{
      "manifest.json", "store/block-0000.h5", "store", "report.json", "report.html",
      "report.md",     "more/b.gguf",         "more",  "model.gguf",  "work/states-0001.f32",
      "work/ledger",   "recipe.yaml"};
  for (std::size_t removed = 0; removed <= order.size(); ++removed) {
    SCOPED_TRACE(removed);
    const Place place;
    place.begin();
    write_file(place.out / kManifestName, kManifest);
    for (const char* const name : kReportNames) write_file(place.out / name, "{}");
    for (std::size_t i = 0; i < removed; ++i) ASSERT_TRUE(fs::remove(place.out / order[i]));
    const WorkFolder work(place.out, IfExists::overwrite);
    EXPECT_EQ(place.names(), kFresh);
  }
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
  write_file(place.out / kManifestName, kManifest);
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
