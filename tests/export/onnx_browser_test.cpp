// Proof in a browser: transformers.js in headless Chromium (through tests/node/browser_model.mjs) loads what we export
// and predicts what our forward pass predicts. Skipped, with the reason, where the browser or the packages are missing.
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "export/llama_cpp.h"

namespace adze {
namespace {

using namespace testing;
namespace fs = std::filesystem;

struct Continuation {
  std::vector<std::int32_t> ids, generated;
  MatrixF logits;  ///< [ids x vocabulary]
};

class OnnxBrowser : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!fs::exists("/usr/bin/chromium"))
      GTEST_SKIP() << "no Chromium: install Debian's package chromium, or run tests/run.sh";
    for (const char* const name : {"playwright-core", "@huggingface/transformers", "onnxruntime-web"})
      if (const std::string reason = missing_package(name); !reason.empty()) GTEST_SKIP() << reason;
  }

  Continuation continued(const std::string& text, std::size_t count, std::size_t vocabulary) const {
    folder.put("text.txt", text);
    const fs::path log = folder / "stderr.txt";
    const auto out = output_of(node_program() + " " + quoted(node_folder() / "browser_model.mjs") + " " +
                               quoted(folder / "model") + " " + quoted(folder / "text.txt") + " " +
                               std::to_string(count) + " " + quoted(folder / "out.f32") + " 2>" + quoted(log));
    if (!out) throw std::runtime_error(read_file(log));
    const auto json = nlohmann::json::parse(*out);
    Continuation result;
    json.at("ids").get_to(result.ids);
    json.at("generated").get_to(result.generated);
    const std::string bytes = read_file(folder / "out.f32");
    result.logits = MatrixF(result.ids.size(), vocabulary);
    if (bytes.size() != result.logits.values().size_bytes()) throw std::runtime_error("out.f32 has another size");
    std::memcpy(result.logits.data(), bytes.data(), bytes.size());
    return result;
  }

  TempFolder folder;
};

TEST_P(OnnxBrowser, LoadsTheFolderAndContinuesATextAsWeDo) {
  constexpr std::size_t kCount = 12;
  const FormattedModel model(*demo().model, linears_in("int4 g32 sym", "f16"));
  find_exporter(GetParam())->make()->write(plan_of(model), model, folder / "model", silent_progress());
  const std::string text = text_of("narrative", 150);
  const Continuation theirs = continued(text, kCount, model.architecture().vocab);
  EXPECT_EQ(theirs.ids, demo().tokenizer.encode(text, true));
  ASSERT_EQ(theirs.generated.size(), kCount);
  std::vector<std::int32_t> all = theirs.ids;
  all.insert(all.end(), theirs.generated.begin(), theirs.generated.end());
  const MatrixF ours = our_logits(model, {all});
  double largest = 0;
  for (std::size_t row = 0; row < theirs.ids.size(); ++row)
    for (std::size_t i = 0; i < ours.cols(); ++i)
      largest = std::max(largest, std::fabs(double{theirs.logits(row, i)} - double{ours(row, i)}));
  std::printf("%s in a browser: logits differ by up to %.3g\n", GetParam().c_str(), largest);
  EXPECT_LT(largest, 1e-3);
  for (std::size_t i = 0; i < kCount; ++i) {
    const auto row = ours.row(theirs.ids.size() - 1 + i);
    const auto likeliest = *std::ranges::max_element(row);
    EXPECT_LT(likeliest - row[static_cast<std::size_t>(theirs.generated[i])], 1e-3) << "token " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, OnnxBrowser, ::testing::Values("onnx", "onnx-qdq"),
                         [](const auto& one) { return one.param == "onnx" ? "Onnx" : "OnnxQdq"; });

}  // namespace
}  // namespace adze
