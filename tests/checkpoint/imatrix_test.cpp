// Importance matrices of both kinds: files made by hand, exact round trips, and bytes that must be refused.
#include "checkpoint/imatrix.h"

#include <cmath>
#include <functional>
#include <limits>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/gguf_writer.h"
#include "checkpoint/imatrix_dat.h"

namespace adze {
namespace {

using testing::expect_error;
using testing::raw;
using testing::TempFolder;
using i32 = std::int32_t;

std::string entry(std::string_view name, i32 calls, const std::vector<float>& values) {
  std::string out = raw(static_cast<i32>(name.size())).append(name) + raw(calls) + raw(static_cast<i32>(values.size()));
  for (const float value : values) out += raw(value);
  return out;
}
std::string trailer(i32 chunks, std::string_view text) {
  return raw(chunks) + raw(static_cast<i32>(text.size())).append(text);
}

/// Two entries as llama-imatrix writes them.
std::string golden_dat() {
  return raw(i32{2}) + entry("blk.0.attn_q.weight", 4, {8, 2, 0, 1}) + entry("blk.0.ffn_up.weight", 2, {1, 3}) +
         trailer(4, "calm.txt");
}

std::string corpus(std::string_view name) {
  return read_file(std::filesystem::path(ADZE_SOURCE_DIR) / "tests/fuzz/corpus/imatrix" / name);
}

TEST(ImatrixDat, ReadsWhatTheFormatSays) {
  const TempFolder folder;
  ImatrixKind kind{};
  const Imatrix imatrix = read_imatrix(folder.put("x.dat", golden_dat()), &kind);
  EXPECT_EQ(kind, ImatrixKind::dat);
  ASSERT_EQ(imatrix.entries.size(), 2u);
  EXPECT_EQ(imatrix.chunks, 4u);
  EXPECT_EQ(imatrix.datasets, std::vector<std::string>{"calm.txt"});
  ASSERT_NE(imatrix.find("blk.0.attn_q.weight"), nullptr);
  EXPECT_EQ(imatrix.find("blk.0.attn_q.weight")->means(), (std::vector<float>{2, 0.5, 0, 0.25}));
  EXPECT_EQ(imatrix.find("blk.0.attn_q"), nullptr);
}

TEST(ImatrixDat, ComesBackByteForByte) {
  const TempFolder folder;
  const auto path = folder.put("x.dat", golden_dat());
  write_imatrix(folder / "y.dat", read_imatrix(path), ImatrixKind::dat);
  EXPECT_EQ(read_file(folder / "y.dat"), golden_dat());
}

TEST(ImatrixDat, AcceptsVeryOldFilesAndEntriesThatWereNeverUsed) {
  const TempFolder folder;
  const Imatrix imatrix = read_imatrix(folder.put("x", raw(i32{1}) + entry("a", 0, {0, 0})));
  EXPECT_EQ(imatrix.chunks, 0u);
  EXPECT_TRUE(imatrix.datasets.empty());
  EXPECT_EQ(imatrix.entries[0].means(), (std::vector<float>{1, 1}));
}

TEST(ImatrixDat, RejectsEveryCutAndTrailingBytes) {
  const TempFolder folder;
  const std::string whole = golden_dat();
  const std::size_t entries_end = whole.size() - trailer(4, "calm.txt").size();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    if (length == entries_end) continue;  // a very old file
    const auto path = folder.put("x.dat", whole.substr(0, length));
    expect_error(ErrorKind::bad_data, "x.dat: ", [&] { read_imatrix(path); });
  }
  expect_error(ErrorKind::bad_data, "1 bytes after the end", [&] { read_imatrix(folder.put("x.dat", whole + "!")); });
}

TEST(ImatrixDat, RejectsHostileBytes) {
  const TempFolder folder;
  const i32 most = std::numeric_limits<i32>::max();
  const auto one = [](const std::string& e) { return raw(i32{1}) + e + trailer(1, "t"); };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "number of entries of 4 bytes where 0 remain"},
      {raw(i32{0}) + trailer(1, ""), "number of entries is 0"},
      {raw(i32{-1}) + std::string(64, 'x'), "number of entries is -1"},
      {raw(most) + std::string(64, 'x'), "number of entries is 2147483647"},
      {one(raw(i32{0}) + std::string(20, '\0')), "length of a name is 0"},
      {one(raw(i32{-5}) + std::string(20, '\0')), "length of a name is -5"},
      {one(raw(most) + std::string(20, '\0')), "length of a name is 2147483647"},
      {one(raw(i32{100}) + std::string(20, 'n')), "a name of 100 bytes where"},
      {one(raw(i32{1}) + "n" + raw(i32{-1}) + raw(i32{1}) + raw(1.0f)), "tensor 'n': number of calls is -1"},
      {one(raw(i32{1}) + "n" + raw(i32{1}) + raw(i32{0}) + raw(1.0f)), "tensor 'n': number of values is 0"},
      {one(raw(i32{1}) + "n" + raw(i32{1}) + raw(most) + raw(1.0f)), "tensor 'n': number of values is 2147483647"},
      {one(entry("n", 1, {-1})), "tensor 'n': a sum of squares is -1"},
      {one(entry("n", 1, {1, NAN})), "tensor 'n': a sum of squares is nan (element 1)"},
      {one(entry("n", 1, {INFINITY})), "a sum of squares is inf"},
      {one(entry(std::string_view("n\0m", 3), 1, {1})), "contains NUL"},
      {raw(i32{2}) + entry("n", 1, {1}) + entry("n", 2, {1}) + trailer(1, "t"), "tensor 'n' is there twice"},
      {raw(i32{1}) + entry("n", 1, {1}) + raw(i32{-2}) + raw(i32{0}), "number of chunks is -2"},
      {raw(i32{1}) + entry("n", 1, {1}) + raw(i32{1}) + raw(i32{9}), "length of the text's name is 9"},
  };
  for (const auto& [bytes, words] : cases) {
    const auto path = folder.put("x.dat", bytes);
    expect_error(ErrorKind::bad_data, words, [&] { read_imatrix(path); });
    EXPECT_FALSE(is_imatrix(path));
  }
}

