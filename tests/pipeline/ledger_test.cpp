// The ledger: what was committed is there again, a torn end is cut off, damage and other runs are refused.
#include "pipeline/ledger.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "checkpoint/checkpoint_testing.h"

namespace adze {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempFolder;

const RunIngredients kIngredients{{"recipe", "r1"}, {"model", "m1"}, {"kernels", "k1"}};

CommittedStep step_of(std::uint32_t number) {
  CommittedStep step;
  step.step = number;
  step.stored = {{fmt::format("store/block-{}.h5", number), 100 + number, "abc"}, {"other", 1, "d"}};
  step.states = LedgerFile{fmt::format("work/states-{}.f32", number), 7, "e"};
  step.tensors = {{"layers.0.x", "int4 g32 sym", 42, {1.5, 0.25, 0.01, 3, "damped more"}, 0.125}, {}};
  return step;
}

/// A ledger of three steps, and the file's size after the beginning and after each of them.
struct Written {
  TempFolder folder;
  fs::path path = folder / "ledger";
  std::vector<std::uint64_t> ends;

  Written() {
    Ledger ledger(path, kIngredients);
    ends.push_back(fs::file_size(path));
    for (std::uint32_t number = 0; number < 3; ++number) {
      ledger.commit(step_of(number));
      ends.push_back(fs::file_size(path));
    }
  }
  /// A copy with these bytes.
  fs::path copy(std::string_view bytes) const { return folder.put("copy", bytes); }
};

TEST(Ledger, RemembersWhatWasCommitted) {
  const Written written;
  const Ledger ledger(written.path, kIngredients);
  ASSERT_EQ(ledger.steps().size(), 3u);
  const CommittedStep expected = step_of(1);
  const CommittedStep& step = ledger.steps().at(1);
  EXPECT_EQ(step.step, 1u);
  EXPECT_EQ(step.stored, expected.stored);
  EXPECT_EQ(step.states, expected.states);
  ASSERT_EQ(step.tensors.size(), 2u);
  const TensorRecord& record = step.tensors[0];
  EXPECT_EQ(record.module, "layers.0.x");
  EXPECT_EQ(record.format, "int4 g32 sym");
  EXPECT_EQ(record.bytes, 42u);
  EXPECT_EQ(record.seconds, 0.125);
  EXPECT_EQ(record.report.loss, 1.5);
  EXPECT_EQ(record.report.relative_loss, 0.25);
  EXPECT_EQ(record.report.damping, 0.01);
  EXPECT_EQ(record.report.dead_inputs, 3u);
  EXPECT_EQ(record.report.fallback, "damped more");
}

TEST(Ledger, AStepThatIsDoneAgainTakesTheLaterOnesBackForLaterProcessesToo) {
  const Written written;
  {
    Ledger ledger(written.path, kIngredients);
    ledger.commit(step_of(1));
    EXPECT_EQ(ledger.steps().size(), 2u);
  }
  const Ledger again(written.path, kIngredients);
  EXPECT_EQ(again.steps().size(), 2u);
  EXPECT_TRUE(again.steps().contains(1));
  EXPECT_FALSE(again.steps().contains(2));
}

TEST(Ledger, OpeningItChangesNothing) {
  const Written written;
  const std::string before = read_file(written.path);
  { const Ledger ledger(written.path, kIngredients); }
  EXPECT_EQ(read_file(written.path), before);
}

TEST(Ledger, AStepWithoutStatesHasNone) {
  const TempFolder folder;
  CommittedStep step;
  step.step = 9;
  Ledger(folder / "ledger", kIngredients).commit(step);
  EXPECT_FALSE(Ledger(folder / "ledger", kIngredients).steps().at(9).states.has_value());
}

TEST(Ledger, TheLastRecordOfAStepCounts) {
  const Written written;
  CommittedStep again = step_of(1);
  again.stored[0].hash = "changed";
  Ledger(written.path, kIngredients).commit(again);
  const Ledger ledger(written.path, kIngredients);
  EXPECT_EQ(ledger.steps().size(), 2u);  // step 2 was made from the step 1 that is no more
  EXPECT_EQ(ledger.steps().at(1).stored[0].hash, "changed");
}

TEST(Ledger, ATornLastRecordIsCutOffAtEveryLength) {
  const Written written;
  const std::string bytes = read_file(written.path);
  for (std::uint64_t length = written.ends[2]; length < written.ends[3]; ++length) {
    const fs::path path = written.copy(bytes.substr(0, length));
    const Ledger ledger(path, kIngredients);
    ASSERT_EQ(ledger.steps().size(), 2u) << length;
    ASSERT_EQ(fs::file_size(path), written.ends[2]) << length;
  }
}

TEST(Ledger, ATornFirstRecordIsWrittenAnew) {
  const Written written;
  const std::string bytes = read_file(written.path);
  for (std::uint64_t length = 0; length < written.ends[0]; length += 7) {
    const fs::path path = written.copy(bytes.substr(0, length));
    EXPECT_TRUE(Ledger(path, kIngredients).steps().empty());
    expect_error(ErrorKind::cannot_create, "another recipe", [&] { Ledger(path, {{"recipe", "r2"}}); });
  }
}

TEST(Ledger, GoesOnAfterACutRecord) {
  const Written written;
  const std::string whole = read_file(written.path);
  fs::resize_file(written.path, written.ends[3] - 1);
  Ledger(written.path, kIngredients).commit(step_of(2));
  EXPECT_EQ(read_file(written.path), whole);
}

TEST(Ledger, ALastRecordWhoseContentNeverArrivedIsCutOff) {
  const Written written;
  std::string bytes = read_file(written.path);
  for (std::uint64_t at = written.ends[2] + 16; at < written.ends[3]; ++at) bytes[at] = '\0';
  EXPECT_EQ(Ledger(written.copy(bytes), kIngredients).steps().size(), 2u);
}

TEST(Ledger, ZerosAtTheEndAreCutOff) {
  const Written written;
  for (const std::size_t zeros : {1u, 16u, 40u, 4096u}) {
    const fs::path path = written.copy(read_file(written.path) + std::string(zeros, '\0'));
    EXPECT_EQ(Ledger(path, kIngredients).steps().size(), 3u);
    EXPECT_EQ(fs::file_size(path), written.ends[3]);
  }
}

TEST(Ledger, DamageBeforeTheLastRecordIsAnErrorWhereverItIs) {
  const Written written;
  const std::string bytes = read_file(written.path);
  for (std::uint64_t at = 0; at < written.ends[2]; ++at) {
    SCOPED_TRACE(at);
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    std::uint64_t start = 0;
    for (const std::uint64_t end : written.ends)
      if (end <= at) start = end;
    const fs::path path = written.copy(damaged);
    expect_error(ErrorKind::bad_data, fmt::format("copy: damaged record at byte {};", start),
                 [&] { Ledger(path, kIngredients); });
    ASSERT_EQ(read_file(path), damaged) << "a refused ledger must stay as it is";
  }
}

TEST(Ledger, OtherIngredientsAreRefusedByName) {
  const Written written;
  expect_error(ErrorKind::cannot_create, "an unfinished run with another recipe;", [&] {
    Ledger(written.path, {{"recipe", "r2"}, {"model", "m1"}, {"kernels", "k1"}});
  });
  expect_error(ErrorKind::cannot_create, "an unfinished run with another kernels, model and recipe;", [&] {
    Ledger(written.path, {{"recipe", "r2"}, {"model", "m2"}, {"kernels", "k2"}});
  });
  expect_error(ErrorKind::cannot_create, "another budget;", [&] { Ledger(written.path, {{"budget", "b"}}); });
}

TEST(Ledger, IgnoredIngredientsMayDiffer) {
  const Written written;
  const RunIngredients other{{"recipe", "r1"}, {"model", "m1"}, {"kernels", "k2"}};
  expect_error(ErrorKind::cannot_create, "another kernels;", [&] { Ledger(written.path, other); });
  EXPECT_EQ(Ledger(written.path, other, {"kernels"}).steps().size(), 3u);
}

TEST(Ledger, CannotBeMadeWithoutItsFolder) {
  const TempFolder folder;
  expect_error(ErrorKind::cannot_create, "no/ledger: cannot open", [&] { Ledger(folder / "no/ledger", kIngredients); });
}

TEST(LedgerFile, IsIntactOnlyWithTheSameBytes) {
  const TempFolder folder;
  folder.put("file", "content");
  const LedgerFile file = describe_file(folder.path(), "file");
  EXPECT_EQ(file.bytes, 7u);
  EXPECT_TRUE(is_intact(folder.path(), file));
  folder.put("file", "contenT");
  EXPECT_FALSE(is_intact(folder.path(), file));
  folder.put("file", "content and more");
  EXPECT_FALSE(is_intact(folder.path(), file));
  fs::remove(folder / "file");
  EXPECT_FALSE(is_intact(folder.path(), file));
}

}  // namespace
}  // namespace adze
