// The reader of packs in C against ours: every format's values, products, checksums, damaged files; and the program
// that runs a model with it.
#include "pack_c/adze_pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/hash.h"
#include "export/export_testing.h"
#include "grid/any_format.h"
#include "grid/factors/shared_tensor.h"
#include "grid/format.h"
#include "model/logits.h"
#include "model/pack/manifest.h"
#include "model/pack/pack_weights.h"
#include "tools/run_program.h"

namespace adze {
namespace {

using namespace testing;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

struct Named {
  std::string module;
  TensorPtr tensor;
};

/// A pack of any tensors, in memory.
std::string pack_of(const std::vector<Named>& tensors) {
  PackManifest manifest;
  manifest.architecture = rich_architecture();
  manifest.piece_bytes = 4096;
  for (const auto& [module, tensor] : tensors) {
    const Shape shape = tensor->shape();
    manifest.tensors.push_back(
        {"model." + module + ".weight", module, TensorRole::linear, {shape.rows, shape.cols}, tensor->format(), {}});
    manifest.tensors.back().region.bytes = tensor->bytes();
  }
  place_regions(manifest);
  std::string data;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    PackRegion& region = manifest.tensors[i].region;
    data.resize(region.offset);
    const auto payload = tensors[i].tensor->payload();
    const std::string_view bytes(reinterpret_cast<const char*>(payload.data()), payload.size());
    data += bytes;
    region.hash = hash_hex(bytes);
    for (std::size_t p = 0; p < region.checks.size(); ++p) region.checks[p] = hash64(bytes.substr(p * 4096, 4096));
  }
  return pack_head(manifest) + data;
}

struct InC {
  explicit InC(std::string bytes_of_pack) : bytes(std::move(bytes_of_pack)) {
    pack = adze_pack_open_memory(bytes.data(), bytes.size(), &error);
  }
  ~InC() { adze_pack_close(pack); }
  InC(const InC&) = delete;
  InC& operator=(const InC&) = delete;

