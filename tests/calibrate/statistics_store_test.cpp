#include "calibrate/statistics_store.h"

#include "calibrate/calibrate_testing.h"
#include "checkpoint/sidecar.h"
#include "model/tensors.h"

namespace adze {
namespace {

using testing::expect_error;
using testing::expect_same;
using testing::random_matrix;
using testing::random_windows;
using testing::small_architecture;
using testing::TempFolder;

InputStatistics random_statistics(std::size_t inputs, std::string_view name) {
  InputStatistics statistics(inputs);
  statistics.add(random_matrix({40, inputs}, name), 20);
  return statistics;
}

StatisticsInfo small_info() {
  return describe_statistics(small_architecture(), "small", random_windows(2, 20, 50), ExpertInputs::routed);
}

/// Block 1 with inputs of different widths, some beyond the rows that are written at once.
std::map<std::string, InputStatistics> write_block(const TempFolder& folder) {
  std::map<std::string, InputStatistics> written;
  StatisticsWriter writer(folder.path(), small_info(), 1, "some weights");
  std::size_t inputs = 1;
  for (const std::string& name : inputs_of_part(small_info(), 1)) {
    written[name] = random_statistics(inputs, name);
    writer.add(name, written[name]);
    inputs = 5 * inputs + 4;  // 1, 9, 49, 249
  }
  writer.commit();
  return written;
}

TEST(StatisticsStore, GivesBackWhatWasWritten) {
  const TempFolder folder;
  const auto written = write_block(folder);
  const StatisticsReader reader(folder / "block-0001.h5");
  EXPECT_EQ(reader.info(), small_info());
  EXPECT_EQ(reader.part(), 1U);
  EXPECT_EQ(reader.weights(), "some weights");
  for (const auto& [name, statistics] : written) expect_same(reader.read(name), statistics, name);
}

TEST(StatisticsStore, TakesTheUpperTriangleOnly) {
  const TempFolder folder;
  const auto written = write_block(folder);
  std::uint64_t payload = 0;
  for (const auto& [name, statistics] : written) {
    const std::uint64_t n = statistics.inputs();
    payload += 8 * (n * (n + 1) / 2) + 20 * n;
  }
  const std::uint64_t bytes = std::filesystem::file_size(folder / "block-0001.h5");
  EXPECT_GE(bytes, payload);
  EXPECT_LT(bytes, payload + 20'000);  // what HDF5 needs for four groups
}

TEST(StatisticsStore, WritesTheSameBytesEveryTime) {
  const TempFolder a;
  const TempFolder b;
  write_block(a);
  write_block(b);
  EXPECT_EQ(testing::files_of(a.path()), testing::files_of(b.path()));
}

TEST(StatisticsStore, SummarizesFromTheDiagonal) {
  const TempFolder folder;
  auto info = small_info();
  InputStatistics statistics = random_statistics(24, "head");
  for (std::size_t j : {3, 7})
    for (std::size_t i = 0; i < 24; ++i) statistics.second_moment(i, j) = statistics.second_moment(j, i) = 0;
  StatisticsWriter writer(folder.path(), info, 2, "w");
  writer.add("head", statistics);
  writer.commit();
  const InputSummary summary = StatisticsReader(folder / "head.h5").summarize("head");
  double trace = 0;
  for (std::size_t j = 0; j < 24; ++j) trace += statistics.second_moment(j, j);
  EXPECT_EQ(summary.where, "head");
  EXPECT_EQ(summary.inputs, 24U);
  EXPECT_EQ(summary.tokens, 40U);
  EXPECT_DOUBLE_EQ(summary.trace, trace);
  EXPECT_DOUBLE_EQ(summary.mean_diagonal(), trace / 24);
  EXPECT_EQ(summary.dead_inputs, 2U);
  EXPECT_EQ(summary.abs_max, std::ranges::max(statistics.abs_max));
}

TEST(StatisticsStore, NamesPartsAndTheirInputs) {
  EXPECT_EQ(statistics_file_name(0, 2), "block-0000.h5");
  EXPECT_EQ(statistics_file_name(2, 2), "head.h5");
  EXPECT_EQ(inputs_of_part(small_info(), 0), (std::vector<std::string>{"qkv", "o", "gate_up", "down"}));
  EXPECT_EQ(inputs_of_part(small_info(), 2), (std::vector<std::string>{"head"}));
}

TEST(StatisticsStore, NamesTheAttributesThatDiffer) {
  const StatisticsInfo a = small_info();
  StatisticsInfo b = a;
  EXPECT_EQ(differences(a, b), std::vector<std::string>{});
  b.calibration = "other";
  b.hidden = 25;
  b.kernels = "another CPU";
  EXPECT_EQ(differences(a, b), (std::vector<std::string>{"hidden", "calibration", "kernels"}));
}

TEST(StatisticsStore, AFileLacksNoInputAndHasNoneTwice) {
  const TempFolder folder;
  StatisticsWriter writer(folder.path(), small_info(), 0, "w");
  writer.add("qkv", random_statistics(3, "x"));
  expect_error(ErrorKind::internal, "input 'qkv' is unknown or stored twice",
               [&] { writer.add("qkv", random_statistics(3, "x")); });
  expect_error(ErrorKind::internal, "input 'head' is unknown or stored twice",
               [&] { writer.add("head", random_statistics(3, "x")); });
  expect_error(ErrorKind::internal, "input 'o' was not stored", [&] { writer.commit(); });
  EXPECT_FALSE(std::filesystem::exists(folder / "block-0000.h5"));
}

/// A file of statistics of the head with one thing wrong.
struct Forged {
  std::map<std::string, Hdf5Attribute> attributes;
  std::uint64_t inputs = 3;
  std::uint64_t tokens = 40;
  std::map<std::string, std::uint64_t> counts = {{"second_moment", 6}, {"sum", 3}, {"abs_sum", 3}, {"abs_max", 3}};
  double entry = 1;
  std::string group = "head";

  Forged() {
    const StatisticsInfo info = small_info();
    attributes = {{"kind", std::string("adze statistics")},
                  {"version", std::uint64_t{1}},
                  {"part", info.layers},
                  {"weights", std::string("w")},
                  {"model", info.model},
                  {"family", info.family},
                  {"layers", info.layers},
                  {"hidden", info.hidden},
                  {"ffn", info.ffn},
                  {"heads", info.heads},
                  {"kv_heads", info.kv_heads},
                  {"head_dim", info.head_dim},
                  {"vocab", info.vocab},
                  {"calibration", info.calibration},
                  {"windows", info.windows},
                  {"tokens", info.tokens},
                  {"kernels", info.kernels}};
  }
  std::filesystem::path write(const TempFolder& folder) const {
    Hdf5Writer file(folder / "head.h5");
    for (const auto& [name, value] : attributes) file.set_attribute("/", name, value);
    file.make_group(group);
    file.set_attribute(group, "inputs", inputs);
    file.set_attribute(group, "tokens", tokens);
    for (const auto& [name, count] : counts) {
      if (name == "abs_max")
        file.write<float>(group + "/" + name, std::vector<float>(count, 1.0f));
      else
        file.write<double>(group + "/" + name, std::vector<double>(count, entry));
    }
    file.commit();
    write_sidecar(folder / "head.h5");
    return folder / "head.h5";
  }
};

TEST(StatisticsStore, TheForgedFileIsReadWhenNothingIsWrong) {
  const TempFolder folder;
  const StatisticsReader reader(Forged().write(folder));
  EXPECT_EQ(reader.read("head").inputs(), 3U);
}

void expect_refused(const Forged& forged, const std::string& words) {
  const TempFolder folder;
  const auto path = forged.write(folder);
  expect_error(ErrorKind::bad_data, words, [&] { StatisticsReader(path).read("head"); });
}

TEST(StatisticsStore, RefusesWhateverDoesNotFit) {
  const auto forge = [](auto&& change, const std::string& words) {
    Forged forged;
    change(forged);
    expect_refused(forged, words);
  };
  forge([](Forged& f) { f.attributes["kind"] = std::string("adze block"); }, "is not a file of statistics");
  forge([](Forged& f) { f.attributes.erase("kind"); }, "is not a file of statistics");
  forge([](Forged& f) { f.attributes["version"] = std::uint64_t{2}; },
        "statistics of version 2, this program reads 1; calibrate again");
  forge([](Forged& f) { f.attributes["part"] = std::uint64_t{3}; }, "is part 3 of a model of 2 blocks");
  for (const std::string name : {"model", "layers", "calibration", "tokens", "kernels", "weights", "part"})
    forge([&](Forged& f) { f.attributes.erase(name); }, name);
  forge([](Forged& f) { f.attributes["hidden"] = std::string("24"); }, "hidden");
  forge([](Forged& f) { f.inputs = 4; }, "'head/second_moment' has 6 values, 4 inputs need 10");
  forge([](Forged& f) { f.inputs = 0; }, "'head' has 0 inputs");
  forge([](Forged& f) { f.inputs = std::uint64_t{1} << 40; }, "'head' has 1099511627776 inputs");
  forge([](Forged& f) { f.tokens = 0; }, "'head' counts 0 tokens of 40");
  forge([](Forged& f) { f.tokens = 41; }, "'head' counts 41 tokens of 40");
  for (const std::string name : {"sum", "abs_sum", "abs_max"}) {
    forge([&](Forged& f) { f.counts[name] = 2; }, "'head/" + name + "' has 2 values, 3 inputs need 3");
    forge([&](Forged& f) { f.counts.erase(name); }, name);
  }
  forge([](Forged& f) { f.group = "qkv"; }, "head");
  forge([](Forged& f) { f.entry = std::numeric_limits<double>::quiet_NaN(); },
        "'head': second_moment holds a value that is not finite; calibrate again");
}

TEST(StatisticsStore, OpensNothingWithoutAMatchingChecksum) {
  const TempFolder folder;
  const auto path = Forged().write(folder);
  std::string bytes = read_file(path);
  bytes[bytes.size() / 2] ^= 1;
  folder.put("head.h5", bytes);
  expect_error(ErrorKind::bad_data, "head.h5: its hash is", [&] { StatisticsReader reader(path); });
  std::filesystem::remove(sidecar_path(path));
  expect_error(ErrorKind::bad_data, "its checksum file head.h5.xxh3 is missing",
               [&] { StatisticsReader reader(path); });
  expect_error(ErrorKind::missing_input, "none.h5", [&] { StatisticsReader reader(folder / "none.h5"); });
}

}  // namespace
}  // namespace adze
