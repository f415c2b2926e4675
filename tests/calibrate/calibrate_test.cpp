#include "calibrate/calibrate.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "calibrate/block_pass.h"
#include "calibrate/calibrate_testing.h"
#include "model/compressed_store.h"

namespace adze {
namespace {

namespace fs = std::filesystem;
using testing::expect_close;
using testing::expect_error;
using testing::expect_same;
using testing::files_of;
using testing::random_model;
using testing::random_windows;
using testing::small_architecture;
using testing::TempFolder;
using testing::ThreadCount;

Architecture four_blocks() {
  Architecture a = small_architecture();
  a.layers = 4;
  return a;
}

const ModelWeights& model() {
  static const CheckpointWeights weights = random_model(four_blocks());
  return weights;
}

TokenWindows windows(std::uint64_t seed = 1, std::size_t count = 6) { return random_windows(count, 32, 50, seed); }

CalibrateResult run(const fs::path& out, const TokenWindows& text = windows(), bool overwrite = false,
                    const ModelWeights& weights = model(), Progress& progress = silent_progress()) {
  return calibrate(weights, "small", text, {out, overwrite}, progress);
}

/// Stops a run by an exception after some units of work.
class StopAfter final : public Progress {
 public:
  explicit StopAfter(std::uint64_t units) : units_(units) {}
  void update(std::uint64_t done) override {
    if (done >= units_) throw Error(ErrorKind::stopped, "stopped by the test");
  }

 private:
  std::uint64_t units_;
};

TEST(Calibrate, WritesWhatEachBlocksPassMeasures) {
  const TempFolder folder;
  const TokenWindows text = windows();
  run(folder / "out", text);
  const StatisticsFolder statistics(folder / "out");
  EXPECT_EQ(statistics.info(), describe_statistics(four_blocks(), "small", text, ExpertInputs::routed));
  const Forward forward(four_blocks(), text.tokens);
  HiddenStates hidden({text.count(), text.tokens, four_blocks().hidden, 1, false});
  embed_windows(forward, input_tables(model()), text.ids, hidden);
  for (std::size_t b = 0; b < 4; ++b) {
    const BlockWeights block = model().block(b);
    BlockPass pass(forward, hidden);
    for (const Stage stage : stages_of(four_blocks()))
      expect_same(statistics.block_input(b, stage), pass.measure(stage, block), name_of(stage));
    pass.finish(block);
  }
  expect_same(statistics.head_input(), measure_head_input(forward, norm_of(model()), hidden));
}

TEST(Calibrate, WritesTheSameBytesStageByStage) {
  const TempFolder folder;
  run(folder / "together");
  CalibrateOptions options;
  options.out = folder / "apart";
  options.together = false;
  calibrate(model(), "small", windows(), options, silent_progress());
  EXPECT_EQ(files_of(folder / "together"), files_of(folder / "apart"));
}

TEST(Calibrate, WritesTheSameBytesForAnyNumberOfThreads) {
  const TempFolder folder;
  for (const int threads : {1, 4}) {
    const ThreadCount scope(threads);
    run(folder / fmt::format("{}", threads));
  }
  EXPECT_EQ(files_of(folder / "1"), files_of(folder / "4"));
}

TEST(Calibrate, MeasuresOnlyWhatIsMissingAndGivesTheSameBytes) {
  const TempFolder folder;
  EXPECT_EQ(run(folder / "whole").measured, 5U);
  const auto expected = files_of(folder / "whole");
  const std::vector<std::vector<std::string>> losses = {
      {"block-0000.h5"}, {"block-0002.h5", "block-0003.h5.xxh3"}, {"head.h5"}, {"block-0001.h5.xxh3", "head.h5.xxh3"}};
  for (const auto& lost : losses) {
    fs::copy(folder / "whole", folder / "part");
    for (const std::string& name : lost) fs::remove(folder / "part" / name);
    const CalibrateResult result = run(folder / "part");
    EXPECT_EQ(result.measured, lost.size());
    EXPECT_EQ(result.kept, 5 - lost.size());
    EXPECT_EQ(files_of(folder / "part"), expected);
    fs::remove_all(folder / "part");
  }
}

/// The same bytes as those files of a whole run; one that is asked for more later goes on.
TEST(Calibrate, MeasuresTheBlocksThatAreAskedFor) {
  const TempFolder folder;
  run(folder / "whole");
  auto expected = files_of(folder / "whole");
  CalibrateOptions options;
  options.out = folder / "some";
  options.blocks = {1, 3};
  const CalibrateResult some = calibrate(model(), "small", windows(), options, silent_progress());
  EXPECT_EQ(some.measured, 3U);
  EXPECT_EQ(some.kept, 0U);
  const std::size_t blocks[] = {1, 3};
  expect_same(StatisticsFolder(options.out, blocks).block_input(3, Stage::down),
              StatisticsFolder(folder / "whole").block_input(3, Stage::down), "down");
  expect_error(ErrorKind::bad_data, "block-0000.h5 is missing", [&] { StatisticsFolder(folder / "some"); });
  options.blocks = {0, 3};
  const CalibrateResult more = calibrate(model(), "small", windows(), options, silent_progress());
  EXPECT_EQ(more.measured, 1U);
  EXPECT_EQ(more.kept, 2U);
  for (const char* const ending : {".h5", ".h5.xxh3"}) expected.erase(std::string("block-0002") + ending);
  EXPECT_EQ(files_of(folder / "some"), expected);
}

TEST(Calibrate, KeepsWhatIsThereUntouched) {
  const TempFolder folder;
  run(folder / "out");
  fs::remove(folder / "out" / "block-0002.h5");
  const auto before = fs::last_write_time(folder / "out" / "block-0001.h5");
  run(folder / "out");
  EXPECT_EQ(fs::last_write_time(folder / "out" / "block-0001.h5"), before);
}

TEST(Calibrate, GoesOnAfterBeingStoppedAnywhere) {
  const TempFolder folder;
  run(folder / "whole");
  const auto expected = files_of(folder / "whole");
  struct Stop {
    std::uint64_t units;
    std::size_t kept;  ///< a block is committed after its fourth stage, whose units are told before
  };
  const Stop stops[] = {{1, 0}, {4, 0}, {5, 1}, {9, 2}, {16, 3}};
  for (const bool together : {false, true})
    for (const auto& [units, kept] : stops) {
      CalibrateOptions options;
      options.out = folder / fmt::format("stopped-{}-{}", units, together);
      options.together = together;
      StopAfter stop(units);
      expect_error(ErrorKind::stopped, "stopped by the test",
                   [&] { calibrate(model(), "small", windows(), options, stop); });
      const fs::path& out = options.out;
      const CalibrateResult result = run(out);
      EXPECT_EQ(result.kept, kept) << units;
      EXPECT_EQ(files_of(out), expected) << units;
    }
}

/// Puts a folder where a part of the run is about to appear.
class Obstacle final : public Progress {
 public:
  explicit Obstacle(fs::path place) : place_(std::move(place)) {}
  void update(std::uint64_t) override { fs::create_directory(place_); }

