#include "checkpoint/safetensors_folder.h"

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/folder_files.h"

namespace adze {
namespace {

using testing::expect_error;
using testing::TempFolder;

/// A file with U8 tensors of 2 bytes each, named by the letters of `names`, valued by their letter.
std::string letters(std::string_view names) {
  std::string header = "{";
  std::string data;
  for (const char name : names) {
    header += fmt::format(R"({}"{}":{{"dtype":"U8","shape":[2],"data_offsets":[{},{}]}})", data.empty() ? "" : ",",
                          name, data.size(), data.size() + 2);
    data += std::string(2, name);
  }
  return testing::safetensors_bytes_of(header + "}", data);
}

std::string read_text(const TensorSource& source, std::string_view name) {
  const TensorInfo* const info = source.find(name);
  std::string text(info->bytes, '\0');
  source.read(*info, 0, std::as_writable_bytes(std::span(text)));
  return text;
}

void put_index(const TempFolder& folder, std::string_view map) {
  folder.put("model.safetensors.index.json",
             fmt::format(R"({{"metadata":{{"total_size":4.0}},"weight_map":{}}})", map));
}

void expect_open_error(const TempFolder& folder, ErrorKind kind, std::string_view words) {
  expect_error(kind, words, [&] { open_checkpoint_folder(folder.path()); });
}

TEST(SafetensorsFolder, OpensASingleFile) {
  const TempFolder folder;
  folder.put("model.safetensors", letters("ba"));
  const auto source = open_checkpoint_folder(folder.path());
  ASSERT_EQ(source->tensors().size(), 2u);
  EXPECT_EQ(source->tensors()[0].name, "a");
  EXPECT_EQ(read_text(*source, "a"), "aa");
  EXPECT_EQ(read_text(*source, "b"), "bb");
  EXPECT_EQ(source->find("c"), nullptr);
  EXPECT_EQ(source->origin(), folder.path().string());
  const auto place = source->place(*source->find("a"));
  ASSERT_TRUE(place);
  EXPECT_EQ(read_file(place->file).substr(place->offset, 2), "aa");
}

TEST(SafetensorsFolder, OpensShardsAndPrefersTheIndex) {
  const TempFolder folder;
  folder.put("model.safetensors", "stale");
  folder.put("s1", letters("ac"));
  folder.put("s2", letters("b"));
  put_index(folder, R"({"a":"s1","b":"s2","c":"s1"})");
  const auto source = open_checkpoint_folder(folder.path());
  ASSERT_EQ(source->tensors().size(), 3u);
  EXPECT_EQ(read_text(*source, "a") + read_text(*source, "b") + read_text(*source, "c"), "aabbcc");
}

TEST(SafetensorsFolder, RefusesReadsOutsideTheTensor) {
  const TempFolder folder;
  folder.put("model.safetensors", letters("ab"));
  const auto source = open_checkpoint_folder(folder.path());
  std::byte two[2];
  expect_error(ErrorKind::bad_data, "tensor 'a': bytes 1 to 1+2", [&] { source->read(source->tensors()[0], 1, two); });
  expect_error(ErrorKind::bad_data, "outside its 2 bytes", [&] { source->read(source->tensors()[0], ~0ULL, two); });
  TensorInfo foreign{"zz", DType::u8, {2}, 2};
  expect_error(ErrorKind::internal, "another source", [&] { source->read(foreign, 0, two); });
}

TEST(SafetensorsFolder, RejectsAnIndexThatDisagreesWithItsShards) {
  const TempFolder folder;
  folder.put("s1", letters("a"));
  folder.put("s2", letters("ab"));
  put_index(folder, R"({"a":"s1","b":"s1"})");
  expect_open_error(folder, ErrorKind::bad_data, "tensor 'b' is not in shard 's1'");
  put_index(folder, R"({"a":"s2"})");
  expect_open_error(folder, ErrorKind::bad_data, "tensor 'b' is not in the index");
  put_index(folder, R"({"a":"s1","b":"s2"})");
  expect_open_error(folder, ErrorKind::bad_data, "tensor 'a' is in this file, but the index puts it into 's1'");
  put_index(folder, R"({"a":"s1","b":"s3"})");
  expect_open_error(folder, ErrorKind::missing_input, "shard 's3' of the index is missing");
}

TEST(SafetensorsFolder, RejectsShardNamesThatArePaths) {
  const TempFolder folder;
  for (const std::string_view name : {"../s1", "/etc/passwd", "a/b", "..", "", "a\\\\b", ".", "a..b", "a\\u0000"}) {
    SCOPED_TRACE(name);
    put_index(folder, fmt::format(R"({{"a":"{}"}})", name));
    expect_open_error(folder, ErrorKind::bad_data, "is not a plain file name");
  }
}

TEST(SafetensorsFolder, RejectsMalformedIndexes) {
  const TempFolder folder;
  for (const std::string_view text : {"[]", "{}", R"({"weight_map":[]})"}) {
    folder.put("model.safetensors.index.json", text);
    expect_open_error(folder, ErrorKind::bad_data, "no object 'weight_map'");
  }
  put_index(folder, R"({"a":1})");
  expect_open_error(folder, ErrorKind::bad_data, "the shard of tensor 'a' is not a string");
  put_index(folder, "{}");
  expect_open_error(folder, ErrorKind::bad_data, "'weight_map' is empty");
  put_index(folder, R"({"a":"s1","a":"s1"})");
  expect_open_error(folder, ErrorKind::bad_data, "duplicate JSON key 'a'");
  folder.put("model.safetensors.index.json", "{");
  expect_open_error(folder, ErrorKind::bad_data, "index.json: byte");
}

TEST(SafetensorsFolder, FollowsLinksInsideTheFolderOnly) {
  const TempFolder outside;
  const TempFolder folder;
  outside.put("x", letters("a"));
  std::filesystem::create_symlink(outside / "x", folder / "model.safetensors");
  expect_open_error(folder, ErrorKind::bad_data, "outside the folder; copy the folder with `cp -rL`");
  std::filesystem::remove(folder / "model.safetensors");
  folder.put("real", letters("a"));
  std::filesystem::create_symlink("real", folder / "model.safetensors");
  EXPECT_EQ(open_checkpoint_folder(folder.path())->tensors().size(), 1u);
  std::filesystem::remove(folder / "real");
  expect_open_error(folder, ErrorKind::missing_input, "model.safetensors");
}

TEST(SafetensorsFolder, SaysWhatItFoundInsteadOfWeights) {
  expect_error(ErrorKind::missing_input, "no such folder", [] { open_checkpoint_folder("/nonexistent/folder"); });
  const TempFolder folder;
  expect_open_error(folder, ErrorKind::missing_input, "(0 other files)");
  folder.put("config.json", "{}");
  expect_open_error(folder, ErrorKind::missing_input, "(1 other files)");
  folder.put("pytorch_model.bin", "");
  expect_open_error(folder, ErrorKind::missing_input,
                    "but pytorch_model.bin, a PyTorch pickle: convert it to safetensors first");
  folder.put("x.gguf", "");
  expect_open_error(folder, ErrorKind::missing_input, "x.gguf, a GGUF file");
  folder.put("consolidated.safetensors", "");
  expect_open_error(folder, ErrorKind::missing_input, "consolidated.safetensors, only model.safetensors");
  folder.put("model-00001-of-00002.safetensors", "");
  expect_open_error(folder, ErrorKind::missing_input, "fetch the index too");
  expect_error(ErrorKind::missing_input, "not a folder", [&] { open_checkpoint_folder(folder / "config.json"); });
}

TEST(SafetensorsFolder, NamesTensorAndDtypeThatCannotBeWeights) {
  const TempFolder folder;
  folder.put("model.safetensors",
             testing::safetensors_bytes_of(R"({"w":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}})", "ab"));
  expect_open_error(folder, ErrorKind::bad_data, "tensor 'w' has dtype F8_E4M3, which cannot be read as weights");
}

TEST(SafetensorsFolder, OpensTheDemoModelWithTheExpectedTensors) {
  const char* const place = ADZE_SOURCE_DIR "/tests/models/demo-llama";
  const auto source = open_checkpoint_folder(place);
  EXPECT_EQ(source->tensors().size(), 56u);  // 6 layers of 9, embedding, final norm
  std::uint64_t bytes = 0;
  for (const TensorInfo& tensor : source->tensors()) {
    EXPECT_EQ(tensor.dtype, DType::bf16);
    bytes += tensor.bytes;
  }
  EXPECT_EQ(bytes, 11'540'992u);
  const TensorInfo* const down = source->find("model.layers.5.mlp.down_proj.weight");
  ASSERT_NE(down, nullptr);
  EXPECT_EQ(down->shape, (std::vector<std::uint64_t>{256, 768}));
  EXPECT_EQ(read_folder_files(place).size(), 4u);
}

TEST(FolderFiles, KeepsTheKnownFilesVerbatimInOrder) {
  const TempFolder folder;
  folder.put("tokenizer.json", "{\"a\" :1}\n");
  folder.put("config.json", "{ }");
  folder.put("README.md", "---\nlicense: mit\n---\n");
  folder.put("LICENSE", "not kept");
  folder.put("chat_template.jinja", std::string("\0\xFF", 2));
  const auto files = read_folder_files(folder.path());
  ASSERT_EQ(files.size(), 4u);
  EXPECT_EQ(files[0].name, "config.json");
  EXPECT_EQ(files[1].text, "{\"a\" :1}\n");
  EXPECT_EQ(files[2].text, std::string("\0\xFF", 2));
  EXPECT_EQ(files[3].text, "---\nlicense: mit\n---\n");
}

TEST(FolderFiles, LeavesOutAReadmeThatIsTooLargeOrNoFile) {
  const TempFolder folder;
  folder.put("config.json", "{}");
  folder.put("README.md", "");
  std::filesystem::resize_file(folder / "README.md", 1 << 20);
  EXPECT_EQ(read_folder_files(folder.path()).size(), 2u);
  std::filesystem::resize_file(folder / "README.md", (1 << 20) + 1);
  EXPECT_EQ(read_folder_files(folder.path()).size(), 1u);
  std::filesystem::remove(folder / "README.md");
  std::filesystem::create_directory(folder / "README.md");
  EXPECT_EQ(read_folder_files(folder.path()).size(), 1u);
}

TEST(FolderFiles, RefusesAMissingConfigLinksOutsideAndOversizedFiles) {
  const TempFolder folder;
  expect_error(ErrorKind::missing_input, "config.json", [&] { read_folder_files(folder.path()); });
  folder.put("config.json", "{}");
  std::filesystem::create_symlink("/etc/hostname", folder / "tokenizer.json");
  expect_error(ErrorKind::bad_data, "outside the folder", [&] { read_folder_files(folder.path()); });
  std::filesystem::remove(folder / "tokenizer.json");
  folder.put("generation_config.json", "");
  std::filesystem::resize_file(folder / "generation_config.json", (1 << 20) + 1);
  expect_error(ErrorKind::bad_data, "more than the limit of 1048576", [&] { read_folder_files(folder.path()); });
}

}  // namespace
}  // namespace adze
