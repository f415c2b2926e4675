#include "checkpoint/gguf.h"

#include <algorithm>
#include <array>
#include <limits>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/gguf_cursor.h"
#include "checkpoint/gguf_writer.h"

namespace adze {
namespace {

using testing::expect_error;
using testing::raw;
using testing::TempFolder;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

/// The minimal file of the format sheet: two keys and one F32 tensor {4, 2} that holds 1 to 8.
constexpr std::string_view kGoldenHex =
    "47475546030000000100000000000000"
    "02000000000000001400000000000000"
    "67656e6572616c2e6172636869746563"
    "74757265080000000500000000000000"
    "6c6c616d61110000000000000067656e"
    "6572616c2e616c69676e6d656e740400"
    "000020000000080000000000000074"
    "2e"
    "77656967687402000000040000000000"
    "00000200000000000000000000000000"
    "00000000000000000000000000000000"
    "0000803f000000400000404000008040"
    "0000a0400000c0400000e04000000041";

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return bytes;
}

std::string text(std::string_view value) { return raw<u64>(value.size()).append(value); }
std::string key_value(std::string_view key, u32 type, std::string_view payload) {
  return text(key) + raw(type) + std::string(payload);
}
std::string array_of(u32 element_type, u64 count, std::string_view elements) {
  return raw(element_type) + raw(count) + std::string(elements);
}
std::string tensor_info(std::string_view name, const std::vector<u64>& dims, u32 type, u64 offset) {
  std::string info = text(name) + raw(static_cast<u32>(dims.size()));
  for (const u64 dim : dims) info += raw(dim);
  return info + raw(type) + raw(offset);
}

/// A hand-made file; every part can be wrong.
struct Parts {
  std::string magic = "GGUF";
  u32 version = 3;
  std::vector<std::string> keys;
  std::vector<std::string> infos;
  u64 data_bytes = 0;
  u64 extra_keys = 0;
  u64 extra_tensors = 0;
  u64 alignment = 32;

