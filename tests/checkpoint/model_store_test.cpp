#include "checkpoint/model_store.h"

#include <algorithm>
#include <array>

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "base/hash.h"
#include "base/parallel.h"
#include "base/random.h"
#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/finite_scan.h"
#include "checkpoint/model_store_format.h"
#include "checkpoint/safetensors_folder.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/sidecar.h"

namespace adze {
namespace {

using testing::expect_error;
using testing::TempFolder;
using u64 = std::uint64_t;

/// `count` finite BF16 values.
std::string bf16_bytes(std::size_t count, std::string_view name) {
  RandomStream random(7, name);
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) bytes += testing::raw(float_to_bf16(static_cast<float>(random.normal())));
  return bytes;
}

constexpr u64 kLargeCount = 5 * 1024 * 1024;  // 10 MiB of BF16: two pieces

/// A checkpoint of two shards: "a" [2, 3], "big" [5, 2^20], "none" [0], "s" scalar F32.
class ModelStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    make_folder(checkpoint());
    const SafetensorsSpec a{"a", SafetensorsType::bf16, {2, 3}};
    const SafetensorsSpec big{"big", SafetensorsType::bf16, {5, 1 << 20}};
    const SafetensorsSpec none{"none", SafetensorsType::f32, {0}};
    const SafetensorsSpec scalar{"s", SafetensorsType::f32, {}};
    const std::string one = testing::raw(1.0f);
    write_safetensors(checkpoint() / "1", std::vector<SafetensorsItem>{{a, as_bytes(a_)}, {none, {}}});
    write_safetensors(checkpoint() / "2", std::vector<SafetensorsItem>{{big, as_bytes(big_)}, {scalar, as_bytes(one)}});
    write_file(checkpoint() / "model.safetensors.index.json",
               R"({"weight_map":{"a":"1","none":"1","big":"2","s":"2"}})");
    write_file(checkpoint() / "config.json", "{ \"x\": 1 }\n");
  }

  std::filesystem::path checkpoint() const { return folder_ / "checkpoint"; }
  std::filesystem::path store() const { return folder_ / "m.h5"; }
  void import(bool copy = false) const {
    const auto source = open_checkpoint_folder(checkpoint());
    write_model_store(store(), {read_folder_files(checkpoint()), {{"a", "embedding"}}}, *source, copy);
  }
  std::string read(const ModelStore& model, std::string_view name) const {
    const TensorInfo& info = *model.find(name);
    std::string bytes(info.bytes, '\0');
    model.read(info, 0, std::as_writable_bytes(std::span(bytes)));
    return bytes;
  }
  /// Changes one byte of a file in place and gives it its old time back.
  static void damage(const std::filesystem::path& path, u64 offset) {
    const auto time = std::filesystem::last_write_time(path);
    std::string bytes = read_file(path);
    bytes.at(offset) = static_cast<char>(bytes.at(offset) ^ 1);
    write_file(path, bytes);
    std::filesystem::last_write_time(path, time);
  }

  TempFolder folder_;
  std::string a_ = bf16_bytes(6, "a");
  std::string big_ = bf16_bytes(kLargeCount, "big");
};

TEST_F(ModelStoreTest, GivesTheSameTensorsByReferenceAndByCopy) {
  for (const bool copy : {false, true}) {
    import(copy);
    const auto model = ModelStore::open(store());
    EXPECT_EQ(model->is_copy(), copy);
    ASSERT_EQ(model->tensors().size(), 4u);
    EXPECT_EQ(read(*model, "a"), a_);
    EXPECT_TRUE(read(*model, "big") == big_);
    EXPECT_EQ(read(*model, "none"), "");
    EXPECT_EQ(read(*model, "s"), testing::raw(1.0f));
    EXPECT_EQ(model->find("a")->shape, (std::vector<u64>{2, 3}));
    EXPECT_TRUE(model->find("s")->shape.empty());
    EXPECT_EQ(model->find("big")->dtype, DType::bf16);
    EXPECT_EQ(model->canonical_name(*model->find("a")), "embedding");
    EXPECT_EQ(model->canonical_name(*model->find("s")), "s");
    EXPECT_EQ(model->find_canonical("embedding"), model->find("a"));
    EXPECT_EQ(model->find_canonical("a"), nullptr);
    EXPECT_EQ(model->content_hash(*model->find("big")), hash_hex(big_));
    EXPECT_EQ(*model->file("config.json"), "{ \"x\": 1 }\n");
    EXPECT_EQ(model->file("tokenizer.json"), nullptr);
    EXPECT_EQ(model->place(*model->find("a")).has_value(), !copy);
  }
}

