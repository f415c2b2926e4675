// The exporter "pack" and its reader: every format comes back with its bytes, sizes are those that were promised, and
// files that lie are refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/hash.h"
#include "export/export_testing.h"
#include "grid/any_format.h"
#include "grid/factors/shared_tensor.h"
#include "model/pack/pack_weights.h"

namespace adze {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

/// Square matrices that divide into every block, biases everywhere, an untied head.
Architecture square_architecture(std::size_t layers = 1) {
  Architecture a;
  a.hidden = a.ffn = a.vocab = 256;
  a.layers = layers;
  a.heads = a.kv_heads = 2;
  a.head_dim = 128;
  a.max_positions = 64;
  a.norm_eps = 1e-5;
  a.qkv_bias = a.o_bias = a.mlp_bias = true;
  return a;
}

std::vector<StoreFile> square_files() {
  return {{"config.json",
           R"({"model_type": "llama", "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1,
               "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 256,
               "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "max_position_embeddings": 64, "hidden_act": "silu",
               "tie_word_embeddings": false, "attention_bias": true, "mlp_bias": true})"},
          {"tokenizer.json", "{}"},
          {"empty", ""}};
}

/// Random matrices in formats that a function chooses.
class AnyModel final : public ModelWeights {
 public:
  AnyModel(Architecture architecture, FormatOf format_of)
      : architecture_(std::move(architecture)), format_of_(std::move(format_of)) {}

  const Architecture& architecture() const override { return architecture_; }
  TensorPtr embedding() const override { return matrix("embed_tokens"); }
  TensorPtr head() const override { return architecture_.tied ? embedding() : matrix("lm_head"); }
  std::vector<float> final_norm() const override { return random_values(architecture_.hidden, "norm"); }
  BlockWeights block(std::size_t index) const override {
    BlockWeights block;
    const std::string prefix = "layers." + std::to_string(index);
    block.input_norm = random_values(architecture_.hidden, prefix + "in");
    block.post_attention_norm = random_values(architecture_.hidden, prefix + "post");
    for (const LinearInfo& info : block_linears()) {
      block[info.slot].weight = matrix(module_name(index, info.slot));
      if (info.has_bias(architecture_))
        block[info.slot].bias = random_values(info.rows(architecture_), module_name(index, info.slot) + "b");
    }
    return block;
  }

 private:
  TensorPtr matrix(const std::string& module) const {
    for (const TensorSpec& spec : expected_tensors(architecture_))
      if (spec.module == module && spec.shape.size() == 2)
        return grid_testing::random_tensor(format_of_(spec), {spec.shape[0], spec.shape[1]}, module);
    return nullptr;
  }

  Architecture architecture_;
  FormatOf format_of_;
};

struct Exported {
  explicit Exported(const ModelWeights& model, std::vector<StoreFile> kept = square_files())
      : files(std::move(kept)),
        plan{model.architecture(),
             planned_tensors(model),
             nullptr,
             files,
             "test model",
             {{"adze.version", "1"}, {"adze.recipe", "abc"}, {"adze.calibration", ""}}},
        path(folder / "model.adze") {
    const auto exporter = find_exporter("pack")->make();
    predicted = exporter->predict_bytes(plan);
    EXPECT_THAT(exporter->files(plan, path), ElementsAre(path));
    exporter->write(plan, model, path, silent_progress());
  }

  TempFolder folder;
  std::vector<StoreFile> files;
  ExportPlan plan;
  fs::path path;
  std::uint64_t predicted = 0;
};

void expect_same(const ModelWeights& left, const ModelWeights& right) {
  const auto same = [](const CompressedTensor& a, const CompressedTensor& b) {
    EXPECT_EQ(a.format(), b.format());
    EXPECT_THAT(a.payload(), ElementsAreArray(b.payload()));
  };
  same(*left.embedding(), *right.embedding());
  same(*left.head(), *right.head());
  EXPECT_EQ(left.final_norm(), right.final_norm());
  ASSERT_EQ(left.architecture().layers, right.architecture().layers);
  for (std::size_t b = 0; b < left.architecture().layers; ++b) {
    const BlockWeights a = left.block(b), c = right.block(b);
    EXPECT_EQ(a.input_norm, c.input_norm);
    EXPECT_EQ(a.post_attention_norm, c.post_attention_norm);
    for (const LinearInfo& info : block_linears()) {
      same(*a[info.slot].weight, *c[info.slot].weight);
      EXPECT_EQ(a[info.slot].bias, c[info.slot].bias);
    }
  }
}

