#include "evaluate/audit.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "evaluate/evaluate_testing.h"

namespace adze {
namespace {

using ::testing::ElementsAre;
using testing::text_scores;

const Protocol kProtocol{"p", 12, 1, BosPolicy::none};  // 10 scored, targets at 2..11

/// Ids of window w: 100 w, 100 w + 1, ...
Matrix<std::int32_t> numbered_ids(std::size_t windows) {
  Matrix<std::int32_t> ids(windows, kProtocol.window);
  for (std::size_t w = 0; w < windows; ++w)
    for (std::size_t t = 0; t < ids.cols(); ++t) ids(w, t) = static_cast<std::int32_t>(100 * w + t);
  return ids;
}

TEST(WorstTokens, AreThoseOfLargestKlWhateverTheOrderOfWindows) {
  const Matrix<std::int32_t> ids = numbered_ids(3);
  Matrix<TokenScore> scores(3, 10);
  for (std::size_t i = 0; i < 30; ++i) scores.values()[i].kl = static_cast<double>((i * 7) % 30);
  scores(2, 9).kl = scores(0, 1).kl = 29.5;  // a tie: the earlier one first
  std::vector<std::vector<Exemplar>> found;
  for (const std::vector<std::size_t>& order : {std::vector<std::size_t>{0, 1, 2}, {2, 0, 1}}) {
    WorstTokens worst(4);
    for (const std::size_t w : order) worst.offer(w, ids.row(w), 1, scores.row(w));
    found.push_back(worst.take());
  }
  ASSERT_EQ(found[0].size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(found[0][i].window, found[1][i].window);
    EXPECT_EQ(found[0][i].position, found[1][i].position);
  }
  EXPECT_EQ(found[0][0].window, 0U);
  EXPECT_EQ(found[0][0].position, 2U);  // scored from 1 on: the second one
  EXPECT_EQ(found[0][0].target, 3);
  EXPECT_THAT(found[0][0].context, ElementsAre(0, 1, 2));
  EXPECT_EQ(found[0][1].window, 2U);
  EXPECT_EQ(found[0][1].target, 211);
  WorstTokens none(0);
  none.offer(0, ids.row(0), 1, scores.row(0));
  EXPECT_TRUE(none.take().empty());
}

/// One window per list of (kl, added loss, Q's top, whether it changed).
struct Token {
  double kl, added_loss;
  std::int32_t top;
  bool same;
};
TextScores scores_of(const std::vector<Token>& tokens, Matrix<std::int32_t> ids) {
  Matrix<TokenScore> scores(tokens.size() / 10, 10);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    TokenScore& score = scores.values()[i];
    score.kl = tokens[i].kl;
    score.nll = tokens[i].added_loss;
    score.top = tokens[i].top;
    score.same_top = tokens[i].same;
  }
  return text_scores(scores, kProtocol, true, std::move(ids));
}

TEST(Audit, LorenzCurveIsTheShareOfLossOfTheWorstTokens) {
  std::vector<Token> tokens(20, {0, 0, 0, true});
  tokens[3].added_loss = 6;
  tokens[7].added_loss = 3;
  tokens[12].added_loss = 1;
  tokens[15].added_loss = -5;  // gains are no part of what is lost
  TextScores text = scores_of(tokens, numbered_ids(2));
  EXPECT_FALSE(audit_of(std::span(&text, 1)).has_value());  // nobody asked
  text.worst_tokens.resize(1);
  const Audit audit = audit_of(std::span(&text, 1)).value();
  const auto share = [&](double fraction) {
    return std::ranges::find(audit.lorenz, fraction, &PercentileValue::fraction)->value;
  };
  EXPECT_NEAR(share(0.05), 0.6, 1e-6);  // one token of twenty
  EXPECT_NEAR(share(0.1), 0.9, 1e-6);
  EXPECT_NEAR(share(0.5), 1, 1e-6);
}

TEST(Audit, DecilesGoFromRareToCommonTokensAndAddUp) {
  Matrix<std::int32_t> ids(10, 12);  // of 100 targets ten are rare, once each, the others two common ids
  for (std::size_t w = 0; w < 10; ++w)
    for (std::size_t t = 2; t < 12; ++t) ids(w, t) = t == 2 ? static_cast<std::int32_t>(50 + w) : (t % 2 == 0 ? 1 : 2);
  std::vector<Token> tokens(100, {0.1, 0.01, 0, true});
  for (std::size_t w = 0; w < 10; ++w) tokens[10 * w] = {1, 0.5, 0, true};
  TextScores text = scores_of(tokens, ids);
  text.worst_tokens.resize(1);
  const Audit audit = audit_of(std::span(&text, 1)).value();
  const FrequencyDecile& rare = audit.frequency.front();
  EXPECT_EQ(rare.most, 1U);
  EXPECT_EQ(rare.tokens, 10U);
  EXPECT_NEAR(rare.kl, 1, 1e-6);
  EXPECT_NEAR(rare.share_of_added_loss, 5 / 5.9, 1e-6);
  double share = 0;
  std::size_t all = 0;
  for (const FrequencyDecile& decile : audit.frequency) {
    share += decile.share_of_added_loss;
    all += decile.tokens;
  }
  EXPECT_NEAR(share, 1, 1e-9);
  EXPECT_EQ(all, 100U);
}

TEST(Population, FindsPredictionsThatMostModelsChange) {
  const Matrix<std::int32_t> ids = numbered_ids(2);
  std::vector<std::vector<TextScores>> models;
  for (std::size_t m = 0; m < 3; ++m) {
    std::vector<Token> tokens(20, {0.01, 0.1, 7, true});
    tokens[4] = {2.0, 3, m == 2 ? 7 : 9, m == 2};                     // two of three say 9
    tokens[13] = {1.0, 1, static_cast<std::int32_t>(m + 20), false};  // all differ, each otherwise
    tokens[16] = {0.5, 0, m == 0 ? 8 : 7, m != 0};                    // one of three: no exemplar
    models.push_back({scores_of(tokens, ids)});
  }
  const PopulationAudit audit = audit_population(models, 5);
  EXPECT_EQ(audit.models, 3U);
  EXPECT_EQ(audit.tokens, 20U);
  EXPECT_EQ(audit.exemplars, 2U);
  EXPECT_NEAR(audit.mean_flip_share, (2.0 / 3 + 1 + 1.0 / 3) / 20, 1e-12);
  ASSERT_EQ(audit.worst.size(), 2U);
  EXPECT_EQ(audit.worst[0].window, 1U);
  EXPECT_EQ(audit.worst[0].position, 4U);
  EXPECT_EQ(audit.worst[0].target, 105);
  EXPECT_EQ(audit.worst[0].flip_share, 1);
  EXPECT_EQ(audit.worst[0].modal, 20);  // a tie: the lowest id
  EXPECT_EQ(audit.worst[1].modal, 9);
  EXPECT_NEAR(audit.worst[1].severe_share, 1, 1e-12);
  EXPECT_NEAR(audit.added_loss, (17 * 0.1 + 3 + 1 + 0) / 20, 1e-6);
  EXPECT_NEAR(audit.added_loss_without, 17 * 0.1 / 18, 1e-6);
  EXPECT_EQ(audit_population(models, 1).worst.size(), 1U);
}

TEST(Population, OfTwoTakesATieForTheOriginal) {
  std::vector<std::vector<TextScores>> models;
  for (std::size_t m = 0; m < 2; ++m) {
    std::vector<Token> tokens(20, {0.01, 0.1, 7, true});
    if (m == 0) tokens[4] = {2.0, 3, 1, false};
    models.push_back({scores_of(tokens, numbered_ids(2))});
  }
  EXPECT_EQ(audit_population(models, 5).exemplars, 0U);
}

TEST(Population, RefusesOneModelAndOtherTexts) {
  const std::vector<Token> tokens(20, {0, 0, 0, true});
  std::vector<std::vector<TextScores>> models{{scores_of(tokens, numbered_ids(2))}};
  EXPECT_THROW(audit_population(models, 5), Error);
  Matrix<std::int32_t> other = numbered_ids(2);
  other(1, 3) = 0;
  models.push_back({scores_of(tokens, other)});
  EXPECT_THROW(audit_population(models, 5), Error);
}

}  // namespace
}  // namespace adze
