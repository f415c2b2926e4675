#include "evaluate/audit.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <tuple>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;
using Texts = std::span<const TextScores>;

constexpr std::array kLorenzShares = {0.001, 0.01, 0.05, 0.1, 0.25, 0.5};
constexpr std::size_t kDeciles = 10;
constexpr double kSeverePercentile = 0.95;

std::vector<WorstToken> worst_tokens(Texts texts, std::size_t most) {
  std::vector<WorstToken> tokens;
  for (std::size_t part = 0; part < texts.size(); ++part)
    for (const Exemplar& exemplar : texts[part].worst_tokens) tokens.push_back({part, exemplar});
  std::ranges::stable_sort(tokens, std::greater(), [](const WorstToken& token) { return token.exemplar.score.kl; });
  tokens.resize(std::min(most, tokens.size()));
  return tokens;
}

std::vector<WorstWindow> worst_windows(Texts texts, std::size_t most) {
  std::vector<WorstWindow> windows;
  for (std::size_t part = 0; part < texts.size(); ++part)
    for (std::size_t w = 0; w < texts[part].windows.size(); ++w) {
      const auto& mean = texts[part].windows[w].mean;
      windows.push_back({part, w, mean[Statistic::kl], mean[Statistic::added_loss]});
    }
  std::ranges::stable_sort(windows, std::greater(), &WorstWindow::kl);
  windows.resize(std::min(most, windows.size()));
  return windows;
}

std::vector<PercentileValue> lorenz_curve(Texts texts) {
  std::vector<float> losses;
  std::size_t tokens = 0;
  for (const TextScores& text : texts)
    for (const TokenTrace& token : text.tokens.values()) {
      ++tokens;
      if (token.added_loss > 0) losses.push_back(token.added_loss);
    }
  std::ranges::sort(losses, std::greater());
  const double all = std::accumulate(losses.begin(), losses.end(), 0.0);
  std::vector<PercentileValue> curve;
  for (const double share : kLorenzShares) {
    const auto first =
        std::min(losses.size(), static_cast<std::size_t>(std::ceil(share * static_cast<double>(tokens))));
    const double part = std::accumulate(losses.begin(), losses.begin() + static_cast<std::ptrdiff_t>(first), 0.0);
    curve.push_back({share, all == 0 ? 0 : part / all});
  }
  return curve;
}

struct TokenType {
  std::int32_t id = 0;
  std::uint64_t occurrences = 0;
  double kl = 0, added_loss = 0;  // sums
};

std::vector<TokenType> types_of(Texts texts) {
  std::vector<TokenType> types;
  for (const TextScores& text : texts)
    for (std::size_t w = 0; w < text.tokens.rows(); ++w)
      for (std::size_t i = 0; i < text.tokens.cols(); ++i) {
        const auto id = static_cast<std::size_t>((*text.ids)(w, text.score_from + i + 1));
        if (id >= types.size()) types.resize(id + 1);
        TokenType& type = types[id];
        type.id = static_cast<std::int32_t>(id);
        ++type.occurrences;
        type.kl += text.tokens(w, i).kl;
        type.added_loss += text.tokens(w, i).added_loss;
      }
  std::erase_if(types, [](const TokenType& type) { return type.occurrences == 0; });
  std::ranges::sort(types, {}, [](const TokenType& type) { return std::pair(type.occurrences, type.id); });
  return types;
}

/// Rarest first. All occurrences of an id stay together, so that tenths are as even as ids allow.
std::vector<FrequencyDecile> frequency_deciles(Texts texts) {
  const std::vector<TokenType> types = types_of(texts);
  std::uint64_t tokens = 0, passed = 0;
  double added_loss = 0;
  for (const TokenType& type : types) {
    tokens += type.occurrences;
    added_loss += type.added_loss;
  }
  std::vector<FrequencyDecile> deciles(kDeciles);
  for (const TokenType& type : types) {
    const std::uint64_t middle = passed + type.occurrences / 2;
    FrequencyDecile& decile = deciles[std::min<std::size_t>(kDeciles - 1, middle * kDeciles / tokens)];
    passed += type.occurrences;
    if (decile.tokens == 0) decile.least = type.occurrences;
    decile.most = type.occurrences;
    decile.tokens += type.occurrences;
    decile.kl += type.kl;
    decile.added_loss += type.added_loss;
  }
  std::erase_if(deciles, [](const FrequencyDecile& decile) { return decile.tokens == 0; });
  for (FrequencyDecile& decile : deciles) {
    decile.share_of_added_loss = added_loss == 0 ? 0 : decile.added_loss / added_loss;
    decile.kl /= static_cast<double>(decile.tokens);
    decile.added_loss /= static_cast<double>(decile.tokens);
  }
  return deciles;
}