/// A list of formats dealt out to the matrices of as many models as that takes.
std::vector<FormatOf> dealt(const std::vector<std::string>& formats) {
  std::vector<FormatOf> models;
  constexpr std::size_t kMatrices = 9;
  for (std::size_t first = 0; first < formats.size(); first += kMatrices) {
    std::map<std::string, std::string> of;
    std::size_t next = first;
    for (const TensorSpec& spec : expected_tensors(square_architecture()))
      if (spec.shape.size() == 2) of[spec.module] = formats[next++ % formats.size()];
    models.push_back([of](const TensorSpec& spec) { return of.at(spec.module); });
  }
  return models;
}

void expect_round_trips(const std::vector<std::string>& formats) {
  for (const FormatOf& format_of : dealt(formats)) {
    const AnyModel model(square_architecture(), format_of);
    const Exported out(model);
    EXPECT_EQ(out.predicted, fs::file_size(out.path));
    const PackWeights written(out.path);
    expect_same(written, model);
    EXPECT_EQ(written.pack().manifest().provenance,
              (std::vector<std::pair<std::string, std::string>>{{"adze.version", "1"}, {"adze.recipe", "abc"}}));
    EXPECT_EQ(written.pack().manifest().name, "test model");
    ASSERT_EQ(written.files().size(), 3u);
    EXPECT_EQ(written.files()[0].text, out.files[0].text);
    EXPECT_EQ(written.files()[2].text, "");
  }
}

TEST(PackExport, EveryGridComesBackWithItsBytes) { expect_round_trips(grid_testing::grid_formats()); }
TEST(PackExport, EveryPatternComesBackWithItsBytes) {
  const std::vector<std::string> all = grid_testing::sparse_formats();
  std::vector<std::string> some;  // each grid and each pattern, not each pair
  for (std::size_t i = 0; i < all.size(); i += 3) some.push_back(all[i]);
  expect_round_trips(some);
}
TEST(PackExport, TensorsMadeOfOthersComeBackWithTheirBytes) { expect_round_trips(grid_testing::composed_formats()); }

/// Block 1 borrows the right factor of block 0's q.
class SharingModel final : public ModelWeights {
 public:
  SharingModel() : base_(square_architecture(2), all_in("rank 16 [f16] [f16]")) {}
  const Architecture& architecture() const override { return base_.architecture(); }
  TensorPtr embedding() const override { return base_.embedding(); }
  TensorPtr head() const override { return base_.head(); }
  std::vector<float> final_norm() const override { return base_.final_norm(); }
  BlockWeights block(std::size_t index) const override {
    BlockWeights block = base_.block(index);
    if (index == 0) return block;
    const TensorPtr first = base_.block(0)[LinearSlot::q].weight;
    const auto& owner = dynamic_cast<const ProductTensor&>(*first);
    block[LinearSlot::k].weight = std::make_shared<ProductTensor>(
        grid_testing::random_tensor("f16", {256, 16}, "left"),
        std::make_shared<SharedTensor>("layers.0.self_attn.q_proj", owner.right_part()));
    return block;
  }

 private:
  AnyModel base_;
};

TEST(PackExport, SharedFactorsAreFoundInTheTensorThatHasThem) {
  const SharingModel model;
  const Exported out(model, {});
  EXPECT_EQ(out.predicted, fs::file_size(out.path));
  const PackWeights written(out.path);
  expect_same(written, model);
  EXPECT_EQ(written.block(1)[LinearSlot::k].weight->decode(), model.block(1)[LinearSlot::k].weight->decode());
}

