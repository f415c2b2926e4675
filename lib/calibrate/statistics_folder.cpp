#include "calibrate/statistics_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/words.h"
#include "checkpoint/sidecar.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

/// "block-0007.h5", "head.h5", and with the endings of a sidecar or of an unfinished file.
bool is_statistics_name(std::string name) {
  for (const std::string_view ending : {".tmp", ".xxh3"})
    if (name.ends_with(ending)) name.resize(name.size() - ending.size());
  return name == statistics_file_name(0, 0) || name == kStatesFileName ||
         (name.starts_with("block-") && name.ends_with(".h5"));
}

/// Nothing when the file is not there or damaged: then it is made again.
std::optional<StatisticsReader> open_part(const fs::path& file) {
  if (!fs::exists(file)) return std::nullopt;
  try {
    check_sidecar(file);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::bad_data) return std::nullopt;
    throw;
  }
  return StatisticsReader(file);
}

void check_only_statistics(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (!is_statistics_name(entry.path().filename().string()))
      fail(ErrorKind::cannot_create, "{}: holds other files ({}); choose another -o", folder.string(),
           entry.path().filename().string());
}

}  // namespace

StatisticsFolder::StatisticsFolder(fs::path folder, std::span<const std::size_t> blocks) : folder_(std::move(folder)) {
  if (!fs::exists(folder_)) fail(ErrorKind::missing_input, "{}: does not exist", folder_.string());
  const fs::path head = folder_ / statistics_file_name(0, 0);
  if (!fs::exists(head))
    fail(ErrorKind::bad_data, "{}: {}", folder_.string(),
         is_statistics_folder(folder_) ? "statistics are unfinished; run adze-calibrate again to finish them"
                                       : "is no folder of statistics");
  info_ = StatisticsReader(head).info();
  for (std::size_t block = 0; block < info_.layers; ++block) {
    if (!blocks.empty() && std::ranges::find(blocks, block) == blocks.end()) continue;
    if (const std::string name = statistics_file_name(block, info_.layers); !fs::exists(folder_ / name))
      fail(ErrorKind::bad_data, "{}: {} is missing; run adze-calibrate again to make it", folder_.string(), name);
  }
}

StatisticsReader StatisticsFolder::part(std::size_t part) const {
  const fs::path file = folder_ / statistics_file_name(part, info_.layers);
  StatisticsReader reader(file);
  if (const auto names = differences(reader.info(), info_); !names.empty())
    fail(ErrorKind::bad_data, "{}: is of another run than {}, with other {}", file.string(), statistics_file_name(0, 0),
         join_words(names));
  if (reader.part() != part)
    fail(ErrorKind::bad_data, "{}: holds part {} instead of {}; was it renamed?", file.string(), reader.part(), part);
  return reader;
}

InputStatistics StatisticsFolder::block_input(std::size_t block, Stage stage) const {
  if (block >= info_.layers)
    fail(ErrorKind::internal, "{}: block {} of {} is asked for", folder_.string(), block, info_.layers);
  return part(block).read(name_of(stage));
}

InputStatistics StatisticsFolder::head_input() const { return part(info_.layers).read("head"); }

std::vector<InputSummary> StatisticsFolder::summarize() const {
  std::vector<InputSummary> summaries;
  for (std::size_t p = 0; p < part_count(); ++p) {
    const StatisticsReader reader = part(p);
    for (const std::string& input : inputs_of_part(info_, p)) summaries.push_back(reader.summarize(input));
  }
  return summaries;
}

bool is_statistics_folder(const fs::path& folder) {
  if (!fs::is_directory(folder)) return false;
  if (fs::exists(folder / "model.h5") || fs::exists(folder / "config.json")) return false;
  return fs::exists(folder / statistics_file_name(0, 0)) || fs::exists(folder / statistics_file_name(0, 1));
}

