// Every way in which a GGUF file is known to fail or to attack its reader, one row each: a good file is taken apart,
// spoiled, put together and opened as a model. The rules are those of the format and of llama.cpp's loader.
#include <functional>
#include <limits>

#include "export/plain_gguf.h"
#include "pipeline/open_model.h"
#include "pipeline/pipeline_testing.h"

namespace adze::testing {
namespace {

using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

struct RawInfo {
  std::string name;
  std::vector<u64> dims;
  u32 type = 0;
  u64 offset = 0;
};

/// A file as records that may say anything.
struct RawFile {
  std::string magic = "GGUF";
  u32 version = 3;
  u64 more_tensors = 0, more_keys = 0;
  std::vector<std::pair<std::string, std::string>> keys;  ///< name; type and payload
  std::vector<RawInfo> infos;
  std::string data;
  u64 alignment = 32;

  explicit RawFile(const PlainGguf& good) {
    for (const auto& [name, value] : good.keys) {
      std::string record = raw(value.array ? u32{9} : value.type);
      if (value.array) record += raw(value.type) + raw(count_of(value));
      keys.emplace_back(name, record + value.bytes);
    }
    for (const std::string& name : good.order) {
      const PlainTensor& tensor = good.tensors.at(name);
      infos.push_back({name, tensor.dims, tensor.type, data.size()});
      data += tensor.bytes;
    }
  }

  /// Elements of an array that this file has: texts or four-byte numbers.
  static u64 count_of(const PlainValue& value) {
    if (value.type != 8) return value.bytes.size() / 4;
    u64 count = 0;
    for (std::size_t at = 0; at < value.bytes.size(); ++count) {
      u64 length = 0;
      std::memcpy(&length, value.bytes.data() + at, 8);
      at += 8 + length;
    }
    return count;
  }

  std::string bytes() const {
    std::string out = magic + raw(version) + raw<u64>(infos.size() + more_tensors) + raw<u64>(keys.size() + more_keys);
    for (const auto& [name, record] : keys) out += raw<u64>(name.size()) + name + record;
    for (const RawInfo& info : infos) {
      out += raw<u64>(info.name.size()) + info.name + raw(static_cast<u32>(info.dims.size()));
      for (const u64 dim : info.dims) out += raw(dim);
      out += raw(info.type) + raw(info.offset);
    }
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }

  RawInfo& info(std::string_view name) { return *std::ranges::find(infos, name, &RawInfo::name); }
  void set(const std::string& name, std::string record) {
    for (auto& [known, value] : keys)
      if (known == name) return void(value = std::move(record));
    keys.emplace_back(name, std::move(record));
  }
  void drop(std::string_view name) {
    std::erase_if(keys, [&](const auto& key) { return key.first == name; });
  }
  void drop_last_tensor() {
    data.resize(infos.back().offset);
    infos.pop_back();
  }
};

std::string text_value(std::string_view text) { return raw(u32{8}) + raw<u64>(text.size()).append(text); }
std::string count_value(u32 value) { return raw(u32{4}) + raw(value); }
std::string short_value(u16 value) { return raw(u32{2}) + raw(value); }
std::string texts_value(const std::vector<std::string>& texts) {
  std::string record = raw(u32{9}) + raw(u32{8}) + raw<u64>(texts.size());
  for (const std::string& text : texts) record += raw<u64>(text.size()) + text;
  return record;
}

struct Malformed {
  std::string rule;
  std::function<void(RawFile&)> spoil;
  std::string words;
};

const std::vector<Malformed>& malformed() {
  static const u64 kHuge = std::numeric_limits<u64>::max();
  static const std::vector<Malformed> rows = {
      // What makes a loader refuse a file.
      {"a gap between tensors", [](RawFile& f) { f.infos[1].offset += 32; }, "a gap, an overlap or another order"},
      {"tensors that overlap", [](RawFile& f) { f.infos[2].offset = f.infos[1].offset; }, "an overlap"},
      {"tensors in another order", [](RawFile& f) { std::swap(f.infos[1].offset, f.infos[2].offset); },
       "another order"},
      {"a key twice", [](RawFile& f) { f.keys.push_back(f.keys[0]); }, "duplicate key"},
      {"a tensor twice", [](RawFile& f) { f.infos[1].name = f.infos[0].name; }, "duplicate tensor"},
      {"a count of another type", [](RawFile& f) { f.set("llama.block_count", raw(u32{10}) + raw(u64{2})); },
       "key 'llama.block_count' has type UINT64, expected UINT32"},
      {"a tensor too many",
       [](RawFile& f) {
         f.infos.push_back({"blk.0.attn_rot_embd", {1}, 0, f.data.size()});
         f.data.resize(f.data.size() + 32);
       },
       "tensor 'blk.0.attn_rot_embd' is not part of the architecture"},
      {"a tensor missing", [](RawFile& f) { f.drop_last_tensor(); }, "is missing"},
      {"a tensor of another shape", [](RawFile& f) { std::ranges::reverse(f.info("blk.0.ffn_up.weight").dims); },
       "tensor 'blk.0.ffn_up.weight' has shape"},
      {"a name of 64 bytes", [](RawFile& f) { f.infos[0].name = std::string(64, 'n'); }, "above the limit of 63"},
      {"rows that are no whole blocks", [](RawFile& f) { f.info("blk.0.attn_q.weight").type = 12; },
       "are not a multiple of the 256"},
      {"data cut short", [](RawFile& f) { f.data.resize(f.data.size() - 32); }, "it is cut short"},
      {"bytes after the end", [](RawFile& f) { f.data.resize(f.data.size() + 32); }, "trailing bytes"},
      {"an unknown architecture", [](RawFile& f) { f.set("general.architecture", text_value("rwkv6")); },
       "architecture 'rwkv6' is not supported; known: llama"},
      {"no architecture", [](RawFile& f) { f.drop("general.architecture"); }, "key 'general.architecture' is missing"},
      {"an unknown tokenizer", [](RawFile& f) { f.set("tokenizer.ggml.model", text_value("rwkv")); }, "rwkv"},
      {"unknown splitting rules", [](RawFile& f) { f.set("tokenizer.ggml.pre", text_value("novel")); }, "novel"},
      {"sizes per layer",
       [](RawFile& f) { f.set("llama.feed_forward_length", raw(u32{9}) + raw(u32{4}) + raw(u64{1}) + raw(u32{64})); },
       "key 'llama.feed_forward_length' has type ARRAY of UINT32, expected UINT32"},
      {"fewer tokens than the embedding has rows",
       [](RawFile& f) {
         f.set("tokenizer.ggml.tokens", texts_value({"a", "b"}));
       },
       "tokenizer.ggml.tokens"},
      {"a token twice",
       [](RawFile& f) { f.set("tokenizer.ggml.tokens", texts_value(std::vector<std::string>(4096, "same"))); }, "same"},
      // What an attacker would try.
      {"no magic", [](RawFile& f) { f.magic = "GGML"; }, "not a GGUF file"},
      {"version 1", [](RawFile& f) { f.version = 1; }, "version 1 is not supported"},
      {"version 4", [](RawFile& f) { f.version = 4; }, "version 4 is not supported"},
      {"the other byte order", [](RawFile& f) { f.version = 0x03000000; }, "big-endian"},
      {"more tensors than bytes", [](RawFile& f) { f.more_tensors = u64{1} << 40; }, "tensor infos do not fit"},
      {"more keys than bytes", [](RawFile& f) { f.more_keys = u64{1} << 40; }, "metadata keys do not fit"},
      {"a negative number of tensors", [](RawFile& f) { f.more_tensors = u64{1} << 63; }, "negative number of tensors"},
      {"an empty key", [](RawFile& f) { f.keys[0].first = ""; }, "a metadata key is empty"},
      {"a text longer than the file", [](RawFile& f) { f.set("a", raw(u32{8}) + raw(u64{1} << 25)); }, "does not fit"},
      {"a text longer than memory", [](RawFile& f) { f.set("a", raw(u32{8}) + raw(kHuge)); }, "above the limit"},
      {"an array longer than the file", [](RawFile& f) { f.set("a", raw(u32{9}) + raw(u32{4}) + raw(u64{1} << 29)); },
       "array of 536870912 elements"},
      {"an array whose size wraps", [](RawFile& f) { f.set("a", raw(u32{9}) + raw(u32{10}) + raw(u64{1} << 61)); },
       "array of 2305843009213693952 elements"},
      {"an array of arrays", [](RawFile& f) { f.set("a", raw(u32{9}) + raw(u32{9}) + raw(u64{1})); },
       "an array of arrays"},
      {"an unknown value type", [](RawFile& f) { f.set("a", raw(u32{13})); }, "unknown value type 13"},
      {"a flag that is neither 0 nor 1", [](RawFile& f) { f.set("a", raw(u32{7}) + "\2"); }, "BOOL holds 2"},
      {"an alignment of 0", [](RawFile& f) { f.set("general.alignment", count_value(0)); }, "not a power of two"},
      {"an alignment of 24", [](RawFile& f) { f.set("general.alignment", count_value(24)); }, "not a power of two"},
      {"an alignment that wraps", [](RawFile& f) { f.set("general.alignment", count_value(u32{1} << 31)); },
       "not a power of two"},
      {"an alignment of another type", [](RawFile& f) { f.set("general.alignment", raw(u32{10}) + raw(u64{32})); },
       "has type UINT64"},
      {"five dimensions",
       [](RawFile& f) {
         f.infos[0].dims = {1, 1, 1, 1, 1};
       },
       "5 dimensions"},
      {"a dimension of 0",
       [](RawFile& f) {
         f.infos[0].dims = {0, 4};
       },
       "dimension 0 is outside"},
      {"a dimension above 2^40", [](RawFile& f) { f.infos[0].dims = {(u64{1} << 40) + 32}; }, "outside 1 to 2^40"},
      {"a product that wraps",
       [](RawFile& f) {
         f.infos[0].dims = {u64{1} << 40, u64{1} << 40};
       },
       "overflow"},
      {"an offset past the end", [](RawFile& f) { f.infos[1].offset = kHuge - 31; }, "where"},
      {"an offset that is not aligned", [](RawFile& f) { f.infos[1].offset += 1; },
       "is not a multiple of the alignment"},
      {"an unknown tensor type", [](RawFile& f) { f.infos[0].type = 99; }, "unknown type id 99"},
      {"a fork's tensor type", [](RawFile& f) { f.infos[0].type = 137; }, "ik_llama.cpp"},
      {"a type for computing only", [](RawFile& f) { f.infos[0].type = 15; }, "never stored"},
      {"a part beyond its count",
       [](RawFile& f) {
         f.set("split.no", short_value(3));
         f.set("split.count", short_value(3));
         f.set("split.tensors.count", raw(u32{5}) + raw(u32{4}));
       },
       "split.no 3 is not below split.count 3"},
      {"a part in a file of another name",
       [](RawFile& f) {
         f.set("split.no", short_value(0));
         f.set("split.count", short_value(3));
         f.set("split.tensors.count", raw(u32{5}) + raw(u32{4}));
       },
       "must be named NAME-00001-of-00003.gguf"},
  };
  return rows;
}

class MalformedGguf : public ::testing::Test {
 protected:
  MalformedGguf() {
    const OpenedModel model = open_model(site.model());
    const ExportPlan plan{
        model.architecture(), planned_tensors(*model.weights), &*model.tokenizer, model.files, "m", {}};
    find_exporter("gguf")->make()->write(plan, *model.weights, site / "good.gguf", silent_progress());
  }
  RawFile good() const { return RawFile(PlainGguf(site / "good.gguf")); }