TEST_F(ModelStoreTest, RefersToItsFilesRelativeToItself) {
  import();
  const auto model = ModelStore::open(store());
  ASSERT_EQ(model->source_files().size(), 2u);
  EXPECT_EQ(model->source_files()[0].path, "checkpoint/1");
  const auto moved = folder_ / "moved";
  make_folder(moved);
  for (const char* const name : {"m.h5", "m.h5.xxh3", "checkpoint"})
    std::filesystem::rename(folder_ / name, moved / name);
  EXPECT_EQ(read(*ModelStore::open(moved / "m.h5"), "a"), a_);
}

TEST_F(ModelStoreTest, ACopyNeedsItsSourceNoMore) {
  import(true);
  std::filesystem::remove_all(checkpoint());
  EXPECT_TRUE(read(*ModelStore::open(store()), "big") == big_);
}

TEST_F(ModelStoreTest, IsTheSameForAnyThreadCount) {
  std::string expected;
  for (const bool copy : {false, true})
    for (const int threads : {1, 4}) {
      set_thread_count(threads);
      import(copy);
      if (threads == 1) expected = hash_file(store());
      EXPECT_EQ(hash_file(store()), expected);
    }
  set_thread_count(0);
}

TEST_F(ModelStoreTest, ReadsPiecesAfterCheckingTheWholeTensor) {
  import();
  const auto model = ModelStore::open(store());
  std::string part(100, '\0');
  const TensorInfo& big = *model->find("big");
  model->read(big, 9'000'000, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(part, big_.substr(9'000'000, 100));
  expect_error(ErrorKind::bad_data, "tensor 'big': bytes 10485700 to",
               [&] { model->read(big, 10'485'700, std::as_writable_bytes(std::span(part))); });
}

TEST_F(ModelStoreTest, NoticesChangedContentOnFirstRead) {
  import();
  const u64 in_big = std::filesystem::file_size(checkpoint() / "2") - 100;  // far behind what is read below
  damage(checkpoint() / "2", in_big);
  const auto model = ModelStore::open(store());
  EXPECT_EQ(read(*model, "a"), a_);
  std::byte first{};
  for (int again = 0; again < 2; ++again)
    expect_error(ErrorKind::bad_data, "tensor 'big': its content has hash", [&] {
      model->read(*model->find("big"), 0, {&first, 1});
    });
  expect_error(ErrorKind::bad_data, "when it was imported; import it again", [&] { read(*model, "big"); });
}

TEST_F(ModelStoreTest, ChecksConcurrentFirstReads) {
  import();
  const auto model = ModelStore::open(store());
  std::atomic<int> good = 0;
  std::vector<std::thread> threads;
  for (u64 t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::string part(1000, '\0');
      model->read(*model->find("big"), t * 1000, std::as_writable_bytes(std::span(part)));
      good += part == big_.substr(t * 1000, 1000);
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 4);
}

TEST_F(ModelStoreTest, NoticesChangedSizesAndTimesOnOpening) {
  import();
  const auto file = checkpoint() / "1";
  const auto time = std::filesystem::last_write_time(file);
  std::filesystem::last_write_time(file, time + std::chrono::seconds(1));
  expect_error(ErrorKind::bad_data, "import it again, or give --source", [&] { ModelStore::open(store()); });
  EXPECT_EQ(read(*ModelStore::open(store(), {checkpoint(), false}), "a"), a_) << "--source goes by content";
  write_file(file, read_file(file) + "x");
  std::filesystem::last_write_time(file, time);
  expect_error(ErrorKind::bad_data, "when it was imported into", [&] { ModelStore::open(store()); });
  expect_error(ErrorKind::bad_data, "when it was imported into", [&] {
    ModelStore::open(store(), {checkpoint(), false});
  });
}

TEST_F(ModelStoreTest, FindsAMovedCheckpointThroughItsOption) {
  import();
  const auto moved = folder_ / "elsewhere";
  std::filesystem::rename(checkpoint(), moved);
  expect_error(ErrorKind::missing_input, "give --source DIR if it moved", [&] { ModelStore::open(store()); });
  const auto model = ModelStore::open(store(), {moved, false});
  EXPECT_TRUE(read(*model, "big") == big_);
  damage(moved / "1", std::filesystem::file_size(moved / "1") - 1);
  expect_error(ErrorKind::bad_data, "tensor 'a': its content has hash", [&] {
    read(*ModelStore::open(store(), {moved, false}), "a");
  });
}

TEST_F(ModelStoreTest, ChecksItsOwnChecksumUnlessTrusted) {
  import();
  std::filesystem::remove(sidecar_path(store()));
  expect_error(ErrorKind::bad_data, "m.h5.xxh3 is missing", [&] { ModelStore::open(store()); });
  EXPECT_EQ(read(*ModelStore::open(store(), {std::nullopt, true}), "a"), a_);
  write_file(sidecar_path(store()), std::string(32, '0'));
  expect_error(ErrorKind::bad_data, "damaged or changed", [&] { ModelStore::open(store()); });
  expect_error(ErrorKind::missing_input, "none.h5", [&] { ModelStore::open(folder_ / "none.h5"); });
}

TEST_F(ModelStoreTest, RefusesOtherHdf5Files) {
  Hdf5Writer writer(store());
  writer.commit();
  write_sidecar(store());
  expect_error(ErrorKind::bad_data, "m.h5: not a model store", [&] { ModelStore::open(store()); });
}

TEST_F(ModelStoreTest, NamesTheTensorThatHoldsNaNOrInfinity) {
  const std::array<std::pair<std::uint16_t, u64>, 3> cases{
      {{0x7FC0, 0}, {0x7F80, 5 * 1024 * 1024 - 1}, {0xFF80, 4'500'000}}};
  for (const auto& [bits, element] : cases)
    for (const bool copy : {false, true}) {
      std::string data = big_;
      std::memcpy(data.data() + 2 * element, &bits, 2);
      const SafetensorsSpec spec{"big", SafetensorsType::bf16, {kLargeCount}};
      std::filesystem::remove(checkpoint() / "model.safetensors.index.json");
      write_safetensors(checkpoint() / "model.safetensors", std::vector<SafetensorsItem>{{spec, as_bytes(data)}});
      expect_error(ErrorKind::bad_data, fmt::format("tensor 'big': NaN or infinity at element {}", element),
                   [&] { write_model_store(store(), {}, *open_checkpoint_folder(checkpoint()), copy); });
      EXPECT_FALSE(std::filesystem::exists(store()));
    }
}

TEST_F(ModelStoreTest, RefusesCanonicalNamesThatAreUnknownOrShared) {
  const auto source = open_checkpoint_folder(checkpoint());
  expect_error(ErrorKind::bad_data, "tensor 'zz' (canonical 'c') is missing", [&] {
    write_model_store(store(), {{}, {{"zz", "c"}}}, *source, false);
  });
  expect_error(ErrorKind::bad_data, "two tensors have the canonical name 's'", [&] {
    write_model_store(store(), {{}, {{"a", "s"}}}, *source, false);
  });
  expect_error(ErrorKind::internal, "cannot be the name of a kept file", [&] {
    write_model_store(store(), {{{"a/b", ""}}, {}}, *source, false);
  });
}

/// A source whose tensors lie in no file.
class MemorySource final : public TensorSource {
 public:
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return "memory"; }
  void read(const TensorInfo&, u64, std::span<std::byte> out) const override { std::ranges::fill(out, std::byte{1}); }

 private:
  std::vector<TensorInfo> tensors_{{"t", DType::u8, {3}, 3}};
};

