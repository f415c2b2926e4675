#include "evaluate/choices.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json_lines.h"
#include "base/parallel.h"
#include "evaluate/token_score.h"
#include "evaluate/window_scores.h"
#include "model/forward.h"
#include "model/pool.h"

namespace adze {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kSpace = " \t\r\n";

bool is_blank(std::string_view text) { return text.find_first_not_of(kSpace) == std::string_view::npos; }

std::string text_of(const Json& object, const char* field, const std::string& origin) {
  if (!object.contains(field)) fail(ErrorKind::bad_data, "{}: no field '{}'", origin, field);
  const Json& value = object[field];
  if (!value.is_string() || is_blank(value.get_ref<const std::string&>()))
    fail(ErrorKind::bad_data, "{}: '{}' is no text, or an empty one", origin, field);
  return value.get<std::string>();
}

std::vector<std::string> choices_of(const Json& object, const std::string& origin) {
  if (!object.contains("choices")) fail(ErrorKind::bad_data, "{}: no field 'choices'", origin);
  const Json& list = object["choices"];
  if (!list.is_array() || list.size() < 2)
    fail(ErrorKind::bad_data, "{}: 'choices' is no list of two or more texts", origin);
  std::vector<std::string> choices;
  for (const Json& choice : list) {
    if (!choice.is_string() || is_blank(choice.get_ref<const std::string&>()))
      fail(ErrorKind::bad_data, "{}: choice {} is no text, or an empty one", origin, choices.size());
    const auto& text = choice.get_ref<const std::string&>();
    if (const auto same = std::ranges::find(choices, text); same != choices.end())
      fail(ErrorKind::bad_data, "{}: choices {} and {} are the same", origin, same - choices.begin(), choices.size());
    choices.push_back(text);
  }
  return choices;
}

std::size_t answer_of(const Json& object, std::size_t choices, const std::string& origin) {
  if (!object.contains("answer")) fail(ErrorKind::bad_data, "{}: no field 'answer'", origin);
  const Json& answer = object["answer"];
  if (!answer.is_number_unsigned() || answer.get<std::uint64_t>() >= choices)
    fail(ErrorKind::bad_data, "{}: 'answer' is {}, not the number of one of {} choices from 0 on", origin,
         answer.dump(), choices);
  return answer.get<std::size_t>();
}

Question parse_question(const JsonLine& line) {
  if (!line.value.is_object()) fail(ErrorKind::bad_data, "{}: not an object", line.origin);
  Question question{.line = line.number,
                    .question = text_of(line.value, "question", line.origin),
                    .choices = choices_of(line.value, line.origin)};
  question.answer = answer_of(line.value, question.choices.size(), line.origin);
  return question;
}

std::string joined(const std::string& question, const std::string& choice) {
  const auto is_space = [](char c) { return kSpace.find(c) != std::string_view::npos; };
  const bool apart = is_space(question.back()) || is_space(choice.front());
  return question + (apart ? "" : " ") + choice;
}

EncodedChoice encode_choice(const std::string& question, const std::string& choice, const Tokenizer& tokenizer,
                            std::span<const std::int32_t> alone) {
  EncodedChoice encoded;
  const std::vector<std::int32_t> text = tokenizer.encode(joined(question, choice), false, SpecialText::plain);
  const auto common = std::ranges::mismatch(alone, text).in2 - text.begin();
  encoded.ids = tokenizer.vocabulary().prefix_ids;
  encoded.scored_from = encoded.ids.size() + static_cast<std::size_t>(common);
  encoded.ids.insert(encoded.ids.end(), text.begin(), text.end());
  return encoded;
}

/// A choice on its way through a model: the last token is never read, only predicted.
struct Sequence {
  std::size_t question = 0, choice = 0;
};

std::span<const std::int32_t> read_ids(const EncodedChoice& choice) {
  return std::span(choice.ids).first(choice.ids.size() - 1);
}

struct Buffers {
  Workspace work;
  std::vector<float> logits;
  ScoreScratch score;
};

/// Sum of log P of the choice's tokens, in slices of rows.
double score_of(const FinishedWindows& model, std::size_t at, const EncodedChoice& choice, Buffers& buffers) {
  constexpr std::size_t kRows = 64;
  double sum = 0;
  for (std::size_t first = choice.scored_from; first < choice.ids.size(); first += kRows) {
    const std::size_t rows = std::min(kRows, choice.ids.size() - first);
    const ViewF logits = scratch(buffers.logits, {rows, model.head.shape().rows});
    model.logits(at, first - 1, logits, buffers.work);
    for (std::size_t r = 0; r < rows; ++r)
      sum -= score_token(logits.row(r), {}, choice.ids[first + r], buffers.score).nll;
  }
  return sum;
}

/// Several sequences through all blocks.
void score_sequences(const ModelWeights& model, const Forward& forward, std::span<const EncodedQuestion> questions,
                     std::span<const Sequence> sequences, ChoiceScores& scores,
                     const std::function<void()>& block_done) {
  const auto choice_of = [&](std::size_t s) -> const EncodedChoice& {
    return questions[sequences[s].question].choices[sequences[s].choice];
  };
  std::vector<MatrixF> hidden(sequences.size());
  {
    const InputTables tables = input_tables(model);
    parallel_for(sequences.size(), [&](std::size_t s) {
      const auto ids = read_ids(choice_of(s));
      hidden[s] = MatrixF(ids.size(), tables.tokens->shape().cols);
      forward.embed(tables, ids, hidden[s]);
    });
  }
  Pool<Workspace> workspaces;
  for (std::size_t block = 0; block < model.architecture().layers; ++block) {
    run_block(forward, model.block(block), hidden, workspaces);
    block_done();
  }
  const Norm norm = norm_of(model);
  const TensorPtr head = model.head();
  const FinishedWindows finished{forward, hidden, norm, *head};
  Pool<Buffers> pool;
  parallel_for(sequences.size(), [&](std::size_t s) {
    const auto buffers = pool.borrow();
    scores[sequences[s].question][sequences[s].choice] = score_of(finished, s, choice_of(s), *buffers);
  });
}

/// Runs of sequences of at most so many tokens, at least one each.
std::vector<std::span<const Sequence>> groups_of(std::span<const Sequence> sequences,
                                                 std::span<const EncodedQuestion> questions,
                                                 std::size_t tokens_at_once) {
  std::vector<std::span<const Sequence>> groups;
  std::size_t first = 0, tokens = 0;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const std::size_t length = questions[sequences[s].question].choices[sequences[s].choice].ids.size();
    if (tokens_at_once > 0 && s > first && tokens + length > tokens_at_once) {
      groups.push_back(sequences.subspan(first, s - first));
      first = s;
      tokens = 0;
    }
    tokens += length;
  }
  groups.push_back(sequences.subspan(first));
  return groups;
}