  std::string bytes;
  adze_pack_error error{};
  adze_pack* pack = nullptr;
};

/// Largest difference of any value, and of any entry of a product with a vector.
void expect_same_values(const InC& file, const adze_pack_tensor& stored, const CompressedTensor& meant,
                        double tolerance) {
  SCOPED_TRACE(stored.format);
  adze_pack_error error{};
  adze_matrix* const matrix = adze_matrix_prepare(file.pack, &stored, &error);
  ASSERT_NE(matrix, nullptr) << error.message;
  const MatrixF values = meant.decode();
  ASSERT_EQ(adze_matrix_rows(matrix), values.rows());
  ASSERT_EQ(adze_matrix_cols(matrix), values.cols());
  std::vector<float> x(values.cols()), y(values.rows()), row(values.cols());
  for (std::size_t c = 0; c < x.size(); ++c) x[c] = static_cast<float>(std::sin(0.7 * static_cast<double>(c)));
  adze_matrix_multiply(matrix, x.data(), y.data());
  double worst = 0, worst_product = 0;
  for (std::size_t r = 0; r < values.rows(); ++r) {
    adze_matrix_row(matrix, r, row.data());
    double sum = 0;
    for (std::size_t c = 0; c < row.size(); ++c) {
      worst = std::max(worst, std::fabs(double{row[c]} - values(r, c)));
      sum += double{values(r, c)} * x[c];
    }
    worst_product = std::max(worst_product, std::fabs(sum - y[r]));
  }
  EXPECT_LE(worst, tolerance);
  EXPECT_LE(worst_product, 1e-5);
  adze_matrix_free(matrix);
}

void expect_same_formats(const std::vector<std::string>& formats, Shape shape, double tolerance) {
  std::vector<Named> tensors;
  for (const std::string& format : formats)
    tensors.push_back({"layers." + std::to_string(tensors.size()), grid_testing::random_tensor(format, shape, format)});
  const InC file(pack_of(tensors));
  ASSERT_NE(file.pack, nullptr) << file.error.message;
  ASSERT_EQ(adze_pack_tensor_count(file.pack), tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const adze_pack_tensor* const stored = adze_pack_get_tensor(file.pack, i);
    EXPECT_EQ(stored->format, formats[i]);
    EXPECT_EQ(adze_pack_find(file.pack, stored->name), stored);
    EXPECT_EQ(adze_pack_verify(file.pack, stored, nullptr), ADZE_PACK_OK);
    expect_same_values(file, *stored, *tensors[i].tensor, tolerance);
  }
}

TEST(PackInC, GridsDecodeToTheSameBits) { expect_same_formats(grid_testing::grid_formats(), {7, 512}, 0); }
TEST(PackInC, MasksDecodeToTheSameBits) { expect_same_formats(grid_testing::sparse_formats(), {10, 512}, 0); }
TEST(PackInC, TensorsMadeOfOthersDecodeToTheSameValues) {
  expect_same_formats(grid_testing::composed_formats(), {256, 256}, 1e-6);
}

TEST(PackInC, DeltasAreRefusedWithTheNameOfTheirBase) {
  PackManifest manifest;
  manifest.architecture = rich_architecture();
  manifest.base = {"the base", hash_of_base({})};
  place_regions(manifest);
  const InC file(pack_head(manifest));
  EXPECT_EQ(file.pack, nullptr);
  EXPECT_EQ(file.error.status, ADZE_PACK_UNSUPPORTED);
  EXPECT_THAT(file.error.message, HasSubstr("a delta, the difference from the model 'the base'"));
}

TEST(PackInC, SharedFactorsAreFound) {
  const auto owner = std::make_shared<ProductTensor>(grid_testing::random_tensor("f16", {24, 8}, "a"),
                                                     grid_testing::random_tensor("bf16", {8, 40}, "b"));
  const auto borrower =
      std::make_shared<ProductTensor>(grid_testing::random_tensor("f16", {16, 8}, "c"),
                                      std::make_shared<SharedTensor>("layers.0", owner->right_part()));
  const auto nobodys = std::make_shared<ProductTensor>(grid_testing::random_tensor("f16", {16, 8}, "c"),
                                                       std::make_shared<SharedTensor>("layers.9", owner->right_part()));
  const auto circle = std::make_shared<ProductTensor>(grid_testing::random_tensor("f16", {16, 8}, "c"),
                                                      std::make_shared<SharedTensor>("layers.1", owner->right_part()));
  const InC file(pack_of({{"layers.0", owner}, {"layers.1", borrower}, {"layers.2", nobodys}, {"layers.3", circle}}));
  ASSERT_NE(file.pack, nullptr) << file.error.message;
  expect_same_values(file, *adze_pack_get_tensor(file.pack, 1), *borrower, 1e-6);
  adze_pack_error error{};
  EXPECT_EQ(adze_matrix_prepare(file.pack, adze_pack_get_tensor(file.pack, 2), &error), nullptr);
  EXPECT_THAT(error.message, HasSubstr("that nobody has"));
  EXPECT_EQ(adze_matrix_prepare(file.pack, adze_pack_get_tensor(file.pack, 3), &error), nullptr);
  EXPECT_EQ(error.status, ADZE_PACK_UNSUPPORTED);
}

TEST(PackInC, HashesAsTheLibraryDoes) {
  std::string bytes;
  for (int i = 0; i < 5000; ++i) bytes += static_cast<char>(i * 131 + i / 7);
  for (std::size_t size = 0; size < bytes.size(); size += 1 + size / 40)
    EXPECT_EQ(adze_pack_hash64(bytes.data(), size), hash64(bytes.substr(0, size))) << size;
  for (const std::size_t size : {240, 241, 1024, 1025, 1087, 1088, 2048, 2049})
    EXPECT_EQ(adze_pack_hash64(bytes.data(), size), hash64(bytes.substr(0, size))) << size;
}

TEST(PackInC, NamesTheBytesThatAreDamaged) {
  const TensorPtr tensor = grid_testing::random_tensor("f32", {10, 512}, "x");
  std::string bytes = pack_of({{"layers.0", tensor}});
  bytes[bytes.size() - 1] ^= 1;
  const InC file(bytes);
  ASSERT_NE(file.pack, nullptr);
  adze_pack_error error{};
  EXPECT_EQ(adze_pack_verify(file.pack, adze_pack_get_tensor(file.pack, 0), &error), ADZE_PACK_BAD_DATA);
  EXPECT_STREQ(error.message, "'model.layers.0.weight': bytes 16384 to 20479 are damaged");
}

TEST(PackInC, NoByteOfTheHeadMayChangeAndNoneBeMissing) {
  const std::string whole = pack_of({{"layers.0", grid_testing::random_tensor("f16", {4, 8}, "x")}});
  ASSERT_NE(InC(whole).pack, nullptr);
  const std::size_t head = whole.size() - 64;
  for (std::size_t at = 0; at < head; ++at) {
    std::string bytes = whole;
    bytes[at] ^= 2;
    EXPECT_EQ(InC(bytes).pack, nullptr) << at;
  }
  for (std::size_t length = 0; length < whole.size(); length += 3) {
    const InC file(whole.substr(0, length));
    EXPECT_EQ(file.pack, nullptr);
    EXPECT_EQ(file.error.status, ADZE_PACK_BAD_DATA);
  }
  EXPECT_EQ(InC(whole + "x").pack, nullptr);
}

/// What prepare() says of a payload in a format. The manifest's own reader would refuse most of them earlier.
std::string refusal(const std::string& format, Shape shape, const std::string& payload, adze_pack_status status) {
  const InC file(pack_of({{"layers.0", grid_testing::random_tensor("f16", {4, 8}, "x")}}));
  adze_pack_tensor tensor = *adze_pack_get_tensor(file.pack, 0);
  const std::vector<unsigned char> exact(payload.begin(), payload.end());  // so that a sanitizer sees a byte too far
  tensor.format = format.c_str();
  tensor.rows = shape.rows;
  tensor.cols = shape.cols;
  tensor.data = exact.data();
  tensor.bytes = exact.size();
  adze_pack_error error{};
  adze_matrix* const matrix = adze_matrix_prepare(file.pack, &tensor, &error);
  if (matrix == nullptr) {
    EXPECT_EQ(error.status, status) << format << ": " << error.message;
    return error.message;
  }
  adze_matrix_free(matrix);
  return "nothing";
}

TEST(PackInC, FormatsItDoesNotKnowAreRefusedByName) {
  for (const char* const format :
       {"f17",
        "gguf/q9_k",
        "int9 g32 sym",
        "int4 g32",
        "int4 g32 sym f64",
        "int4 row sym",
        "rank 2 [f16]",
        "rank x [f16] [f16]",
        "shared layers.9 [f16",
        "train 4x2 by 4x2",
        "rows of 8 bytes",
        "rows of 8 bytes [f16]",
        "rows of 8 bytes [int4 tensor sym]",
        "f16, 101%",
        "f32, 50%",
        "gguf/q4_k, 50%",
        "f16, 2:64",
        "",
        "pivoted ",
        " + f16",
        "nvfp4 / 0x10",
        "nvfp4 /  5",
        "nvfp4 / 5 ",
        "nvfp4 / 1,5",
        "nvfp4 / .5",
        "nvfp4 / 5.",
        "nvfp4 / 1e",
        "nvfp4 / 1e+-2",
        "nvfp4 / -1",
        "nvfp4 / +1",
        "nvfp4 / 0",
        "nvfp4 / 1e-60",
        "nvfp4 / 1e39",
        "nvfp4 / 1e999999999999",
        "nvfp4 / inf",
        "nvfp4 / nan",
        "train 2x2 by 2x4 bonds 2 [train 2x1 by 2x2 bonds 1 [f16]]",
        "rank 1 [rank 1 [rank 1 [rank 1 [rank 1 [rank 1 [rank 1 [f16] [f16]] [f16]] [f16]] [f16]] [f16]] [f16]] [f16]"})
    EXPECT_THAT(refusal(format, {4, 8}, std::string(256, '\0'), ADZE_PACK_UNSUPPORTED),
                ::testing::AnyOf(HasSubstr("format"), HasSubstr("limits")))
        << format;
}

TEST(PackInC, PayloadsOfAnotherSizeAreRefused) {
  std::vector<std::pair<std::string, Shape>> formats;
  for (const std::string& format : grid_testing::grid_formats()) formats.emplace_back(format, Shape{3, 512});
  for (const char* const format :
       {"f16, 50%", "f16, 97%", "int4 g64 sym, 2:4", "int4 tensor asym, 50% in blocks of 16", "bf16, 30% in rows"})
    formats.emplace_back(format, Shape{10, 512});
  for (const std::string& format : grid_testing::composed_formats()) formats.emplace_back(format, Shape{256, 256});
  for (const auto& [format, shape] : formats) {
    const TensorPtr tensor = grid_testing::random_tensor(format, shape, "x");
    const std::string bytes(reinterpret_cast<const char*>(tensor->payload().data()), tensor->payload().size());
    EXPECT_EQ(refusal(format, shape, bytes, ADZE_PACK_OK), "nothing") << format;
    EXPECT_NE(refusal(format, shape, bytes.substr(0, bytes.size() - 1), ADZE_PACK_BAD_DATA), "nothing") << format;
    EXPECT_NE(refusal(format, shape, "", ADZE_PACK_BAD_DATA), "nothing") << format;
    EXPECT_NE(refusal(format, shape, bytes + '\0', ADZE_PACK_BAD_DATA), "nothing") << format;
  }
}

TEST(PackInC, MasksAndIndicesThatLieAreRefused) {
  const auto refuses = [](const std::string& format, Shape shape, std::string bytes, const std::string& words) {
    EXPECT_THAT(refusal(format, shape, bytes, ADZE_PACK_BAD_DATA), HasSubstr(words)) << format;
  };
  refuses("f16, 50%", {2, 8}, std::string(2, '\xFF') + std::string(16, '\0'), "not of its pattern");
  refuses("f16, 50%", {2, 8}, std::string(2, '\0') + std::string(16, '\0'), "not of its pattern");
  refuses("f16, 2:4", {1, 4}, std::string(1, '\x07') + std::string(4, '\0'), "not of its pattern");
  refuses("pivoted f16", {2, 4}, std::string(1, '\x05') + std::string(8, '\0'), "comes twice");
  refuses("rows of 8 bytes [zero] [int4 g8 sym] [int2 g8 sym]", {2, 8}, std::string(16, '\xFF'), "not named");
  refuses("rows of 8 bytes [zero] [int8 g4 sym]", {2, 8}, "\x03" + std::string(15, '\0'), "not there");
  refuses("rank 9 [f16] [f16]", {4, 8}, std::string(256, '\0'), "beyond both");
  refuses("train 4x2 by 4x2 bonds 2 [f16]", {8, 9}, std::string(256, '\0'), "another shape");
  refuses("gguf/q4_k", {4, 8}, std::string(256, '\0'), "do not divide");
  // The list of columns that masks of few weights have.
  const std::string list = std::string("\x02\0\0\0", 4);
  refuses("f16, 99%", {1, 200}, list + std::string("\x05\0\x05\0", 4) + std::string(4, '\0'), "not of its pattern");
  refuses("f16, 99%", {1, 200}, list + std::string("\x05\0\xFF\0", 4) + std::string(4, '\0'), "not of its pattern");
  refuses("f16, 99%", {1, 200}, std::string(4, '\xFF') + std::string(8, '\0'), "not of its pattern");
}

TEST(PackInC, MasksOfHugeMatricesTakeAsLongAsTheirBytes) {
  const std::size_t cols = std::size_t{1} << 24;
  const auto says = [](const std::string& format, Shape shape, const std::string& mask) {
    return refusal(format, shape, mask, ADZE_PACK_BAD_DATA);
  };
  std::string rows(1 << 17, '\0'), blocks(1 << 17, '\0');
  EXPECT_EQ(says("f16, 100% in rows", {1 << 20, cols}, rows), "nothing");
  EXPECT_EQ(says("f16, 100% in blocks of 65536", {1 << 12, cols}, blocks), "nothing");
  EXPECT_EQ(says("f16, 100%", {1 << 18, 65536}, std::string(1 << 20, '\0')), "nothing");  // lists of columns
  rows.back() = blocks.back() = '\x80';
  EXPECT_THAT(says("f16, 100% in rows", {1 << 20, cols}, rows), HasSubstr("not of its pattern"));
  EXPECT_THAT(says("f16, 100% in blocks of 65536", {1 << 12, cols}, blocks), HasSubstr("not of its pattern"));
}

/// 1, 1.125 ... 1.875 over the divisor that is written so: no two floats have the same eight quotients.
std::vector<float> quotients_in_c(const std::string& divisor) {
  const InC file(pack_of({{"layers.0", grid_testing::random_tensor("f16", {4, 8}, "x")}}));
  adze_pack_tensor tensor = *adze_pack_get_tensor(file.pack, 0);
  const std::string format = "nvfp4 / " + divisor;
  std::string payload;
  for (int scale = 0x38; scale < 0x40; ++scale) payload += static_cast<char>(scale);
  payload += std::string(64, '\x22');  // ones
  tensor.format = format.c_str();
  tensor.rows = 1;
  tensor.cols = 128;
  tensor.data = reinterpret_cast<const unsigned char*>(payload.data());
  tensor.bytes = payload.size();
  adze_pack_error error{};
  adze_matrix* const matrix = adze_matrix_prepare(file.pack, &tensor, &error);
  EXPECT_NE(matrix, nullptr) << error.message;
  if (matrix == nullptr) return {};
  std::vector<float> row(128), values;
  adze_matrix_row(matrix, 0, row.data());
  adze_matrix_free(matrix);
  for (std::size_t group = 0; group < 8; ++group) values.push_back(row[16 * group]);
  return values;
}

TEST(PackInC, DivisorsAreTheFloatsThatWereWritten) {
  std::vector<std::string> texts{"1",     "512", "2816.5",     "1e-05",    "1e5",
                                 "1e+05", "0.1", "0.30000001", "16777216", "3e+38"};
  for (int e = -126; e < 127; ++e) texts.push_back(fmt::format("{}", std::ldexp(1.0f, e)));
  std::uint32_t bits = 1;
  for (int i = 0; i < 2000; ++i) {
    bits = bits * 1664525u + 1013904223u;
    const auto value = std::bit_cast<float>(bits & 0x7FFFFFFFu);
    if (std::isnormal(value) && value < 3.0e38f) texts.push_back(fmt::format("{}", value));
  }
  for (const std::string& text : texts) {
    const float divisor = std::strtof(text.c_str(), nullptr);
    std::vector<float> meant;
    for (int eighths = 8; eighths < 16; ++eighths) meant.push_back(static_cast<float>(eighths) / 8.0f / divisor);
    EXPECT_EQ(quotients_in_c(text), meant) << text;
  }
}

TEST(PackInC, FilesHaveBareNames) {
  const auto opens = [](const std::string& name) {
    PackManifest manifest;
    manifest.architecture = rich_architecture();
    manifest.files.push_back({name, {}});
    place_regions(manifest);
    const InC file(pack_head(manifest));
    EXPECT_THAT(std::string(file.error.message), ::testing::AnyOf("", HasSubstr("a name that no file has")));
    return file.pack != nullptr;
  };
  for (const char* const name : {"config.json", "a..b", ".gitignore"}) EXPECT_TRUE(opens(name)) << name;
  for (const char* const name : {"", ".", "..", "/etc/passwd", "a/b", "..\\b", "a/"}) EXPECT_FALSE(opens(name)) << name;
}

TEST(PackInC, ListsOfAnyLengthAreKept) {
  PackManifest manifest;
  manifest.architecture = rich_architecture();
  manifest.architecture.eos_ids.clear();
  for (int i = 0; i < 37; ++i) {
    manifest.architecture.eos_ids.push_back(3 * i);
    manifest.provenance.emplace_back("adze." + std::to_string(i), std::to_string(7 * i));
  }
  place_regions(manifest);
  const InC file(pack_head(manifest));
  ASSERT_NE(file.pack, nullptr) << file.error.message;
  const adze_pack_model& model = *adze_pack_get_model(file.pack);
  ASSERT_EQ(model.eos_count, 37u);
  ASSERT_EQ(model.provenance_count, 37u);
  for (int i = 0; i < 37; ++i) {
    EXPECT_EQ(model.eos_ids[i], 3 * i);
    EXPECT_EQ(model.provenance[i].key, "adze." + std::to_string(i));
    EXPECT_EQ(model.provenance[i].value, std::to_string(7 * i));
  }
}

// ---- programs

const fs::path& demo_pack() {
  static const TempFolder folder;
  static const fs::path path = [] {
    const fs::path made = folder / "demo.adze";
    find_exporter("pack")->make()->write(plan_of(*demo().model), *demo().model, made, silent_progress());
    return made;
  }();
  return path;
}

/// The demo in several formats.
const FormattedModel& mixed_demo() {
  static const FormattedModel model(*demo().model, [](const TensorSpec& spec) -> std::string {
    if (spec.role == TensorRole::embedding) return "gguf/q8_0";
    static const std::map<LinearSlot, std::string> formats{{LinearSlot::q, "gguf/q6_k"},
                                                           {LinearSlot::k, "int8 g64 sym"},
                                                           {LinearSlot::v, "f16"},
                                                           {LinearSlot::o, "gguf/q5_k"},
                                                           {LinearSlot::gate, "int6 g32 asym"},
                                                           {LinearSlot::up, "gguf/iq4_xs"},
                                                           {LinearSlot::down, "int4 channel sym bf16"}};
    return formats.at(*spec.slot);
  });
  return model;
}

std::vector<std::vector<float>> lines_of_floats(const std::string& text) {
  std::vector<std::vector<float>> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    lines.emplace_back();
    for (float value = 0; words >> value;) lines.back().push_back(value);
  }
  return lines;
}