 private:
  fs::path place_;
};

/// Files are committed beside the measurement of the next part; what fails there stops the run all the same.
TEST(Calibrate, SaysWhenAPartCouldNotBeWritten) {
  for (const char* name : {"block-0001.h5", "block-0003.h5", "head.h5"}) {
    const TempFolder folder;
    Obstacle obstacle(folder / "out" / name);
    expect_error(ErrorKind::cannot_create, name, [&] { run(folder / "out", windows(), false, model(), obstacle); });
    EXPECT_FALSE(fs::exists(folder / "out" / (std::string(name) + ".xxh3")));
    EXPECT_TRUE(fs::exists(folder / "out/block-0000.h5.xxh3"));
    fs::remove(folder / "out" / name);
    run(folder / "out");
    StatisticsFolder(folder / "out").head_input();
  }
}

TEST(Calibrate, MakesADamagedFileAgain) {
  const TempFolder folder;
  run(folder / "out");
  const auto expected = files_of(folder / "out");
  std::string bytes = expected.at("block-0001.h5");
  bytes.resize(bytes.size() / 2);
  folder.put("out/block-0001.h5", bytes);
  EXPECT_EQ(run(folder / "out").measured, 1U);
  EXPECT_EQ(files_of(folder / "out"), expected);
}

TEST(Calibrate, RefusesAFinishedFolderUnlessItMayOverwrite) {
  const TempFolder folder;
  run(folder / "out");
  expect_error(ErrorKind::cannot_create,
               "out: finished statistics; choose another -o, or replace them with --overwrite",
               [&] { run(folder / "out"); });
  EXPECT_EQ(run(folder / "out", windows(2), true).measured, 5U);
  EXPECT_EQ(StatisticsFolder(folder / "out").info().calibration, windows(2).hash());
}

TEST(Calibrate, RefusesAFolderOfAnotherRun) {
  const TempFolder folder;
  run(folder / "out");
  fs::remove(folder / "out" / "head.h5");
  const auto before = files_of(folder / "out");
  expect_error(ErrorKind::cannot_create, "statistics of another run, with other calibration; choose another -o",
               [&] { run(folder / "out", windows(2)); });
  expect_error(ErrorKind::cannot_create, "with other calibration, windows and tokens",
               [&] { run(folder / "out", windows(1, 7)); });
  const CheckpointWeights shallow = random_model(small_architecture());
  expect_error(ErrorKind::cannot_create, "with other layers", [&] { run(folder / "out", windows(), false, shallow); });
  EXPECT_EQ(files_of(folder / "out"), before);
}

TEST(Calibrate, NoticesOtherWeightsUnderTheSameName) {
  const CheckpointWeights other = random_model(four_blocks(), DType::f32, "other");
  testing::MemorySource last_block = testing::random_source(four_blocks());
  std::vector<float> values = last_block.values("model.layers.3.mlp.up_proj.weight");
  values[5] += 1;
  last_block.put("model.layers.3.mlp.up_proj.weight", DType::f32, {40, 24}, values);
  const CheckpointWeights nearly(four_blocks(), std::make_shared<testing::MemorySource>(last_block));
  const TempFolder folder;
  run(folder / "out");
  fs::remove(folder / "out" / "block-0001.h5");
  fs::remove(folder / "out" / "block-0000.h5");
  expect_error(ErrorKind::cannot_create, "block-0003.h5: measured with other weights than this model's",
               [&] { run(folder / "out", windows(), false, nearly); });
  fs::remove(folder / "out" / "block-0001.h5");
  expect_error(ErrorKind::cannot_create, "block-0000.h5: measured with other weights than this model's",
               [&] { run(folder / "out", windows(), false, other); });
}

TEST(Calibrate, RefusesAFolderWithOtherThingsEvenToOverwrite) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  folder.put("out/thesis.txt", "dear to somebody");
  for (const bool overwrite : {false, true})
    expect_error(ErrorKind::cannot_create, "out: holds other files (thesis.txt); choose another -o",
                 [&] { run(folder / "out", windows(), overwrite); });
  EXPECT_EQ(files_of(folder / "out").size(), 1U);
  expect_error(ErrorKind::cannot_create, "thesis.txt: exists and is no folder",
               [&] { run(folder / "out/thesis.txt"); });
}

TEST(Calibrate, NeverOverwritesBlocksOfACompressedStore) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  write_block_file(folder / "out/block-0000.h5", model().block(0), model().architecture());
  for (const bool overwrite : {false, true})
    expect_error(ErrorKind::cannot_create, "block-0000.h5: is not a file of statistics; choose another -o",
                 [&] { run(folder / "out", windows(), overwrite); });
}

