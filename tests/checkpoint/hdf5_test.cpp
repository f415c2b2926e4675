#include "checkpoint/hdf5.h"

#include <algorithm>
#include <thread>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/sidecar.h"

namespace adze {
namespace {

using testing::expect_error;
using testing::TempFolder;
using u64 = std::uint64_t;

/// A file with one of everything, and enough links and attributes to leave the compact forms.
void write_sample(const std::filesystem::path& path) {
  Hdf5Writer writer(path);
  writer.set_attribute("/", "format", std::string("sample"));
  writer.set_attribute("/", "empty", std::string());
  writer.set_attribute("/", "version", u64{1} << 63);
  writer.set_attribute("/", "ratio", 0.1);
  writer.make_group("numbers");
  writer.make_group("numbers/inner");
  writer.write<float>("numbers/f32", std::vector<float>{1.5f, -2});
  writer.write<double>("numbers/inner/f64", std::vector<double>{0.1});
  writer.write<std::int32_t>("numbers/i32", std::vector<std::int32_t>{-1, 2, 3});
  writer.write<u64>("numbers/u64", std::vector<u64>{~u64{0}});
  writer.write<std::uint8_t>("numbers/u8", std::vector<std::uint8_t>{0, 255});
  writer.write<float>("numbers/none", {});
  writer.write_bytes("blob", std::string_view("\0\1\2", 3));
  writer.write_texts("texts", std::vector<std::string>{"", "h\xC3\xA9", "longer"});
  writer.write_texts("no_texts", {});
  writer.make_group("many");
  for (int i = 0; i < 40; ++i) {
    writer.write<u64>("many/" + std::to_string(i), std::vector<u64>{static_cast<u64>(i)});
    writer.set_attribute("many", "a" + std::to_string(i), static_cast<u64>(i));
  }
  writer.create<std::byte>("parts", 5);
  writer.write_part<std::byte>("parts", 3, as_bytes("de"));
  writer.write_part<std::byte>("parts", 0, as_bytes("abc"));
  writer.commit();
}

TEST(Hdf5, ReadsBackWhatItWrote) {
  const TempFolder folder;
  write_sample(folder / "x.h5");
  const Hdf5Reader reader(folder / "x.h5");
  EXPECT_EQ(reader.text("/", "format"), "sample");
  EXPECT_EQ(reader.text("", "empty"), "");
  EXPECT_EQ(reader.number("/", "version"), u64{1} << 63);
  EXPECT_EQ(reader.real("/", "ratio"), 0.1);
  EXPECT_EQ(reader.number("many", "a39"), 39u);
  EXPECT_EQ(reader.read<float>("numbers/f32", 2), (std::vector<float>{1.5f, -2}));
  EXPECT_EQ(reader.read<double>("/numbers/inner/f64", 9), (std::vector<double>{0.1}));
  EXPECT_EQ(reader.read<std::int32_t>("numbers/i32", 3), (std::vector<std::int32_t>{-1, 2, 3}));
  EXPECT_EQ(reader.read<u64>("numbers/u64", 1), (std::vector<u64>{~u64{0}}));
  EXPECT_EQ(reader.read<std::uint8_t>("numbers/u8", 2), (std::vector<std::uint8_t>{0, 255}));
  EXPECT_TRUE(reader.read<float>("numbers/none", 0).empty());
  EXPECT_EQ(reader.read_bytes("blob", 3), std::string("\0\1\2", 3));
  EXPECT_EQ(reader.read_bytes("parts", 5), "abcde");
  EXPECT_TRUE(std::ranges::equal(reader.read_array("parts", 5), as_bytes("abcde")));
  EXPECT_EQ(reader.read_texts("texts", 3, 6), (std::vector<std::string>{"", "h\xC3\xA9", "longer"}));
  EXPECT_TRUE(reader.read_texts("no_texts", 3, 6).empty());
  EXPECT_EQ(reader.count("numbers/i32"), 3u);
  EXPECT_EQ(reader.names("numbers"), (std::vector<std::string>{"f32", "i32", "inner", "none", "u64", "u8"}));
  EXPECT_EQ(reader.names("/"), (std::vector<std::string>{"blob", "many", "no_texts", "numbers", "parts", "texts"}));
  EXPECT_EQ(reader.names("many").size(), 40u);
  EXPECT_TRUE(reader.has("numbers/inner") && reader.has("/blob") && !reader.has("inner"));
  EXPECT_TRUE(reader.has_attribute("/", "format") && !reader.has_attribute("/", "other"));
}

TEST(Hdf5, WritesTheSameBytesEveryTime) {
  const TempFolder folder;
  write_sample(folder / "a.h5");
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5's time stamps count seconds
  std::thread([&] { write_sample(folder / "b.h5"); }).join();
  EXPECT_TRUE(read_file(folder / "a.h5") == read_file(folder / "b.h5"));
}

TEST(Hdf5, ChecksTypesLimitsAndRangesOnReading) {
  const TempFolder folder;
  write_sample(folder / "x.h5");
  const Hdf5Reader reader(folder / "x.h5");
  std::vector<float> three(3);
  const auto bad = [](std::string_view words, const std::function<void()>& body) {
    expect_error(ErrorKind::bad_data, words, body);
  };
  bad("x.h5: 'numbers/f32' has 2 elements, more than the limit of 1", [&] { reader.read<float>("numbers/f32", 1); });
  bad("'numbers/f32' is not a dataset of the expected type", [&] { reader.read<double>("numbers/f32", 9); });
  bad("'parts' has 5 elements, more than the limit of 4", [&] { reader.read_array("parts", 4); });
  bad("'numbers/f32' is not a dataset of the expected type", [&] { reader.read_array("numbers/f32", 9); });
  bad("'numbers' is not a dataset", [&] { reader.read<float>("numbers", 9); });
  bad("'nothing' is missing", [&] { reader.read<float>("nothing", 9); });
  bad("elements 0 to 0+3 lie outside its 2", [&] { reader.read_part<float>("numbers/f32", 0, three); });
  bad("lie outside its 2", [&] { reader.read_part<float>("numbers/f32", ~u64{0}, three); });
  bad("texts of 6 bytes, more than the limit of 5", [&] { reader.read_texts("texts", 3, 5); });
  bad("'texts' has 3 elements, more than the limit of 2", [&] { reader.read_texts("texts", 2, 6); });
  bad("'/' has no attribute 'other'", [&] { reader.text("/", "other"); });
  bad("attribute 'format' has another type", [&] { reader.number("/", "format"); });
  bad("attribute 'version' has another type", [&] { reader.real("/", "version"); });
  bad("'blob' is not a group", [&] { reader.names("blob"); });
  bad("'numbers' is a group", [&] { reader.count("numbers"); });
}

TEST(Hdf5, RefusesWrongUseOnWriting) {
  const TempFolder folder;
  Hdf5Writer writer(folder / "x.h5");
  expect_error(ErrorKind::internal, "contains NUL",
               [&] { writer.write_texts("t", std::vector<std::string>{std::string("\0", 1)}); });
  expect_error(ErrorKind::internal, "contains NUL", [&] { writer.set_attribute("/", "a", std::string("\0", 1)); });
  expect_error(ErrorKind::internal, "too long", [&] { writer.set_attribute("/", "a", std::string(60'001, 'x')); });
  expect_error(ErrorKind::io, "x.h5: cannot create dataset 'no/group'", [&] { writer.create<float>("no/group", 1); });
  expect_error(ErrorKind::io, "cannot write dataset 'none'",
               [&] { writer.write_part<float>("none", 0, std::vector<float>(1)); });
  writer.create<float>("short", 2);
  expect_error(ErrorKind::io, "cannot write dataset 'short'",
               [&] { writer.write_part<float>("short", 1, std::vector<float>(2)); });
  expect_error(ErrorKind::io, "cannot create dataset 'short'", [&] { writer.create<float>("short", 2); });
  expect_error(ErrorKind::cannot_create, "cannot create the file", [] { Hdf5Writer("/nonexistent/folder/x.h5"); });
}

TEST(Hdf5, LeavesNothingBehindWithoutCommit) {
  const TempFolder folder;
  { Hdf5Writer(folder / "x.h5").make_group("g"); }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Hdf5, RefusesOtherFiles) {
  const TempFolder folder;
  expect_error(ErrorKind::missing_input, "cannot open", [&] { Hdf5Reader(folder / "none.h5"); });
  for (const std::string_view bytes : {"", "\x89HDF", "not an HDF5 file at all"})
    expect_error(ErrorKind::bad_data, "x.h5: not an HDF5 file", [&] { Hdf5Reader(folder.put("x.h5", bytes)); });
  expect_error(ErrorKind::bad_data, "x.h5: cannot open it as HDF5",
               [&] { Hdf5Reader(folder.put("x.h5", std::string("\x89HDF\r\n\x1a\n") + std::string(100, '\7'))); });
}

TEST(Hdf5, RefusesItsFileCutShort) {
  const TempFolder folder;
  write_sample(folder / "x.h5");
  const std::string whole = read_file(folder / "x.h5");
  for (std::size_t length = 0; length < whole.size(); length += 37) {
    SCOPED_TRACE(length);
    EXPECT_THROW(Hdf5Reader(folder.put("cut.h5", whole.substr(0, length))), Error);
  }
}

TEST(Hdf5, ReadsFromManyThreads) {
  const TempFolder folder;
  write_sample(folder / "x.h5");
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      const Hdf5Reader reader(folder / "x.h5");
      for (u64 i = 0; i < 40; ++i) good += reader.read<u64>("many/" + std::to_string(i), 1)[0] == i;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 160);
}

TEST(Sidecar, AcceptsTheFileItDescribesOnly) {
  const TempFolder folder;
  const auto path = folder.put("x.h5", "content");
  expect_error(ErrorKind::bad_data, "its checksum file x.h5.xxh3 is missing", [&] { check_sidecar(path); });
  write_sidecar(path);
  EXPECT_THAT(read_file(folder / "x.h5.xxh3"), ::testing::MatchesRegex("[0-9a-f]{32}  x\\.h5\n"));
  check_sidecar(path);
  folder.put("x.h5", "Content");
  expect_error(ErrorKind::bad_data, "damaged or changed", [&] { check_sidecar(path); });
  folder.put("x.h5", "content");
  folder.put("x.h5.xxh3", "");
  expect_error(ErrorKind::bad_data, "damaged or changed", [&] { check_sidecar(path); });
  expect_error(ErrorKind::missing_input, "none.h5", [&] { check_sidecar(folder / "none.h5"); });
}

}  // namespace
}  // namespace adze
