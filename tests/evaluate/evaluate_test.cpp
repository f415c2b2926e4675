#include <cmath>
#include <filesystem>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/parallel.h"
#include "evaluate/evaluate.h"
#include "model/forward.h"
#include "model/memory_source.h"
#include "text/tokenizer.h"

namespace adze {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::random_ids;
using testing::random_model;
using testing::random_source;
using testing::small_architecture;

EvaluationResult run(const ModelWeights& model, const ModelWeights* reference, std::span<const std::int32_t> ids,
                     const char* protocol) {
  return evaluate(model, reference, ids, 1, parse_protocol(protocol), silent_progress());
}

/// log-softmax in double of the whole window's logits, without slices.
double naive_mean_nll(const ModelWeights& model, const Matrix<std::int32_t>& windows, std::size_t score_from) {
  const Architecture& a = model.architecture();
  const Forward forward(a, windows.cols());
  double sum = 0;
  for (std::size_t w = 0; w < windows.rows(); ++w) {
    Workspace work;
    MatrixF x(windows.cols(), a.hidden), logits(windows.cols(), a.vocab);
    forward.embed(input_tables(model), windows.row(w), x);
    for (std::size_t b = 0; b < a.layers; ++b) forward.run_block(model.block(b), x, work);
    forward.final_norm(norm_of(model), x, x);
    forward.logits(*model.head(), x, logits, work);
    for (std::size_t t = score_from; t + 1 < windows.cols(); ++t) {
      double total = 0;
      for (const float value : logits.row(t)) total += std::exp(static_cast<double>(value));
      sum += std::log(total) - logits(t, static_cast<std::size_t>(windows(w, t + 1)));
    }
  }
  return sum / static_cast<double>(windows.rows() * (windows.cols() - 1 - score_from));
}

TEST(Evaluate, GivesThePerplexityOfThePlainForwardPass) {
  const auto model = random_model(small_architecture());
  const auto ids = random_ids(100, 50);
  for (const char* name : {"gptq-32", "lcpp-32"}) {
    const Protocol protocol = parse_protocol(name);
    const auto windows = make_windows(ids, 1, protocol);
    const auto result = run(model, nullptr, ids, name);
    EXPECT_NEAR(std::log(result.perplexity), naive_mean_nll(model, windows, protocol.score_from), 1e-5);
    EXPECT_EQ(result.windows, 3u);
    EXPECT_EQ(result.protocol, name);
    EXPECT_FALSE(result.reference.has_value());
  }
}

TEST(Evaluate, AModelIsAtNoDistanceFromItself) {
  const auto model = random_model(small_architecture());
  const auto result = run(model, &model, random_ids(200, 50), "gptq-32");
  const ReferenceResult& reference = result.reference.value();
  EXPECT_EQ(reference.kl_mean, 0.0);
  EXPECT_EQ(reference.kl_max, 0.0);
  EXPECT_EQ(reference.rms_dp, 0.0);
  EXPECT_EQ(reference.rms_dp_se, 0.0);
  EXPECT_EQ(reference.same_top, 1.0);
  EXPECT_EQ(reference.ln_ppl_ratio, 0.0);
  EXPECT_EQ(reference.perplexity_base, result.perplexity);
  EXPECT_EQ(reference.kl_mean_95->high, 0.0);
}

TEST(Evaluate, FindsARoundedModelNearAndAnotherOneFar) {
  const auto model = random_model(small_architecture());
  const auto rounded = random_model(small_architecture(), DType::bf16);
  const auto other = random_model(small_architecture(), DType::f32, "other");
  const auto ids = random_ids(200, 50);
  const double near = run(rounded, &model, ids, "gptq-32").reference->kl_mean;
  const double far = run(other, &model, ids, "gptq-32").reference->kl_mean;
  EXPECT_GT(near, 0.0);
  EXPECT_LT(near, 1e-3);
  EXPECT_GT(far, 0.1);
}

TEST(Evaluate, AcceptsAReferenceOfAnotherDepth) {
  Architecture deep = small_architecture();
  deep.layers = 4;
  const auto model = random_model(small_architecture());
  const auto reference = random_model(deep);
  EXPECT_GT(run(model, &reference, random_ids(64, 50), "gptq-32").reference->kl_mean, 0.0);
}

TEST(Evaluate, GivesTheSameBytesForAnyNumberOfThreads) {
  const auto model = random_model(small_architecture(), DType::bf16);
  const auto reference = random_model(small_architecture());
  const auto ids = random_ids(700, 50);
  set_thread_count(1);
  const auto one = to_json(run(model, &reference, ids, "lcpp-48")).dump();
  set_thread_count(4);
  const auto four = to_json(run(model, &reference, ids, "lcpp-48")).dump();
  set_thread_count(0);
  EXPECT_EQ(one, four);
}

class RecordedProgress final : public Progress {
 public:
  void start(std::string_view, std::uint64_t total_units) override { total = total_units; }
  void update(std::uint64_t done_units) override { done = done_units; }
  void warn(const std::string& message) override { warnings += message; }
  std::uint64_t total = 0, done = 0;
  std::string warnings;
};

TEST(Evaluate, ReportsProgressAndWarnsOfWindowsBeyondTheModelsPositions) {
  const auto model = random_model(small_architecture());
  RecordedProgress progress;
  const auto ids = random_ids(150, 50);
  evaluate(model, &model, ids, 1, parse_protocol("gptq-64"), progress);
  EXPECT_EQ(progress.total, 4u);
  EXPECT_EQ(progress.done, 4u);
  EXPECT_EQ(progress.warnings, "");
  evaluate(model, nullptr, ids, 1, parse_protocol("gptq-65"), progress);
  EXPECT_THAT(progress.warnings, AllOf(HasSubstr("65"), HasSubstr("64 positions")));
}

std::string error_of(const ModelWeights& model, const ModelWeights* reference, std::span<const std::int32_t> ids) {
  try {
    run(model, reference, ids, "gptq-32");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    return error.message();
  }
  return "no error";
}

TEST(Evaluate, RefusesWhatItCannotJudge) {
  const auto model = random_model(small_architecture());
  Architecture larger = small_architecture();
  larger.vocab = 60;
  const auto other = random_model(larger);
  EXPECT_THAT(error_of(model, &other, random_ids(64, 50)), AllOf(HasSubstr("50"), HasSubstr("60")));
  EXPECT_THAT(error_of(model, nullptr, random_ids(10, 50)), AllOf(HasSubstr("11 tokens"), HasSubstr("32")));
  EXPECT_THAT(error_of(model, nullptr, random_ids(64, 60)), HasSubstr("outside the vocabulary of 50"));
}

TEST(Evaluate, RefusesAModelThatOverflows) {
  const Architecture a = small_architecture();
  const auto source = std::make_shared<testing::MemorySource>(random_source(a));
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  source->put(name, DType::f32, {24, 40}, std::vector<float>(24 * 40, 3e38f));
  const CheckpointWeights model(a, source);
  EXPECT_THAT(error_of(model, nullptr, random_ids(64, 50)), HasSubstr("not finite"));
}

class DemoPerplexity : public ::testing::TestWithParam<std::string> {};

TEST_P(DemoPerplexity, AgreesWithLlamaCppAndPyTorch) {
  const std::string shared = ADZE_SOURCE_DIR "/../shared";
  const std::string reference_file = shared + "/models/demo-llama/reference/perplexity.json";
  const std::string text_file = shared + "/corpora/eval/" + GetParam() + ".txt";
  if (!std::filesystem::exists(reference_file) || !std::filesystem::exists(text_file))
    GTEST_SKIP() << "extra: no reference perplexities at " << shared;
  const std::string folder = ADZE_SOURCE_DIR "/tests/models/demo-llama";
  const auto model = open_checkpoint_model(folder);
  const auto ids = Tokenizer::from_file(folder + "/tokenizer.json").encode(read_file(text_file), false);
  const auto expected = parse_json(read_file(reference_file), reference_file).at("texts").at(GetParam());
  for (const char* name : {"lcpp-512", "gptq-512"}) {
    const auto result = evaluate(*model, nullptr, ids, 0, parse_protocol(name), silent_progress());
    const double reference = expected.at(name);
    std::cout << GetParam() << " " << name << ": " << result.perplexity << " +- " << result.perplexity_se
              << ", reference " << reference << "\n";
    EXPECT_NEAR(result.perplexity, reference, 1e-3 * reference);
    EXPECT_EQ(result.windows, expected.at("windows").get<std::size_t>());
    if (std::string(name) == "lcpp-512") {
      EXPECT_NEAR(result.perplexity_se, expected.at("lcpp-512_se"), 1e-3 * result.perplexity_se);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Texts, DemoPerplexity, ::testing::Values("wiki", "code", "math", "speech"));

}  // namespace
}  // namespace adze
