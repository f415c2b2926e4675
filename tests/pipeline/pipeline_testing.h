// What the tests of this folder share: a small random checkpoint on disk with the demo's tokenizer, recipes over it,
// and runs of the library without a program around them.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/safetensors_writer.h"
#include "model/compressed_store.h"
#include "model/memory_source.h"
#include "pipeline/compress.h"

namespace adze::testing {

namespace fs = std::filesystem;

inline fs::path demo_model() { return fs::path(ADZE_SOURCE_DIR) / "tests/models/demo-llama"; }
inline std::string calibration_text() { return ADZE_SOURCE_DIR "/calibration_data/calib/narrative.txt"; }

/// Two narrow layers with the demo's vocabulary; every width is a multiple of 32.
inline Architecture tiny_architecture(bool tied) {
  Architecture a;
  a.hidden = 32;
  a.ffn = 64;
  a.layers = 2;
  a.heads = 2;
  a.kv_heads = 1;
  a.head_dim = 16;
  a.vocab = 4096;
  a.max_positions = 64;
  a.norm_eps = 1e-5;
  a.tied = tied;
  return a;
}

inline std::string config_of(const Architecture& a) {
  return fmt::format(
      R"({{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":{},)"
      R"("intermediate_size":{},"num_hidden_layers":{},"num_attention_heads":{},"num_key_value_heads":{},)"
      R"("head_dim":{},"vocab_size":{},"rms_norm_eps":{},"rope_theta":10000.0,)"
      R"("max_position_embeddings":{},"hidden_act":"silu","tie_word_embeddings":{},)"
      R"("bos_token_id":0,"eos_token_id":1}})",
      a.hidden, a.ffn, a.layers, a.heads, a.kv_heads, a.head_dim, a.vocab, a.norm_eps, a.max_positions, a.tied);
}

/// A Hugging Face folder with these tensors, which must be those of `architecture`.
inline void write_checkpoint(const fs::path& folder, const Architecture& architecture, const MemorySource& source) {
  fs::create_directories(folder);
  for (const char* const name : {"tokenizer.json", "tokenizer_config.json"})
    fs::copy_file(demo_model() / name, folder / name);
  write_file(folder / "config.json", config_of(architecture));
  std::vector<std::vector<std::byte>> data;
  std::vector<SafetensorsItem> items;
  for (const TensorInfo& info : source.tensors()) {
    data.emplace_back(info.bytes);
    source.read(info, 0, data.back());
    items.push_back({{info.name, safetensors_type_of(info.dtype), info.shape}, data.back()});
  }
  write_safetensors(folder / "model.safetensors", items);
}

/// A checkpoint, recipes for it and places for results; removed at the end.
class Site : public TempFolder {
 public:
  explicit Site(bool tied, DType dtype = DType::bf16)
      : architecture(tiny_architecture(tied)), source(random_source(architecture, dtype)) {
    write_checkpoint(model(), architecture, source);
  }
  fs::path model() const { return path() / "model"; }

  Architecture architecture;
  MemorySource source;
};

/// calibration and the rest of the recipe; `body` holds schemes, rules and more.
inline std::string recipe_of(std::string_view body) {
  return fmt::format("adze: 1\ncalibration: {{ set: {}, windows: 4, tokens: 16, seed: 7 }}\n{}", calibration_text(),
                     body);
}

/// Everything that must outlive a prepared run.
struct Prepared {
  Recipe recipe;
  OpenedModel model;
  PreparedRun run;

  Prepared(std::string text, const fs::path& path)
      : recipe(parse_recipe(std::move(text), "recipe.yaml")),
        model(open_model(path)),
        run(prepare_run(recipe, model)) {}
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;

  const ModulePlan& module(std::string_view name) const {
    const ModulePlan* const found = run.plan.find(name);
    if (found == nullptr) throw std::runtime_error("no module " + std::string(name));
    return *found;
  }
};

/// The whole run.
inline CompressResult run_recipe(const std::string& text, const fs::path& model, const fs::path& out,
                                 IfExists if_exists = IfExists::resume) {
  const Prepared prepared(text, model);
  CompressOptions options;
  options.out = out;
  options.if_exists = if_exists;
  return compress(prepared.run, options, silent_progress());
}

/// The message with which a recipe is refused before any work.
inline std::string refusal(const std::string& text, const fs::path& model) {
  try {
    Prepared(text, model);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_recipe) << error.message();
    return error.message();
  }
  ADD_FAILURE() << "it was accepted: " << text;
  return "";
}

inline const TensorRecord& record_of(const CompressResult& result, std::string_view module) {
  for (const TensorRecord& record : result.tensors)
    if (record.module == module) return record;
  throw std::runtime_error("no record of " + std::string(module));
}

inline void expect_same_payload(const CompressedTensor& actual, const CompressedTensor& expected) {
  EXPECT_EQ(actual.format(), expected.format());
  EXPECT_TRUE(std::ranges::equal(actual.payload(), expected.payload()));
}

}  // namespace adze::testing
