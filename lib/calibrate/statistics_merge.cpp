// merge_statistics(): folders of statistics add up to one.
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "base/words.h"
#include "calibrate/statistics_folder.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

/// What may differ between runs whose statistics add up.
const std::set<std::string> kOfTheRun = {"calibration", "windows", "tokens", "kernels"};

void check_same_model(const StatisticsFolder& first, const StatisticsFolder& other) {
  std::vector<std::string> names;
  for (const std::string& name : differences(first.info(), other.info()))
    if (!kOfTheRun.contains(name)) names.push_back(name);
  if (!names.empty())
    fail(ErrorKind::bad_data, "{} and {} are of different models, with other {}", first.path().string(),
         other.path().string(), join_words(names));
}

StatisticsInfo merged_info(const std::vector<StatisticsFolder>& folders) {
  StatisticsInfo info = folders.front().info();
  Hasher hasher;
  std::set<std::string> seen;
  info.windows = info.tokens = 0;
  for (const StatisticsFolder& folder : folders) {
    check_same_model(folders.front(), folder);
    if (!seen.insert(folder.info().calibration).second)
      fail(ErrorKind::bad_data, "{}: its windows are those of another folder given; they would count twice",
           folder.path().string());
    hasher.add(folder.info().calibration + "\n");
    info.windows += folder.info().windows;
    info.tokens += folder.info().tokens;
    if (folder.info().kernels != info.kernels) info.kernels = "several";
  }
  info.calibration = hasher.hex();
  return info;
}

void merge_part(const std::vector<StatisticsFolder>& folders, std::size_t part, const StatisticsOutput& output,
                const StatisticsInfo& info) {
  std::vector<StatisticsReader> readers;
  for (const StatisticsFolder& folder : folders) readers.push_back(folder.part(part));
  const std::string& weights = readers.front().weights();
  for (std::size_t f = 1; f < folders.size(); ++f)
    if (readers[f].weights() != weights)
      fail(ErrorKind::bad_data, "{} and {}: part {} was measured with different weights",
           folders.front().path().string(), folders[f].path().string(), part);
  output.check_weights(part, weights);
  if (output.is_done(part)) return;
  StatisticsWriter writer(output.folder(), info, part, weights);
  for (const std::string& input : inputs_of_part(info, part)) {
    InputStatistics sum = readers.front().read(input);
    for (std::size_t f = 1; f < readers.size(); ++f)
      with_context(folders[f].path().string(), [&] { sum.merge(readers[f].read(input)); });
    writer.add(input, sum);
  }
  writer.commit();
}

}  // namespace

void merge_statistics(std::span<const fs::path> paths, const fs::path& out, bool overwrite, Progress& progress) {
  if (paths.size() < 2)
    fail(ErrorKind::usage, "merging takes two or more folders of statistics, {} given", paths.size());
  std::vector<StatisticsFolder> folders;
  for (const fs::path& path : paths) {
    if (fs::exists(out) && fs::exists(path) && fs::equivalent(path, out))
      fail(ErrorKind::usage, "{}: cannot be merged into itself", out.string());
    folders.emplace_back(path);
  }
  const StatisticsInfo info = merged_info(folders);
  StatisticsOutput output(out, info, overwrite);
  output.begin();
  progress.start("merging", info.layers + 1);
  for (std::size_t part = 0; part <= info.layers; ++part) {
    merge_part(folders, part, output, info);
    progress.update(part + 1);
  }
}

}  // namespace adze