  std::string bytes() const {
    std::string out =
        magic + raw(version) + raw<u64>(infos.size() + extra_tensors) + raw<u64>(keys.size() + extra_keys);
    for (const auto& key : keys) out += key;
    for (const auto& info : infos) out += info;
    out.resize((out.size() + alignment - 1) / alignment * alignment, '\0');
    return out + std::string(data_bytes, '\1');
  }
};

void expect_open_error(const Parts& parts, std::string_view words) {
  const TempFolder folder;
  const auto path = folder.put("x.gguf", parts.bytes());
  expect_error(ErrorKind::bad_data, words, [&] { GgufFile{path}; });
  expect_error(ErrorKind::bad_data, "x.gguf: ", [&] { GgufFile{path}; });
}

void expect_key_error(const std::string& record, std::string_view words) {
  Parts parts;
  parts.keys = {record};
  expect_open_error(parts, words);
}

void expect_info_error(const std::string& info, std::string_view words, u64 data_bytes = 32) {
  Parts parts;
  parts.infos = {info};
  parts.data_bytes = data_bytes;
  expect_open_error(parts, words);
}

std::string read_all(const GgufFile& file, const GgufTensor& tensor) {
  std::string bytes(tensor.bytes, '\0');
  file.read(tensor, 0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

TEST(Gguf, ReadsTheGoldenFile) {
  const TempFolder folder;
  const GgufFile file(folder.put("x", from_hex(kGoldenHex)));
  EXPECT_EQ(file.file_bytes(), 192u);
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.alignment(), 32u);
  EXPECT_EQ(file.get<std::string>("general.architecture"), "llama");
  EXPECT_EQ(file.find_value("none"), nullptr);
  ASSERT_EQ(file.tensors().size(), 1u);
  const GgufTensor& tensor = *file.find_tensor("t.weight");
  EXPECT_EQ(tensor.dims, (std::vector<u64>{4, 2}));
  EXPECT_EQ(tensor.type->name, "F32");
  EXPECT_EQ(tensor.offset, 160u);
  std::array<float, 8> values{};
  file.read(tensor, 0, std::as_writable_bytes(std::span(values)));
  EXPECT_EQ(values, (std::array<float, 8>{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_FALSE(file.split());
}

TEST(Gguf, WritesTheGoldenFileByteForByte) {
  const TempFolder folder;
  const std::vector<GgufKeyValue> metadata{{"general.architecture", std::string("llama")},
                                           {"general.alignment", u32{32}}};
  const std::vector<GgufTensorSpec> specs{{"t.weight", 0, {4, 2}}};
  const std::array<float, 8> values{1, 2, 3, 4, 5, 6, 7, 8};
  GgufWriter writer(folder / "x", metadata, specs);
  writer.write("t.weight", std::as_bytes(std::span(values)));
  writer.commit();
  EXPECT_EQ(read_file(folder / "x"), from_hex(kGoldenHex));
  EXPECT_EQ(predict_gguf_bytes(metadata, specs), 192u);
}

TEST(Gguf, RejectsTheGoldenFileCutAtEveryLengthOrGrown) {
  const TempFolder folder;
  const std::string whole = from_hex(kGoldenHex);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    SCOPED_TRACE(length);
    const auto path = folder.put("x", whole.substr(0, length));
    expect_error(ErrorKind::bad_data, length < 160 ? "" : "it is cut short", [&] { GgufFile{path}; });
  }
  expect_error(ErrorKind::bad_data, "trailing bytes", [&] { GgufFile(folder.put("x", whole + '\0')); });
}

TEST(Gguf, KeepsEveryValueTypeThroughWriterAndReader) {
  const TempFolder folder;
  const std::vector<GgufKeyValue> metadata{{"a.u8", std::uint8_t{255}},
                                           {"a.i8", std::int8_t{-128}},
                                           {"a.u16", std::uint16_t{65535}},
                                           {"a.i16", std::int16_t{-32768}},
                                           {"a.u32", u32{1} << 31},
                                           {"a.i32", std::int32_t{-5}},
                                           {"a.f32", 1.5f},
                                           {"a.bool", true},
                                           {"a.text", std::string("h\xC3\xA9\0y", 5)},
                                           {"a.u64", ~u64{0}},
                                           {"a.i64", std::numeric_limits<std::int64_t>::min()},
                                           {"a.f64", -0.1},
                                           {"b.u8", std::vector<std::uint8_t>{1, 2}},
                                           {"b.i8", std::vector<std::int8_t>{-1}},
                                           {"b.u16", std::vector<std::uint16_t>{7}},
                                           {"b.i16", std::vector<std::int16_t>{-7, 7}},
                                           {"b.u32", std::vector<u32>{1, 2, 3}},
                                           {"b.i32", std::vector<std::int32_t>{-1}},
                                           {"b.f32", std::vector<float>{0.5f}},
                                           {"b.bool", std::vector<bool>{true, false, true}},
                                           {"b.text", std::vector<std::string>{"", "x", std::string(300, 'y')}},
                                           {"b.u64", std::vector<u64>{9}},
                                           {"b.i64", std::vector<std::int64_t>{-9}},
                                           {"b.f64", std::vector<double>{2.5, 3}}};
  GgufWriter(folder / "x", metadata, {}).commit();
  const GgufFile file(folder / "x");
  EXPECT_TRUE(std::ranges::equal(file.metadata(), metadata));
  EXPECT_EQ(file.file_bytes(), predict_gguf_bytes(metadata, {}));
  expect_error(ErrorKind::bad_data, "key 'a.u64' has type UINT64, expected UINT32", [&] { file.get<u32>("a.u64"); });
  expect_error(ErrorKind::bad_data, "key 'b.text' has type ARRAY of STRING, expected ARRAY of INT32",
               [&] { file.get<std::vector<std::int32_t>>("b.text"); });
  expect_error(ErrorKind::bad_data, "key 'c' is missing", [&] { file.get<u32>("c"); });
}

TEST(Gguf, ReadsKeysLargerThanItsBuffer) {
  const TempFolder folder;
  std::vector<std::string> tokens;
  for (int i = 0; i < 100'000; ++i) tokens.push_back("token " + std::to_string(i));
  const std::vector<GgufKeyValue> metadata{
      {"a", tokens}, {"b", std::vector<float>(200'000, 0.25f)}, {"c", std::string(700'000, 'z')}};
  GgufWriter(folder / "x", metadata, {}).commit();
  EXPECT_TRUE(std::ranges::equal(GgufFile(folder / "x").metadata(), metadata));
}

TEST(Gguf, AcceptsVersion2AndAFileWithoutTensorsOrPadding) {
  Parts parts;
  parts.version = 2;
  parts.alignment = 1;
  parts.keys = {key_value("a", 4, raw(u32{1}))};
  const TempFolder folder;
  const GgufFile file(folder.put("x", parts.bytes()));
  EXPECT_EQ(file.version(), 2u);
  EXPECT_EQ(file.file_bytes(), 41u) << "24 + 9 + 4 + 4 bytes";
}

TEST(Gguf, TreatsScalarsAndTrailingOnesAlike) {
  Parts parts;
  parts.infos = {tensor_info("a", {}, 0, 0), tensor_info("b", {8, 1, 1, 1}, 0, 32)};
  parts.data_bytes = 64;
  const TempFolder folder;
  const GgufFile file(folder.put("x", parts.bytes()));
  EXPECT_EQ(file.find_tensor("a")->bytes, 4u);
  EXPECT_EQ(file.find_tensor("b")->bytes, 32u);
}

TEST(Gguf, HonoursTheAlignmentKey) {
  Parts parts;
  parts.alignment = 64;
  parts.keys = {key_value("general.alignment", 4, raw(u32{64}))};
  parts.infos = {tensor_info("a", {1}, 0, 0), tensor_info("b", {1}, 0, 64)};
  parts.data_bytes = 128;
  const TempFolder folder;
  const GgufFile file(folder.put("x", parts.bytes()));
  EXPECT_EQ(file.alignment(), 64u);
  EXPECT_EQ(file.data_start() % 64, 0u);
  EXPECT_EQ(read_all(file, *file.find_tensor("b")), "\1\1\1\1");
}

TEST(Gguf, RejectsBadMagicAndVersions) {
  Parts parts;
  parts.magic = "GGML";
  expect_open_error(parts, "not a GGUF file");
  parts.magic = "GGUF";
  for (const u32 version : {0u, 1u, 4u, 70'001u}) {
    parts.version = version;
    expect_open_error(parts, fmt::format("GGUF version {} is not supported", version));
  }
  parts.version = 0x03000000;
  expect_open_error(parts, "big-endian GGUF file");
}

TEST(Gguf, RejectsCountsThatTheFileCannotHold) {
  Parts parts;
  parts.extra_keys = 1;
  expect_open_error(parts, "1 metadata keys do not fit into the 8 bytes");
  parts.extra_keys = u64{1} << 60;
  expect_open_error(parts, "metadata keys do not fit");
  parts.extra_keys = u64{1} << 63;
  expect_open_error(parts, "negative number of metadata keys");
  parts.extra_keys = 0;
  parts.extra_tensors = 1;
  expect_open_error(parts, "1 tensor infos do not fit into the 8 bytes");
  parts.extra_tensors = ~u64{0};
  expect_open_error(parts, "negative number of tensors: -1");
}

TEST(Gguf, RejectsMalformedMetadata) {
  const std::string one = raw(u32{1});
  expect_key_error(key_value("", 4, one), "a metadata key is empty");
  expect_key_error(key_value("a b", 4, one), "not printable ASCII");
  expect_key_error(key_value("\xC3\xA9", 4, one), "not printable ASCII");
  expect_key_error(key_value(std::string(65536, 'k'), 4, one), "string of 65536 bytes is above the limit of 65535");
  expect_key_error(key_value("k", 13, one), "key 'k': unknown value type 13");
  expect_key_error(key_value("k", 7, "\2"), "key 'k': BOOL holds 2");
  expect_key_error(key_value("k", 8, raw<u64>(1000)), "key 'k': string of 1000 bytes does not fit");
  expect_key_error(key_value("k", 8, raw<u64>(kMaxGgufStringBytes + 1)), "above the limit of 67108864");
  expect_key_error(key_value("k", 8, raw<u64>(~u64{0})), "above the limit");
  expect_key_error(key_value("k", 9, array_of(9, 1, array_of(4, 1, one))), "key 'k': an array of arrays");
  expect_key_error(key_value("k", 9, array_of(13, 1, one)), "key 'k': unknown array element type 13");
  expect_key_error(key_value("k", 9, array_of(7, 2, "\1\3")), "key 'k': BOOL holds 3");
  for (const u64 count : {u64{9}, (u64{1} << 30) + 1, u64{1} << 62, ~u64{0}})
    expect_key_error(key_value("k", 9, array_of(4, count, one)), fmt::format("key 'k': array of {} elements", count));
  expect_key_error(key_value("k", 9, array_of(8, 5, raw<u64>(0))), "array of 5 elements does not fit");
  Parts twice;
  twice.keys = {key_value("k", 4, one), key_value("k", 0, "\1")};
  expect_open_error(twice, "duplicate key 'k'");
}

TEST(Gguf, RejectsBadAlignments) {
  for (const u32 alignment : {0u, 1u, 4u, 24u, 131072u, 1u << 31})
    expect_key_error(key_value("general.alignment", 4, raw(alignment)),
                     fmt::format("'general.alignment' is {}, not a power of two", alignment));
  expect_key_error(key_value("general.alignment", 10, raw<u64>(32)), "has type UINT64, expected UINT32");
}

TEST(Gguf, RejectsMalformedTensorInfos) {
  constexpr u64 kBig = u64{1} << 40;
  expect_info_error(tensor_info("", {1}, 0, 0), "a tensor name is empty");
  expect_info_error(tensor_info(std::string("a\0b", 3), {1}, 0, 0), "contains NUL");
  expect_info_error(tensor_info(std::string(64, 'n'), {1}, 0, 0),
                    "tensor name: string of 64 bytes is above the limit of 63");
  expect_info_error(tensor_info("t", {1, 1, 1, 1, 1}, 0, 0), "tensor 't': 5 dimensions");
  expect_info_error(text("t") + raw(~u32{0}) + std::string(64, '\0'), "4294967295 dimensions");
  expect_info_error(tensor_info("t", {0}, 0, 0), "dimension 0 is outside");
  expect_info_error(tensor_info("t", {8, 0}, 0, 0), "dimension 0 is outside");
  expect_info_error(tensor_info("t", {kBig + 1}, 0, 0), "outside 1 to 2^40");
  expect_info_error(tensor_info("t", {kBig, 1 << 22}, 0, 0), "2^62 or more");
  expect_info_error(tensor_info("t", {kBig, kBig}, 0, 0), "overflow");
  expect_info_error(tensor_info("t", {kBig, 1 << 21}, 0, 0), "it is cut short");
  expect_info_error(tensor_info("t", {33}, 2, 0), "rows of 33 are not a multiple of the 32 elements of a Q4_0 block");
  expect_info_error(tensor_info("t", {128, 2}, 12, 0), "rows of 128 are not a multiple of the 256");
  expect_info_error(tensor_info("t", {8}, 0, 4), "offset 4 is not a multiple of the alignment 32");
  expect_info_error(tensor_info("t", {8}, 0, 32), "offset 32 where 0 is expected", 64);
  expect_info_error(tensor_info("t", {8}, 0, ~u64{0} - 31), "where 0 is expected");
  expect_info_error(tensor_info("t", {9}, 0, 0), "it is cut short");
  expect_info_error(tensor_info("t", {8}, 0, 0), "trailing bytes", 64);
}

TEST(Gguf, RejectsTensorsThatOverlapLeaveGapsOrRepeat) {
  Parts parts;
  parts.data_bytes = 96;
  const auto expect = [&](std::vector<std::string> infos, std::string_view words) {
    parts.infos = std::move(infos);
    expect_open_error(parts, words);
  };
  expect({tensor_info("a", {16}, 0, 0), tensor_info("b", {8}, 0, 32)}, "tensor 'b': offset 32 where 64 is expected");
  expect({tensor_info("a", {8}, 0, 0), tensor_info("b", {8}, 0, 64)}, "tensor 'b': offset 64 where 32 is expected");
  expect({tensor_info("a", {8}, 0, 32), tensor_info("b", {8}, 0, 0)}, "tensor 'a': offset 32 where 0 is expected");
  expect({tensor_info("a", {8}, 0, 0), tensor_info("a", {8}, 0, 32)}, "duplicate tensor 'a'");
}

TEST(Gguf, RefusesReadsOutsideATensor) {
  const TempFolder folder;
  const GgufFile file(folder.put("x", from_hex(kGoldenHex)));
  std::byte byte{};
  expect_error(ErrorKind::bad_data, "tensor 't.weight': bytes 32 to 32+1", [&] {
    file.read(file.tensors()[0], 32, {&byte, 1});
  });
  expect_error(ErrorKind::bad_data, "outside its 32 bytes", [&] { file.read(file.tensors()[0], ~u64{0}, {&byte, 1}); });
}

TEST(GgufTypes, GiveTheBitsPerWeightOfTheSheet) {
  struct Row {
    std::string_view name;
    double bits;
  };
  constexpr std::array kRows{
      Row{"F32", 32},        Row{"F16", 16},         Row{"Q4_0", 4.5},     Row{"Q4_1", 5},     Row{"Q5_0", 5.5},
      Row{"Q5_1", 6},        Row{"Q8_0", 8.5},       Row{"Q8_1", 9},       Row{"Q2_K", 2.625}, Row{"Q3_K", 3.4375},
      Row{"Q4_K", 4.5},      Row{"Q5_K", 5.5},       Row{"Q6_K", 6.5625},  Row{"Q8_K", 9.125}, Row{"IQ2_XXS", 2.0625},
      Row{"IQ2_XS", 2.3125}, Row{"IQ3_XXS", 3.0625}, Row{"IQ1_S", 1.5625}, Row{"IQ4_NL", 4.5}, Row{"IQ3_S", 3.4375},
      Row{"IQ2_S", 2.5625},  Row{"IQ4_XS", 4.25},    Row{"I8", 8},         Row{"I16", 16},     Row{"I32", 32},
      Row{"I64", 64},        Row{"F64", 64},         Row{"IQ1_M", 1.75},   Row{"BF16", 16},    Row{"TQ1_0", 1.6875},
      Row{"TQ2_0", 2.0625},  Row{"MXFP4", 4.25},     Row{"NVFP4", 4.5},    Row{"Q1_0", 1.125}, Row{"Q2_0", 2.25}};
  ASSERT_EQ(gguf_types().size(), kRows.size());
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    EXPECT_EQ(gguf_types()[i].name, kRows[i].name);
    EXPECT_EQ(gguf_types()[i].bits_per_weight(), kRows[i].bits) << kRows[i].name;
    EXPECT_EQ(find_gguf_type(kRows[i].name), &gguf_types()[i]);
  }
  EXPECT_EQ(find_gguf_type("q4_k")->id, 12u);
  EXPECT_EQ(find_gguf_type("q4_9"), nullptr);
}

TEST(GgufTypes, RefuseUnknownIdsWithTheRightWords) {
  for (const u32 id : {36u, 97u, 99u, 133u, 137u, 158u, 202u, 399u})
    expect_error(ErrorKind::bad_data, fmt::format("unknown type id {} (ik_llama.cpp extension?)", id),
                 [&] { gguf_type(id); });
  for (const u32 id : {4u, 5u, 31u, 32u, 33u, 37u, 38u})
    expect_error(ErrorKind::bad_data, fmt::format("unknown type id {} (a type removed", id), [&] { gguf_type(id); });
  for (const u32 id : {43u, 96u, 100u, 132u, 159u, 201u, 400u, ~0u})
    expect_error(ErrorKind::bad_data, fmt::format("unknown type id {}; the file is newer", id), [&] { gguf_type(id); });
  for (const u32 id : {9u, 15u})
    expect_error(ErrorKind::bad_data, "is for computation only, never stored", [&] { gguf_type(id); });
  expect_info_error(tensor_info("t", {256}, 137, 0), "tensor 't': unknown type id 137 (ik_llama.cpp extension?)");
}

TEST(GgufWriter, PadsEveryTensorAndPredictsTheSize) {
  const TempFolder folder;
  const std::vector<GgufTensorSpec> specs{{"a", 0, {3}}, {"b", 2, {32, 2}}, {"c", 1, {5, 1, 2}}};
  GgufWriter writer(folder / "x", {}, specs);
  writer.write("a", as_bytes(std::string(12, 'a')));
  writer.write("b", as_bytes(std::string(30, 'b')));
  writer.write("b", as_bytes(std::string(6, 'B')));
  writer.write("c", as_bytes(std::string(20, 'c')));
  writer.commit();
  const GgufFile file(folder / "x");
  EXPECT_EQ(file.file_bytes(), predict_gguf_bytes({}, specs));
  EXPECT_EQ(file.file_bytes(), writer.layout().file_bytes);
  EXPECT_EQ(read_all(file, file.tensors()[1]), std::string(30, 'b') + std::string(6, 'B'));
  EXPECT_EQ(read_all(file, file.tensors()[2]), std::string(20, 'c'));
  EXPECT_EQ(file.find_value("general.alignment"), nullptr);
}

TEST(GgufWriter, RefusesWrongOrderAndSizes) {
  const TempFolder folder;
  const std::vector<GgufTensorSpec> specs{{"a", 0, {1}}, {"b", 0, {1}}};
  {
    GgufWriter writer(folder / "x", {}, specs);
    expect_error(ErrorKind::internal, "'b' was written when it was the turn of 'a'",
                 [&] { writer.write("b", as_bytes("1234")); });
    expect_error(ErrorKind::internal, "5 bytes written where 4 are left",
                 [&] { writer.write("a", as_bytes("12345")); });
    expect_error(ErrorKind::internal, "'a' is incomplete at commit", [&] { writer.commit(); });
    writer.write("a", as_bytes("1234"));
    writer.write("b", as_bytes("1234"));
    expect_error(ErrorKind::internal, "the turn of 'none'", [&] { writer.write("b", as_bytes("1")); });
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "nothing appears without commit";
}

TEST(GgufWriter, RefusesWhatReadersWouldRefuse) {
  const auto keys = [](std::vector<GgufKeyValue> metadata) { layout_gguf(metadata, {}); };
  const auto tensors = [](std::vector<GgufTensorSpec> specs) { layout_gguf({}, specs); };
  expect_error(ErrorKind::bad_data, "'' is not a valid key", [&] { keys({{"", u32{1}}}); });
  expect_error(ErrorKind::bad_data, "'Upper' is not a valid key", [&] { keys({{"Upper", u32{1}}}); });
  expect_error(ErrorKind::bad_data, "is not a valid key", [&] { keys({{std::string(65536, 'k'), u32{1}}}); });
  expect_error(ErrorKind::bad_data, "duplicate key 'a'", [&] { keys({{"a", u32{1}}, {"a", true}}); });
  expect_error(ErrorKind::bad_data, "key 'a': an empty string", [&] { keys({{"a", std::string()}}); });
  expect_error(ErrorKind::bad_data, "key 'a': an empty array", [&] { keys({{"a", std::vector<u32>{}}}); });
  expect_error(ErrorKind::bad_data, "only UINT32 32 is written", [&] { keys({{"general.alignment", u32{64}}}); });
  expect_error(ErrorKind::bad_data, "only UINT32 32 is written", [&] { keys({{"general.alignment", u64{32}}}); });
  expect_error(ErrorKind::bad_data, "cannot be a tensor name", [&] { tensors({{"", 0, {1}}}); });
  expect_error(ErrorKind::bad_data, "cannot be a tensor name", [&] { tensors({{std::string(64, 'n'), 0, {1}}}); });
  expect_error(ErrorKind::bad_data, "duplicate tensor 't'", [&] { tensors({{"t", 0, {1}}, {"t", 0, {1}}}); });
  expect_error(ErrorKind::bad_data, "tensor 't': no dimensions", [&] { tensors({{"t", 0, {}}}); });
  expect_error(ErrorKind::bad_data, "tensor 't': rows of 255", [&] { tensors({{"t", 12, {255}}}); });
  expect_error(ErrorKind::bad_data, "tensor 't': unknown type id 99", [&] { tensors({{"t", 99, {1}}}); });
  expect_error(ErrorKind::bad_data, "tensor 't': 5 dimensions", [&] { tensors({{"t", 0, {1, 1, 1, 1, 1}}}); });
}

/// Writes file `number` of a split of `count` with one tensor.
void put_part(const TempFolder& folder, std::uint16_t number, std::uint16_t count, std::string_view tensor,
              std::string_view file_name, std::int32_t total = 2) {
  const std::vector<GgufKeyValue> metadata{
      {"split.no", number}, {"split.count", count}, {"split.tensors.count", total}};
  GgufWriter writer(folder / file_name, metadata, std::vector<GgufTensorSpec>{{std::string(tensor), 0, {1}}});
  writer.write(tensor, as_bytes("1234"));
  writer.commit();
}

TEST(GgufSplit, OpensAllFilesFromTheFirst) {
  const TempFolder folder;
  put_part(folder, 0, 2, "a", "m-00001-of-00002.gguf");
  put_part(folder, 1, 2, "b", "m-00002-of-00002.gguf");
  const auto files = open_gguf(folder / "m-00001-of-00002.gguf");
  ASSERT_EQ(files.size(), 2u);
  EXPECT_NE(files[1].find_tensor("b"), nullptr);
  expect_error(ErrorKind::bad_data, "file 2 of a split model; give the first one, NAME-00001-of-00002.gguf",
               [&] { open_gguf(folder / "m-00002-of-00002.gguf"); });
}

TEST(GgufSplit, OfOneFileOrNoneIsAWholeFile) {
  const TempFolder folder;
  for (const std::uint16_t count : {0, 1}) {  // 0 is what llama.cpp leaves when it merges files
    put_part(folder, 0, count, "a", "merged.gguf", 1);
    EXPECT_FALSE(GgufFile(folder / "merged.gguf").split());
    EXPECT_EQ(open_gguf(folder / "merged.gguf").size(), 1u);
  }
}

TEST(GgufSplit, RejectsFilesThatDoNotFitTogether) {
  const TempFolder folder;
  const auto first = folder / "m-00001-of-00002.gguf";
  put_part(folder, 0, 2, "a", "m-00001-of-00002.gguf");
  expect_error(ErrorKind::missing_input, "m-00002-of-00002.gguf", [&] { open_gguf(first); });
  put_part(folder, 1, 3, "b", "m-00002-of-00002.gguf");
  expect_error(ErrorKind::bad_data, "do not say file 2 of 2", [&] { open_gguf(first); });
  put_part(folder, 1, 2, "a", "m-00002-of-00002.gguf");
  expect_error(ErrorKind::bad_data, "tensor 'a' is in another file", [&] { open_gguf(first); });
  put_part(folder, 1, 2, "b", "m-00002-of-00002.gguf");
  put_part(folder, 0, 2, "a", "m-00001-of-00002.gguf", 3);
  expect_error(ErrorKind::bad_data, "hold 2 tensors, split.tensors.count says 3", [&] { open_gguf(first); });
  put_part(folder, 0, 2, "a", "renamed.gguf");
  expect_error(ErrorKind::bad_data, "must be named NAME-00001-of-00002.gguf",
               [&] { open_gguf(folder / "renamed.gguf"); });
  put_part(folder, 2, 2, "a", "x.gguf");
  expect_error(ErrorKind::bad_data, "split.no 2 is not below split.count 2", [&] { open_gguf(folder / "x.gguf"); });
  expect_key_error(key_value("split.count", 4, raw(u32{2})), "key 'split.count' has type UINT32, expected UINT16");
}

TEST(Gguf, OpensFilesThatLlamaCppWrote) {
  const std::filesystem::path folder = ADZE_SOURCE_DIR "/../shared/peers";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "extra: no files written by llama.cpp here";
  int opened = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path().filename());
    const GgufFile file(entry.path());
    EXPECT_EQ(file.get<std::string>("general.architecture"), "llama");
    EXPECT_EQ(file.get<std::vector<std::string>>("tokenizer.ggml.tokens").size(), 4096u);
    EXPECT_NE(file.find_tensor("blk.5.ffn_down.weight"), nullptr);
    // Our writer, given the same records and data, makes the same file.
    std::vector<GgufTensorSpec> specs;
    for (const GgufTensor& tensor : file.tensors()) specs.push_back({tensor.name, tensor.type->id, tensor.dims});
    const TempFolder out;
    GgufWriter writer(out / "copy.gguf", file.metadata(), specs);
    for (const GgufTensor& tensor : file.tensors()) writer.write(tensor.name, as_bytes(read_all(file, tensor)));
    writer.commit();
    EXPECT_TRUE(read_file(out / "copy.gguf") == read_file(entry.path()));
    ++opened;
  }
  EXPECT_GT(opened, 0);
}

}  // namespace
}  // namespace adze
