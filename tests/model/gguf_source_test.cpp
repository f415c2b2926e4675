// A GGUF file as a checkpoint: the same tensors as the Hugging Face folder that it was made of, and files that describe
// them.
#include "model/gguf_source.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "model/gguf_files.h"
#include "model/gguf_testing.h"
#include "model/rope.h"

namespace adze {
namespace {

using namespace testing;
using ::testing::HasSubstr;

/// A file with every way in which a tensor may be stored.
GgufParts mixed_parts() {
  Architecture a = gguf_architecture();
  a.hidden = 256;
  GgufParts parts = gguf_parts_of(a);
  parts.store_as("blk.0.attn_q.weight", "Q8_0");
  parts.store_as("blk.0.ffn_up.weight", "Q4_K");
  parts.store_as("blk.1.attn_k.weight", "F16");
  parts.store_as("blk.1.ffn_gate.weight", "BF16");
  RandomStream random(3, "mixed");
  for (const char* const name :
       {"blk.0.attn_q.weight", "blk.0.ffn_up.weight", "blk.1.attn_k.weight", "blk.1.ffn_gate.weight"}) {
    std::vector<std::byte>& bytes = parts.data[parts.index(name)];
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.below(0x3C));  // no exponent of all ones
  }
  return parts;
}

std::vector<std::byte> read_whole(const TensorSource& source, const TensorInfo& tensor) {
  std::vector<std::byte> bytes(tensor.bytes);
  source.read(tensor, 0, bytes);
  return bytes;
}

TEST(GgufSource, HasTheTensorsOfTheCheckpointBitForBit) {
  const Architecture a = gguf_architecture();
  const TempFolder folder;
  const GgufSource source(std::make_shared<GgufWeights>(gguf_parts_of(a).write(folder)));
  const MemorySource original = random_source(a);
  ASSERT_EQ(source.tensors().size(), original.tensors().size());
  for (std::size_t i = 0; i < original.tensors().size(); ++i) {
    const TensorInfo& tensor = source.tensors()[i];
    EXPECT_EQ(tensor.name, original.tensors()[i].name);
    EXPECT_EQ(tensor.dtype, DType::f32);
    EXPECT_EQ(tensor.shape, original.tensors()[i].shape);
    EXPECT_EQ(read_whole(source, tensor), read_whole(original, original.tensors()[i])) << tensor.name;
  }
}

TEST(GgufSource, KeepsFloatTypesAndDecodesBlocksToFloat32) {
  const TempFolder folder;
  const auto weights = std::make_shared<GgufWeights>(mixed_parts().write(folder));
  const GgufSource source(weights);
  const auto dtype_of = [&](const char* name) { return source.find(name)->dtype; };
  EXPECT_EQ(dtype_of("model.layers.0.self_attn.q_proj.weight"), DType::f32);
  EXPECT_EQ(dtype_of("model.layers.0.mlp.up_proj.weight"), DType::f32);
  EXPECT_EQ(dtype_of("model.layers.1.self_attn.k_proj.weight"), DType::f16);
  EXPECT_EQ(dtype_of("model.layers.1.mlp.gate_proj.weight"), DType::bf16);
  for (std::size_t b = 0; b < 2; ++b)
    for (const LinearInfo& info : block_linears(weights->architecture())) {
      const TensorInfo& tensor = *source.find("model." + module_name(b, info) + ".weight");
      EXPECT_EQ(load_matrix(source, tensor)->decode(), weights->block(b)[info.slot].weight->decode()) << tensor.name;
    }
}

TEST(GgufSource, ReadsAnyPartOfATensor) {
  const TempFolder folder;
  const GgufSource source(std::make_shared<GgufWeights>(mixed_parts().write(folder)));
  RandomStream random(5, "ranges");
  for (const TensorInfo& tensor : source.tensors()) {
    const std::vector<std::byte> whole = read_whole(source, tensor);
    for (int i = 0; i < 20; ++i) {
      const std::size_t from = random.below(whole.size() + 1);
      std::vector<std::byte> part(random.below(whole.size() - from + 1));
      source.read(tensor, from, part);
      EXPECT_TRUE(std::ranges::equal(part, std::span(whole).subspan(from, part.size())))
          << tensor.name << " from " << from;
    }
    std::byte one{};
    expect_error(ErrorKind::bad_data, "lie outside its", [&] { source.read(tensor, whole.size(), {&one, 1}); });
  }
}

TEST(GgufSource, NamesPlacesOnlyWhereTheFileHoldsTheSameBytes) {
  const TempFolder folder;
  const auto path = mixed_parts().write(folder);
  const GgufSource source(std::make_shared<GgufWeights>(path));
  std::size_t placed = 0;
  for (const TensorInfo& tensor : source.tensors()) {
    const auto place = source.place(tensor);
    if (!place) continue;
    ++placed;
    std::vector<std::byte> bytes(tensor.bytes);
    InputFile(place->file).read(place->offset, bytes);
    EXPECT_EQ(bytes, read_whole(source, tensor)) << tensor.name;
  }
  EXPECT_EQ(source.tensors().size() - placed, 9u);  // q and k of 2 blocks with their biases, up of block 0 in Q4_K
  EXPECT_FALSE(source.place(*source.find("model.layers.1.self_attn.k_proj.bias")));
}

TEST(GgufSource, NamesTheTensorWhoseScaleIsNotFinite) {
  GgufParts parts = mixed_parts();
  const std::uint16_t infinity = 0x7C00;
  std::memcpy(parts.data[parts.index("blk.0.ffn_up.weight")].data() + 144, &infinity, 2);  // d of the second block
  const TempFolder folder;
  const auto weights = std::make_shared<GgufWeights>(parts.write(folder));
  const GgufSource source(weights);
  expect_error(ErrorKind::bad_data, "tensor 'blk.0.ffn_up.weight': non-finite value", [&] { weights->block(0); });
  expect_error(ErrorKind::bad_data, "tensor 'model.layers.0.mlp.up_proj.weight': non-finite value",
               [&] { load_matrix(source, *source.find("model.layers.0.mlp.up_proj.weight")); });
}

Architecture said_by(const std::vector<StoreFile>& files) {
  Architecture said = parse_architecture(nlohmann::json::parse(files.at(0).text), "config.json");
  said.tied_stated = false;
  return said;
}

TEST(GgufFiles, DescribeTheArchitectureForEveryReaderOfConfigs) {
  for (const RopeKind kind : {RopeKind::none, RopeKind::linear, RopeKind::llama3, RopeKind::longrope})
    for (const bool biased : {false, true}) {
      Architecture a = small_architecture();
      a.head_dim = 64;
      a.tied = biased;
      a.qkv_bias = a.o_bias = a.mlp_bias = biased;
      a.rope.kind = kind;
      a.rope.theta = 500000;
      if (kind == RopeKind::linear || kind == RopeKind::llama3) a.rope.factor = 8;
      if (kind == RopeKind::longrope)
        for (int i = 0; i < 32; ++i) a.rope.divisors.push_back(1 + 0.25 * i);
      GgufParts parts = gguf_parts_of(a);
      if (kind == RopeKind::linear) {
        parts.metadata.push_back({"llama.rope.scaling.type", std::string("linear")});
        parts.metadata.push_back({"llama.rope.scaling.factor", 8.0f});
      }
      std::vector<float> divisors;
      for (const double d : rope_divisors(a.rope, 64)) divisors.push_back(static_cast<float>(d));
      if (kind == RopeKind::llama3 || kind == RopeKind::longrope)
        parts.add(std::string(kGgufRopeDivisors), {32}, divisors);
      const TempFolder folder;
      const GgufWeights weights(parts.write(folder));
      EXPECT_EQ(weights.architecture(), a);
      EXPECT_EQ(said_by(gguf_settings_files(weights)), a);
    }
}

TEST(GgufFiles, KeepSpecialTokensAndTheLicence) {
  GgufParts parts = gguf_parts_of(small_architecture());
  for (const auto& [key, id] : {std::pair{"bos", 3u}, {"eos", 7u}, {"padding", 9u}, {"unknown", 5u}})
    parts.metadata.push_back({fmt::format("tokenizer.ggml.{}_token_id", key), std::uint32_t{id}});
  parts.metadata.push_back({"general.license", std::string("mit")});
  const TempFolder folder;
  const auto config = nlohmann::json::parse(gguf_settings_files(GgufWeights(parts.write(folder))).at(0).text);
  EXPECT_EQ(config["bos_token_id"], 3);
  EXPECT_EQ(config["eos_token_id"], 7);
  EXPECT_EQ(config["pad_token_id"], 9);
  EXPECT_EQ(config["unk_token_id"], 5);
  EXPECT_EQ(config["license"], "mit");
}

TEST(GgufFiles, KeepWhatAnExportCouldNotKnow) {
  GgufParts parts = gguf_parts_of(small_architecture());
  const std::vector<GgufKeyValue> general = {{"general.name", std::string("A model")},
                                             {"general.author", std::string("somebody")},
                                             {"general.tags", std::vector<std::string>{"a", "b"}},
                                             {"general.base_model.count", std::uint32_t{1}},
                                             {"general.file_type", std::uint32_t{7}},
                                             {"general.type", std::string("model")}};
  parts.metadata.insert(parts.metadata.end(), general.begin(), general.end());
  const TempFolder folder;
  const GgufWeights weights(parts.write(folder));
  const std::vector<StoreFile> files = gguf_settings_files(weights);
  ASSERT_EQ(files.at(1).name, kGgufKeysFile);
  EXPECT_EQ(nlohmann::json::parse(files[1].text),
            nlohmann::json::parse(R"({"general.name": "A model", "general.author": "somebody",
                                      "general.tags": ["a", "b"], "general.base_model.count": 1})"));
  EXPECT_EQ(gguf_model_name(weights.files().front()), "A model");
}

nlohmann::json kept_of(const std::vector<GgufKeyValue>& more) {
  GgufParts parts = gguf_parts_of(small_architecture());
  parts.metadata.insert(parts.metadata.end(), more.begin(), more.end());
  const TempFolder folder;
  return nlohmann::json::parse(gguf_settings_files(GgufWeights(parts.write(folder))).at(1).text);
}

TEST(GgufFiles, KeepIdsOfSpecialTokensAndTheImportanceMatrix) {
  EXPECT_EQ(kept_of({{"quantize.imatrix.file", std::string("i.dat")},
                     {"quantize.imatrix.entries_count", std::int32_t{9}},
                     {"tokenizer.ggml.fim_pre_token_id", std::uint32_t{4}},
                     {"tokenizer.ggml.eom_token_id", std::uint32_t{0}},
                     {"tokenizer.ggml.cls_token_id", std::uint32_t{1u << 30}},  // outside the vocabulary
                     {"tokenizer.ggml.eot_token_id", std::string("4")},
                     {"tokenizer.ggml.pre", std::string("default")}}),
            nlohmann::json::parse(R"({"quantize.imatrix.file": "i.dat", "quantize.imatrix.entries_count": 9,
                                      "tokenizer.ggml.fim_pre_token_id": 4, "tokenizer.ggml.eom_token_id": 0})"));
}

/// As others write them: our own writer refuses most of it.
std::string foreign_text(const std::string& key, std::string_view value) {
  std::string bytes;
  const auto put = [&](auto number) { bytes.append(reinterpret_cast<const char*>(&number), sizeof number); };
  put(std::uint64_t{key.size()});
  bytes += key;
  put(std::uint32_t{8});
  put(std::uint64_t{value.size()});
  return bytes += value;
}

TEST(GgufFiles, LeaveOutWhatNoFileCanSayAgain) {
  GgufParts parts = gguf_parts_of(small_architecture());
  parts.metadata.push_back({"general.score", std::numeric_limits<float>::infinity()});
  parts.metadata.push_back({"general.debt", std::int32_t{-1}});
  parts.metadata.push_back({"general.a", std::string("x")});
  parts.metadata.push_back({"general.b", std::string("y")});
  parts.metadata.push_back({"general.c", std::string("z")});
  const TempFolder folder;
  const auto path = parts.write(folder);
  std::string bytes = read_file(path);
  for (const auto& [from, to] : {std::pair{foreign_text("general.a", "x"), foreign_text("general.ax", "")},
                                 {foreign_text("general.b", "y"), foreign_text("general.B", "y")}}) {
    const std::size_t at = bytes.find(from);
    ASSERT_NE(at, bytes.npos);
    bytes.replace(at, from.size(), to);
  }
  write_file(path, bytes);
  const auto kept = nlohmann::json::parse(gguf_settings_files(GgufWeights(path)).at(1).text);
  EXPECT_EQ(kept, nlohmann::json::parse(R"({"general.c": "z"})"));
}

TEST(GgufFiles, ManyKeysCostNoSquares) {
  std::vector<GgufKeyValue> many;
  for (int i = 0; i < 100'000; ++i) many.push_back({fmt::format("general.k{}", i), true});
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(kept_of(many).size(), many.size());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(GgufFiles, RefuseBiasesThatNoConfigCanState) {
  const TempFolder folder;
  const GgufWeights weights(gguf_parts_of(gguf_architecture()).write(folder));  // biases on q, k and v only
  expect_error(ErrorKind::bad_data, "q, k and v have biases and the output projection has none",
               [&] { gguf_settings_files(weights); });
}

}  // namespace
}  // namespace adze
