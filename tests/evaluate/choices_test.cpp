// Multiple choice against the plain forward pass, known values of its statistics, and files with mistakes.
#include "evaluate/choices.h"

#include <cmath>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "checkpoint/checkpoint_testing.h"
#include "model/forward.h"
#include "model/memory_source.h"

namespace adze {
namespace {

using ::testing::ElementsAre;
using testing::expect_error;
using testing::random_ids;
using testing::random_model;
using testing::small_architecture;

Tokenizer demo_tokenizer() { return Tokenizer::from_file(ADZE_SOURCE_DIR "/tests/models/demo-llama/tokenizer.json"); }

/// Questions of random tokens: contexts and choices of many lengths.
std::vector<EncodedQuestion> random_questions() {
  const std::vector<std::int32_t> ids = random_ids(2000, 50);
  std::vector<EncodedQuestion> questions;
  std::size_t at = 0;
  for (std::size_t q = 0; q < 9; ++q) {
    EncodedQuestion question{{}, {}, q % 3};
    for (std::size_t c = 0; c < 3; ++c) {
      const std::size_t before = 1 + q * 3 % 11, length = 1 + (q + 5 * c) % 9;
      question.choices.push_back({{ids.begin() + static_cast<std::ptrdiff_t>(at),
                                   ids.begin() + static_cast<std::ptrdiff_t>(at + before + length)},
                                  before});
      question.bytes.push_back(2 * length + c);
      at += before + length;
    }
    questions.push_back(std::move(question));
  }
  return questions;
}

/// The same by one forward pass of the whole sequence and softmax in double.
double naive_score(const ModelWeights& model, const EncodedChoice& choice) {
  const Architecture& a = model.architecture();
  const Forward forward(a, choice.ids.size());
  Workspace work;
  MatrixF x(choice.ids.size(), a.hidden), logits(choice.ids.size(), a.vocab);
  forward.embed(input_tables(model), choice.ids, x);
  for (std::size_t b = 0; b < a.layers; ++b) forward.run_block(model.block(b), x, work);
  forward.final_norm(norm_of(model), x, x);
  forward.logits(*model.head(), x, logits, work);
  double score = 0;
  for (std::size_t t = choice.scored_from; t < choice.ids.size(); ++t) {
    double total = 0;
    for (const float value : logits.row(t - 1)) total += std::exp(static_cast<double>(value));
    score += logits(t - 1, static_cast<std::size_t>(choice.ids[t])) - std::log(total);
  }
  return score;
}

TEST(ScoreChoices, AddsUpThePlainForwardPass) {
  const auto model = random_model(small_architecture());
  const auto questions = random_questions();
  const ChoiceScores scores = score_choices(model, questions, silent_progress());
  ASSERT_EQ(scores.size(), questions.size());
  for (std::size_t q = 0; q < questions.size(); ++q)
    for (std::size_t c = 0; c < 3; ++c)
      EXPECT_NEAR(scores[q][c], naive_score(model, questions[q].choices[c]), 1e-5) << q << " " << c;
}

TEST(ScoreChoices, GivesTheSameBitsForAnyThreadsAndGroups) {
  const auto model = random_model(small_architecture(), DType::bf16);
  const auto questions = random_questions();
  const ChoiceScores all = score_choices(model, questions, silent_progress());
  set_thread_count(1);
  EXPECT_EQ(score_choices(model, questions, silent_progress()), all);
  set_thread_count(4);
  for (const std::size_t at_once : {1, 20, 100})
    EXPECT_EQ(score_choices(model, questions, silent_progress(), at_once), all);
  set_thread_count(0);
}

TEST(ScoreChoices, OfOneContextWithAllContinuationsAddUpToOne) {
  const auto model = random_model(small_architecture());
  EncodedQuestion question;
  for (std::int32_t id = 0; id < 50; ++id) question.choices.push_back({{7, 3, id}, 2});
  const ChoiceScores scores = score_choices(model, std::span(&question, 1), silent_progress());
  double sum = 0;
  for (const double score : scores[0]) sum += std::exp(score);
  EXPECT_NEAR(sum, 1, 1e-6);
}

TEST(Answers, AreTheHighestScoresByEitherRule) {
  std::vector<EncodedQuestion> questions(3);
  for (EncodedQuestion& question : questions) question.bytes = {10, 2, 4};
  const ChoiceScores scores = {{-4, -3, -5}, {-1, -9, -9}, {-2, -2, -1.5}};
  EXPECT_THAT(answers(questions, scores, ChoiceRule::sum), ElementsAre(1, 0, 2));
  EXPECT_THAT(answers(questions, scores, ChoiceRule::per_byte), ElementsAre(0, 0, 0));
  EXPECT_THAT(answers(std::span(questions).first(1), {{-3, -3, -3}}, ChoiceRule::sum), ElementsAre(0));
}

TEST(JudgeChoices, CountsFlipsInEveryDirection) {
  std::vector<EncodedQuestion> questions(5);
  for (EncodedQuestion& question : questions) question.bytes = {1, 1, 1};  // answer 0
  const std::vector<double> first = {0, -1, -2}, second = {-1, 0, -2}, third = {-1, -2, 0};
  const ChoiceScores reference = {first, first, second, second, second};
  const ChoiceScores model = {first, third, first, third, second};
  const ChoiceResult result = judge_choices(questions, model, &reference);
  for (const ChoiceResult::ByRule& rule : result.rules) {
    EXPECT_EQ(rule.accuracy.right, 2u);
    EXPECT_EQ(rule.reference->right, 2u);
    EXPECT_EQ(rule.flips->right_to_wrong, 1u);
    EXPECT_EQ(rule.flips->wrong_to_right, 1u);
    EXPECT_EQ(rule.flips->wrong_to_other_wrong, 1u);
    EXPECT_EQ(rule.flips->all(), 3u);
    EXPECT_EQ(rule.flips->p, 1);
  }
  const auto json = to_json(result);
  EXPECT_EQ(json.at("questions"), 5);
  EXPECT_DOUBLE_EQ(json.at("per_byte").at("accuracy").get<double>(), 0.4);
  EXPECT_EQ(json.at("sum").at("right_to_wrong"), 1);
  const auto alone = to_json(judge_choices(questions, model, nullptr));
  EXPECT_FALSE(alone.at("sum").contains("mcnemar_p"));
}

TEST(McNemar, HasTheKnownValueAndItsLimits) {
  EXPECT_NEAR(mcnemar_exact(4, 14), 0.030884, 5e-7);
  EXPECT_EQ(mcnemar_exact(4, 14), mcnemar_exact(14, 4));
  EXPECT_EQ(mcnemar_exact(0, 0), 1);
  EXPECT_EQ(mcnemar_exact(7, 7), 1);
  EXPECT_DOUBLE_EQ(mcnemar_exact(0, 5), 2.0 / 32);
  // Far beyond 2^1023: the normal approximation with continuity correction.
  const double z = (5200.0 - 4800 - 1) / std::sqrt(10000.0);
  EXPECT_NEAR(mcnemar_exact(4800, 5200), std::erfc(z / std::sqrt(2.0)), 1e-6);
}

TEST(Wilson, HasTheKnownIntervalAndEndsAtTheEnds) {
  const Interval interval = wilson_interval(90, 100);
  EXPECT_NEAR(interval.low, 0.825634, 1e-6);
  EXPECT_NEAR(interval.high, 0.944771, 1e-6);
  EXPECT_EQ(wilson_interval(0, 10).low, 0);
  EXPECT_EQ(wilson_interval(10, 10).high, 1);
}

TEST(EncodeQuestions, JoinsByOneSpaceUnlessThereIsOne) {
  const Tokenizer tokenizer = demo_tokenizer();
  const auto bos = tokenizer.vocabulary().prefix_ids;
  const auto ids_of = [&](const std::string& question, const std::string& choice) {
    const std::vector<Question> one = {{1, question, {choice, "other"}, 0}};
    const EncodedChoice encoded = encode_questions(one, tokenizer, "file", 100)[0].choices[0];
    EXPECT_TRUE(std::equal(bos.begin(), bos.end(), encoded.ids.begin()));
    // What is scored, and what stands before it.
    const auto scored = std::span(encoded.ids).subspan(encoded.scored_from);
    EXPECT_GE(tokenizer.decode(scored).size(), choice.size());
    return tokenizer.decode(std::span(encoded.ids).subspan(bos.size()));
  };
  EXPECT_EQ(ids_of("Water is", "wet"), "Water is wet");
  EXPECT_EQ(ids_of("Water is", " wet"), "Water is wet");
  EXPECT_EQ(ids_of("Water is ", "wet"), "Water is wet");
  EXPECT_EQ(ids_of("Water is", "\nwet"), "Water is\nwet");
}

TEST(EncodeQuestions, ScoresExactlyTheTokensOfTheChoice) {
  const Tokenizer tokenizer = demo_tokenizer();
  const std::vector<Question> one = {{1, "The sky is", {"blue today", "green"}, 0}};
  const EncodedQuestion encoded = encode_questions(one, tokenizer, "file", 100)[0];
  const std::size_t before = tokenizer.vocabulary().prefix_ids.size() + tokenizer.encode("The sky is", false).size();
  for (std::size_t c = 0; c < 2; ++c) {
    const EncodedChoice& choice = encoded.choices[c];
    EXPECT_EQ(choice.scored_from, before);
    EXPECT_EQ(tokenizer.decode(std::span(choice.ids).subspan(before)), " " + one[0].choices[c]);
  }
  EXPECT_THAT(encoded.bytes, ElementsAre(10, 5));
}

TEST(EncodeQuestions, RefusesWhatIsLongerThanTheContext) {
  const std::vector<Question> one = {{7, "The sky is", {"blue", "green and blue and red and white"}, 0}};
  expect_error(ErrorKind::bad_data, "questions.jsonl:7: choice 1 and its question are",
               [&] { encode_questions(one, demo_tokenizer(), "questions.jsonl", 8); });
}

TEST(ParseQuestions, ReadsLinesAndIgnoresOtherFields) {
  const auto questions = parse_questions(
      "{\"question\":\"2 + 2 =\",\"choices\":[\"4\",\"5\"],\"answer\":0,\"subject\":\"sums\"}\n\n"
      "{\"answer\":2,\"choices\":[\"a\",\"b\",\" a\"],\"question\":\"Which?\"}",
      "file");
  ASSERT_EQ(questions.size(), 2u);
  EXPECT_THAT(questions[0].choices, ElementsAre("4", "5"));
  EXPECT_EQ(questions[1].line, 3u);
  EXPECT_EQ(questions[1].answer, 2u);
}

struct Mistake {
  const char* line;
  const char* message;
};

class BadQuestions : public ::testing::TestWithParam<Mistake> {};

TEST_P(BadQuestions, AreRefusedWithTheLine) {
  const std::string good = "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":1}\n";
  expect_error(ErrorKind::bad_data, "file.jsonl:2", [&] { parse_questions(good + GetParam().line, "file.jsonl"); });
  expect_error(ErrorKind::bad_data, GetParam().message, [&] { parse_questions(good + GetParam().line, "file.jsonl"); });
}

INSTANTIATE_TEST_SUITE_P(
    Mistakes, BadQuestions,
    ::testing::Values(Mistake{"{\"question\":", "file.jsonl:2"}, Mistake{"[1]", "not an object"},
                      Mistake{R"({"choices":["a","b"],"answer":1})", "no field 'question'"},
                      Mistake{R"({"question":3,"choices":["a","b"],"answer":1})", "'question' is no text"},
                      Mistake{R"({"question":" ","choices":["a","b"],"answer":1})", "or an empty one"},
                      Mistake{R"({"question":"q","answer":1})", "no field 'choices'"},
                      Mistake{R"({"question":"q","choices":["a"],"answer":0})", "two or more"},
                      Mistake{R"({"question":"q","choices":"ab","answer":0})", "two or more"},
                      Mistake{R"({"question":"q","choices":["a",""],"answer":0})", "choice 1 is no text"},
                      Mistake{R"({"question":"q","choices":["a",5],"answer":0})", "choice 1 is no text"},
                      Mistake{R"({"question":"q","choices":["a","b","a"],"answer":0})", "choices 0 and 2 are the same"},
                      Mistake{R"({"question":"q","choices":["a","b"]})", "no field 'answer'"},
                      Mistake{R"({"question":"q","choices":["a","b"],"answer":2})", "'answer' is 2"},
                      Mistake{R"({"question":"q","choices":["a","b"],"answer":-1})", "'answer' is -1"},
                      Mistake{R"({"question":"q","choices":["a","b"],"answer":"a"})", "'answer' is \"a\""}));

TEST(ParseQuestions, RefusesAFileWithoutAny) {
  expect_error(ErrorKind::bad_data, "file: no questions", [] { parse_questions("\n \n", "file"); });
}

}  // namespace
}  // namespace adze
