// The reader of packs: a file made by hand is read, and files that lie are refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/hash.h"
#include "checkpoint/checkpoint_testing.h"
#include "model/memory_source.h"
#include "model/pack/pack_weights.h"

namespace adze {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

// This code shares nothing with the writer.

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
    std::string checks;
    for (std::size_t at = 0; at < item.bytes.size(); at += 4096) checks += raw(hash64(item.bytes.substr(at, 4096)));
    region += number(2, item.bytes.size()) + text(3, hash_hex(item.bytes)) + text(4, checks);
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
  // Coded bytes are fewer than the payload's, which the message says.
  refuses_change("of a payload of 16", [](HandMade& f) { f.items[2].encoding = 1; });
  refuses_change("q_proj.weight'", [](HandMade& f) {
    f.items[2].encoding = 1;
    f.items[2].bytes = std::string(15, 'x');
    f.items[2].more = number(8, 16);
  });
  refuses_change("encoding 2 (planes) is not read", [](HandMade& f) { f.items[2].encoding = 2; });
  for (const std::uint64_t encoding : {3, 4})  // of a delta, which this is not
    refuses_change("differ from a base, which the model record does not have", [&](HandMade& f) {
      f.items[2].encoding = encoding;
      if (encoding == 4) f.items[2].format = "base", f.items[2].bytes = "";
    });
  refuses_change("differ from a base", [](HandMade& f) { f.items[2].more = text(9, std::string(32, 'a')); });
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
  refuses_change("non-finite value nan at element 0", [](HandMade& f) { f.items[2].bytes.replace(0, 4, raw(NAN)); });
  refuses_change("which is stored as 'f32'", [](HandMade& f) {
    f.items[2].format = "rank 1 [f32] [shared layers.0.self_attn.k_proj [f32]]";
    f.items[2].bytes.resize(8);
  });
}

/// A base of random floats, and a delta from it made by hand: q is base + what is stored, k the base's own, as is the
/// first norm; everything else is stored in full.
struct HandMadeDelta : HandMade {
  MemorySource base_source;
  BaseModel base;
  std::vector<std::string> hashes;
  std::string hash_of_all;  ///< "" : the right one

  HandMadeDelta() {
    const TempFolder folder;
    base.architecture = PackWeights(folder.put("plain.adze", HandMade().bytes())).architecture();
    base_source = random_source(base.architecture);
    base.origin = "the base";
    base.source = std::make_shared<MemorySource>(base_source);
    items[2].encoding = 3;
    for (const std::size_t same : {std::size_t{1}, std::size_t{3}}) {
      items[same].encoding = 4;
      items[same].format = "base";
      items[same].bytes = "";
    }
    for (const Item& item : items) {
      const std::uint64_t rows = item.shape.size() == 2 ? item.shape[0] : 1;
      std::string of_base = fmt::format("{} {} x {}\n", item.name, rows, item.shape.back());
      for (const float value : base_source.values(item.name)) of_base += raw(value);
      hashes.push_back(hash_hex(of_base));
    }
  }

  std::string bytes() {
    std::string all;
    for (std::size_t i = 0; i < items.size(); ++i) {
      items[i].more += text(9, hashes[i]);
      all += hashes[i];
    }
    model += text(5, text(1, "hand's base") + text(2, hash_of_all.empty() ? hash_hex(all) : hash_of_all));
    return HandMade::bytes();
  }
};

TEST(DeltaPack, IsAddedToItsBase) {
  HandMadeDelta made;
  const TempFolder folder;
  const PackWeights model(folder.put("d.adze", made.bytes()), made.base);
  const BlockWeights block = model.block(0);
  const auto of_base = [&](const char* name) { return made.base_source.values(name); };
  std::vector<float> q = of_base("model.layers.0.self_attn.q_proj.weight");
  for (std::size_t i = 0; i < q.size(); ++i) q[i] += static_cast<float>(i);
  EXPECT_THAT(block[LinearSlot::q].weight->decode().values(), ::testing::ElementsAreArray(q));
  EXPECT_THAT(block[LinearSlot::k].weight->decode().values(),
              ::testing::ElementsAreArray(of_base("model.layers.0.self_attn.k_proj.weight")));
  EXPECT_THAT(block[LinearSlot::v].weight->decode().values(), ElementsAre(0, 1, 2, 3)) << "in full";
  EXPECT_EQ(block[NormSlot::before_attention], of_base("model.layers.0.input_layernorm.weight"));
  EXPECT_EQ(model.pack().manifest().base->name, "hand's base");
  // As a checkpoint it is all floats.
  const PackSource source(std::make_shared<PackWeights>(model.pack().file().path(), made.base));
  const TensorInfo& info = *source.find("model.layers.0.self_attn.q_proj.weight");
  std::vector<float> values(4);
  source.read(info, 0, std::as_writable_bytes(std::span(values)));
  EXPECT_EQ(values, q);
}

