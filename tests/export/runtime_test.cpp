// Proof in a real runtime: llama.cpp (through tests/node/llama.mjs) loads what we export, reads text as we do and
// predicts what our forward pass predicts. Skipped, with the reason, where Node.js or its packages are missing.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "checkpoint/gguf_writer.h"
#include "export/llama_cpp.h"

namespace adze {
namespace {

using namespace testing;
using Json = nlohmann::json;
namespace fs = std::filesystem;

TEST_F(LlamaCpp, ReadsTextAsOurTokenizerDoes) {
  export_gguf(FormattedModel(*demo().model, all_in("f16")), folder / "demo.gguf");
  for (const char* const name : kTexts) {
    const std::string text = text_of(name);
    EXPECT_EQ(tokenize("demo.gguf", text), demo().tokenizer.encode(text, false, SpecialText::plain)) << name;
  }
  const std::string hard =
      "I'LL pay 1234567 \u20ac\n\n  for\tthat \u2014 na\u00efve \U0001F600 \u4f60\u597d <|bos|>  end ";
  EXPECT_EQ(tokenize("demo.gguf", hard), demo().tokenizer.encode(hard, false, SpecialText::plain));
}

TEST_F(LlamaCpp, PredictsWhatOurForwardPassPredictsInFloat32) {
  export_gguf(FormattedModel(*demo().model, all_in("f32")), folder / "demo.gguf");
  const Windows windows = windows_of_texts(100);
  const double kl = mean_kl(distribution("demo.gguf", windows), our_logits(*demo().model, windows));
  RecordProperty("mean_kl", std::to_string(kl));
  std::printf("llama.cpp against us, F32: mean KL %.3g\n", kl);
  EXPECT_LT(kl, 1e-4);
}

TEST_F(LlamaCpp, PredictsWhatOurForwardPassPredictsFromCompressedWeights) {
  const Windows windows = windows_of_texts(60);
  const MatrixF original = probabilities_of(our_logits(*demo().model, windows));
  for (const char* const format : {"gguf/q4_k", "gguf/q4_0", "gguf/q8_0", "int4 g64 sym", "int8 channel sym"}) {
    const FormattedModel model(*demo().model, linears_in(format, "gguf/q8_0"));
    export_gguf(model, folder / "model.gguf");
    const MatrixF ours = our_logits(model, windows);
    expect_faithful(mean_kl(distribution("model.gguf", windows), ours), mean_kl(original, ours), format);
  }
}

class EveryBlockType : public LlamaCpp, public ::testing::WithParamInterface<const char*> {};

TEST_P(EveryBlockType, PredictsWhatOurForwardPassPredicts) {
  const Windows windows = windows_of_texts(60);
  const std::string format = GetParam() == std::string("nvfp4") ? "nvfp4" : std::string("gguf/") + GetParam();
  const FormattedModel model(*demo().model, linears_in(format, "gguf/q8_0"));
  export_gguf(model, folder / "model.gguf");
  MatrixF theirs;
  try {
    theirs = distribution("model.gguf", windows);
  } catch (const std::runtime_error& error) {
    // The newest type: a runtime may be older than it. All others it must load.
    if (format == "gguf/mxfp4") GTEST_SKIP() << "this llama.cpp does not load MXFP4: " << error.what();
    throw;
  }
  const MatrixF ours = our_logits(model, windows);
  const MatrixF original = probabilities_of(our_logits(*demo().model, windows));
  expect_faithful(mean_kl(theirs, ours), mean_kl(original, ours), format);
}

INSTANTIATE_TEST_SUITE_P(Gguf, EveryBlockType,
                         ::testing::Values("q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs",
                                           "tq1_0", "tq2_0", "mxfp4", "nvfp4"),
                         [](const auto& case_info) { return std::string(case_info.param); });

TEST_F(LlamaCpp, OpensASplitExportFromItsFirstFile) {
  ExportPlan plan = plan_of(*demo().model);
  plan.split_max_bytes = std::uint64_t{4} << 20;
  const auto exporter = find_exporter("gguf")->make();
  exporter->write(plan, *demo().model, folder / "demo.gguf", silent_progress());
  const std::vector<fs::path> files = exporter->files(plan, folder / "demo.gguf");
  ASSERT_GT(files.size(), 2u);
  const Windows windows = windows_of_texts(40);
  const MatrixF split = distribution(files.front().filename().string(), windows);
  export_gguf(*demo().model, folder / "whole.gguf");
  EXPECT_EQ(split, distribution("whole.gguf", windows));
}

TEST_F(LlamaCpp, PredictsTheSameWithBiasesUntiedHeadWideHeadsAndLlama3Rope) {
  Architecture a = rich_architecture();
  a.max_positions = 512;
  const auto rope = [&](RopeKind kind) {
    RopeSpec spec;
    spec.kind = kind;
    spec.factor = kind == RopeKind::none ? 1 : 8;
    if (kind == RopeKind::longrope)
      for (std::size_t i = 0; i < a.head_dim / 2; ++i) spec.divisors.push_back(i % 3 == 0 ? 0.5 : 8);
    spec.original_max_positions = 64;  // most pairs are divided
    return spec;
  };
  const Windows windows = windows_of_texts(100);
  MatrixF plain;
  for (const RopeKind kind : {RopeKind::none, RopeKind::linear, RopeKind::llama3, RopeKind::longrope}) {
    a.rope = rope(kind);
    const CheckpointWeights model = random_model(a);
    export_gguf(model, folder / "rich.gguf");
    const MatrixF ours = our_logits(model, windows);
    const double kl = mean_kl(distribution("rich.gguf", windows), ours);
    std::printf("llama.cpp against us, random model, RoPE kind %d: mean KL %.3g\n", static_cast<int>(kind), kl);
    EXPECT_LT(kl, 1e-6);
    if (kind == RopeKind::none)
      plain = probabilities_of(ours);
    else
      EXPECT_GT(mean_kl(plain, ours), 1e-5) << "a scaling that was ignored must show";
  }
}

/// A copy of a file in which the rows of q and k lie as in the checkpoint: what a converter writes that forgets them.
void copy_without_row_order(const fs::path& from, const fs::path& to, const Architecture& a) {
  const GgufFile file(from);
  std::vector<GgufTensorSpec> specs;
  for (const GgufTensor& tensor : file.tensors()) specs.push_back({tensor.name, tensor.type->id, tensor.dims});
  GgufWriter writer(to, file.metadata(), specs);
  for (const GgufTensor& tensor : file.tensors()) {
    std::vector<std::byte> bytes = tensor_bytes(file, tensor.name);
    const bool q = tensor.name.ends_with("attn_q.weight"), k = tensor.name.ends_with("attn_k.weight");
    if (q || k) {
      const std::vector<std::byte> ordered = bytes;
      const std::vector<std::size_t> order = gguf_row_order(tensor.dims[1], q ? a.heads : a.kv_heads);
      const std::size_t row_bytes = bytes.size() / order.size();
      for (std::size_t g = 0; g < order.size(); ++g)
        std::memcpy(bytes.data() + order[g] * row_bytes, ordered.data() + g * row_bytes, row_bytes);
    }
    writer.write(tensor.name, bytes);
  }
  writer.commit();
}

TEST_F(LlamaCpp, PredictsSomethingElseWhenTheRowsOfQueriesAndKeysAreNotReordered) {
  const ModelWeights& model = *demo().model;
  export_gguf(FormattedModel(model, all_in("f32")), folder / "demo.gguf");
  copy_without_row_order(folder / "demo.gguf", folder / "broken.gguf", model.architecture());
  const Windows windows = windows_of_texts(60);
  const double kl = mean_kl(distribution("broken.gguf", windows), our_logits(model, windows));
  std::printf("llama.cpp against us, rows not reordered: mean KL %.3g\n", kl);
  EXPECT_GT(kl, 0.1);
}

TEST_F(LlamaCpp, WritesReadableTextAndTheSameTwice) {
  export_gguf(FormattedModel(*demo().model, linears_in("gguf/q4_k", "gguf/q8_0")), folder / "demo.gguf");
  folder.put("prompt.txt", text_of("narrative", 300));
  const auto generate = [&] { return run("generate", "demo.gguf", quoted(folder / "prompt.txt") + " 40"); };
  const Json first = generate(), second = generate();
  const auto text = first["text"].get<std::string>();
  std::printf("continuation: %s\n", text.c_str());
  EXPECT_EQ(first["ids"].size(), 40u);
  EXPECT_EQ(first["ids"], second["ids"]);
  EXPECT_EQ(text, second["text"].get<std::string>());
  EXPECT_NE(text.find_first_not_of(" \n"), std::string::npos);
  EXPECT_EQ(text.find("\uFFFD"), std::string::npos) << "broken characters: " << text;
  EXPECT_EQ(first["prompt"][0], 0) << "the file asks for BOS in front";
}

}  // namespace
}  // namespace adze
