// Multiple choice: which answer a model finds most likely, how often that is the right one, and how many answers
// compression has changed, which accuracy alone hides: as many may have become right as have become wrong.
//
// A file of JSON lines, one question each: `question`, a text; `choices`, two or more different texts; `answer`, the
// number of the right one from 0 on. Other fields are left alone. Question and choice are joined by one space unless
// the choice begins or the question ends with white space, and encoded together behind the tokenizer's
// beginning-of-text token, if it has one. The score of a choice is the sum of log P over the tokens after the longest
// start that this has in common with the encoded question alone; beside it stands the score divided by the bytes of the
// choice as it is written, which does not favour short ones. The highest score is the model's answer; of equal ones the
// first.
//
// Refused, with the number of the line: what is no such object, empty texts, choices that are equal or that no token is
// left for, answers out of range, and what is longer than a model's context.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/progress.h"
#include "evaluate/bootstrap.h"
#include "model/weights.h"
#include "text/tokenizer.h"

namespace adze {

struct Question {
  std::size_t line = 0;  ///< in the file, from 1 on
  std::string question;
  std::vector<std::string> choices;
  std::size_t answer = 0;
};

/// `origin` leads every message. Throws bad_data; a file without questions is one error, too.
std::vector<Question> parse_questions(std::string_view lines, const std::string& origin);
std::vector<Question> load_questions(const std::filesystem::path& file);

/// One choice of one question, as a model reads it.
struct EncodedChoice {
  std::vector<std::int32_t> ids;
  std::size_t scored_from = 0;  ///< first token of the choice; at least 1
};
struct EncodedQuestion {
  std::vector<EncodedChoice> choices;
  std::vector<std::size_t> bytes;  ///< of each choice as it is written
  std::size_t answer = 0;
};

/// Throws bad_data when something is longer than `most_tokens` or has no token to score.
std::vector<EncodedQuestion> encode_questions(std::span<const Question> questions, const Tokenizer& tokenizer,
                                              const std::string& origin, std::size_t most_tokens);

/// Sum of log P of the choice's tokens: [question][choice].
using ChoiceScores = std::vector<std::vector<double>>;

/// Runs a model over all choices, block by block, all sequences in memory at a time or as many as hold
/// `tokens_at_once` tokens (0: all), which changes no bit. Throws bad_data when logits are not finite.
ChoiceScores score_choices(const ModelWeights& model, std::span<const EncodedQuestion> questions, Progress& progress,
                           std::size_t tokens_at_once = 0);

enum class ChoiceRule : std::uint8_t { sum, per_byte };
inline constexpr std::array kChoiceRules = {ChoiceRule::sum, ChoiceRule::per_byte};
std::string_view name_of(ChoiceRule rule);  ///< "sum", "per_byte"

/// The model's answer to every question.
std::vector<std::size_t> answers(std::span<const EncodedQuestion> questions, const ChoiceScores& scores,
                                 ChoiceRule rule);

struct Accuracy {
  std::size_t right = 0;
  std::size_t questions = 0;

  double share() const { return static_cast<double>(right) / static_cast<double>(questions); }
  Interval interval_95() const { return wilson_interval(right, questions); }
};

/// How answers have changed against the reference's.
struct AnswerFlips {
  std::size_t right_to_wrong = 0;
  std::size_t wrong_to_right = 0;
  std::size_t wrong_to_other_wrong = 0;
  double p = 1;  ///< McNemar's exact test of the first two: that a changed answer is as often for the better

  std::size_t all() const { return right_to_wrong + wrong_to_right + wrong_to_other_wrong; }
};

/// Two-sided exact p of b against c discordant pairs (McNemar 1947): min(1, 2 sum_{i <= min(b, c)} C(b + c, i) / 2^(b +
/// c)).
double mcnemar_exact(std::uint64_t b, std::uint64_t c);

/// Of one model, for each rule of kChoiceRules.
struct ChoiceResult {
  struct ByRule {
    Accuracy accuracy;
    std::optional<Accuracy> reference;  ///< as the flips: where there is one
    std::optional<AnswerFlips> flips;
  };
  std::array<ByRule, kChoiceRules.size()> rules;
};

/// reference: nullptr when there is none.
ChoiceResult judge_choices(std::span<const EncodedQuestion> questions, const ChoiceScores& model,
                           const ChoiceScores* reference);

/// questions and, for each rule, accuracy, accuracy_95, right and, with a reference, accuracy_base, accuracy_base_95,
/// right_to_wrong, wrong_to_right, wrong_to_other_wrong, mcnemar_p.
nlohmann::ordered_json to_json(const ChoiceResult& result);

}  // namespace adze
