#include "checkpoint/safetensors.h"

#include <array>
#include <cstring>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/safetensors_writer.h"

namespace adze {
namespace {

using testing::expect_error;
using testing::raw;
using testing::TempFolder;

constexpr std::string_view kReferenceHeader = R"({"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}})";

SafetensorsHeader parse(std::string_view text, std::uint64_t data_bytes) {
  return parse_safetensors_header(text, data_bytes, "f");
}

/// A header with one tensor "t" of these fields.
std::string one(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return fmt::format(R"({{"t":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets);
}

struct BadHeader {
  std::string text;
  std::uint64_t data_bytes;
  std::string words;
};

TEST(Safetensors, ReadsTheReferenceVector) {
  const TempFolder folder;
  const auto path = folder.put("x", testing::safetensors_bytes_of(kReferenceHeader, std::string(16, '\7')));
  EXPECT_EQ(std::filesystem::file_size(path), 84u);  // 8 + 60 + 16
  const SafetensorsFile file(path);
  ASSERT_EQ(file.tensors().size(), 1u);
  const SafetensorsTensor& tensor = file.tensors()[0];
  EXPECT_EQ(tensor.name, "test");
  EXPECT_EQ(tensor.type, SafetensorsType::i32);
  EXPECT_EQ(tensor.shape, (std::vector<std::uint64_t>{2, 2}));
  EXPECT_EQ(tensor.begin, 0u);
  EXPECT_EQ(tensor.end, 16u);
  EXPECT_EQ(file.data_start(), 68u);
  EXPECT_NE(file.find("test"), nullptr);
  EXPECT_EQ(file.find("tes"), nullptr);
}

TEST(Safetensors, ReadsTheSmallestLegalFile) {
  const TempFolder folder;
  EXPECT_TRUE(SafetensorsFile(folder.put("x", testing::safetensors_bytes_of("{}      ", ""))).tensors().empty());
}

TEST(Safetensors, AcceptsWhitespaceAroundTheHeaderAndAnyKeyOrder) {
  const auto header = parse(
      "\n\t {\"b\":{\"shape\":[2],\"data_offsets\":[2,4],\"dtype\":\"U8\"},"
      "\"a\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[0,2]}} \r\n",
      4);
  ASSERT_EQ(header.tensors.size(), 2u);
  EXPECT_EQ(header.tensors[0].name, "a");
}

TEST(Safetensors, AcceptsScalarsEmptyTensorsAndMetadata) {
  const auto header = parse(R"({"__metadata__":{"format":"pt"},"s":{"dtype":"F64","shape":[],"data_offsets":[0,8]},)"
                            R"("z":{"dtype":"F32","shape":[3,0],"data_offsets":[8,8]},)"
                            R"("y":{"dtype":"F32","shape":[0,281474976710655],"data_offsets":[0,0]}})",
                            8);
  EXPECT_EQ(header.tensors.size(), 3u);
  EXPECT_EQ(header.metadata.at("format"), "pt");
}

TEST(Safetensors, KnowsEveryDtypeAndItsSize) {
  struct Row {
    std::string_view name;
    std::uint64_t bytes_of_8;
  };
  constexpr std::array kRows{Row{"BOOL", 8},    Row{"F4", 4},          Row{"F6_E2M3", 6},     Row{"F6_E3M2", 6},
                             Row{"U8", 8},      Row{"I8", 8},          Row{"F8_E5M2", 8},     Row{"F8_E4M3", 8},
                             Row{"F8_E8M0", 8}, Row{"F8_E4M3FNUZ", 8}, Row{"F8_E5M2FNUZ", 8}, Row{"I16", 16},
                             Row{"U16", 16},    Row{"F16", 16},        Row{"BF16", 16},       Row{"I32", 32},
                             Row{"U32", 32},    Row{"F32", 32},        Row{"C64", 64},        Row{"F64", 64},
                             Row{"I64", 64},    Row{"U64", 64}};
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    const auto type = safetensors_type_from_name(kRows[i].name);
    ASSERT_TRUE(type) << kRows[i].name;
    EXPECT_EQ(static_cast<std::size_t>(*type), i) << "the sheet's sort order";
    const auto text = one(fmt::format("\"{}\"", kRows[i].name), "[2,4]", fmt::format("[0,{}]", kRows[i].bytes_of_8));
    EXPECT_EQ(parse(text, kRows[i].bytes_of_8).tensors[0].type, *type);
    EXPECT_EQ(name_of(*type), kRows[i].name);
    EXPECT_EQ(safetensors_type_of(dtype_of(*type).value_or(DType::f32)),
              dtype_of(*type) ? *type : SafetensorsType::f32);
  }
}