TEST(PackExport, ACheckpointOfFloatsIsReadBackAsOne) {
  const Architecture a = [] {
    Architecture made = rich_architecture();
    made.tied = true;
    made.rope = {500000.0, RopeKind::llama3, 8.0, 1.0, 4.0, 32};
    made.bos_id = 1;
    made.eos_ids = {2, 3};
    return made;
  }();
  const CheckpointWeights model = random_model(a, DType::bf16);
  const Exported out(model, {});
  const auto written = std::make_shared<PackWeights>(out.path);
  Architecture meant = model.architecture();
  meant.tied_stated = false;
  EXPECT_EQ(written->architecture(), meant);
  const PackSource source(written);
  const CheckpointWeights again(written->architecture(), std::make_shared<PackSource>(written));
  expect_same(again, *written);
}

TEST(PackSource, DecodesRowsWhereverItIsRead) {
  const AnyModel model(square_architecture(), all_in("int4 g64 asym"));
  const Exported out(model);
  const PackSource source(std::make_shared<PackWeights>(out.path));
  const TensorInfo& info = *source.find("model.layers.0.mlp.up_proj.weight");
  EXPECT_EQ(info.dtype, DType::f32);
  const MatrixF meant = model.block(0)[LinearSlot::up].weight->decode();
  std::vector<float> values(700);
  source.read(info, 4 * 300, std::as_writable_bytes(std::span(values)));
  EXPECT_TRUE(std::equal(values.begin(), values.end(), meant.values().begin() + 300));
  EXPECT_THROW(source.read(info, info.bytes - 4, std::as_writable_bytes(std::span(values))), Error);
}

TEST(PackExport, TheSameModelGivesTheSameBytes) {
  const AnyModel model(square_architecture(), all_in("int4 g64 sym, 2:4"));
  EXPECT_EQ(read_file(Exported(model).path), read_file(Exported(model).path));
}

/// Files of the first version, one with each kind of format, stay readable; and what is read is written again as it
/// was.
TEST(PackExport, OldFilesStayReadableAndAreWrittenAlike) {
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(ADZE_SOURCE_DIR) / "tests/fuzz/corpus/pack")) {
    SCOPED_TRACE(entry.path().filename());
    const PackWeights old(entry.path());
    const std::vector<StoreFile> kept = old.files();
    const PackManifest& manifest = old.pack().manifest();
    const ExportPlan plan{old.architecture(), planned_tensors(old), nullptr, kept, manifest.name, manifest.provenance};
    const TempFolder folder;
    find_exporter("pack")->make()->write(plan, old, folder / "new.adze", silent_progress());
    EXPECT_TRUE(read_file(folder / "new.adze") == read_file(entry.path()));
    ++files;
  }
  EXPECT_GE(files, 3u);
}

TEST(PackExport, RefusesToBeSplitAndAConfigOfAnotherModel) {
  const AnyModel model(square_architecture(), all_in("f16"));
  Exported out(model);
  const auto exporter = find_exporter("pack")->make();
  out.plan.split_max_bytes = 1000;
  expect_error(ErrorKind::bad_data, "cannot be split", [&] { exporter->predict_bytes(out.plan); });
  out.plan.split_max_bytes = 0;
  std::string& config = out.files[0].text;
  config.replace(config.find("\"vocab_size\": 256"), 17, "\"vocab_size\": 255");
  expect_error(ErrorKind::bad_data, "another architecture", [&] { exporter->predict_bytes(out.plan); });
  const fs::path other = out.folder / "other.adze";
  expect_error(ErrorKind::bad_data, "another architecture",
               [&] { exporter->write(out.plan, model, other, silent_progress()); });
  for (const auto& entry : fs::directory_iterator(out.folder.path())) EXPECT_EQ(entry.path(), out.path);
}

// A file by hand: this code shares nothing with the writer.

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes += static_cast<char>((value & 127) | 128);
  return bytes + static_cast<char>(value);
}
std::string number(int field, std::uint64_t value) { return varint(field * 8) + varint(value); }
std::string text(int field, const std::string& value) { return varint(field * 8 + 2) + varint(value.size()) + value; }
std::string real(int field, double value) { return varint(field * 8 + 1) + raw(value); }

