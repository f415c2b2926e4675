#include "compare/outcome_stage.h"

#include <algorithm>
#include <deque>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/random.h"
#include "compare/mixture.h"
#include "compare/quiet_progress.h"
#include "linalg/convert.h"
#include "pipeline/compress.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kResamples = 2000;
constexpr std::string_view kMixture = "mixture";

nlohmann::ordered_json to_json(const Outcome& outcome) {
  return {{"kl", outcome.kl},
          {"perplexity", outcome.perplexity},
          {"perplexity_base", outcome.perplexity_base},
          {"same_top", outcome.same_top},
          {"window_kl", outcome.window_kl}};
}

Outcome outcome_of(const nlohmann::json& json) {
  return {json.at("kl").get<double>(), json.at("perplexity").get<double>(), json.at("perplexity_base").get<double>(),
          json.at("same_top").get<double>(), json.at("window_kl").get<std::vector<double>>()};
}

Outcome outcome_of(const EvaluationResult& result) {
  return {result.reference->kl_mean, result.perplexity, result.reference->perplexity_base, result.reference->same_top,
          result.reference->window_kl};
}

/// Compresses with given windows and judges, or finds what was judged before.
class Judging {
 public:
  Judging(const OutcomeRequest& request, std::span<const JudgingText> texts, Progress& progress)
      : request_(request), texts_(texts), progress_(progress), recipe_(*request.recipe) {
    recipe_.exports.clear();
    recipe_.evaluate.reset();
    make_folder(outcomes());
    const auto& prefix = request.model->require_tokenizer().vocabulary().prefix_ids;
    if (!prefix.empty()) bos_ = prefix.front();
    ingredients_ = fmt::format("{}\n{}\n{}\n{}\n{}\n", recipe_.text_hash, model_identity(*request.model),
                               request.protocol.name, ADZE_VERSION, kernel_name());
    for (const JudgingText& text : texts) ingredients_ += hash_hex(std::as_bytes(std::span(text.ids))) + "\n";
  }

  std::vector<Outcome> outcomes_of(const TokenWindows& windows) {
    const fs::path file = outcomes() / (hash_hex(ingredients_ + windows.hash()) + ".json");
    if (const auto known = read(file)) return *known;
    std::vector<Outcome> outcomes = judge(windows);
    nlohmann::ordered_json json;
    for (const Outcome& outcome : outcomes) json.push_back(to_json(outcome));
    write_file(file, json.dump(1) + "\n");
    return outcomes;
  }

 private:
  fs::path outcomes() const { return request_.folder / "outcomes"; }

  std::optional<std::vector<Outcome>> read(const fs::path& file) const {
    if (!fs::exists(file)) return std::nullopt;
    try {
      std::vector<Outcome> outcomes;
      for (const auto& json : parse_json(read_file(file), file.string())) outcomes.push_back(outcome_of(json));
      if (outcomes.size() == texts_.size()) return outcomes;
    } catch (const std::exception& error) {
      progress_.warn(fmt::format("{}: cannot be read and is made again ({})", file.string(), error.what()));
    }
    return std::nullopt;
  }

  /// The original has run through every text once, when it is first needed.
  std::deque<ReferenceJudge>& judges() {
    if (judges_.empty())
      for (const JudgingText& text : texts_)
        judges_.emplace_back(*request_.model->weights, text.ids, bos_, request_.protocol);
    return judges_;
  }

  std::vector<Outcome> judge(const TokenWindows& windows) {
    const fs::path out = request_.folder / "work";
    QuietProgress quiet(progress_);
    const PreparedRun run = prepare_run(recipe_, *request_.model, windows);
    compress(run, {out, IfExists::overwrite, false}, quiet);
    std::vector<Outcome> result;
    {
      const OpenedModel compressed = open_model(out);
      for (ReferenceJudge& judge : judges()) result.push_back(outcome_of(judge.judge(*compressed.weights, Inference::point)));
    }
    fs::remove_all(out);
    return result;
  }

  const OutcomeRequest& request_;
  std::span<const JudgingText> texts_;
  Progress& progress_;
  Recipe recipe_;
  std::optional<std::int32_t> bos_;
  std::string ingredients_;
  std::deque<ReferenceJudge> judges_;  ///< which do not move
};

/// One model to compress.
struct Job {
  SourceOutcomes* source;
  TokenWindows windows;
};