TEST(Safetensors, RejectsEveryMalformedHeaderWithItsReason) {
  const std::string deep(200, '[');
  const std::string long_name(4097, 'n');
  const std::vector<BadHeader> cases{
      {"", 0, "not a JSON object"},
      {"   ", 0, "not a JSON object"},
      {"[]", 0, "not a JSON object"},
      {"\xEF\xBB\xBF{}", 0, "not a JSON object"},
      {std::string("{}\0 ", 4), 0, "is NUL"},
      {"{} x", 0, "byte"},
      {"{", 0, "byte"},
      {"{\"a\xFF\":1}", 0, "UTF-8"},
      {R"({"a":)" + deep, 0, "nested deeper than 4"},
      {R"({"t":1})", 0, "not an object"},
      {R"({"t":{"shape":[1],"data_offsets":[0,1]}})", 1, "'dtype' is missing"},
      {R"({"t":{"dtype":"U8","data_offsets":[0,1]}})", 1, "'shape' is missing"},
      {R"({"t":{"dtype":"U8","shape":[1]}})", 1, "'data_offsets' is missing"},
      {R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"strides":[1]}})", 1, "unknown field 'strides'"},
      {one("\"F7\"", "[1]", "[0,1]"), 1, "tensor 't': unknown dtype 'F7'"},
      {one("7", "[1]", "[0,1]"), 1, "dtype is not a string"},
      {one("\"U8\"", "1", "[0,1]"), 1, "shape is not an array"},
      {one("\"U8\"", "[-1]", "[0,1]"), 1, "shape holds -1"},
      {one("\"U8\"", "[-0]", "[0,0]"), 0, "shape holds"},
      {one("\"U8\"", "[1.0]", "[0,1]"), 1, "shape holds 1.0"},
      {one("\"U8\"", "[1e0]", "[0,1]"), 1, "shape holds 1.0"},
      {one("\"U8\"", "[\"1\"]", "[0,1]"), 1, "shape holds \"1\""},
      {one("\"U8\"", "[true]", "[0,1]"), 1, "shape holds true"},
      {one("\"U8\"", "[NaN]", "[0,1]"), 1, "byte"},
      {one("\"U8\"", "[[1]]", "[0,1]"), 1, "shape holds [1]"},
      {one("\"U8\"", "[1]", "[0,9223372036854775808]"), 1, "2^63-1"},
      {one("\"U8\"", "[1]", "[0,99999999999999999999999]"), 1, "2^63-1"},
      {one("\"U8\"", "[1]", "[0]"), 1, "holds 1 numbers"},
      {one("\"U8\"", "[1]", "[0,1,1]"), 1, "holds 3 numbers"},
      {one("\"U8\"", "[1]", "[1,0]"), 1, "end at 0 before they begin at 1"},
      {one("\"U8\"", "[2]", "[0,1]"), 1, "span 1 bytes, shape and dtype need 2"},
      {one("\"U8\"", "[1]", "[0,2]"), 2, "span 2 bytes, shape and dtype need 1"},
      {one("\"F4\"", "[3]", "[0,2]"), 2, "not a whole number of bytes"},
      {one("\"F6_E2M3\"", "[2]", "[0,2]"), 2, "not a whole number of bytes"},
      {one("\"U8\"", "[281474976710656]", "[0,1]"), 1, "above the limit"},
      {one("\"U8\"", "[281474976710655,281474976710655]", "[0,1]"), 1, "overflow"},
      {one("\"U8\"", "[281474976710655,281474976710655,0]", "[0,0]"), 0, "overflow"},
      {one("\"F64\"", "[281474976710655,8192]", "[0,1]"), 1, "overflow"},
      {one("\"U8\"", "[1]", "[1,2]"), 2, "a hole"},
      {one("\"U8\"", "[1]", "[0,1]"), 2, "trailing bytes"},
      {one("\"U8\"", "[2]", "[0,2]"), 1, "cut short"},
      {"{}", 1, "trailing bytes"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "an overlap"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
       2, "an overlap"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
       5, "a hole"},
      {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
       0, "duplicate JSON key 'a'"},
      {R"({"t":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0, "duplicate JSON key 'dtype'"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "duplicate JSON key '__metadata__'"},
      {R"({"__metadata__":{"a":"1","a":"1"}})", 0, "duplicate JSON key 'a'"},
      {R"({"__metadata__":{"a":1}})", 0, "the value of 'a' is not a string"},
      {R"({"__metadata__":[]})", 0, "__metadata__ is not an object"},
      {R"({"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0, "empty name"},
      {R"({"a\u0000b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0, "contains NUL"},
      {"{\"" + long_name + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0, "above the limit of 4096"}};
  for (const BadHeader& bad : cases) {
    SCOPED_TRACE(bad.text.substr(0, 120));
    expect_error(ErrorKind::bad_data, bad.words, [&] { parse(bad.text, bad.data_bytes); });
    expect_error(ErrorKind::bad_data, "f: ", [&] { parse(bad.text, bad.data_bytes); });
  }
}