Accuracy accuracy_of(std::span<const EncodedQuestion> questions, std::span<const std::size_t> given) {
  Accuracy accuracy{0, questions.size()};
  for (std::size_t q = 0; q < questions.size(); ++q) accuracy.right += given[q] == questions[q].answer ? 1 : 0;
  return accuracy;
}

AnswerFlips flips_of(std::span<const EncodedQuestion> questions, std::span<const std::size_t> given,
                     std::span<const std::size_t> before) {
  AnswerFlips flips;
  for (std::size_t q = 0; q < questions.size(); ++q) {
    if (given[q] == before[q]) continue;
    const std::size_t right = questions[q].answer;
    ++(before[q] == right  ? flips.right_to_wrong
       : given[q] == right ? flips.wrong_to_right
                           : flips.wrong_to_other_wrong);
  }
  flips.p = mcnemar_exact(flips.right_to_wrong, flips.wrong_to_right);
  return flips;
}

}  // namespace

std::vector<Question> parse_questions(std::string_view lines, const std::string& origin) {
  std::vector<Question> questions;
  for_each_json_line(lines, origin, [&](const JsonLine& line) { questions.push_back(parse_question(line)); });
  if (questions.empty()) fail(ErrorKind::bad_data, "{}: no questions", origin);
  return questions;
}

std::vector<Question> load_questions(const std::filesystem::path& file) {
  return parse_questions(read_file(file), file.string());
}

std::vector<EncodedQuestion> encode_questions(std::span<const Question> questions, const Tokenizer& tokenizer,
                                              const std::string& origin, std::size_t most_tokens) {
  std::vector<EncodedQuestion> all;
  for (const Question& question : questions) {
    EncodedQuestion encoded;
    encoded.answer = question.answer;
    const std::vector<std::int32_t> alone = tokenizer.encode(question.question, false, SpecialText::plain);
    for (const std::string& choice : question.choices) {
      const EncodedChoice& made =
          encoded.choices.emplace_back(encode_choice(question.question, choice, tokenizer, alone));
      encoded.bytes.push_back(choice.size());
      const std::size_t number = encoded.choices.size() - 1;
      if (made.ids.size() > most_tokens)
        fail(ErrorKind::bad_data,
             "{}:{}: choice {} and its question are {} tokens, more than the {} of the model's context", origin,
             question.line, number, made.ids.size(), most_tokens);
      if (made.scored_from == made.ids.size() || made.scored_from == 0)
        fail(ErrorKind::bad_data, "{}:{}: choice {} leaves no token {}", origin, question.line, number,
             made.scored_from == 0 ? "of its question before it" : "to score");
    }
    all.push_back(std::move(encoded));
  }
  return all;
}

