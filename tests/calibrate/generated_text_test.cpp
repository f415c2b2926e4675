#include "calibrate/generated_text.h"

#include <cmath>
#include <set>

#include "base/parallel.h"
#include "calibrate/calibrate_testing.h"
#include "model/forward.h"
#include "model/random_checkpoint.h"

namespace adze {
namespace {

using testing::expect_error;

const ModelWeights& demo() {
  static const auto model = open_checkpoint_model(std::filesystem::path(ADZE_SOURCE_DIR) / "tests/models/demo-llama");
  return *model;
}

const Tokenizer& demo_tokenizer() {
  static const Tokenizer tokenizer =
      Tokenizer::from_file(std::string(ADZE_SOURCE_DIR) + "/tests/models/demo-llama/tokenizer.json");
  return tokenizer;
}

GenerateOptions few(std::size_t windows) {
  GenerateOptions options;
  options.windows = windows;
  options.tokens = 48;
  options.drop = 0;
  return options;
}

/// Mean -log P of a window's tokens behind its special tokens, by the pass over whole windows.
double window_nll(const ModelWeights& model, std::span<const std::int32_t> text) {
  std::vector<std::int32_t> ids = demo_tokenizer().vocabulary().prefix_ids;
  const std::size_t prefix = ids.size();
  ids.insert(ids.end(), text.begin(), text.end());
  const Architecture& architecture = model.architecture();
  const Forward forward(architecture, ids.size());
  MatrixF x(ids.size(), architecture.hidden), logits(ids.size(), architecture.vocab);
  Workspace work;
  forward.embed(input_tables(model), ids, x);
  for (std::size_t b = 0; b < architecture.layers; ++b) forward.run_block(model.block(b), x, work);
  forward.final_norm(norm_of(model), x, x);
  forward.logits(*model.head(), x, logits, work);
  double nll = 0;
  for (std::size_t t = prefix; t < ids.size(); ++t) {
    double sum = 0;
    for (const float logit : logits.row(t - 1)) sum += std::exp(static_cast<double>(logit));
    nll += std::log(sum) - logits(t - 1, static_cast<std::size_t>(ids[t]));
  }
  return nll / static_cast<double>(text.size());
}

TEST(GenerateText, StepsAreThePassOverWholeWindows) {
  const GeneratedText text = generate_text(demo(), demo_tokenizer(), few(3), silent_progress());
  const std::size_t width = text.ids.size() / 3;
  ASSERT_EQ(width, 48 - demo_tokenizer().vocabulary().prefix_ids.size());
  for (std::size_t w = 0; w < 3; ++w)
    EXPECT_NEAR(text.window_nll[w], window_nll(demo(), std::span(text.ids).subspan(w * width, width)), 1e-4) << w;
}

/// Each window of a step is at a position of its own, which learned positions show.
TEST(GenerateText, StepsAreAtTheirPositionsWhereTheseAreLearned) {
  const testing::TempFolder folder;
  nlohmann::json config = testing::family_case("opt").config;
  config["eos_token_id"] = nullptr;  // one text to a window
  const auto model = open_checkpoint_model(testing::write_random_checkpoint(folder / "model", config, 20));
  const GeneratedText text = generate_text(*model, demo_tokenizer(), few(3), silent_progress());
  const std::size_t width = text.ids.size() / 3;
  for (std::size_t w = 0; w < 3; ++w)
    EXPECT_NEAR(text.window_nll[w], window_nll(*model, std::span(text.ids).subspan(w * width, width)), 1e-3) << w;
}

TEST(GenerateText, IsTheSameOnAnyNumberOfThreadsAndDiffersByWindowAndSeed) {
  set_thread_count(1);
  const GeneratedText one = generate_text(demo(), demo_tokenizer(), few(18), silent_progress());
  set_thread_count(4);
  const GeneratedText four = generate_text(demo(), demo_tokenizer(), few(18), silent_progress());
  set_thread_count(0);
  EXPECT_EQ(one.ids, four.ids);
  EXPECT_EQ(one.window_nll, four.window_nll);
  const std::size_t width = one.ids.size() / 18;
  std::set<std::vector<std::int32_t>> windows;
  for (std::size_t w = 0; w < 18; ++w)
    windows.insert({one.ids.begin() + static_cast<std::ptrdiff_t>(w * width),
                    one.ids.begin() + static_cast<std::ptrdiff_t>((w + 1) * width)});
  EXPECT_EQ(windows.size(), 18U);
  GenerateOptions other = few(2);
  other.seed = 9;
  EXPECT_NE(generate_text(demo(), demo_tokenizer(), other, silent_progress()).ids,
            generate_text(demo(), demo_tokenizer(), few(2), silent_progress()).ids);
}

TEST(GenerateText, LeavesOutTheLeastLikely) {
  GenerateOptions options = few(8);
  options.drop = 0.5;
  const GeneratedText text = generate_text(demo(), demo_tokenizer(), options, silent_progress());
  EXPECT_EQ(text.window_nll.size(), 8U);
  EXPECT_EQ(text.dropped, 8U);
  EXPECT_GT(text.dropped_nll, *std::ranges::max_element(text.window_nll));
}

TEST(GenerateText, ASmallNucleusOrALowTemperatureIsLikelierText) {
  const auto mean_nll = [](const GenerateOptions& options) {
    const GeneratedText text = generate_text(demo(), demo_tokenizer(), options, silent_progress());
    double sum = 0;
    for (const double nll : text.window_nll) sum += nll;
    return sum / static_cast<double>(text.window_nll.size());
  };
  GenerateOptions cold = few(8), narrow = few(8);
  cold.temperature = 0.5;
  narrow.top_p = 0.5;
  const double plain = mean_nll(few(8));
  EXPECT_LT(mean_nll(cold), plain - 0.5);
  EXPECT_LT(mean_nll(narrow), plain - 0.5);
}

TEST(GenerateText, RefusesWhatCannotBeWritten) {
  const auto refuses = [](std::string_view words, auto&& change) {
    GenerateOptions options = few(1);
    change(options);
    expect_error(ErrorKind::usage, words, [&] { generate_text(demo(), demo_tokenizer(), options, silent_progress()); });
  };
  refuses("not above 0", [](GenerateOptions& o) { o.temperature = 0; });
  refuses("top-p 1.5", [](GenerateOptions& o) { o.top_p = 1.5; });
  refuses("cannot be dropped", [](GenerateOptions& o) { o.drop = 1; });
  refuses("0 windows", [](GenerateOptions& o) { o.windows = 0; });
  refuses("do not fit the model's context", [](GenerateOptions& o) { o.tokens = 100000; });
}

}  // namespace
}  // namespace adze