TEST(Safetensors, RejectsHeaderLengthsThatDoNotFitBeforeReadingThem) {
  const TempFolder folder;
  for (const std::uint64_t length :
       {~std::uint64_t{0}, std::uint64_t{1} << 63, ~std::uint64_t{0} - 7, std::uint64_t{100'000'001}})
    expect_error(ErrorKind::bad_data, "above the limit of 100000000",
                 [&] { SafetensorsFile(folder.put("x", raw(length) + "{}")); });
  for (const std::uint64_t length : {std::uint64_t{3}, std::uint64_t{100'000'000}})
    expect_error(ErrorKind::bad_data, "does not fit into the file of 10",
                 [&] { SafetensorsFile(folder.put("x", raw(length) + "{}")); });
}

TEST(Safetensors, RejectsTheFileCutAtEveryLength) {
  const TempFolder folder;
  const std::string whole = testing::safetensors_bytes_of(kReferenceHeader, std::string(16, '\7'));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    SCOPED_TRACE(length);
    const auto path = folder.put("x", whole.substr(0, length));
    EXPECT_THROW(SafetensorsFile{path}, Error);
  }
  expect_error(ErrorKind::bad_data, "trailing bytes", [&] { SafetensorsFile(folder.put("x", whole + "\1")); });
}

TEST(Safetensors, NamesAMissingFile) {
  expect_error(ErrorKind::missing_input, "nowhere.safetensors",
               [] { SafetensorsFile("/nonexistent/nowhere.safetensors"); });
}

TEST(SafetensorsWriter, LaysOutLikeTheReferenceWriter) {
  const TempFolder folder;
  const std::string bytes(64, '\1');
  const auto data = [&](std::size_t n) { return as_bytes(std::string_view(bytes).substr(0, n)); };
  const std::vector<SafetensorsItem> items{{{"a", SafetensorsType::u8, {3}}, data(3)},
                                           {{"c", SafetensorsType::f32, {1, 2}}, data(8)},
                                           {{"b", SafetensorsType::f32, {}}, data(4)},
                                           {{"e", SafetensorsType::bf16, {0, 2}}, data(0)}};
  write_safetensors(folder / "x", items);
  const std::string text =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("c":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]},"e":{"dtype":"BF16","shape":[0,2],"data_offsets":[12,12]},)"
      R"("a":{"dtype":"U8","shape":[3],"data_offsets":[12,15]}})";
  const std::string padded = text + std::string((8 - text.size() % 8) % 8, ' ');
  EXPECT_EQ(read_file(folder / "x"), testing::safetensors_bytes_of(padded, bytes.substr(0, 15)));
  EXPECT_EQ(SafetensorsFile(folder / "x").tensors().size(), 4u);
}