TEST_F(ModelStoreTest, CopiesWhatCannotBeReferredTo) {
  expect_error(ErrorKind::usage, "tensor 't' lies in no plain file",
               [&] { write_model_store(store(), {}, MemorySource(), false); });
  write_model_store(store(), {}, MemorySource(), true);
  EXPECT_EQ(read(*ModelStore::open(store()), "t"), "\1\1\1");
}

TEST_F(ModelStoreTest, TellsProgressInBytes) {
  struct Recorder : Progress {
    void start(std::string_view, u64 total_bytes) override { total = total_bytes; }
    void update(u64 done_bytes) override {
      EXPECT_GE(done_bytes, done);
      done = done_bytes;
    }
    u64 total = 0;
    u64 done = 0;
  };
  for (const bool copy : {false, true}) {
    Recorder recorder;
    write_model_store(store(), {}, *open_checkpoint_folder(checkpoint()), copy, recorder);
    EXPECT_EQ(recorder.total, 2 * kLargeCount + 12 + 4);
    EXPECT_EQ(recorder.done, recorder.total);
  }
}

/// The columns of a store with one tensor "t" U8 [2] in file "f" of 8 bytes; a test spoils one of them.
struct Columns {
  std::string format = std::string(store::kFormat);
  u64 version = store::kVersion;
  std::vector<std::string> paths{"f"};
  std::vector<u64> source_bytes{8};
  std::vector<std::string> names{"t"};
  std::vector<std::string> canonical{"c"};
  std::vector<std::string> dtypes{"u8"};
  std::vector<std::string> hashes{std::string(32, '0')};
  std::vector<u64> ranks{1};
  std::vector<u64> dims{2};
  std::vector<u64> bytes{2};
  std::vector<u64> files{0};
  std::vector<u64> offsets{6};