void expect_same_logits(const ModelWeights& model, const fs::path& path) {
  const std::vector<std::int32_t> ids{1, 340, 22, 7, 1999, 4095, 12, 340, 22, 81, 5, 6};
  std::vector<std::string> arguments{path.string(), "--logits"};
  for (const std::int32_t id : ids) arguments.push_back(std::to_string(id));
  const ProgramResult result = run_program("pack_run", arguments);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto lines = lines_of_floats(result.out);
  const MatrixF meant = logits_of(model, ids);
  ASSERT_EQ(lines.size(), ids.size());
  for (std::size_t t = 0; t < ids.size(); ++t) {
    ASSERT_EQ(lines[t].size(), meant.cols());
    for (std::size_t v = 0; v < meant.cols(); ++v) ASSERT_NEAR(lines[t][v], meant(t, v), 1e-3) << t << " " << v;
  }
}

TEST(PackRun, HasTheLogitsOfOurForwardPass) { expect_same_logits(*demo().model, demo_pack()); }

TEST(PackRun, MultipliesWithWhatIsStored) {
  const TempFolder folder;
  const fs::path path = folder / "mixed.adze";
  find_exporter("pack")->make()->write(plan_of(mixed_demo()), mixed_demo(), path, silent_progress());
  expect_same_logits(mixed_demo(), path);
  const ProgramResult in_c = run_program("test_pack_c_in_c", {path.string(), demo_pack().string()});
  EXPECT_EQ(in_c.exit_code, 0) << in_c.out;
}