TEST(ImatrixGguf, ReadsWhatTheFormatSaysExpertsIncluded) {
  const TempFolder folder;
  ImatrixKind kind{};
  const auto path = folder.put("x", corpus("experts.gguf"));
  const Imatrix imatrix = read_imatrix(path, &kind);
  EXPECT_TRUE(is_imatrix(path));
  EXPECT_EQ(kind, ImatrixKind::gguf);
  EXPECT_EQ(imatrix.chunks, 7u);
  EXPECT_EQ(imatrix.chunk_tokens, 512u);
  EXPECT_EQ(imatrix.datasets, std::vector<std::string>{"calm.txt"});
  const ImatrixEntry& q = *imatrix.find("blk.0.attn_q.weight");
  EXPECT_EQ(q.sums, (std::vector<float>{7, 14, 0.5, 0}));
  EXPECT_EQ(q.plain_sums, (std::vector<float>{1, -2, 0.5, 0}));
  EXPECT_EQ(q.counts, std::vector<double>{3584});
  const ImatrixEntry& experts = *imatrix.find("blk.0.ffn_up_exps.weight");
  EXPECT_EQ(experts.cols(), 2u);
  EXPECT_EQ(experts.means(), (std::vector<float>{0.2f, 0.4f, 0.375f, 0.5f, 1, 1}));  // the last one was never used
}

TEST(ImatrixGguf, ComesBackByteForByte) {
  const TempFolder folder;
  write_imatrix(folder / "y.gguf", read_imatrix(folder.put("x", corpus("experts.gguf"))), ImatrixKind::gguf);
  EXPECT_EQ(read_file(folder / "y.gguf"), corpus("experts.gguf"));
}

TEST(ImatrixGguf, AndDatHoldTheSameMeans) {
  const TempFolder folder;
  const Imatrix imatrix = read_imatrix(folder.put("x", corpus("experts.gguf")));
  write_imatrix(folder / "y.dat", imatrix, ImatrixKind::dat);
  const Imatrix dat = read_imatrix(folder / "y.dat");
  for (const ImatrixEntry& entry : imatrix.entries) {
    const std::vector<float> means = dat.find(entry.tensor)->means(), expected = entry.means();
    ASSERT_EQ(means.size(), expected.size());
    for (std::size_t i = 0; i < means.size(); ++i) EXPECT_FLOAT_EQ(means[i], expected[i]);
  }
}

struct Tensor {
  std::string name;
  std::vector<std::uint64_t> dims;
  std::vector<float> values;
};

std::filesystem::path put_gguf(const TempFolder& folder, const std::vector<GgufKeyValue>& keys,
                               const std::vector<Tensor>& tensors) {
  std::vector<GgufTensorSpec> specs;
  for (const Tensor& tensor : tensors) specs.push_back({tensor.name, 0, tensor.dims});
  GgufWriter writer(folder / "x.gguf", keys, specs);
  for (const Tensor& tensor : tensors) writer.write(tensor.name, std::as_bytes(std::span(tensor.values)));
  writer.commit();
  return folder / "x.gguf";
}