TEST(Calibrate, TwoProcessesDoNotWriteToOneFolder) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  const int other = ::open((folder / "out").c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(::flock(other, LOCK_EX), 0);
  expect_error(ErrorKind::cannot_create, "another process is writing there", [&] { run(folder / "out"); });
  ::close(other);
  EXPECT_EQ(run(folder / "out").measured, 5U);
}

TEST(Calibrate, RefusesWindowsLongerThanTheContext) {
  const TempFolder folder;
  check_window_length(four_blocks(), 64);
  expect_error(ErrorKind::usage, "windows of 65 tokens do not fit the model's context of 64; lower --tokens",
               [] { check_window_length(four_blocks(), 65); });
  expect_error(ErrorKind::usage, "windows of 65 tokens", [&] { run(folder / "out", random_windows(1, 65, 50)); });
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(Calibrate, NamesTheInputWhoseActivationsOverflow) {
  testing::MemorySource source = testing::random_source(four_blocks());
  std::vector<float> values = source.values("model.layers.2.mlp.up_proj.weight");
  for (float& value : values) value *= 1e38f;
  source.put("model.layers.2.mlp.up_proj.weight", DType::f32, {40, 24}, values);
  const CheckpointWeights broken(four_blocks(), std::make_shared<testing::MemorySource>(source));
  const TempFolder folder;
  expect_error(ErrorKind::bad_data, "block 2: input of down: activations are not finite",
               [&] { run(folder / "out", windows(), false, broken); });
}

TEST(Calibrate, PredictsTheBytesOfItsFiles) {
  const TempFolder folder;
  run(folder / "out");
  std::uint64_t bytes = 0;
  for (const auto& [name, content] : files_of(folder / "out")) bytes += content.size();
  const CalibratePrediction prediction = predict_calibration(
      four_blocks(),
      {windows().count(), windows().tokens, four_blocks().hidden, batch_windows(windows().tokens), false});
  EXPECT_LE(prediction.disk, bytes);
  EXPECT_GT(prediction.disk + 5 * 20'000, bytes);  // and what HDF5 itself needs per file
  EXPECT_GT(prediction.memory, windows().ids.size() * four_blocks().hidden * sizeof(float));
}

TEST(StatisticsFolder, SaysWhatIsMissing) {
  const TempFolder folder;
  expect_error(ErrorKind::missing_input, "none: does not exist", [&] { StatisticsFolder(folder / "none"); });
  expect_error(ErrorKind::bad_data, "is no folder of statistics", [&] { StatisticsFolder(folder.path()); });
  run(folder / "out");
  fs::remove(folder / "out" / "block-0002.h5");
  expect_error(ErrorKind::bad_data, "block-0002.h5 is missing; run adze-calibrate again",
               [&] { StatisticsFolder(folder / "out"); });
  fs::remove(folder / "out" / "head.h5");
  expect_error(ErrorKind::bad_data, "statistics are unfinished; run adze-calibrate again",
               [&] { StatisticsFolder(folder / "out"); });
}

TEST(StatisticsFolder, NoticesFilesOfOtherRunsAndRenamedOnes) {
  const TempFolder folder;
  run(folder / "a");
  run(folder / "b", windows(2));
  for (const char* ending : {"", ".xxh3"}) {
    const std::string name = std::string("block-0001.h5") + ending;
    fs::copy_file(folder / "b" / name, folder / "a" / name, fs::copy_options::overwrite_existing);
    const std::string third = std::string("block-0003.h5") + ending;
    fs::copy_file(folder / "b" / ("block-0002.h5" + std::string(ending)), folder / "b" / third,
                  fs::copy_options::overwrite_existing);
  }
  expect_error(ErrorKind::bad_data, "block-0001.h5: is of another run than head.h5, with other calibration",
               [&] { StatisticsFolder(folder / "a").part(1); });
  expect_error(ErrorKind::bad_data, "block-0003.h5: holds part 2 instead of 3; was it renamed?",
               [&] { StatisticsFolder(folder / "b").part(3); });
}

TokenWindows joined(const TokenWindows& a, const TokenWindows& b) {
  TokenWindows both = a;
  both.ids.insert(both.ids.end(), b.ids.begin(), b.ids.end());
  return both;
}

TEST(MergeStatistics, GivesThoseOfOneRunOverAllWindows) {
  const TempFolder folder;
  run(folder / "a", windows(1, 6));
  run(folder / "b", windows(2, 3));
  run(folder / "both", joined(windows(1, 6), windows(2, 3)));
  merge_statistics(std::vector{folder / "a", folder / "b"}, folder / "merged", false, silent_progress());
  const StatisticsFolder merged(folder / "merged");
  const StatisticsFolder both(folder / "both");
  EXPECT_EQ(differences(merged.info(), both.info()), std::vector<std::string>{"calibration"});
  EXPECT_EQ(merged.part(3).weights(), both.part(3).weights());
  for (std::size_t b = 0; b < 4; ++b)
    for (const Stage stage : stages_of(four_blocks()))
      expect_close(merged.block_input(b, stage), both.block_input(b, stage), 1e-6);  // other slices of windows
  expect_close(merged.head_input(), both.head_input(), 1e-6);
}

TEST(MergeStatistics, MergesManyAndGoesOnWhenStopped) {
  const TempFolder folder;
  std::vector<fs::path> parts;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    parts.push_back(folder / fmt::format("{}", seed));
    run(parts.back(), windows(seed, 2));
  }
  merge_statistics(parts, folder / "whole", false, silent_progress());
  EXPECT_EQ(StatisticsFolder(folder / "whole").info().windows, 6U);
  StopAfter stop(2);
  expect_error(ErrorKind::stopped, "stopped", [&] { merge_statistics(parts, folder / "again", false, stop); });
  merge_statistics(parts, folder / "again", false, silent_progress());
  EXPECT_EQ(files_of(folder / "again"), files_of(folder / "whole"));
}

TEST(MergeStatistics, RefusesWhatDoesNotAddUp) {
  const TempFolder folder;
  const CheckpointWeights shallow = random_model(small_architecture());
  const CheckpointWeights other = random_model(four_blocks(), DType::f32, "other");
  run(folder / "a");
  run(folder / "b", windows(2));
  fs::copy(folder / "a", folder / "copy");
  run(folder / "shallow", windows(3), false, shallow);
  run(folder / "other", windows(4), false, other);
  const auto refused = [&](ErrorKind kind, const std::string& words, const std::string& second,
                           const std::string& out = "out") {
    expect_error(kind, words, [&] {
      merge_statistics(std::vector{folder / "a", folder / second}, folder / out, false, silent_progress());
    });
  };
  refused(ErrorKind::bad_data, "copy: its windows are those of another folder given; they would count twice", "copy");
  refused(ErrorKind::bad_data, "are of different models, with other layers", "shallow");
  refused(ErrorKind::bad_data, "part 0 was measured with different weights", "other", "out2");
  refused(ErrorKind::missing_input, "none: does not exist", "none");
  refused(ErrorKind::usage, "b: cannot be merged into itself", "b", "b");
  refused(ErrorKind::cannot_create, "statistics of another run, with other layers, calibration", "b", "shallow");
  expect_error(ErrorKind::usage, "two or more folders of statistics, 1 given",
               [&] { merge_statistics(std::vector{folder / "a"}, folder / "out", false, silent_progress()); });
}

}  // namespace
}  // namespace adze