TEST(SafetensorsWriter, WritesTheSmallestFile) {
  const TempFolder folder;
  write_safetensors(folder / "x", {}, {});
  EXPECT_EQ(read_file(folder / "x"), testing::safetensors_bytes_of("{}      ", ""));
}

TEST(SafetensorsWriter, EscapesNamesAndKeepsThem) {
  const TempFolder folder;
  const std::string name = "we\"ird\\\n\xC3\xA9 name";
  write_safetensors(folder / "x", std::vector<SafetensorsItem>{{{name, SafetensorsType::u8, {0}}, {}}},
                    {{"k\"", "v\\"}});
  const SafetensorsFile file(folder / "x");
  EXPECT_EQ(file.tensors()[0].name, name);
  EXPECT_EQ(file.metadata().at("k\""), "v\\");
}

TEST(SafetensorsWriter, StreamsPiecesAndRefusesWrongOrderOrSize) {
  const TempFolder folder;
  const std::vector<SafetensorsSpec> specs{{"a", SafetensorsType::u8, {4}}, {"b", SafetensorsType::u8, {2}}};
  SafetensorsWriter writer(folder / "x", specs);
  expect_error(ErrorKind::internal, "'b' was written when it was the turn of 'a'",
               [&] { writer.write("b", as_bytes("xy")); });
  expect_error(ErrorKind::internal, "5 bytes written where 4 are left", [&] { writer.write("a", as_bytes("12345")); });
  writer.write("a", as_bytes("12"));
  writer.write("a", as_bytes("34"));
  expect_error(ErrorKind::internal, "'b' is incomplete", [&] { writer.commit(); });
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
  writer.write("b", as_bytes("56"));
  expect_error(ErrorKind::internal, "the turn of 'none'", [&] { writer.write("b", as_bytes("7")); });
  writer.commit();
  EXPECT_EQ(std::filesystem::file_size(folder / "x"), writer.file_bytes());
  EXPECT_THAT(read_file(folder / "x"), ::testing::EndsWith("123456"));
}

TEST(SafetensorsWriter, RefusesBadNamesAndSizes) {
  const TempFolder folder;
  const auto make = [&](std::vector<SafetensorsSpec> specs) { SafetensorsWriter(folder / "x", std::move(specs)); };
  const SafetensorsSpec good{"a", SafetensorsType::u8, {1}};
  expect_error(ErrorKind::bad_data, "two tensors are named 'a'", [&] {
    make({good, {"a", SafetensorsType::f32, {1}}});
  });
  for (const std::string& name :
       {std::string(), std::string("__metadata__"), std::string("a\0b", 3), std::string(4097, 'x')})
    expect_error(ErrorKind::bad_data, "cannot be the name", [&] { make({{name, SafetensorsType::u8, {1}}}); });
  expect_error(ErrorKind::bad_data, "not valid UTF-8", [&] { make({{"\xFF", SafetensorsType::u8, {1}}}); });
  expect_error(ErrorKind::bad_data, "tensor 'f': 12 bits", [&] { make({{"f", SafetensorsType::f4, {3}}}); });
  expect_error(ErrorKind::bad_data, "2 bytes of data, shape and dtype need 1", [&] {
    write_safetensors(folder / "x", std::vector<SafetensorsItem>{{good, as_bytes("12")}});
  });
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "a failed write leaves nothing behind";
}

}  // namespace
}  // namespace adze
