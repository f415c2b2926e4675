// Runs that are killed, stopped or damaged half way go on to the same bytes, whatever the moment and the number of
// threads. ADZE_KILLS sets how many kills are tried, 5 by default.
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "base/random.h"
#include "pipeline/ledger.h"
#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

using std::chrono::milliseconds;

int kill_count() {
  const char* const stated = std::getenv("ADZE_KILLS");
  return stated != nullptr ? std::max(1, std::atoi(stated)) : 5;
}

/// A run and the means to begin it, end it early and finish it.
class ARun : public Workplace {
 public:
  explicit ARun(std::string recipe_text = small_recipe()) : recipe_(recipe(recipe_text)) {}

  fs::path folder() const { return out(); }
  ProgramResult go(std::vector<std::string> more = {}) const {
    return compress(recipe_, demo_model(), out(), std::move(more));
  }
  ProgramResult go_until(int signal, std::function<bool()> when, std::vector<std::string> more = {}) const {
    ProgramOptions options;
    options.interruption = Interruption{signal, std::move(when)};
    return compress(recipe_, demo_model(), out(), std::move(more), options);
  }
  /// Kills it once `block` has been solved and stored; all blocks before it are committed then.
  void kill_after_block(std::size_t block) const {
    const ProgramResult result =
        go_until(SIGKILL, when_exists(folder() / "store" / fmt::format("block-{:04}.h5.xxh3", block)));
    ASSERT_EQ(result.exit_code, -SIGKILL) << "it ended before it was killed";
  }
  bool is_finished() const { return fs::exists(folder() / "manifest.json"); }
  std::size_t resumed_steps() const {
    return nlohmann::json::parse(read_file(folder() / "report.json")).at("resumed_steps");
  }

 private:
  std::string recipe_;
};

/// What an undisturbed run gives, and how long it takes. Made once per process.
struct Undisturbed {
  std::map<std::string, std::string> files;
  milliseconds duration{0};
};
const Undisturbed& undisturbed() {
  static const Undisturbed made = [] {
    const ARun run;
    const auto start = Clock::now();
    expect_exit(run.go(), 0);
    return Undisturbed{result_files(run.folder()), std::chrono::duration_cast<milliseconds>(Clock::now() - start)};
  }();
  return made;
}

void expect_finishes_undisturbed(const ARun& run) {
  if (!run.is_finished()) expect_exit(run.go(), 0);
  expect_same_files(result_files(run.folder()), undisturbed().files);
}

void flip_byte(const fs::path& file, std::uint64_t offset) {
  std::string bytes = read_file(file);
  ASSERT_LT(offset, bytes.size());
  bytes[offset] = static_cast<char>(bytes[offset] ^ 0x40);
  Workplace::overwrite(file, bytes);
}

TEST(Resume, KilledAtAnyMomentTheRunGivesTheSameBytes) {
  RandomStream random(11, "kill moments");
  int caught = 0;
  milliseconds duration = undisturbed().duration;  // shorter where the machine was busy then and is not now
  for (int i = 0; i < kill_count(); ++i) {
    const ARun run;
    const milliseconds moment(random.below(static_cast<std::uint64_t>(duration.count())));
    SCOPED_TRACE(fmt::format("kill {} after {} ms of {}", i, moment.count(), duration.count()));
    const auto start = Clock::now();
    const bool killed = run.go_until(SIGKILL, after(moment)).exit_code == -SIGKILL;
    if (!killed) duration = std::chrono::duration_cast<milliseconds>(Clock::now() - start);
    caught += killed;
    expect_finishes_undisturbed(run);
  }
  EXPECT_GE(2 * caught, kill_count()) << "most kills came too late";
}

TEST(Resume, KilledAgainAndAgainOneRunGivesTheSameBytes) {
  const ARun run;
  int kills = 0;
  for (const std::size_t block : {0u, 2u, 3u, 5u}) {
    const auto stored = when_exists(run.folder() / "store" / fmt::format("block-{:04}.h5", block));
    kills += run.go_until(SIGKILL, stored).exit_code == -SIGKILL;
  }
  EXPECT_EQ(kills, 4);
  const auto exporting = when_exists(run.folder() / "model.gguf.unverified");
  run.go_until(SIGKILL, exporting);
  expect_finishes_undisturbed(run);
}

TEST(Resume, GoesOnWhereItStopped) {
  const ARun run;
  run.kill_after_block(4);
  expect_exit(run.go(), 0);
  EXPECT_GE(run.resumed_steps(), 4u);
  expect_finishes_undisturbed(run);
}

