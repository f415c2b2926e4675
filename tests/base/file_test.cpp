// Files: bounds of reads, and outputs that appear whole or not at all.
#include "base/file.h"

#include <array>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint_testing.h"

namespace adze {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempFolder;

std::string read_range(const InputFile& file, std::uint64_t offset, std::size_t count) {
  std::string bytes(count, '\0');
  file.read(offset, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

std::size_t entry_count(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(InputFile, ReadsAnyRangeInsideTheFile) {
  const TempFolder folder;
  const InputFile file(folder.put("a", "0123456789"));
  EXPECT_EQ(file.size(), 10u);
  EXPECT_EQ(read_range(file, 0, 10), "0123456789");
  EXPECT_EQ(read_range(file, 9, 1), "9");
  EXPECT_EQ(read_range(file, 10, 0), "");
}

TEST(InputFile, RefusesEveryRangeThatLeavesTheFile) {
  const TempFolder folder;
  const InputFile file(folder.put("a", "0123456789"));
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  for (const auto& [offset, count] :
       {std::pair<std::uint64_t, std::size_t>{10, 1}, {9, 2}, {11, 0}, {kMost, 1}, {0, 11}})
    expect_error(ErrorKind::bad_data, "outside the file of 10 bytes", [&] { read_range(file, offset, count); });
}

TEST(InputFile, SaysWhenTheFileShrankWhileInUse) {
  const TempFolder folder;
  const InputFile file(folder.put("a", "0123456789"));
  fs::resize_file(folder / "a", 4);
  expect_error(ErrorKind::io, "ends at byte 4: it shrank while in use", [&] { read_range(file, 0, 10); });
}

TEST(InputFile, OpensRegularFilesOnly) {
  const TempFolder folder;
  expect_error(ErrorKind::missing_input, "cannot open", [&] { InputFile(folder / "nothing"); });
  expect_error(ErrorKind::missing_input, "not a regular file", [&] { InputFile(folder.path()); });
  expect_error(ErrorKind::missing_input, "not a regular file", [] { InputFile("/dev/null"); });
}

TEST(InputFile, CanBeMoved) {
  const TempFolder folder;
  InputFile first(folder.put("a", "one"));
  InputFile second(std::move(first));
  EXPECT_EQ(read_range(second, 0, 3), "one");
  second = InputFile(folder.put("b", "four"));
  EXPECT_EQ(read_range(second, 0, 4), "four");
  EXPECT_EQ(second.path(), folder / "b");
}

TEST(ReadFile, HasALimit) {
  const TempFolder folder;
  folder.put("a", "12345");
  EXPECT_EQ(read_file(folder / "a", 5), "12345");
  expect_error(ErrorKind::bad_data, "5 bytes, more than the limit of 4", [&] { read_file(folder / "a", 4); });
  EXPECT_EQ(read_file(folder.put("empty", "")), "");
}

TEST(OutputFile, AppearsAtCommitOnly) {
  const TempFolder folder;
  OutputFile file(folder / "out");
  file.write("head");
  file.write("tail");
  EXPECT_FALSE(fs::exists(folder / "out"));
  EXPECT_EQ(file.bytes_written(), 8u);
  file.commit();
  EXPECT_EQ(read_file(folder / "out"), "headtail");
  EXPECT_EQ(entry_count(folder.path()), 1u);
}

TEST(OutputFile, MayBeSyncedLater) {
  const TempFolder folder;
  OutputFile file(folder / "a");
  const std::string piece(std::size_t{5} << 20, 'x');  // the disk begins to write at the second
  for (int i = 0; i < 3; ++i) file.write(piece);
  file.commit(Durable::later);
  EXPECT_EQ(read_file(folder / "a"), piece + piece + piece);
  sync_file(folder / "a");
  write_file(folder / "b", "text", Durable::later);
  EXPECT_EQ(read_file(folder / "b"), "text");
  EXPECT_THROW(sync_file(folder / "none"), Error);
}

TEST(OutputFile, LeavesNothingWithoutCommit) {
  const TempFolder folder;
  { OutputFile(folder / "out").write("half"); }
  EXPECT_EQ(entry_count(folder.path()), 0u);
}

TEST(OutputFile, KeepsTheOldFileUntilCommit) {
  const TempFolder folder;
  folder.put("out", "old");
  {
    OutputFile file(folder / "out");
    file.write("new");
    EXPECT_EQ(read_file(folder / "out"), "old");
  }
  EXPECT_EQ(read_file(folder / "out"), "old");
  OutputFile file(folder / "out");
  file.write("newer");
  file.commit();
  EXPECT_EQ(read_file(folder / "out"), "newer");
}

TEST(OutputFile, OverwritesOnlyWhatWasWritten) {
  const TempFolder folder;
  OutputFile file(folder / "out");
  file.write("abcdef");
  file.write_at(2, as_bytes("XY"));
  expect_error(ErrorKind::internal, "outside the 6 bytes written", [&] { file.write_at(5, as_bytes("12")); });
  std::string back(3, ' ');
  file.read_back(1, std::as_writable_bytes(std::span(back)));
  EXPECT_EQ(back, "bXY");
  expect_error(ErrorKind::internal, "read_back(4, 3) outside the 6 bytes written",
               [&] { file.read_back(4, std::as_writable_bytes(std::span(back))); });
  file.write("g");
  file.commit();
  EXPECT_EQ(read_file(folder / "out"), "abXYefg");
}

TEST(OutputFile, SaysWhatItCannotCreate) {
  const TempFolder folder;
  expect_error(ErrorKind::cannot_create, "no/out: cannot create: No such file or directory",
               [&] { OutputFile(folder / "no/out"); });
  expect_error(ErrorKind::cannot_create, "cannot create", [] { OutputFile("/proc/out"); });
}

TEST(OutputFile, CannotTakeTheNameOfAFolder) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  expect_error(ErrorKind::cannot_create, "cannot rename", [&] { write_file(folder / "out", "x"); });
  EXPECT_EQ(entry_count(folder.path()), 1u);
}

TEST(PublishFile, GivesAFileItsName) {
  const TempFolder folder;
  folder.put("draft", "text");
  publish_file(folder / "draft", folder / "final");
  EXPECT_FALSE(fs::exists(folder / "draft"));
  EXPECT_EQ(read_file(folder / "final"), "text");
  expect_error(ErrorKind::io, "draft: cannot open", [&] { publish_file(folder / "draft", folder / "final"); });
}

TEST(MakeFolder, MakesParentsAndRefusesAFileInTheWay) {
  const TempFolder folder;
  make_folder(folder / "a/b/c");
  make_folder(folder / "a/b/c");
  EXPECT_TRUE(fs::is_directory(folder / "a/b/c"));
  folder.put("file", "");
  expect_error(ErrorKind::cannot_create, "cannot create folder", [&] { make_folder(folder / "file/x"); });
}

TEST(SyncFolder, TakesARelativeNameWithoutParent) {
  sync_folder("");
  expect_error(ErrorKind::io, "cannot open folder", [] { sync_folder("/nonexistent/folder"); });
}

}  // namespace
}  // namespace adze