ChoiceScores score_choices(const ModelWeights& model, std::span<const EncodedQuestion> questions, Progress& progress,
                           std::size_t tokens_at_once) {
  ChoiceScores scores;
  std::vector<Sequence> sequences;
  std::size_t longest = 1;
  for (std::size_t q = 0; q < questions.size(); ++q) {
    scores.emplace_back(questions[q].choices.size());
    for (std::size_t c = 0; c < questions[q].choices.size(); ++c) {
      sequences.push_back({q, c});
      longest = std::max(longest, questions[q].choices[c].ids.size());
    }
  }
  const Forward forward(model.architecture(), longest);
  const auto groups = groups_of(sequences, questions, tokens_at_once);
  std::size_t done = 0;
  progress.start("answering questions", groups.size() * model.architecture().layers);
  for (const std::span<const Sequence> group : groups)
    score_sequences(model, forward, questions, group, scores, [&] { progress.update(++done); });
  return scores;
}

std::string_view name_of(ChoiceRule rule) { return rule == ChoiceRule::sum ? "sum" : "per_byte"; }

std::vector<std::size_t> answers(std::span<const EncodedQuestion> questions, const ChoiceScores& scores,
                                 ChoiceRule rule) {
  std::vector<std::size_t> given;
  for (std::size_t q = 0; q < questions.size(); ++q) {
    std::vector<double> score = scores[q];
    if (rule == ChoiceRule::per_byte)
      for (std::size_t c = 0; c < score.size(); ++c) score[c] /= static_cast<double>(questions[q].bytes[c]);
    given.push_back(static_cast<std::size_t>(std::ranges::max_element(score) - score.begin()));
  }
  return given;
}

// Terms C(n, i) / 2^n by their logarithms: 2^n leaves the range of a double at n = 1024.
double mcnemar_exact(std::uint64_t b, std::uint64_t c) {
  const auto n = static_cast<double>(b + c);
  double log_term = -n * std::log(2.0), sum = 0;
  for (std::uint64_t i = 0; i <= std::min(b, c); ++i) {
    sum += std::exp(log_term);
    log_term += std::log((n - static_cast<double>(i)) / static_cast<double>(i + 1));
  }
  return std::min(1.0, 2 * sum);
}

ChoiceResult judge_choices(std::span<const EncodedQuestion> questions, const ChoiceScores& model,
                           const ChoiceScores* reference) {
  ChoiceResult result;
  for (std::size_t r = 0; r < kChoiceRules.size(); ++r) {
    const std::vector<std::size_t> given = answers(questions, model, kChoiceRules[r]);
    result.rules[r].accuracy = accuracy_of(questions, given);
    if (reference == nullptr) continue;
    const std::vector<std::size_t> before = answers(questions, *reference, kChoiceRules[r]);
    result.rules[r].reference = accuracy_of(questions, before);
    result.rules[r].flips = flips_of(questions, given, before);
  }
  return result;
}

nlohmann::ordered_json to_json(const ChoiceResult& result) {
  using Object = nlohmann::ordered_json;
  Object json = {{"questions", result.rules[0].accuracy.questions}};
  const auto interval = [](const Accuracy& accuracy) {
    const Interval found = accuracy.interval_95();
    return Object{found.low, found.high};
  };
  for (std::size_t r = 0; r < kChoiceRules.size(); ++r) {
    const ChoiceResult::ByRule& rule = result.rules[r];
    Object object = {
        {"accuracy", rule.accuracy.share()}, {"accuracy_95", interval(rule.accuracy)}, {"right", rule.accuracy.right}};
    if (rule.reference) {
      object["accuracy_base"] = rule.reference->share();
      object["accuracy_base_95"] = interval(*rule.reference);
      object["right_to_wrong"] = rule.flips->right_to_wrong;
      object["wrong_to_right"] = rule.flips->wrong_to_right;
      object["wrong_to_other_wrong"] = rule.flips->wrong_to_other_wrong;
      object["mcnemar_p"] = rule.flips->p;
    }
    json[std::string(name_of(kChoiceRules[r]))] = std::move(object);
  }
  return json;
}

}  // namespace adze