std::string framed(const std::string& message) {
  const auto length = static_cast<std::uint32_t>(message.size());
  return raw(length) + raw(static_cast<std::uint32_t>(hash64(raw(length)))) + raw(hash64(message)) + message;
}

struct HandMade {
  // An architecture of 1 layer, hidden 2, one head of 2, ffn 3, vocabulary 4.
  std::string rope =
      real(2, 10000.0) + real(3, 1.0) + real(4, 1.0) + real(5, 4.0) + number(6, 8192) + text(8, raw(1.0));
  std::string architecture = text(1, "LlamaForCausalLM") + number(2, 2) + number(3, 3) + number(4, 1) + number(5, 1) +
                             number(6, 1) + number(7, 2) + number(8, 4) + number(9, 16) + real(10, 1e-5) +
                             text(11, rope) + number(12, 1);
  std::string model =
      text(1, "hand") + text(2, architecture) + text(3, text(1, "adze.x") + text(2, "y")) + number(4, 4096);
  struct Item {
    std::string name, module;
    int role;
    std::vector<std::uint64_t> shape;
    std::string format, bytes;
    std::uint64_t encoding = 0;
    std::string more = {};  ///< appended to its message
  };
  std::vector<Item> items = {{"model.embed_tokens.weight", "embed_tokens", 1, {4, 2}, "f16", std::string(16, '\0')}};

  HandMade() {
    const std::string block = "model.layers.0.";
    norm(block + "input_layernorm.weight", "layers.0.input_layernorm");
    linear("self_attn.q_proj", 2, 2);
    linear("self_attn.k_proj", 2, 2);
    linear("self_attn.v_proj", 2, 2);
    linear("self_attn.o_proj", 2, 2);
    norm(block + "post_attention_layernorm.weight", "layers.0.post_attention_layernorm");
    linear("mlp.gate_proj", 3, 2);
    linear("mlp.up_proj", 3, 2);
    linear("mlp.down_proj", 2, 3);
    norm("model.norm.weight", "norm");
  }
  void norm(const std::string& name, const std::string& module) {
    items.push_back({name, module, 3, {2}, "f32", raw(1.0f) + raw(2.0f)});
  }
  void linear(const std::string& module, std::uint64_t rows, std::uint64_t cols) {
    std::string bytes;
    for (std::uint64_t i = 0; i < rows * cols; ++i) bytes += raw(static_cast<float>(i));
    items.push_back({"model.layers.0." + module + ".weight", "layers.0." + module, 2, {rows, cols}, "f32", bytes});
  }

  std::string record(const Item& item, std::uint64_t offset) const {
    std::string shape;
    for (const std::uint64_t dim : item.shape) shape += varint(dim);
    std::string region = offset > 0 ? number(1, offset) : "";
    region += number(2, item.bytes.size()) + text(3, hash_hex(item.bytes)) + text(4, raw(hash64(item.bytes)));
    return text(3, text(1, item.name) + text(2, item.module) + number(3, item.role) + text(4, shape) +
                       text(5, item.format) + number(6, item.encoding) + text(7, region) +
                       number(8, item.bytes.size()) + item.more);
  }

  std::string head(const std::string& records, std::uint32_t count, std::uint64_t data_bytes) const {
    const std::uint64_t start = (64 + records.size() + 63) / 64 * 64;
    std::string header = std::string(
                             "\x89"
                             "ADZEPK\n") +
                         raw(std::uint32_t{1}) + raw(count) + raw(std::uint64_t{records.size()}) + raw(start) +
                         raw(start + data_bytes) + std::string(16, '\0');
    header += raw(hash64(header));
    return header + records + std::string(start - 64 - records.size(), '\0');
  }

  std::string bytes() const {
    std::string records = framed(text(1, model)), data;
    for (const Item& item : items) {
      data.resize((data.size() + 63) / 64 * 64);
      records += framed(record(item, data.size()));
      data += item.bytes;
    }
    return head(records, static_cast<std::uint32_t>(1 + items.size()), data.size()) + data;
  }
};