std::vector<TokenWindows> windows_of(const OutcomeRequest& request, std::span<const ComparedSet> sets,
                                     std::size_t source, std::size_t windows) {
  std::vector<TokenWindows> result;
  for (std::size_t r = 0; r < sets.front().draws.size(); ++r)
    result.push_back(source < sets.size() ? sets[source].draws[r].first(windows)
                                          : mixture_windows(sets, request.mixture, r, windows));
  return result;
}

double mean_kl(const std::vector<Outcome>& texts) {
  double sum = 0;
  for (const Outcome& text : texts) sum += text.kl;
  return sum / static_cast<double>(texts.size());
}

double worst_kl(const std::vector<Outcome>& texts) { return std::ranges::max_element(texts, {}, &Outcome::kl)->kl; }

}  // namespace

Mismatch OutcomeStage::kl() const {
  Mismatch result;
  result.judges = texts;
  for (const SourceOutcomes& source : sources) result.sources.push_back(source.name);
  for (std::size_t r = 0; r < sources.front().draws.size(); ++r) {
    MatrixD draw(sources.size(), texts.size());
    for (std::size_t s = 0; s < sources.size(); ++s)
      for (std::size_t t = 0; t < texts.size(); ++t) draw(s, t) = sources[s].draws[r][t].kl;
    result.draws.push_back(std::move(draw));
  }
  return result;
}

std::vector<SizePoint> OutcomeStage::size_curve() const {
  std::vector<SizePoint> curve;
  for (const SourceOutcomes& size : sizes) {
    std::vector<double> means, worsts;
    for (const auto& draw : size.draws) {
      means.push_back(mean_kl(draw));
      worsts.push_back(worst_kl(draw));
    }
    curve.push_back({size.windows, spread_of(means), spread_of(worsts)});
  }
  return curve;
}

Interval OutcomeStage::difference(std::size_t a, std::size_t b, std::optional<std::size_t> text) const {
  RandomStream random(1, "compare/outcomes");
  const std::size_t draws = sources[a].draws.size();
  const std::size_t first = text.value_or(0), last = text ? *text + 1 : texts.size();
  std::vector<double> differences(kResamples);
  for (double& difference : differences) {
    std::vector<std::size_t> drawn(draws);
    for (std::size_t& r : drawn) r = random.below(draws);
    for (std::size_t t = first; t < last; ++t) {
      const std::size_t windows = sources[a].draws.front()[t].window_kl.size();
      double sum = 0;
      for (std::size_t i = 0; i < windows; ++i) {
        const std::size_t w = random.below(windows);
        for (const std::size_t r : drawn)
          sum += sources[a].draws[r][t].window_kl[w] - sources[b].draws[r][t].window_kl[w];
      }
      difference += sum / static_cast<double>(windows * draws * (last - first));
    }
  }
  std::ranges::sort(differences);
  return {percentile(differences, 0.025), percentile(differences, 0.975)};
}

OutcomeStage compare_outcomes(const OutcomeRequest& request, std::span<const ComparedSet> sets,
                              std::span<const JudgingText> texts, Progress& progress) {
  OutcomeStage stage;
  for (const JudgingText& text : texts) stage.texts.push_back(text.name);
  const std::size_t windows = sets.front().draws.front().count();
  for (const ComparedSet& set : sets) stage.sources.push_back({set.name, windows, {}});
  if (!request.mixture.empty()) stage.sources.push_back({std::string(kMixture), windows, {}});
  const std::size_t swept = stage.sources.size() - 1;  // the mixture; without one the last set
  for (const std::size_t size : request.sizes) stage.sizes.push_back({stage.sources[swept].name, size, {}});
  std::vector<Job> jobs;
  for (std::size_t s = 0; s < stage.sources.size(); ++s)
    for (TokenWindows& draw : windows_of(request, sets, s, windows))
      jobs.push_back({&stage.sources[s], std::move(draw)});
  for (SourceOutcomes& size : stage.sizes)
    for (TokenWindows& draw : windows_of(request, sets, swept, size.windows)) jobs.push_back({&size, std::move(draw)});
  Judging judging(request, texts, progress);
  progress.start("compressing and judging", jobs.size());
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    jobs[j].source->draws.push_back(judging.outcomes_of(jobs[j].windows));
    progress.update(j + 1);
  }
  if (!stage.sizes.empty()) {
    stage.sizes.push_back(stage.sources[swept]);
    std::ranges::sort(stage.sizes, {}, &SourceOutcomes::windows);
  }
  return stage;
}

}  // namespace adze
