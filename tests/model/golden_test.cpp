// The demo model's logits against an independent implementation.
#include <cmath>
#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "model/logits.h"

namespace adze {
namespace {

using testing::logits_of;

constexpr double kTolerance = 2e-4;  // absolute; float32 sums in two orders differ by about 2e-5 here

std::string source_path(const std::string& name) { return ADZE_SOURCE_DIR "/" + name; }

nlohmann::json read_json(const std::string& path) { return parse_json(read_file(path), path); }

double log_sum_exp(std::span<const float> row) {
  const double largest = *std::ranges::max_element(row);
  double sum = 0;
  for (const float value : row) sum += std::exp(value - largest);
  return largest + std::log(sum);
}

TEST(DemoModel, GivesTheGoldenLogits) {
  const auto golden = read_json(source_path("tests/model/golden/demo_llama_logits.json"));
  const auto model = open_checkpoint_model(source_path("tests/models/demo-llama"));
  const MatrixF logits = logits_of(*model, golden.at("ids"));
  const std::size_t stride = golden.at("stride");
  for (const auto& expected : golden.at("rows")) {
    const auto row = logits.row(expected.at("position"));
    EXPECT_NEAR(log_sum_exp(row), expected.at("log_sum_exp").get<double>(), kTolerance);
    EXPECT_EQ(std::ranges::max_element(row) - row.begin(), expected.at("argmax").get<std::ptrdiff_t>());
    const std::vector<float> values = expected.at("logits");
    ASSERT_EQ(values.size() * stride, row.size());
    for (std::size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(row[i * stride], values[i], kTolerance) << i * stride;
  }
}

TEST(DemoModel, AgreesWithTheReferenceAtEveryPosition) {
  const std::string folder = source_path("../shared/models/demo-llama");
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "extra: no reference logits at " << folder;
  const auto ids = read_json(folder + "/reference/ids.json").at("windows");
  const std::string bytes = read_file(folder + "/reference/logits.f32");
  const auto model = open_checkpoint_model(folder);
  std::vector<float> expected(bytes.size() / sizeof(float));
  std::memcpy(expected.data(), bytes.data(), bytes.size());
  std::size_t at = 0;
  double worst = 0;
  for (const char* name : {"wiki", "code"}) {
    const MatrixF logits = logits_of(*model, ids.at(name));
    for (const float value : logits.values())
      worst = std::max(worst, std::abs(static_cast<double>(value) - expected.at(at++)));
  }
  EXPECT_EQ(at, expected.size());
  EXPECT_LT(worst, kTolerance);
  RecordProperty("worst", std::to_string(worst));
  std::cout << "largest difference " << worst << "\n";
}

}  // namespace
}  // namespace adze
