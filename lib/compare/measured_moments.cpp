#include "compare/measured_moments.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "calibrate/calibrate.h"
#include "compare/quiet_progress.h"
#include "pipeline/apply_scheme.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kTextWindow = 512;

double trace_of(const MatrixD& h) {
  double trace = 0;
  for (std::size_t j = 0; j < h.rows(); ++j) trace += h(j, j);
  return trace;
}

/// Up to `count` of the blocks, evenly spaced with the first and the last.
std::vector<std::size_t> spaced_blocks(std::size_t layers, std::size_t count) {
  count = std::min(std::max<std::size_t>(count, 1), layers);
  std::vector<std::size_t> blocks;
  for (std::size_t i = 0; i < count; ++i)
    blocks.push_back(count == 1 ? 0 : (i * (layers - 1) + (count - 1) / 2) / (count - 1));
  return blocks;
}

}  // namespace

std::string InputPlace::name() const { return input == "head" ? input : fmt::format("{}.{}", part, input); }

MeasuredMoments::MeasuredMoments(const OpenedModel& model, std::span<const ComparedSet> sets,
                                 std::span<const JudgingText> texts, std::size_t blocks, fs::path folder)
    : model_(model),
      sets_(sets),
      texts_(texts),
      folder_(std::move(folder)),
      layers_(model.architecture().layers),
      blocks_(spaced_blocks(layers_, blocks)),
      tokens_(std::min<std::size_t>(kTextWindow, model.architecture().max_positions)) {
  for (const ComparedSet& set : sets_) {
    if (set.is_saved()) {
      check_same_model(StatisticsFolder(set.path, blocks_), model.architecture());
    } else {
      draws_ = set.draws.size();
      check_window_length(model.architecture(), set.draws.front().tokens);
      tokens_ = set.draws.front().tokens;
    }
  }
  if (std::ranges::any_of(sets_, &ComparedSet::is_saved)) draws_ = 1;
}

fs::path MeasuredMoments::folder_of(std::size_t set, std::size_t draw) const {
  return sets_[set].is_saved() ? sets_[set].path : folder_ / sets_[set].name / fmt::format("draw-{}", draw);
}

fs::path MeasuredMoments::text_folder(std::size_t text) const { return folder_ / "text" / texts_[text].name; }

/// All parts that are looked at are there, of just that run.
bool MeasuredMoments::is_finished(const fs::path& folder, const StatisticsInfo& info) const {
  const auto is_there = [&](std::size_t part) { return fs::exists(folder / statistics_file_name(part, layers_)); };
  return is_there(layers_) && std::ranges::all_of(blocks_, is_there) &&
         StatisticsFolder(folder, blocks_).info() == info;
}

void MeasuredMoments::measure(Progress& progress) {
  struct Job {
    fs::path out;
    TokenWindows windows;
  };
  std::vector<Job> jobs;
  for (std::size_t s = 0; s < sets_.size(); ++s)
    for (std::size_t r = 0; r < draws_ && !sets_[s].is_saved(); ++r)
      jobs.push_back({folder_of(s, r), sets_[s].draws[r]});
  const auto& prefix = model_.require_tokenizer().vocabulary().prefix_ids;
  for (std::size_t t = 0; t < texts_.size(); ++t) {
    const std::size_t windows = texts_[t].ids.size() / (tokens_ - prefix.size());
    jobs.push_back(
        {text_folder(t), cut_windows(texts_[t].ids, prefix, {windows, tokens_, 0}, texts_[t].path.string())});
  }
  progress.start("measuring inputs", jobs.size());
  QuietProgress quiet(progress);
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    make_folder(jobs[j].out.parent_path());
    CalibrateOptions how;
    how.out = jobs[j].out;
    how.blocks = blocks_;
    const StatisticsInfo info = describe_statistics(model_.architecture(), model_.name, jobs[j].windows, how.experts);
    if (!is_finished(how.out, info)) calibrate(*model_.weights, model_.name, jobs[j].windows, how, quiet);
    progress.update(j + 1);
  }
}

std::vector<InputPlace> MeasuredMoments::inputs() const {
  std::vector<InputPlace> places;
  const StatisticsInfo sizes = describe_statistics(model_.architecture(), model_.name, {}, ExpertInputs::routed);
  for (const std::size_t block : blocks_)
    for (const std::string& input : inputs_of_part(sizes, block)) places.push_back({block, input});
  places.push_back({layers_, "head"});
  return places;
}

InputStatistics MeasuredMoments::read(const fs::path& folder, const InputPlace& place) const {
  return StatisticsFolder(folder, blocks_).part(place.part).read(place.input);
}

InputStatistics MeasuredMoments::draw(const InputPlace& place, std::size_t set, std::size_t draw) const {
  return read(folder_of(set, draw), place);
}

InputStatistics MeasuredMoments::held_out(const InputPlace& place, std::size_t set, std::size_t left_out) const {
  if (draws_ == 1) return draw(place, set, 0);
  std::optional<InputStatistics> sum;
  for (std::size_t r = 0; r < draws_; ++r) {
    if (r == left_out) continue;
    InputStatistics other = draw(place, set, r);
    if (sum)
      sum->merge(other);
    else
      sum = std::move(other);
  }
  return std::move(*sum);
}

InputStatistics MeasuredMoments::text(const InputPlace& place, std::size_t text) const {
  return read(text_folder(text), place);
}

InputStatistics MeasuredMoments::mixture(const InputPlace& place, std::span<const double> weights,
                                         std::size_t draw_index) const {
  InputStatistics mixed = draw(place, 0, draw_index);
  const double trace = trace_of(mixed.second_moment);
  for (double& value : mixed.second_moment.values()) value *= weights[0];
  for (std::size_t s = 1; s < sets_.size(); ++s) {
    const InputStatistics other = draw(place, s, draw_index);
    const double scale = weights[s] * trace / trace_of(other.second_moment);
    for (std::size_t i = 0; i < mixed.second_moment.values().size(); ++i)
      mixed.second_moment.values()[i] += scale * other.second_moment.values()[i];
  }
  return mixed;
}

}  // namespace adze