  void write(const std::filesystem::path& path) const {
    Hdf5Writer writer(path);
    writer.set_attribute("/", "format", format);
    writer.set_attribute("/", "version", version);
    writer.set_attribute("/", "copied", u64{0});
    for (const char* const group : {"files", "sources", "tensors"}) writer.make_group(group);
    writer.write_texts("sources/path", paths);
    writer.write<u64>("sources/bytes", source_bytes);
    writer.write<u64>("sources/modified_ns", std::vector<u64>(paths.size()));
    writer.write_texts("tensors/name", names);
    writer.write_texts("tensors/canonical", canonical);
    writer.write_texts("tensors/dtype", dtypes);
    writer.write_texts("tensors/hash", hashes);
    writer.write<u64>("tensors/rank", ranks);
    writer.write<u64>("tensors/dims", dims);
    writer.write<u64>("tensors/bytes", bytes);
    writer.write<u64>("tensors/file", files);
    writer.write<u64>("tensors/offset", offsets);
    writer.commit();
    write_sidecar(path);
  }
};

TEST(ModelStore, RejectsEveryInconsistentTable) {
  const TempFolder folder;
  folder.put("f", "12345678");
  const auto expect = [&](std::string_view words, const std::function<void(Columns&)>& spoil) {
    Columns columns;
    spoil(columns);
    columns.write(folder / "m.h5");
    expect_error(ErrorKind::bad_data, words, [&] { ModelStore::open(folder / "m.h5", {folder.path(), false}); });
  };
  Columns().write(folder / "m.h5");
  const auto good = ModelStore::open(folder / "m.h5", {folder.path(), false});
  std::byte two[2];
  expect_error(ErrorKind::bad_data, "its content has hash", [&] { good->read(good->tensors()[0], 0, two); });

  expect("not a model store", [](Columns& c) { c.format = "other"; });
  expect("model store version 2, this program reads 1", [](Columns& c) { c.version = 2; });
  expect("source file '/f' is not a path relative", [](Columns& c) { c.paths = {"/f"}; });
  expect("source file '' is not a path relative", [](Columns& c) { c.paths = {""}; });
  expect("'sources/bytes' has 2 rows instead of 1", [](Columns& c) { c.source_bytes = {8, 8}; });
  expect("'tensors/canonical' has 0 rows instead of 1", [](Columns& c) { c.canonical.clear(); });
  expect("'tensors/rank' has 2 rows instead of 1", [](Columns& c) { c.ranks = {1, 1}; });
  expect("tensor '': an empty name", [](Columns& c) { c.names = {""}; });
  expect("tensor 't': an empty name", [](Columns& c) { c.canonical = {""}; });
  expect("tensor 't': unknown dtype 'q4'", [](Columns& c) { c.dtypes = {"q4"}; });
  expect("tensor 't': its content hash is malformed", [](Columns& c) { c.hashes = {"XYZ"}; });
  expect("tensor 't': 2 dimensions, 1 are left", [](Columns& c) { c.ranks = {2}; });
  expect("tensor 't': 17 dimensions", [](Columns& c) { c.ranks = {17}, c.dims.assign(17, 1); });
  expect("1 dimensions belong to no tensor", [](Columns& c) { c.dims = {2, 2}; });
  expect("2 bytes are recorded, shape and dtype need 3", [](Columns& c) { c.dims = {3}; });
  expect("overflow", [](Columns& c) { c.ranks = {2}, c.dims = {u64{1} << 40, u64{1} << 40}; });
  expect("it lies in source file 1 of 1", [](Columns& c) { c.files = {1}; });
  expect("2 bytes at 7 do not lie inside its file of 8", [](Columns& c) { c.offsets = {7}; });
  expect("do not lie inside its file of 8", [](Columns& c) { c.offsets = {~u64{0}}; });
  expect("f: 8 bytes, 9 when it was imported", [](Columns& c) { c.source_bytes = {9}; });
  const auto twice = [](Columns& c) {
    for (auto* column : {&c.names, &c.canonical, &c.dtypes, &c.hashes}) column->push_back(column->front());
    for (auto* column : {&c.ranks, &c.dims, &c.bytes, &c.files, &c.offsets}) column->push_back(column->front());
  };
  expect("names are not sorted and unique", twice);
  expect("names are not sorted and unique", [&](Columns& c) { twice(c), c.names[1] = "a"; });
  expect("its canonical name 'c' is another tensor's too", [&](Columns& c) { twice(c), c.names[1] = "u"; });
}

