#include "evaluate/domains.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/memory_source.h"

namespace adze {
namespace {

using testing::random_ids;
using testing::random_model;
using testing::small_architecture;

std::vector<DomainText> two_domains() { return {{"long", random_ids(200, 50)}, {"short", random_ids(70, 50)}}; }

TEST(Domains, AreJudgedAlikeWithTheReferenceOnceOrBesideEachModel) {
  const auto reference = random_model(small_architecture());
  const auto rounded = random_model(small_architecture(), DType::bf16);
  const auto other = random_model(small_architecture(), DType::f32, "other");
  const Protocol protocol = parse_protocol("lcpp-32");
  const std::vector<const ModelWeights*> models{&rounded, &other};
  const auto domains = two_domains();
  const std::vector<EvaluationOptions> once(2), grouped(2, {.windows_at_once = 2});
  const auto a = score_domains(models, &reference, domains, 1, protocol, once, silent_progress());
  const auto b = score_domains(models, &reference, domains, 1, protocol, grouped, silent_progress());
  ASSERT_EQ(a.size(), 2U);
  for (std::size_t m = 0; m < 2; ++m) {
    ASSERT_EQ(a[m].size(), 2U);
    for (std::size_t d = 0; d < 2; ++d) {
      const auto alone = evaluate(*models[m], &reference, domains[d].ids, 1, protocol, silent_progress());
      EXPECT_EQ(to_json(summarize(a[m][d])).dump(), to_json(alone).dump());
      EXPECT_EQ(to_json(summarize(b[m][d])).dump(), to_json(alone).dump());
    }
    EXPECT_EQ(summarize(a[m]).windows, 8U);
  }
}

TEST(Domains, TooShortForAWindowAreRefusedByName) {
  const auto model = random_model(small_architecture());
  const std::vector<const ModelWeights*> models{&model};
  std::vector<DomainText> domains = two_domains();
  domains.push_back({"tiny", random_ids(12, 50)});
  try {
    score_domains(models, nullptr, domains, 1, parse_protocol("lcpp-32"), std::vector<EvaluationOptions>(1),
                  silent_progress());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    EXPECT_THAT(error.message(), ::testing::HasSubstr("tiny: the text has 13 tokens, but lcpp-32 needs at least 32"));
  }
}

DomainResult domain(const std::string& name, double kl) {
  DomainResult result{name, {}};
  result.result.reference.emplace().kl_mean = kl;
  return result;
}

TEST(Domains, TheWorstHasTheLargestMeanKl) {
  const std::vector<DomainResult> domains{domain("a", 0.1), domain("b", 0.4), domain("c", 0.2)};
  EXPECT_EQ(worst_domain(domains), 1U);
  EXPECT_DOUBLE_EQ(*domain_disparity(domains), 2);
  EXPECT_EQ(worst_domain(std::span(domains).first(1)), std::nullopt);
  EXPECT_EQ(domain_disparity(std::vector{domain("a", 0), domain("b", 0)}), 1);
  EXPECT_EQ(worst_domain(std::vector<DomainResult>{{"a", {}}, {"b", {}}}), std::nullopt);
}

TEST(BosEffect, ComparesBosInEveryWindowWithTheFirstOnly) {
  const auto model = random_model(small_architecture());
  const auto domains = two_domains();
  const BosEffect effect = bos_effect(model, domains, 1, parse_protocol("lcpp-32"), silent_progress());
  EXPECT_GT(effect.perplexity_each, 1);
  EXPECT_NE(effect.perplexity_each, effect.perplexity_first);
}

}  // namespace
}  // namespace adze