/// KL above which a token is among the worst 5 % of a model.
float severe_kl(Texts texts) {
  std::vector<float> values;
  for (const TextScores& text : texts)
    for (const TokenTrace& token : text.tokens.values()) values.push_back(token.kl);
  const auto at =
      values.begin() + static_cast<std::ptrdiff_t>(kSeverePercentile * static_cast<double>(values.size() - 1));
  std::ranges::nth_element(values, at);
  return *at;
}

std::vector<std::int32_t> context_of(std::span<const std::int32_t> ids, std::size_t position) {
  const std::size_t count = std::min(position + 1, kContextTokens);
  const auto last = ids.subspan(position + 1 - count, count);
  return {last.begin(), last.end()};
}

class Population {
 public:
  Population(std::span<const std::vector<TextScores>> models, std::size_t most) : models_(models), most_(most) {
    audit_.models = models.size();
    for (const auto& texts : models) severe_.push_back(severe_kl(texts));
  }

  PopulationAudit run() {
    const std::vector<TextScores>& first = models_.front();
    for (std::size_t part = 0; part < first.size(); ++part)
      for (std::size_t w = 0; w < first[part].tokens.rows(); ++w)
        for (std::size_t i = 0; i < first[part].tokens.cols(); ++i) look_at(part, w, i);
    audit_.mean_flip_share /= static_cast<double>(audit_.tokens);
    audit_.added_loss /= static_cast<double>(audit_.tokens);
    if (audit_.tokens > audit_.exemplars)
      audit_.added_loss_without /= static_cast<double>(audit_.tokens - audit_.exemplars);
    keep_worst();
    for (ChangedPrediction& found : audit_.worst) {
      const auto ids = first[found.part].ids->row(found.window);
      found.context = context_of(ids, found.position);
      found.target = ids[found.position + 1];
    }
    return std::move(audit_);
  }

 private:
  void look_at(std::size_t part, std::size_t w, std::size_t i) {
    ChangedPrediction found{part, w, models_.front()[part].score_from + i, {}, 0, 0, 0, 0, 0};
    const auto count = static_cast<double>(models_.size());
    std::map<std::uint32_t, std::size_t> votes;
    std::uint32_t original = UINT32_MAX;  // known where a model agrees with it
    double added_loss = 0;
    for (std::size_t m = 0; m < models_.size(); ++m) {
      const TokenTrace& token = models_[m][part].tokens(w, i);
      ++votes[token.top];
      if (token.changed == 0) original = token.top;
      found.flip_share += token.changed / count;
      found.kl += static_cast<double>(token.kl) / count;
      found.severe_share += (token.kl > severe_[m] ? 1 : 0) / count;
      added_loss += static_cast<double>(token.added_loss) / count;
    }
    const auto modal = std::ranges::max_element(votes, {}, [&](const auto& vote) {
      return std::pair(vote.second, vote.first == original);  // a tie is no change
    });
    ++audit_.tokens;
    audit_.mean_flip_share += found.flip_share;
    audit_.added_loss += added_loss;
    if (modal->first == original) {
      audit_.added_loss_without += added_loss;
      return;
    }
    ++audit_.exemplars;
    found.modal = static_cast<std::int32_t>(modal->first);
    audit_.worst.push_back(std::move(found));
    if (audit_.worst.size() > 2 * most_ + 1024) keep_worst();
  }

  void keep_worst() {
    std::ranges::sort(audit_.worst, {}, [](const ChangedPrediction& found) {
      return std::tuple(-found.flip_share, -found.kl, found.part, found.window, found.position);
    });
    audit_.worst.resize(std::min(most_, audit_.worst.size()));
  }