TEST(FiniteScan, FindsTheFirstBadValueOfEveryFloatType) {
  const auto scan = []<typename T>(DType dtype, T good, T bad) {
    for (const std::size_t at : {0u, 1u, 1023u, 1024u, 2999u}) {
      std::vector<T> values(3000, good);
      EXPECT_EQ(find_non_finite(dtype, std::as_bytes(std::span(values))), std::nullopt);
      values[at] = bad;
      values.back() = bad;
      EXPECT_EQ(find_non_finite(dtype, std::as_bytes(std::span(values))), at);
    }
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), kInfinity, -kInfinity}) {
    scan(DType::f64, std::numeric_limits<double>::max(), bad);
    scan(DType::f32, std::numeric_limits<float>::lowest(), static_cast<float>(bad));
    scan(DType::bf16, std::uint16_t{0xFF7F}, float_to_bf16(static_cast<float>(bad)));
    scan(DType::f16, std::uint16_t{0x7BFF}, float_to_f16(static_cast<float>(bad)));
  }
  const std::vector<std::uint8_t> ones(64, 0xFF);
  for (const DType dtype : {DType::u8, DType::i16, DType::i32, DType::u64, DType::boolean})
    EXPECT_EQ(find_non_finite(dtype, std::as_bytes(std::span(ones))), std::nullopt);
}

}  // namespace
}  // namespace adze