TEST(PackReader, ReadsAFileMadeByHand) {
  const TempFolder folder;
  const PackWeights model(folder.put("hand.adze", HandMade().bytes()));
  EXPECT_EQ(model.architecture().ffn, 3u);
  EXPECT_TRUE(model.architecture().tied);
  EXPECT_EQ(model.pack().manifest().name, "hand");
  EXPECT_THAT(model.final_norm(), ElementsAre(1.0f, 2.0f));
  EXPECT_THAT(model.block(0)[LinearSlot::down].weight->decode().values(), ElementsAre(0, 1, 2, 3, 4, 5));
  for (const PackTensor& tensor : model.pack().manifest().tensors)
    EXPECT_THAT(model.pack().damage(tensor.region), IsEmpty()) << tensor.name;
  EXPECT_THAT(model.pack().padding_damage(), IsEmpty());
}

class HostilePacks : public ::testing::Test {
 protected:
  void refuses(const std::string& bytes, const std::string& words) {
    SCOPED_TRACE(words);
    const fs::path path = folder_.put("x.adze", bytes);
    expect_error(ErrorKind::bad_data, words, [&] {
      const PackWeights model(path);
      model.embedding();
      model.block(0);
      model.final_norm();
    });
  }
  template <typename Change>
  void refuses_change(const std::string& words, Change&& change) {
    HandMade file;
    change(file);
    refuses(file.bytes(), words);
  }

 private:
  TempFolder folder_;
};

TEST_F(HostilePacks, CutAtEveryLengthAndWithSomethingBehindTheEnd) {
  const std::string whole = HandMade().bytes();
  for (std::size_t length = 0; length < whole.size(); length += 1 + length / 100)
    refuses(whole.substr(0, length), length < 64 ? "too few" : "its end is missing");
  refuses(whole + '\0', "something follows its end");
}

TEST_F(HostilePacks, EveryDamagedByteIsNamed) {
  const std::string whole = HandMade().bytes();
  const TempFolder folder;
  for (std::size_t at = 0; at < whole.size(); at += 1 + at / 200) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 4);
    const fs::path path = folder.put("x.adze", bytes);
    std::string found;
    try {
      const PackFile pack(path);
      for (const PackTensor& tensor : pack.manifest().tensors)
        for (const std::string& problem : pack.damage(tensor.region)) found += tensor.name + problem;
      for (const std::string& problem : pack.padding_damage()) found += problem;
    } catch (const Error& error) {
      found = error.message();
    }
    EXPECT_NE(found, "") << "byte " << at;
  }
}

TEST_F(HostilePacks, HeadersThatLie) {
  const HandMade file;
  const auto with_header = [&](std::size_t at, const std::string& value) {
    std::string bytes = file.bytes();
    bytes.replace(at, value.size(), value);
    return bytes.replace(56, 8, raw(hash64(bytes.substr(0, 56))));
  };
  refuses(with_header(0, "x"), "does not begin as a pack");
  refuses(with_header(8, raw(std::uint32_t{2})), "version 2, this program reads 1");
  refuses(with_header(12, raw(std::uint32_t{4000000000})), "the manifest ends inside it");
  refuses(with_header(12, raw(std::uint32_t{3})), "belong to no record");
  refuses(with_header(16, raw(std::uint64_t{1} << 60)), "a manifest of 1152921504606846976 bytes");
  refuses(with_header(24, raw(std::uint64_t{128})), "data from byte 128 on");
  refuses(with_header(32, raw(std::uint64_t{1} << 50)), "its end is missing");
  refuses(with_header(40, raw(std::uint64_t{1})), "reserved");
  refuses(file.head("", 0, 0), "no record says what the model is");
  refuses(file.head(framed(text(7, "x")), 1, 0), "the first record is not that of the model");
  refuses(file.head(framed(text(1, file.model)) + framed(text(1, file.model)), 2, 0), "a second model record");
  refuses(file.head(framed(text(1, file.model)) + framed(text(9, "")), 2, 0), "a kind of record");
  refuses(file.head(framed("\xFF\xFF"), 1, 0), "is no record");
}

