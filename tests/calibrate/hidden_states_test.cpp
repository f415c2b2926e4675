#include "calibrate/hidden_states.h"

#include "calibrate/calibrate_testing.h"

namespace adze {
namespace {

using testing::expect_error;
using testing::random_matrix;
using testing::TempFolder;
using testing::ThreadCount;
namespace fs = std::filesystem;

constexpr StatesLayout kFiveWindows{5, 300, 3, 2, true};  // 300 tokens: a slice is one window; batches of 2, 2, 1

/// Stores `values` batch by batch.
void fill(HiddenStates& states, const MatrixF& values) {
  for (std::size_t b = 0; b < states.batches(); ++b) {
    const ViewF x = states.load(b);
    std::copy_n(values.row(states.first_window(b) * states.tokens()).data(), x.shape().count(), x.data());
    states.store(b);
  }
}

void add_one(HiddenStates& states) {
  for (std::size_t b = 0; b < states.batches(); ++b) {
    const ViewF x = states.load(b);
    for (std::size_t i = 0; i < x.shape().count(); ++i) x.data()[i] += 1;
    states.store(b);
  }
}

MatrixF plus(MatrixF values, float add) {
  for (float& value : values.values()) value += add;
  return values;
}

TEST(HiddenStates, AreCutIntoBatchesOfWholeSlices) {
  EXPECT_EQ(slice_windows(1), 512u);
  EXPECT_EQ(slice_windows(200), 2u);
  EXPECT_EQ(slice_windows(512), 1u);
  EXPECT_EQ(slice_windows(513), 1u);
  const HiddenStates states({9, 200, 4, 3, false});  // 3 is rounded up to two slices of 2
  EXPECT_EQ(states.batches(), 3u);
  EXPECT_EQ(states.first_window(1), 4u);
  EXPECT_EQ(states.windows_of(1), 4u);
  EXPECT_EQ(states.windows_of(2), 1u);
  const ThreadCount threads(3);
  EXPECT_EQ(batch_windows(4096), 3u);
  EXPECT_EQ(batch_windows(100), 40u);
  EXPECT_EQ(batch_windows(96), 45u);  // slices of 5; 42 fit into 4096 tokens
}

TEST(HiddenStates, OnDiskAreReadBackAsStored) {
  const TempFolder folder;
  const MatrixF values = random_matrix(kFiveWindows.shape(), "states");
  HiddenStates states(kFiveWindows);
  states.begin(folder / "first");
  fill(states, values);
  EXPECT_TRUE(states.values() == values);
  add_one(states);  // in place: not saved yet
  EXPECT_TRUE(states.values() == plus(values, 1));
  EXPECT_FALSE(fs::exists(folder / "first"));
  states.save();
  EXPECT_EQ(fs::file_size(folder / "first"), values.shape().count() * sizeof(float));
}

TEST(HiddenStates, SavedFilesAreLeftAloneByWhatFollows) {
  const TempFolder folder;
  const MatrixF values = random_matrix(kFiveWindows.shape(), "states");
  HiddenStates states(kFiveWindows);
  states.begin(folder / "first");
  fill(states, values);
  states.save();
  states.begin(folder / "second");
  add_one(states);
  add_one(states);
  states.save();
  EXPECT_TRUE(states.values() == plus(plus(values, 1), 1));
  for (const bool on_disk : {false, true}) {
    StatesLayout layout = kFiveWindows;
    layout.on_disk = on_disk;
    HiddenStates first(layout);
    first.open(folder / "first");
    EXPECT_TRUE(first.values() == values) << on_disk;
  }
}

TEST(HiddenStates, InMemoryAndOnDiskSaveTheSameFile) {
  const TempFolder folder;
  const MatrixF values = random_matrix(kFiveWindows.shape(), "states");
  for (const bool on_disk : {false, true}) {
    StatesLayout layout = kFiveWindows;
    layout.on_disk = on_disk;
    HiddenStates states(layout);
    states.begin(folder / (on_disk ? "disk" : "memory"));
    fill(states, values);
    states.save();
  }
  EXPECT_EQ(read_file(folder / "disk"), read_file(folder / "memory"));
}

TEST(HiddenStates, ADetachedStreamMovesOnAlone) {
  const TempFolder folder;
  const MatrixF values = random_matrix(kFiveWindows.shape(), "states");
  for (const bool on_disk : {false, true}) {
    StatesLayout layout = kFiveWindows;
    layout.on_disk = on_disk;
    HiddenStates states(layout);
    states.begin(folder / "states");
    fill(states, values);
    if (on_disk) expect_error(ErrorKind::internal, "detached from before it was saved", [&] { states.detached("x"); });
    states.save();
    {
      HiddenStates other = states.detached(folder / "other");
      add_one(other);
      EXPECT_TRUE(other.values() == plus(values, 1)) << on_disk;
      EXPECT_EQ(fs::exists(folder / "other.tmp"), on_disk);
    }
    EXPECT_FALSE(fs::exists(folder / "other.tmp"));
    EXPECT_TRUE(states.values() == values) << on_disk;
  }
}

TEST(HiddenStates, UnsavedFilesGoWithTheirOwner) {
  const TempFolder folder;
  {
    HiddenStates states(kFiveWindows);
    states.begin(folder / "states");
    fill(states, MatrixF(kFiveWindows.shape()));
    EXPECT_TRUE(fs::exists(folder / "states.tmp"));
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(HiddenStates, RefuseAFileOfAnotherSize) {
  const TempFolder folder;
  write_file(folder / "short", "abcd");
  for (const bool on_disk : {false, true}) {
    StatesLayout layout = kFiveWindows;
    layout.on_disk = on_disk;
    HiddenStates states(layout);
    expect_error(ErrorKind::bad_data, "short: 4 bytes, hidden states of this run have 18000",
                 [&] { states.open(folder / "short"); });
  }
}

TEST(HiddenStates, WrongUseIsABug) {
  const TempFolder folder;
  expect_error(ErrorKind::internal, "20 hidden states are not windows of 8", [] { HiddenStates(MatrixF(20, 3), 8); });
  expect_error(ErrorKind::internal, "20 hidden states are not windows of 0", [] { HiddenStates(MatrixF(20, 3), 0); });
  expect_error(ErrorKind::internal, "windows without tokens", [] { HiddenStates({1, 0, 3, 1, false}); });
  HiddenStates states(kFiveWindows);
  expect_error(ErrorKind::internal, "stored before begin()", [&] { states.store(0); });
  states.begin(folder / "states");
  expect_error(ErrorKind::internal, "batch 1 of hidden states is stored before those in front",
               [&] { states.store(1); });
  states.store(0);
  expect_error(ErrorKind::internal, "saved before every batch was stored", [&] { states.save(); });
}

}  // namespace
}  // namespace adze
