// Proof in a real runtime: onnxruntime (through tests/node/onnx.mjs) computes from what we export what our forward pass
// computes from the same weights. Skipped, with the reason, where Node.js or its packages are missing.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "export/llama_cpp.h"

namespace adze {
namespace {

using namespace testing;
namespace fs = std::filesystem;

struct Difference {
  double largest = 0;
  double scale = 0;  ///< largest logit
};

class OnnxRuntime : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = missing_package("onnxruntime-node"); !reason.empty()) GTEST_SKIP() << reason;
  }

  /// config.json of an architecture, as much as exporters look at.
  static std::vector<StoreFile> files_of(const Architecture& a) {
    nlohmann::ordered_json config{
        {"architectures", {a.family}},   {"hidden_size", a.hidden},        {"intermediate_size", a.ffn},
        {"num_hidden_layers", a.layers}, {"num_attention_heads", a.heads}, {"num_key_value_heads", a.kv_heads},
        {"head_dim", a.head_dim},        {"vocab_size", a.vocab},          {"max_position_embeddings", a.max_positions},
        {"rms_norm_eps", a.norm_eps},    {"rope_theta", a.rope.theta},     {"tie_word_embeddings", a.tied},
        {"attention_bias", a.qkv_bias},  {"mlp_bias", a.mlp_bias}};
    if (a.sliding_window > 0) config["sliding_window"] = a.sliding_window;
    if (const auto scaling = rope_scaling(a); !scaling.is_null()) config["rope_scaling"] = scaling;
    return {{"config.json", config.dump()}};
  }

  void write(const std::string& exporter, const ModelWeights& model) const {
    const std::vector<StoreFile> files = files_of(model.architecture());
    const ExportPlan plan{model.architecture(),   planned_tensors(model), nullptr, files, "test",
                          {{"adze.version", "1"}}};
    find_exporter(exporter)->make()->write(plan, model, folder / exporter, silent_progress());
  }

  MatrixF logits(const std::string& exporter, const Windows& windows, const std::string& options = "") const {
    folder.put("ids.json", nlohmann::json(windows).dump());
    const fs::path log = folder / "stderr.txt";
    const auto out = output_of(node_program() + " " + quoted(node_folder() / "onnx.mjs") + " logits " +
                               quoted(folder / exporter / "model.onnx") + " " + quoted(folder / "ids.json") + " " +
                               quoted(folder / "out.f32") + " " + options + " 2>" + quoted(log));
    if (!out) throw std::runtime_error("onnx.mjs failed: " + read_file(log));
    std::size_t rows = 0;
    for (const auto& ids : windows) rows += ids.size();
    MatrixF result(rows, nlohmann::json::parse(*out)["vocabulary"].get<std::size_t>());
    const std::string bytes = read_file(folder / "out.f32");
    if (bytes.size() != result.values().size_bytes()) throw std::runtime_error("out.f32 has another size");
    std::memcpy(result.data(), bytes.data(), bytes.size());
    return result;
  }

  static Difference difference(const MatrixF& left, const MatrixF& right) {
    EXPECT_EQ(left.shape(), right.shape());
    Difference result;
    for (std::size_t i = 0; i < right.values().size(); ++i) {
      const double apart = std::fabs(double{left.values()[i]} - double{right.values()[i]});
      result.largest = std::max(result.largest, std::isnan(apart) ? HUGE_VAL : apart);
      result.scale = std::max(result.scale, std::fabs(double{right.values()[i]}));
    }
    return result;
  }

  TempFolder folder;
};

/// 16 elements a head, grouped queries.
Architecture small() {
  Architecture a;
  a.hidden = 96;
  a.ffn = 160;
  a.layers = 2;
  a.heads = 6;
  a.kv_heads = 2;
  a.head_dim = 16;
  a.vocab = 70;
  a.max_positions = 64;
  a.norm_eps = 1e-5;
  return a;
}

Windows small_windows() {
  Windows windows;
  for (std::size_t length : {1, 7, 24}) {
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < length; ++i) ids.push_back(static_cast<std::int32_t>((i * i * 13 + length * 5) % 70));
    windows.push_back(ids);
  }
  return windows;
}

constexpr double kClose = 1e-3;

TEST_F(OnnxRuntime, ComputesWhatOurForwardPassComputes) {
  const CheckpointWeights base = random_model(small());
  const Windows windows = small_windows();
  for (const char* const format : {"f32", "bf16", "int4 g32 sym"}) {
    const FormattedModel model(base, linears_in(format, "f16"));
    const MatrixF ours = our_logits(model, windows);
    for (const char* const exporter : {"onnx", "onnx-qdq"}) {
      SCOPED_TRACE(std::string(exporter) + " " + format);
      write(exporter, model);
      for (const char* const options : {"session.qdq_matmulnbits_accuracy_level=0", "optimize=disabled",
                                        "chunk=1 session.qdq_matmulnbits_accuracy_level=0"}) {
        const Difference apart = difference(logits(exporter, windows, options), ours);
        std::printf("%s, %s, %s: %.3g of %.3g\n", exporter, format, options, apart.largest, apart.scale);
        EXPECT_LT(apart.largest, kClose) << options;
      }
    }
  }
}

}  // namespace
}  // namespace adze
