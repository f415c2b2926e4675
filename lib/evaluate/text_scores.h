// What scoring a text leaves behind, from which all statistics are made: 16 bytes for each scored token (none without a
// reference, as only percentiles and the audit want tokens one by one), sums for each window, and a fixed number of
// counters and exemplars for the text. Sums are those of full precision; only traces are single.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/matrix.h"
#include "evaluate/protocol.h"
#include "evaluate/statistic.h"
#include "evaluate/token_score.h"

namespace adze {

/// What is kept of one scored token.
struct TokenTrace {
  float kl = 0;
  float dp = 0;
  float added_loss = 0;           ///< nll - nll_base
  std::uint32_t top : 31 = 0;     ///< the judged model's most likely token
  std::uint32_t changed : 1 = 0;  ///< it is not the reference's
};
inline constexpr std::size_t kMostBytesPerToken = 16;
static_assert(sizeof(TokenTrace) <= kMostBytesPerToken);

TokenTrace trace_of(const TokenScore& score);

/// Predictions whose most likely token has a probability within one fifteenth of 0 to 1.
struct ReliabilityBin {
  std::uint32_t tokens = 0;
  std::uint32_t right = 0;  ///< the most likely token was the next one
  double confidence = 0;    ///< sum of the probabilities
};
using Reliability = std::array<ReliabilityBin, 15>;

/// What is kept of one window.
struct WindowScores {
  PerStatistic<double> mean;
  PerStatistic<double> square;  ///< sum of squared deviations from the mean
  double loss_product = 0;      ///< sum of products of the deviations of nll and of nll_base
  Reliability reliability{}, reliability_base{};
};

WindowScores reduce_window(std::span<const TokenScore> scores);

/// A token whose distribution moved far, with what came before it.
struct Exemplar {
  std::size_t window = 0;
  std::size_t position = 0;           ///< of the context's last token in the window; the target follows
  std::vector<std::int32_t> context;  ///< the tokens that end there, kContextTokens at most
  std::int32_t target = 0;
  TokenScore score;
};
inline constexpr std::size_t kContextTokens = 24;

/// The tokens with the largest KL of all that were offered, whatever the order. Safe from several threads.
class WorstTokens {
 public:
  explicit WorstTokens(std::size_t most) : most_(most) {}

  /// `ids`: of the window; scores[i] is that of position first + i.
  void offer(std::size_t window, std::span<const std::int32_t> ids, std::size_t first,
             std::span<const TokenScore> scores);
  /// Falling KL, ties in the order of the text.
  std::vector<Exemplar> take() { return std::move(worst_); }

 private:
  std::size_t most_;
  std::mutex mutex_;
  std::vector<Exemplar> worst_;  // sorted
};

/// Counts of overlaps in 4096 equal bins of 0 to 1, and of those that are 1: low percentiles without a value for each
/// token.
class OverlapCounts {
 public:
  OverlapCounts() : counts_(kBins + 1) {}
  void add(const OverlapCounts& other);
  void add(std::span<const TokenScore> scores);
  /// The share of tokens below it is `fraction`, to a bin's width; 0 where nothing was counted.
  double percentile(double fraction) const;

 private:
  static constexpr std::size_t kBins = 4096;
  std::vector<std::uint64_t> counts_;
};

/// What is worked out beyond the means.
struct ScoreOptions {
  std::size_t worst_tokens = 0;  ///< for the audit; needs a reference
  bool detail = false;           ///< effective ranks
};

/// Effective ranks of the first windows' hidden states (evaluate/effective_rank.h).
struct WindowRank {
  double of_model = 0;
  double of_reference = 0;  ///< 0 without one
};

/// Everything known of one text under one model.
struct TextScores {
  std::string protocol;
  bool with_reference = false;
  std::shared_ptr<const Matrix<std::int32_t>> ids;  ///< the text: [windows x tokens], shared by all models
  std::size_t score_from = 0;                       ///< as Protocol's
  Matrix<TokenTrace> tokens;                        ///< [windows x scored]; empty without a reference
  std::vector<WindowScores> windows;
  OverlapCounts overlaps;
  std::vector<Exemplar> worst_tokens;  ///< as many as were asked for
  std::vector<WindowRank> ranks;       ///< where details were asked for
};

}  // namespace adze