  Site site{true};
};

TEST_F(MalformedGguf, IsOpenedWhenNothingIsSpoiled) {
  const OpenedModel model = open_model(site.put("again.gguf", good().bytes()));
  EXPECT_NO_THROW(model.require_tokenizer());
  EXPECT_NO_THROW(model.require_source());
}

TEST_F(MalformedGguf, IsRefusedWithTheReason) {
  for (const Malformed& row : malformed()) {
    SCOPED_TRACE(row.rule);
    RawFile file = good();
    row.spoil(file);
    const fs::path path = site.put("bad.gguf", file.bytes());
    expect_error(ErrorKind::bad_data, row.words, [&] { open_model(path).require_tokenizer(); });
    expect_error(ErrorKind::bad_data, "bad.gguf", [&] { open_model(path).require_tokenizer(); });
  }
}

TEST_F(MalformedGguf, IsRefusedWhenItEndsAnywhereInItsHeader) {
  const std::string whole = good().bytes();
  const std::size_t header = whole.size() - good().data.size();
  for (std::size_t length = 0; length < header; length += 1 + length / 64)
    expect_error(ErrorKind::bad_data, "bad.gguf", [&] { open_model(site.put("bad.gguf", whole.substr(0, length))); });
}

/// The tensor stored in another type, its first block as given, the others zero.
void store(RawFile& file, const std::string& name, u32 type, std::size_t bytes,
           const std::vector<unsigned char>& block) {
  const auto at = std::ranges::find(file.infos, name, &RawInfo::name);
  const u64 end = at + 1 == file.infos.end() ? file.data.size() : (at + 1)->offset;
  std::string data(block.begin(), block.end());
  data.resize((bytes + 31) / 32 * 32);
  const auto shift = static_cast<std::int64_t>(data.size()) - static_cast<std::int64_t>(end - at->offset);
  file.data.replace(at->offset, end - at->offset, data);
  at->type = type;
  for (auto later = at + 1; later != file.infos.end(); ++later)
    later->offset = static_cast<u64>(static_cast<std::int64_t>(later->offset) + shift);
}

TEST_F(MalformedGguf, ValuesThatAreNotFiniteAreFoundWhenTheyAreRead) {
  struct Row {
    std::string rule;
    u32 type;
    std::size_t block_bytes;  ///< of 32 values
    std::vector<unsigned char> block;
  };
  const std::vector<Row> rows = {
      {"F32 NaN", 0, 128, {0, 0, 0xC0, 0x7F}},
      {"F32 infinity", 0, 128, {0, 0, 0x80, 0xFF}},
      {"F16 NaN", 1, 64, {0, 0x7E}},
      {"BF16 infinity", 30, 64, {0x80, 0x7F}},
      {"Q4_0 with an infinite scale", 2, 18, {0, 0x7C}},
      {"Q8_0 with a scale that is NaN", 8, 34, {1, 0x7C, 1}},
      {"MXFP4 with the exponent 255", 39, 17, {0xFF, 0x22}},
  };
  const std::string name = "blk.0.ffn_gate.weight";  // [64 x 32]
  for (const Row& row : rows) {
    SCOPED_TRACE(row.rule);
    RawFile file = good();
    store(file, name, row.type, 64 * row.block_bytes, row.block);
    const OpenedModel model = open_model(site.put("bad.gguf", file.bytes()));
    expect_error(ErrorKind::bad_data, "tensor 'blk.0.ffn_gate.weight': non-finite value",
                 [&] { model.weights->block(0); });
    const TensorSource& source = model.require_source();
    expect_error(ErrorKind::bad_data, "tensor 'model.layers.0.mlp.gate_proj.weight': non-finite value",
                 [&] { load_matrix(source, *source.find("model.layers.0.mlp.gate_proj.weight")); });
  }
}

}  // namespace
}  // namespace adze::testing