TEST_F(HostilePacks, ManifestsThatLie) {
  refuses_change("is there twice", [](HandMade& f) { f.items.push_back(f.items[1]); });
  refuses_change("'model.norm.weight' is missing", [](HandMade& f) { f.items.pop_back(); });
  refuses_change("is not part of the architecture", [](HandMade& f) { f.items[3].name = "other"; });
  refuses_change("the architecture says", [](HandMade& f) { f.items[2].module = "layers.1.self_attn.q_proj"; });
  refuses_change("the architecture says", [](HandMade& f) { f.items[2].role = 4; });
  refuses_change("unknown role 9", [](HandMade& f) { f.items[2].role = 9; });
  refuses_change("its format says 8", [](HandMade& f) { f.items[2].format = "f16"; });
  refuses_change("unknown grid 'f17'", [](HandMade& f) { f.items[2].format = "f17"; });
  refuses_change("a name or format", [](HandMade& f) { f.items[2].format = std::string(5000, 'x'); });
  refuses_change("a name or format", [](HandMade& f) { f.items[2].name = "a\nb"; });
  refuses_change("size overflow", [](HandMade& f) {
    f.items[2].shape = {std::uint64_t{1} << 40, std::uint64_t{1} << 40};
  });
  refuses_change("3 dimensions", [](HandMade& f) { f.items[2].shape = {2, 2, 1}; });
  refuses_change("encoding 1 (rans) is not read", [](HandMade& f) { f.items[2].encoding = 1; });
  refuses_change("encoding 2 (planes) is not read", [](HandMade& f) { f.items[2].encoding = 2; });
  refuses_change("encoding 3 (delta) is not read", [](HandMade& f) { f.items[2].encoding = 3; });
  refuses_change("encoding 77 (unknown) is not read", [](HandMade& f) { f.items[2].encoding = 77; });
  // A later value of a field wins, as protobuf says.
  refuses_change("the next multiple of 64", [](HandMade& f) { f.items[2].more = text(7, number(1, 64)); });
  refuses_change("the next multiple of 64", [](HandMade& f) { f.items[2].more = text(7, number(1, 129)); });
  refuses_change("the next multiple of 64", [](HandMade& f) { f.items[2].more = text(7, number(1, UINT64_MAX)); });
  refuses_change("checksums for", [](HandMade& f) { f.items[2].more = text(7, number(2, std::uint64_t{1} << 62)); });
  refuses_change("2 checksums for 1 pieces",
                 [](HandMade& f) { f.items[2].more = text(7, text(4, raw(std::uint64_t{7}))); });
  refuses_change("is no hash", [](HandMade& f) { f.items[2].more = text(7, text(3, "abc")); });
  refuses_change("of a payload of 7", [](HandMade& f) { f.items[2].more = number(8, 7); });
  refuses_change("pieces of 1 bytes", [](HandMade& f) { f.model += number(4, 1); });
  refuses_change("the model record", [](HandMade& f) { f.model += text(2, number(2, std::uint64_t{1} << 60)); });
  refuses_change("RoPE", [](HandMade& f) { f.model += text(2, text(11, real(2, 10.0) + number(1, 9))); });
  refuses_change("RoPE frequencies", [](HandMade& f) { f.model += text(2, text(11, text(8, raw(0.5)))); });
  refuses_change("is not finite", [](HandMade& f) { f.items[2].bytes.replace(0, 4, raw(NAN)); });
  refuses_change("which is stored as 'f32'", [](HandMade& f) {
    f.items[2].format = "rank 1 [f32] [shared layers.0.self_attn.k_proj [f32]]";
    f.items[2].bytes.resize(8);
  });
}

TEST_F(HostilePacks, SharingInACircleEnds) {
  refuses_change("is a factor that another block's file holds", [](HandMade& f) {
    for (const auto& [at, owner] : {std::pair{2, "k_proj"}, {3, "q_proj"}}) {
      f.items[at].format = std::string("rank 1 [f32] [shared layers.0.self_attn.") + owner + " [f32]]";
      f.items[at].bytes.resize(8);
    }
  });
}

}  // namespace
}  // namespace adze
