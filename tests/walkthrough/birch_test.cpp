// The made-up family of docs/adding-an-architecture.md, whose row and norms this program's table of families has beside
// the real ones (tests/CMakeLists.txt takes them from the page). It computes what Gemma 3 computes without windows,
// under other names: so must its models.
#include <cstring>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "checkpoint/checkpoint_testing.h"
#include "export/export_testing.h"
#include "model/family.h"
#include "model/logits.h"
#include "model/memory_source.h"
#include "model/random_checkpoint.h"

namespace adze {
namespace {

using namespace testing;
using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr std::size_t kTokens = 60;

struct Renamed {
  const char *gemma, *birch;
};
constexpr std::array kRenamed = {Renamed{"input_layernorm", "attention_norm"},
                                 Renamed{"q_norm", "query_norm"},
                                 Renamed{"k_norm", "key_norm"},
                                 Renamed{"post_attention_layernorm", "attention_out_norm"},
                                 Renamed{"pre_feedforward_layernorm", "ffn_norm"},
                                 Renamed{"post_feedforward_layernorm", "ffn_out_norm"}};

std::string renamed(std::string name) {
  for (const Renamed& row : kRenamed)
    if (const std::size_t at = name.find("." + std::string(row.gemma) + "."); at != std::string::npos)
      return name.replace(at + 1, std::strlen(row.gemma), row.birch);
  return name;
}

/// The same data under other names.
void rename_tensors(const fs::path& file) {
  const std::string bytes = read_file(file);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  const Json header = Json::parse(bytes.substr(8, length));
  Json other = Json::object();
  for (const auto& [name, entry] : header.items()) other[renamed(name)] = entry;
  std::string text = other.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::ofstream(file, std::ios::binary) << raw<std::uint64_t>(text.size()) << text << bytes.substr(8 + length);
}

Json birch_config(Json config) {
  config["architectures"] = {"BirchForCausalLM"};
  config["model_type"] = "birch";
  config["gate_activation"] = config["hidden_activation"];
  for (const char* const key : {"hidden_activation", "rope_local_base_freq", "sliding_window", "sliding_window_pattern",
                                "query_pre_attn_scalar", "rope_theta"})
    config.erase(key);
  return config;
}

class Walkthrough : public ::testing::Test {
 protected:
  void SetUp() override {
    Json config = family_case("gemma3").config;
    config["sliding_window"] = nullptr;
    config["tie_word_embeddings"] = true;
    write_random_checkpoint(folder / "gemma", config, 20);
    copy_checkpoint(folder / "gemma", folder / "birch", birch_config(config));
    rename_tensors(folder / "birch/model.safetensors");
  }

  TempFolder folder;
  const std::vector<std::int32_t> ids = random_ids(kTokens, 4096);
};

TEST_F(Walkthrough, AFamilyOfOneRowComputesWhatItsPartsSay) {
  const auto gemma = open_checkpoint_model(folder / "gemma"), birch = open_checkpoint_model(folder / "birch");
  EXPECT_EQ(birch->architecture().family, "BirchForCausalLM");
  EXPECT_TRUE(logits_of(*birch, ids) == logits_of(*gemma, ids));
}

TEST_F(Walkthrough, ItsModelsGoThroughGguf) {
  const auto birch = open_checkpoint_model(folder / "birch");
  const std::vector<StoreFile> files = read_folder_files(folder / "birch");
  const ExportPlan plan{birch->architecture(), planned_tensors(*birch), &demo().tokenizer, files, "birch", {}};
  find_exporter("gguf")->make()->write(plan, *birch, folder / "birch.gguf", silent_progress());
  const GgufWeights back(folder / "birch.gguf");
  EXPECT_EQ(back.files().front().get<std::string>("general.architecture"), "birch");
  EXPECT_TRUE(logits_of(back, ids) == logits_of(*birch, ids));
}

TEST_F(Walkthrough, AMissingTensorIsNamed) {
  rename_tensors(folder / "gemma/model.safetensors");  // names of Birch under a configuration of Gemma
  expect_error(ErrorKind::bad_data, "tensor 'model.layers.0.input_layernorm.weight' is missing",
               [&] { open_checkpoint_model(folder / "gemma"); });
}

}  // namespace
}  // namespace adze