  std::span<const std::vector<TextScores>> models_;
  std::size_t most_;
  std::vector<float> severe_;
  PopulationAudit audit_;
};

std::string text_of(const Tokenizer& tokenizer, std::int32_t id) { return tokenizer.decode(std::span(&id, 1)); }

Json to_json(const WorstToken& token, std::span<const std::string> parts, const Tokenizer& tokenizer) {
  const TokenScore& score = token.exemplar.score;
  return {{"text", parts[token.part]},
          {"window", token.exemplar.window},
          {"position", token.exemplar.position},
          {"context", tokenizer.decode(token.exemplar.context)},
          {"token", text_of(tokenizer, token.exemplar.target)},
          {"p_base", std::exp(-score.nll_base)},
          {"p", std::exp(-score.nll)},
          {"kl", score.kl},
          {"top_base", text_of(tokenizer, score.top_base)},
          {"p_top_base", std::exp(-score.top_surprise_base)},
          {"top", text_of(tokenizer, score.top)},
          {"p_top", std::exp(-score.top_surprise)}};
}

Json to_json(const ChangedPrediction& found, std::span<const std::string> parts, const Tokenizer& tokenizer) {
  return {{"text", parts[found.part]},
          {"window", found.window},
          {"position", found.position},
          {"context", tokenizer.decode(found.context)},
          {"token", text_of(tokenizer, found.target)},
          {"modal", text_of(tokenizer, found.modal)},
          {"flip_share", found.flip_share},
          {"severe_share", found.severe_share},
          {"kl", found.kl}};
}

}  // namespace

std::optional<Audit> audit_of(Texts texts) {
  std::size_t most = 0;
  for (const TextScores& text : texts) most = std::max(most, text.worst_tokens.size());
  if (most == 0) return std::nullopt;
  return Audit{worst_tokens(texts, most), worst_windows(texts, most), lorenz_curve(texts), frequency_deciles(texts)};
}

PopulationAudit audit_population(std::span<const std::vector<TextScores>> models, std::size_t most) {
  if (models.size() < 2) fail(ErrorKind::usage, "a population has at least two compressed models");
  for (const std::vector<TextScores>& texts : models)
    for (std::size_t part = 0; part < models.front().size(); ++part) {
      const TextScores& first = models.front()[part];
      if (texts.size() != models.front().size() || texts[part].protocol != first.protocol ||
          !(*texts[part].ids == *first.ids) || texts[part].tokens.empty())
        fail(ErrorKind::usage, "models of a population are judged on the same texts, against the same reference");
    }
  return Population(models, most).run();
}

nlohmann::ordered_json to_json(const Audit& audit, std::span<const std::string> parts, const Tokenizer& tokenizer) {
  Json json{{"tokens", Json::array()}, {"windows", Json::array()}};
  for (const WorstToken& token : audit.tokens) json["tokens"].push_back(to_json(token, parts, tokenizer));
  for (const WorstWindow& window : audit.windows)
    json["windows"].push_back({{"text", parts[window.part]},
                               {"window", window.window},
                               {"kl", window.kl},
                               {"added_loss", window.added_loss}});
  for (const PercentileValue& point : audit.lorenz)
    json["lorenz"].push_back({{"share_of_tokens", point.fraction}, {"share_of_added_loss", point.value}});
  for (const FrequencyDecile& decile : audit.frequency)
    json["frequency"].push_back({{"occurrences", Json::array({decile.least, decile.most})},
                                 {"tokens", decile.tokens},
                                 {"kl", decile.kl},
                                 {"added_loss", decile.added_loss},
                                 {"share_of_added_loss", decile.share_of_added_loss}});
  return json;
}

nlohmann::ordered_json to_json(const PopulationAudit& audit, std::span<const std::string> parts,
                               const Tokenizer& tokenizer) {
  Json json{{"models", audit.models},         {"tokens", audit.tokens},
            {"exemplars", audit.exemplars},   {"mean_flip_share", audit.mean_flip_share},
            {"added_loss", audit.added_loss}, {"added_loss_without_exemplars", audit.added_loss_without},
            {"worst", Json::array()}};
  for (const ChangedPrediction& found : audit.worst) json["worst"].push_back(to_json(found, parts, tokenizer));
  return json;
}

}  // namespace adze