TEST(PackRun, RotatesNoMoreOfAHeadThanTheModelDoes) {
  const TempFolder folder;
  for (const fs::directory_entry& entry : fs::directory_iterator(fs::path(ADZE_SOURCE_DIR) / "tests/models/demo-llama"))
    if (entry.is_regular_file()) fs::copy_file(entry.path(), folder / entry.path().filename().string());
  nlohmann::json config = nlohmann::json::parse(read_file(folder / "config.json"));
  config["partial_rotary_factor"] = 0.75;
  write_file(folder / "config.json", config.dump(), Durable::later);
  const auto model = open_checkpoint_model(folder.path());
  ASSERT_EQ(model->architecture().rotary_dim, 48u);
  const fs::path path = folder / "part.adze";
  const std::vector<StoreFile> files = read_folder_files(folder.path());
  ExportPlan plan = plan_of(*model);
  plan.files = files;
  find_exporter("pack")->make()->write(plan, *model, path, silent_progress());
  EXPECT_EQ(PackWeights(path).architecture().rotary_dim, 48u);
  expect_same_logits(*model, path);
}

TEST(PackRun, GeneratesTheMostLikelyTokens) {
  std::vector<std::int32_t> ids{1, 340, 22};
  const ProgramResult result = run_program("pack_run", {demo_pack().string(), "--generate", "6", "1", "340", "22"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::istringstream words(result.out);
  for (std::int32_t id = 0; words >> id;) {
    const MatrixF logits = logits_of(*demo().model, ids);
    const auto last = logits.row(ids.size() - 1);
    EXPECT_EQ(id, std::ranges::max_element(last) - last.begin());
    ids.push_back(id);
  }
  EXPECT_GT(ids.size(), 3u);
  EXPECT_LE(ids.size(), 9u);
}

TEST(PackRun, SaysWhatIsWrong) {
  EXPECT_THAT(run_program("pack_run", {"/no/such/file", "1"}).err, HasSubstr("/no/such/file"));
  EXPECT_THAT(run_program("pack_run", {demo_pack().string(), "4096"}).err, HasSubstr("vocabulary"));
  EXPECT_THAT(run_program("pack_run", {demo_pack().string()}).err, HasSubstr("usage"));
}

}  // namespace
}  // namespace adze