TEST(DeltaPack, IsNothingWithoutItsBase) {
  HandMadeDelta made;
  const TempFolder folder;
  const PackWeights model(folder.put("d.adze", made.bytes()));  // to be looked at, not computed with
  expect_error(ErrorKind::missing_input, "a delta, what a model differs by from 'hand's base'",
               [&] { model.block(0); });
  EXPECT_THAT(model.stored(model.pack().manifest().tensors[2])->decode().values(), ElementsAre(0, 1, 2, 3));
}

TEST(DeltaPack, RefusesAnotherBase) {
  HandMadeDelta made;
  const TempFolder folder;
  const fs::path path = folder.put("d.adze", made.bytes());
  const auto changed = [&](const std::string& name) {
    auto source = std::make_shared<MemorySource>(made.base_source);
    std::vector<float> values = source->values(name);
    values.back() += 1;
    source->put(name, DType::f32, source->find(name)->shape, values);
    return BaseModel{"another model", made.base.architecture, std::move(source)};
  };
  // Vectors are compared at once, matrices when they are needed.
  expect_error(ErrorKind::bad_data,
               "another model is not the base of this delta, which is 'hand's base': its tensor 'model.norm.weight'",
               [&] { PackWeights(path, changed("model.norm.weight")); });
  for (const char* const name : {"q_proj", "k_proj"}) {
    const PackWeights model(path, changed(fmt::format("model.layers.0.self_attn.{}.weight", name)));
    expect_error(ErrorKind::bad_data, name, [&] { model.block(0); });
  }
  EXPECT_NO_THROW(PackWeights(path, changed("model.layers.0.mlp.up_proj.weight")).block(0)) << "not used";
  BaseModel wider = made.base;
  wider.architecture.ffn = 5;
  expect_error(ErrorKind::bad_data, "ffn is 3 and 5", [&] { PackWeights(path, wider); });
  expect_error(ErrorKind::bad_data, "is no delta",
               [&] { PackWeights(folder.put("plain.adze", HandMade().bytes()), made.base); });
}

TEST_F(HostilePacks, DeltasThatLie) {
  const auto refuses_delta = [&](const std::string& words, auto&& change) {
    HandMadeDelta file;
    change(file);
    refuses(file.bytes(), words);
  };
  refuses_delta("is not that of its tensors' hashes", [](HandMadeDelta& f) { f.hash_of_all = std::string(32, '0'); });
  refuses_delta("is no hash", [](HandMadeDelta& f) { f.hash_of_all = "abc"; });
  refuses_delta("is no hash", [](HandMadeDelta& f) { f.hashes[4] = ""; });
  refuses_delta("both or neither", [](HandMadeDelta& f) { f.items[2].format = "base", f.items[2].bytes = ""; });
  refuses_delta("both or neither", [](HandMadeDelta& f) { f.items[3].format = "f32"; });
  refuses_delta("of a payload of", [](HandMadeDelta& f) { f.items[3].bytes = "x"; });
  refuses_delta("unknown format", [](HandMadeDelta& f) { f.items[2].format = "dropped 50% seed 1 keeps 2 of a b"; });
}

/// Values are looked at in tiles of rows, of factors up to 64 MiB large.
TEST_F(HostilePacks, ManyRowsAreDecodedPieceByPiece) {
  const auto with_rows = [](HandMade& f, std::uint64_t rows, const std::string& format, std::string bytes) {
    f.model += text(2, number(8, rows));
    f.items[0].shape = {rows, 2};
    f.items[0].format = format;
    f.items[0].bytes = std::move(bytes);
  };
  const std::string nan = "\xFF\x7F";  // f16
  refuses_change("at element 16777216", [&](HandMade& f) {
    const std::uint64_t rows = (std::uint64_t{1} << 23) + 1;
    with_rows(f, rows, "rank 1 [f16] [f16]", std::string(2 * (rows - 1), '\0') + nan + std::string(4, '\0'));
  });
  refuses_change("at element 128", [&](HandMade& f) {
    with_rows(f, 65, "planes 4 of int8 g2 sym", std::string(2 * 64, '\0') + nan + std::string(4 * 65, '\0'));
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