TEST(ImatrixGguf, RejectsWhatDoesNotFitTogether) {
  const std::vector<GgufKeyValue> type = {{"general.type", std::string("imatrix")}};
  const Tensor sums{"w.in_sum2", {2, 1}, {1, 2}}, counts{"w.counts", {1, 1}, {4}};
  struct Case {
    std::vector<GgufKeyValue> keys;
    std::vector<Tensor> tensors;
    std::string words;
  };
  const std::vector<Case> cases = {
      {{}, {sums, counts}, "general.type is not stated, not 'imatrix'"},
      {{{"general.type", std::string("model")}}, {sums, counts}, "general.type is 'model', not 'imatrix'"},
      {{{"general.type", std::uint32_t{1}}}, {sums, counts}, "key 'general.type' has type UINT32"},
      {type, {}, "without entries"},
      {type, {sums}, "tensor 'w.counts' is missing"},
      {type, {counts}, "1 tensors that are not NAME.in_sum2"},
      {type, {sums, counts, {"other", {1}, {1}}}, "1 tensors that are not NAME.in_sum2"},
      {type, {sums, {"w.counts", {1, 2}, {4, 4}}}, "tensor 'w.counts' has 2 values, 'w.in_sum2' has 1 rows"},
      {type, {sums, {"w.counts", {2}, {4, 4}}}, "tensor 'w.counts' has 2 values"},
      {type, {sums, {"w.in_sum", {1, 2}, {4, 4}}, counts}, "tensor 'w.in_sum' has another shape"},
      {type, {{"w.in_sum2", {1, 1, 2}, {1, 2}}, counts}, "F32 and at most 2 are expected"},
      {type, {{"w.in_sum2", {2, 1}, {1, -2}}, counts}, "tensor 'w': a sum of squares is -2 (element 1)"},
      {type, {sums, {"w.counts", {1, 1}, {-4}}}, "a count is -4"},
      {type, {sums, {"w.counts", {1, 1}, {NAN}}}, "a count is nan"},
      {type, {sums, {"w.in_sum", {2, 1}, {NAN, 0}}, counts}, "a sum is not finite"},
      {type, {{".in_sum2", {2, 1}, {1, 2}}, {".counts", {1, 1}, {4}}}, "the name of a tensor is empty"},
      {{type[0], {"imatrix.chunk_count", std::int32_t{1}}}, {sums, counts}, "key 'imatrix.chunk_count' has type INT32"},
      {{type[0],
        {"split.no", std::uint16_t{0}},
        {"split.count", std::uint16_t{2}},
        {"split.tensors.count", std::int32_t{2}}},
       {sums, counts},
       "in several files is not supported"},
  };
  for (const Case& c : cases) {
    const TempFolder folder;
    const auto path = put_gguf(folder, c.keys, c.tensors);
    expect_error(ErrorKind::bad_data, c.words, [&] { read_imatrix(path); });
  }
}

TEST(Imatrix, RefusesToWriteWhatItWouldNotRead) {
  const TempFolder folder;
  const auto expect = [&](const std::function<void(Imatrix&)>& spoil, ImatrixKind kind, std::string_view words) {
    Imatrix imatrix;
    imatrix.entries = {{"a", {1, 2}, {4}, {}}, {"b", {1, 2}, {4}, {}}};
    spoil(imatrix);
    expect_error(ErrorKind::bad_data, words, [&] { write_imatrix(folder / "x", imatrix, kind); });
    EXPECT_FALSE(std::filesystem::exists(folder / "x"));
  };
  for (const ImatrixKind kind : {ImatrixKind::gguf, ImatrixKind::dat}) {
    expect([](Imatrix& m) { m.entries.clear(); }, kind, "without entries");
    expect([](Imatrix& m) { m.entries[1].tensor = "a"; }, kind, "tensor 'a' is there twice");
    expect([](Imatrix& m) { m.entries[0].sums[1] = NAN; }, kind, "a sum of squares is nan");
    expect([](Imatrix& m) { m.entries[0].counts = {1, 1, 1}; }, kind, "2 sums for 3 matrices");
    expect([](Imatrix& m) { m.entries[0].plain_sums = {1}; }, kind, "1 plain sums, 2 sums of squares");
  }
  expect([](Imatrix& m) { m.entries[0].counts = {0.5}; }, ImatrixKind::dat, "a count of 0.5 is no whole number");
  expect([](Imatrix& m) { m.entries[0].counts = {3e9}; }, ImatrixKind::dat, "no whole number below 2^31");
}

TEST(Imatrix, KnowsItsKindsByTheirEndings) {
  EXPECT_EQ(imatrix_kind_of("x/a.gguf"), ImatrixKind::gguf);
  EXPECT_EQ(imatrix_kind_of("a.dat"), ImatrixKind::dat);
  EXPECT_EQ(imatrix_kind_of("a.imatrix"), ImatrixKind::dat);
  expect_error(ErrorKind::usage, "a.txt: an importance matrix is a .gguf file", [] { imatrix_kind_of("a.txt"); });
  expect_error(ErrorKind::missing_input, "nowhere.dat", [] { read_imatrix("nowhere.dat"); });
}

}  // namespace
}  // namespace adze