TEST(Resume, ScalesOfACacheAreThoseOfAnUndisturbedRun) {
  const std::string text = replaced(small_recipe(), "grid: gguf/q4_k", "grid: int4, group: 32") +
                           "  - { format: compressed-tensors, file: ct, kv_cache: fp8 }\n";
  const ARun whole(text), killed(text);
  expect_exit(whole.go(), 0);
  killed.kill_after_block(3);
  expect_exit(killed.go({"--threads", "3"}), 0);
  expect_same_files(result_files(killed.folder()), result_files(whole.folder()));
}

TEST(Resume, AnyNumberOfThreadsGivesTheSameBytes) {
  for (const char* const threads : {"1", "2", "5"}) {
    SCOPED_TRACE(threads);
    const ARun run;
    expect_exit(run.go({"--threads", threads}), 0);
    expect_finishes_undisturbed(run);
  }
}

TEST(Resume, MayUseAnotherNumberOfThreads) {
  const ARun run;
  run.go_until(SIGKILL, when_exists(run.folder() / "store/block-0002.h5"), {"--threads", "1"});
  expect_exit(run.go({"--threads", "3"}), 0);
  expect_finishes_undisturbed(run);
}

TEST(Signal, CtrlCLeavesAtOnceWithCode75AndTheRunGoesOn) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const ARun run;
    const ProgramResult stopped = run.go_until(signal, when_exists(run.folder() / "store/block-0001.h5"));
    expect_exit(stopped, 75, {"stopped; nothing is lost: run the same command again"});
    EXPECT_LT(stopped.after_signal, milliseconds(2000));
    expect_finishes_undisturbed(run);
  }
}

TEST(Damage, InAStoredFileIsFoundByEvalAndExport) {
  const ARun run(replaced(rtn_recipe(), "windows: 8, tokens: 128", "windows: 2, tokens: 32"));
  expect_exit(run.go(), 0);
  for (const char* const name : {"block-0002.h5", "model.h5"}) {
    const fs::path file = run.folder() / "store" / name;
    flip_byte(file, fs::file_size(file) / 2);
    const std::string gguf = (run / "again.gguf").string();
    expect_exit(run_program("adze-export", {run.out(), "-o", gguf}), 65,
                {std::string("/store/") + name + ": its hash is ", "damaged or changed"});
    EXPECT_FALSE(fs::exists(gguf));
    const ProgramResult judged =
        run_program("adze-eval", {run.out(), "--text", bundled_text("heldout/code.txt"), "--protocol", "lcpp-64"});
    expect_exit(judged, 65, {std::string("/store/") + name + ": its hash is "});
    EXPECT_EQ(judged.out, "");
    flip_byte(file, fs::file_size(file) / 2);
  }
  expect_nothing_half_written(run.path());
}

TEST(Damage, InAStoredBlockOfAnUnfinishedRunIsRepaired) {
  const ARun run;
  run.kill_after_block(3);
  flip_byte(run.folder() / "store/block-0001.h5", 3000);
  expect_finishes_undisturbed(run);
}

/// Frames of the ledger: 16 bytes, then the message.
TEST(Damage, InALedgerRecordStopsTheRun) {
  const ARun run;
  run.kill_after_block(2);
  for (const std::uint64_t offset : {0u, 3u, 8u, 20u}) {  // length, its upper end, checksum, message
    flip_byte(run.folder() / "work/ledger", offset);
    expect_exit(run.go(), 65, {"/out/work/ledger: damaged record at byte 0", "--restart"});
    flip_byte(run.folder() / "work/ledger", offset);
  }
  flip_byte(run.folder() / "work/ledger", 20);
  expect_exit(run.go({"--restart"}), 0);
  expect_finishes_undisturbed(run);
}

TEST(Damage, InTheHiddenStatesCostsNoSolvedBlock) {
  const ARun run;
  run.kill_after_block(3);
  std::size_t last = 0;
  std::string states;
  {
    const Ledger ledger(run.folder() / "work/ledger", {});
    last = ledger.steps().rbegin()->first;
    states = ledger.steps().rbegin()->second.states->path;
  }
  ASSERT_GE(last, 2u);
  flip_byte(run.folder() / states, 4321);
  expect_exit(run.go(), 0);
  EXPECT_EQ(run.resumed_steps(), last + 1);  // the states are computed again from the generation before
  expect_finishes_undisturbed(run);
}

TEST(Damage, InTheHiddenStatesOfBothGenerationsCostsNoSolvedBlockEither) {
  const ARun run;
  run.kill_after_block(3);
  const std::size_t committed = Ledger(run.folder() / "work/ledger", {}).steps().size();
  for (const fs::directory_entry& entry : fs::directory_iterator(run.folder() / "work"))
    if (entry.path().extension() == ".f32") fs::resize_file(entry.path(), 100);
  expect_exit(run.go(), 0);
  EXPECT_EQ(run.resumed_steps(), committed);  // from the embedding on, through the blocks that were solved
  expect_finishes_undisturbed(run);
}

}  // namespace
}  // namespace adze::testing
