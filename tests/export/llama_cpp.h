// llama.cpp through tests/node/llama.mjs, and what its answers are compared with: our forward pass on the same tokens.
// Tests on the fixture LlamaCpp are skipped, with the reason, where Node.js or its packages are missing.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "export/export_testing.h"
#include "model/forward.h"
#include "node/node_program.h"

namespace adze::testing {

namespace fs = std::filesystem;
using Windows = std::vector<std::vector<std::int32_t>>;

inline constexpr std::array kTexts = {"arithmetic", "code", "dialogue", "encyclopedia", "narrative"};

/// Why llama.cpp cannot be run here; empty when it can.
inline std::string missing_runtime() { return missing_package("node-llama-cpp"); }

/// The beginning of a held-out text, cut between characters.
inline std::string text_of(const std::string& name, std::size_t bytes = 2000) {
  const std::string all = read_file(fs::path(ADZE_SOURCE_DIR) / "calibration_data/heldout" / (name + ".txt"));
  std::size_t end = std::min(bytes, all.size());
  while (end < all.size() && (static_cast<unsigned char>(all[end]) & 0xC0) == 0x80) --end;
  return all.substr(0, end);
}

/// The first `tokens` tokens of every held-out text, BOS in front.
inline Windows windows_of_texts(std::size_t tokens) {
  Windows windows;
  for (const char* const name : kTexts) {
    std::vector<std::int32_t> ids = demo().tokenizer.encode(text_of(name), true);
    ids.resize(std::min(ids.size(), tokens));
    windows.push_back(std::move(ids));
  }
  return windows;
}

/// Logits of our forward pass at every position of every window, one row after the other.
inline MatrixF our_logits(const ModelWeights& model, const Windows& windows) {
  std::size_t rows = 0, longest = 0;
  for (const auto& ids : windows) {
    rows += ids.size();
    longest = std::max(longest, ids.size());
  }
  const Architecture& a = model.architecture();
  const Forward forward(a, longest);
  std::vector<BlockWeights> blocks;
  for (std::size_t b = 0; b < a.layers; ++b) blocks.push_back(model.block(b));
  const InputTables tables = input_tables(model);
  const TensorPtr head = model.head();
  MatrixF all(rows, a.vocab);
  Workspace work;
  std::size_t row = 0;
  for (const auto& ids : windows) {
    MatrixF x(ids.size(), a.hidden);
    forward.embed(tables, ids, x);
    for (const BlockWeights& block : blocks) forward.run_block(block, x, work);
    forward.final_norm(norm_of(model), x, x);
    forward.logits(*head, x, all.view().row_range(row, ids.size()), work);
    row += ids.size();
  }
  return all;
}

inline std::vector<double> log_softmax(std::span<const float> logits) {
  const double largest = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float l : logits) sum += std::exp(l - largest);
  std::vector<double> out;
  for (const float l : logits) out.push_back(l - largest - std::log(sum));
  return out;
}

/// Mean over rows of KL(P || Q).  probabilities: P, logits: of Q; both [rows x vocabulary].
inline double mean_kl(const MatrixF& probabilities, const MatrixF& logits) {
  double total = 0;
  for (std::size_t r = 0; r < logits.rows(); ++r) {
    const std::vector<double> q = log_softmax(logits.row(r));
    for (std::size_t i = 0; i < q.size(); ++i)
      if (const double p = probabilities(r, i); p > 0) total += p * (std::log(p) - q[i]);
  }
  return total / static_cast<double>(logits.rows());
}

inline MatrixF probabilities_of(const MatrixF& logits) {
  MatrixF out(logits.shape());
  for (std::size_t r = 0; r < logits.rows(); ++r)
    std::ranges::transform(log_softmax(logits.row(r)), out.row(r).begin(),
                           [](double l) { return static_cast<float>(std::exp(l)); });
  return out;
}

/// In-between formats: what llama.cpp computes from a file against what we compute from the same weights. Its kernels
/// round activations (to 8 bits for these formats), so the yardstick is the damage of the compression itself.
inline void expect_faithful(double kl, double kl_to_original, const std::string& format) {
  std::printf("llama.cpp against us, %s: mean KL %.3g; to the original %.3g\n", format.c_str(), kl, kl_to_original);
  EXPECT_LT(kl, std::max(1e-3, kl_to_original / 10)) << format;
  EXPECT_GT(kl_to_original, 1e-5) << format << ": rounding must be visible, or this compares nothing";
}

class LlamaCpp : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = missing_runtime(); !reason.empty()) GTEST_SKIP() << reason;
  }

  /// Runs llama.mjs; its result. `arguments` are quoted by the caller.
  nlohmann::json run(const std::string& command, const std::string& model, const std::string& arguments) const {
    const fs::path log = folder / "stderr.txt";
    const auto out = output_of(node_program() + " " + quoted(node_folder() / "llama.mjs") + " " + command + " " +
                               quoted(folder / model) + " " + arguments + " 2>" + quoted(log));
    if (!out) throw std::runtime_error("llama.mjs " + command + " failed: " + read_file(log));
    return nlohmann::json::parse(*out);
  }

  std::vector<std::int32_t> tokenize(const std::string& model, const std::string& text) const {
    folder.put("text.txt", text);
    return run("tokenize", model, quoted(folder / "text.txt"))["ids"];
  }

  /// llama.cpp's distribution of the next token at every position: [positions x vocabulary].
  MatrixF distribution(const std::string& model, const Windows& windows) const {
    folder.put("ids.json", nlohmann::json(windows).dump());
    const nlohmann::json result =
        run("distribution", model, quoted(folder / "ids.json") + " " + quoted(folder / "out.f32"));
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

}  // namespace adze::testing
