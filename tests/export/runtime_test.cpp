// Proof in a real runtime: llama.cpp (through tests/node/llama.mjs) loads what we export, reads text as we do and
// predicts what our forward pass predicts. Skipped, with the reason, where Node.js or its packages are missing.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/gguf_writer.h"
#include "export/export_testing.h"
#include "model/forward.h"
#include "text/utf8.h"

namespace adze {
namespace {

using namespace testing;
using Json = nlohmann::json;
namespace fs = std::filesystem;
using Windows = std::vector<std::vector<std::int32_t>>;

constexpr std::array kTexts = {"arithmetic", "code", "dialogue", "encyclopedia", "narrative"};

std::string quoted(const fs::path& path) { return "'" + path.string() + "'"; }

fs::path node_folder() { return fs::path(ADZE_SOURCE_DIR) / "tests/node"; }

std::string node_program() {
  const char* const stated = std::getenv("ADZE_NODE");
  return stated && *stated ? quoted(stated) : "node";
}

/// What a shell command wrote to stdout; nothing when it failed.
std::optional<std::string> output_of(const std::string& command) {
  std::FILE* const pipe = ::popen(command.c_str(), "r");
  if (!pipe) return std::nullopt;
  std::string out;
  std::array<char, 4096> piece;
  for (std::size_t got = 0; (got = std::fread(piece.data(), 1, piece.size(), pipe)) > 0;) out.append(piece.data(), got);
  if (::pclose(pipe) != 0) return std::nullopt;
  return out;
}

/// Why there is no runtime here; empty when there is one.
std::string missing_runtime() {
  constexpr int kOldestNode = 20;
  const auto version = output_of(node_program() + " -p 'parseInt(process.versions.node)' 2>/dev/null");
  if (!version) return "no Node.js: set ADZE_NODE, or run tests/run.sh, which installs it";
  if (std::atoi(version->c_str()) < kOldestNode) return "Node.js is older than 20: set ADZE_NODE, or run tests/run.sh";
  if (!fs::exists(node_folder() / "node_modules/node-llama-cpp"))
    return "tests/node/node_modules is missing: run tests/run.sh, or npm ci --ignore-scripts in tests/node";
  return "";
}

/// The beginning of a held-out text, cut between characters.
std::string text_of(const std::string& name, std::size_t bytes = 2000) {
  const std::string all = read_file(fs::path(ADZE_SOURCE_DIR) / "calibration_data/heldout" / (name + ".txt"));
  std::size_t end = std::min(bytes, all.size());
  while (end < all.size() && (static_cast<unsigned char>(all[end]) & 0xC0) == 0x80) --end;
  return all.substr(0, end);
}

/// The first `tokens` tokens of every held-out text, BOS in front.
Windows windows_of_texts(std::size_t tokens) {
  Windows windows;
  for (const char* const name : kTexts) {
    std::vector<std::int32_t> ids = demo().tokenizer.encode(text_of(name), true);
    ids.resize(std::min(ids.size(), tokens));
    windows.push_back(std::move(ids));
  }
  return windows;
}

/// Logits of our forward pass at every position of every window, one row after the other.
MatrixF our_logits(const ModelWeights& model, const Windows& windows) {
  std::size_t rows = 0, longest = 0;
  for (const auto& ids : windows) {
    rows += ids.size();
    longest = std::max(longest, ids.size());
  }
  const Architecture& a = model.architecture();
  const Forward forward(a, longest);
  std::vector<BlockWeights> blocks;
  for (std::size_t b = 0; b < a.layers; ++b) blocks.push_back(model.block(b));
  const TensorPtr embedding = model.embedding(), head = model.head();
  MatrixF all(rows, a.vocab);
  Workspace work;
  std::size_t row = 0;
  for (const auto& ids : windows) {
    MatrixF x(ids.size(), a.hidden);
    embed(*embedding, ids, x);
    for (const BlockWeights& block : blocks) forward.run_block(block, x, work);
    forward.final_norm(model.final_norm(), x, x);
    forward.logits(*head, x, all.view().row_range(row, ids.size()), work);
    row += ids.size();
  }
  return all;
}

std::vector<double> log_softmax(std::span<const float> logits) {
  const double largest = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float l : logits) sum += std::exp(l - largest);
  std::vector<double> out;
  for (const float l : logits) out.push_back(l - largest - std::log(sum));
  return out;
}

/// Mean over rows of KL(P || Q).  probabilities: P, logits: of Q; both [rows x vocabulary].
double mean_kl(const MatrixF& probabilities, const MatrixF& logits) {
  double total = 0;
  for (std::size_t r = 0; r < logits.rows(); ++r) {
    const std::vector<double> q = log_softmax(logits.row(r));
    for (std::size_t i = 0; i < q.size(); ++i)
      if (const double p = probabilities(r, i); p > 0) total += p * (std::log(p) - q[i]);
  }
  return total / static_cast<double>(logits.rows());
}

MatrixF probabilities_of(const MatrixF& logits) {
  MatrixF out(logits.shape());
  for (std::size_t r = 0; r < logits.rows(); ++r)
    std::ranges::transform(log_softmax(logits.row(r)), out.row(r).begin(),
                           [](double l) { return static_cast<float>(std::exp(l)); });
  return out;
}

class LlamaCpp : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = missing_runtime(); !reason.empty()) GTEST_SKIP() << reason;
  }

  /// Runs llama.mjs; its result. `arguments` are quoted by the caller.
  Json run(const std::string& command, const std::string& model, const std::string& arguments) const {
    const fs::path log = folder / "stderr.txt";
    const auto out = output_of(node_program() + " " + quoted(node_folder() / "llama.mjs") + " " + command + " " +
                               quoted(folder / model) + " " + arguments + " 2>" + quoted(log));
    if (!out) throw std::runtime_error("llama.mjs " + command + " failed: " + read_file(log));
    return Json::parse(*out);
  }

  std::vector<std::int32_t> tokenize(const std::string& model, const std::string& text) const {
    folder.put("text.txt", text);
    return run("tokenize", model, quoted(folder / "text.txt"))["ids"];
  }

  /// llama.cpp's distribution of the next token at every position: [positions x vocabulary].
  MatrixF distribution(const std::string& model, const Windows& windows) const {
    folder.put("ids.json", Json(windows).dump());
    const Json result = run("distribution", model, quoted(folder / "ids.json") + " " + quoted(folder / "out.f32"));
    std::size_t rows = 0;
    for (const auto& ids : windows) rows += ids.size();
    MatrixF out(rows, result["vocabulary"].get<std::size_t>());
    const std::string bytes = read_file(folder / "out.f32");
    if (bytes.size() != out.values().size_bytes()) throw std::runtime_error("out.f32 has another size");
    std::memcpy(out.data(), bytes.data(), bytes.size());
    return out;
  }

  TempFolder folder;
};

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

/// In-between formats: what llama.cpp computes from a file against what we compute from the same weights. Its kernels
/// round activations (to 8 bits for these formats), so the yardstick is the damage of the compression itself.
void expect_faithful(double kl, double kl_to_original, const std::string& format) {
  std::printf("llama.cpp against us, %s: mean KL %.3g; to the original %.3g\n", format.c_str(), kl, kl_to_original);
  EXPECT_LT(kl, std::max(1e-3, kl_to_original / 10)) << format;
  EXPECT_GT(kl_to_original, 1e-5) << format << ": rounding must be visible, or this compares nothing";
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

TEST_F(LlamaCpp, PredictsTheSameWithBiasesUntiedHeadWideHeadsAndLlama3Rope) {
  Architecture a = rich_architecture();
  a.max_positions = 512;
  const auto rope = [](RopeKind kind) {
    RopeSpec spec;
    spec.kind = kind;
    spec.factor = kind == RopeKind::none ? 1 : 8;
    spec.original_max_positions = 64;  // most pairs are divided
    return spec;
  };
  const Windows windows = windows_of_texts(100);
  MatrixF plain;
  for (const RopeKind kind : {RopeKind::none, RopeKind::linear, RopeKind::llama3}) {
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
