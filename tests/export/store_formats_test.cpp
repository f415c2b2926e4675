// What an exporter asks a compressed store first: the formats of all tensors. Every file is checked for that.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "export/export_testing.h"
#include "model/compressed_store.h"

namespace adze {
namespace {

using namespace testing;
namespace fs = std::filesystem;

constexpr std::size_t kLayers = 5;

/// A store of square matrices in int4, and what its embedding and head are.
void write_store(const fs::path& folder) {
  const std::string config =
      R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 5,
          "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 64, "rms_norm_eps": 1e-05,
          "max_position_embeddings": 64, "hidden_act": "silu", "tie_word_embeddings": true})";
  const Architecture architecture = parse_architecture(parse_json(config, "config.json"), "config.json");
  const CheckpointWeights floats = random_model(architecture);
  const FormattedModel model(floats, linears_in("int4 g64 sym", "f16"));
  for (std::size_t block = 0; block < kLayers; ++block)
    write_block_file(folder / block_file_name(block), model.block(block), architecture);
  const std::vector<StoreFile> files{{"config.json", config}};
  write_outer_file(folder / kOuterFileName, files, outer_tensors(model));
}

void spoil(const fs::path& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(fs::file_size(path) / 2));
  file.put('\x5A').put('\x5A').put('\x5A').put('\x5A');
}

TEST(StoreFormats, AreThoseOfEveryBlock) {
  const TempFolder folder;
  write_store(folder.path());
  const CompressedStore store(folder.path());
  std::size_t linears = 0;
  for (const PlannedTensor& tensor : planned_tensors(store))
    linears += tensor.spec.role == TensorRole::linear && tensor.format == "int4 g64 sym";
  EXPECT_EQ(linears, kLayers * block_linears(store.architecture()).size());
}

TEST(StoreFormats, OfDamagedFilesTheFirstIsNamed) {
  const TempFolder folder;
  write_store(folder.path());
  for (const std::size_t block : {4, 1, 3}) spoil(folder / block_file_name(block));
  for (int i = 0; i < 8; ++i) {  // whatever thread is first
    const CompressedStore store(folder.path());
    expect_error(ErrorKind::bad_data, "block-0001.h5: its hash is", [&] { planned_tensors(store); });
  }
}

}  // namespace
}  // namespace adze