StatisticsOutput::StatisticsOutput(fs::path folder, const StatisticsInfo& info, bool overwrite)
    : folder_(std::move(folder)), info_(info), overwrite_(overwrite), weights_(info.layers + 1) {
  if (!fs::exists(folder_)) return;
  if (!fs::is_directory(folder_)) fail(ErrorKind::cannot_create, "{}: exists and is no folder", folder_.string());
  check_only_statistics(folder_);
  look_at_parts();
  if (overwrite_) {
    weights_.assign(weights_.size(), "");
  } else if (missing() == 0) {
    fail(ErrorKind::cannot_create, "{}: finished statistics; choose another -o, or replace them with --overwrite",
         folder_.string());
  }
}

StatisticsOutput::~StatisticsOutput() {
  if (lock_ >= 0) ::close(lock_);
}

/// What is there must be statistics, and without `overwrite` those of this run.
void StatisticsOutput::look_at_parts() {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    if (entry.path().extension() != ".h5") continue;
    std::optional<StatisticsReader> reader;
    try {
      reader = open_part(entry.path());
    } catch (const Error& error) {
      fail(ErrorKind::cannot_create, "{}; choose another -o", error.message());
    }
    if (!reader || overwrite_) continue;
    if (const auto names = differences(reader->info(), info_); !names.empty())
      fail(ErrorKind::cannot_create,
           "{}: statistics of another run, with other {}; choose another -o, or use --overwrite", entry.path().string(),
           join_words(names));
    if (entry.path().filename() == statistics_file_name(reader->part(), info_.layers))
      weights_[reader->part()] = reader->weights();
  }
}

void StatisticsOutput::begin() {
  make_folder(folder_);
  lock_ = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock_ < 0)
    fail(ErrorKind::cannot_create, "{}: cannot open: {}", folder_.string(), std::system_category().message(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0)
    fail(ErrorKind::cannot_create, "{}: another process is writing there; wait for it, or choose another -o",
         folder_.string());
  if (!overwrite_) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) fs::remove(entry.path());
  sync_folder(folder_);
}

std::size_t StatisticsOutput::missing() const {
  return static_cast<std::size_t>(std::ranges::count(weights_, std::string()));
}

void StatisticsOutput::check_weights(std::size_t part, const std::string& weights) const {
  if (!is_done(part) || weights_[part] == weights) return;
  fail(ErrorKind::cannot_create,
       "{}: measured with other weights than this model's; choose another -o, or use --overwrite",
       (folder_ / statistics_file_name(part, info_.layers)).string());
}

void check_same_model(const StatisticsFolder& folder, const Architecture& architecture) {
  const StatisticsInfo& of = folder.info();
  if (of.family != architecture.family)
    fail(ErrorKind::bad_data, "{}: statistics of the family {} ({}), the model's is {}", folder.path().string(),
         of.family, of.model, architecture.family);
  const StatisticsInfo wanted = describe_statistics(architecture, "", {}, ExpertInputs::routed);
  const struct {
    const char* name;
    std::uint64_t theirs, ours;
  } sizes[] = {{"layers", of.layers, wanted.layers},
               {"hidden", of.hidden, wanted.hidden},
               {"ffn", of.ffn, wanted.ffn},
               {"heads", of.heads, wanted.heads},
               {"kv_heads", of.kv_heads, wanted.kv_heads},
               {"head_dim", of.head_dim, wanted.head_dim},
               {"vocab", of.vocab, wanted.vocab},
               {"experts", of.experts, wanted.experts},
               {"expert_ffn", of.expert_ffn, wanted.expert_ffn},
               {"shared_ffn", of.shared_ffn, wanted.shared_ffn}};
  for (const auto& size : sizes)
    if (size.theirs != size.ours)
      fail(ErrorKind::bad_data, "{}: statistics of another model ({}): {} is {}, the model's is {}",
           folder.path().string(), of.model, size.name, size.theirs, size.ours);
}

}  // namespace adze
