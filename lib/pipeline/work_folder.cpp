#include "pipeline/work_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "export/folder/new_folder.h"
#include "recipe/recipe.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRecipeName = "recipe.yaml";

/// The manifest, if it is there and ours: other programs call files manifest.json too.
std::optional<nlohmann::json> read_manifest(const fs::path& out) {
  try {
    const fs::path path = out / kManifestName;
    nlohmann::json json = parse_json(read_file(path), path.string());
    if (json.is_object() && json.contains("adze") && json.contains("version")) return json;
  } catch (const Error&) {  // not there, or no JSON: not ours
  }
  return std::nullopt;
}

bool is_finished(const fs::path& out) { return read_manifest(out).has_value(); }

bool is_states_or_lock(const fs::path& name) { return name == "lock" || name.string().starts_with("states-"); }

/// True for work/ as a run makes it: a lock, and a ledger or nothing that is not of the first seconds; or empty, when a
/// process was killed before it could make its lock, or after it had removed it.
bool is_work_folder(const fs::path& work) {
  std::error_code error;
  if (fs::is_empty(work, error)) return fs::is_directory(work, error);
  if (!fs::is_regular_file(work / "lock", error)) return false;
  if (fs::is_regular_file(work / "ledger", error)) return true;
  const fs::directory_iterator entries(work, error);
  return !error && std::all_of(begin(entries), end(entries), [](const fs::directory_entry& entry) {
    return is_states_or_lock(entry.path().filename());
  });
}

/// An empty work folder and nothing else.
bool is_barely_begun(const fs::path& out) {
  for (const fs::directory_entry& entry : fs::directory_iterator(out))
    if (entry.path().filename() != "work" || !entry.is_directory() || !fs::is_empty(entry.path())) return false;
  return true;
}

bool is_made_by_run(const fs::path& out) {
  const fs::path work = out / "work";
  return is_finished(out) || (fs::exists(work / "lock") && is_work_folder(work)) || is_barely_begun(out);
}

constexpr const char* kInFolder = "/config.json";                              ///< says that an export is a folder
constexpr std::string_view kFileFormats[] = {"gguf", "pack", "pack-entropy"};  ///< the others are folders
constexpr std::string_view kPartPattern = "-#####-of-#####.gguf";

/// Stands for all files that a split export may have: "model-#####-of-#####.gguf" of "model.gguf". No file of a run has
/// such a name itself.
std::string pattern_of_parts(std::string name) {
  return name.substr(0, name.size() - std::string_view(".gguf").size()).append(kPartPattern);
}

/// The same of "model-00002-of-00003.gguf"; empty for a name that is no part's.
std::string pattern_of_part(std::string name) {
  if (name.size() <= kPartPattern.size()) return "";
  char* const end = name.data() + (name.size() - kPartPattern.size());
  for (std::size_t i = 0; i < kPartPattern.size(); ++i) {
    const bool digit = end[i] >= '0' && end[i] <= '9';
    if (kPartPattern[i] == '#' && digit) end[i] = '#';
  }
  return name.ends_with(kPartPattern) ? name : "";
}

/// Files of a run outside store/ and work/, relative to `out`, there or not: an export is known by the copied recipe
/// before it is finished, and by the manifest when the recipe is damaged.
std::set<std::string> files_of_run(const fs::path& out) {
  std::set<std::string> files{kRecipeName};
  files.insert(kReportNames.begin(), kReportNames.end());
  if (const auto manifest = read_manifest(out)) {
    files.insert(kManifestName);
    if (manifest->contains("files"))
      for (const nlohmann::json& file : manifest->at("files"))
        if (file.is_object() && file.contains("path") && file["path"].is_string()) files.insert(file["path"]);
  }
  try {
    for (const ExportSpec& made : load_recipe(out / kRecipeName).exports) {
      files.insert(made.file.lexically_normal().generic_string());
      if (std::ranges::find(kFileFormats, made.format) ==
          std::end(kFileFormats)) {  // a folder, and the one that becomes it
        for (const char* const ending : {kInFolder, ".tmp/config.json"})
          files.insert(made.file.lexically_normal().generic_string() + ending);
        continue;
      }
      if (made.format == "gguf" && made.split_max_bytes > 0)
        files.insert(pattern_of_parts(made.file.lexically_normal().generic_string()));
    }
  } catch (const Error&) {  // none was copied yet, or it is damaged: what it names is then foreign
  }
  return files;
}

/// "model.gguf" of "model.gguf.unverified.tmp", as a killed process leaves it.
std::string without_temporary_endings(std::string name) {
  for (const std::string_view ending : {".tmp", ".unverified"})
    if (name.ends_with(ending)) name.resize(name.size() - ending.size());
  return name;
}

bool is_parent_of_one(const std::string& folder, const std::set<std::string>& files) {
  const auto next = files.lower_bound(folder + "/");
  return next != files.end() && next->starts_with(folder + "/");
}

/// True for what a run makes at this place; `name` is relative to the output folder.
bool is_of_run(const fs::directory_entry& entry, const std::string& name, const std::set<std::string>& files) {
  const bool is_folder = entry.is_directory() && !entry.is_symlink();
  if (name == "work") return is_work_folder(entry.path());
  if (name == "store") return is_folder;
  if (name.starts_with("store/"))
    return !is_folder && (name.starts_with("store/block-") || name.starts_with("store/model.h5"));
  if (is_folder) return is_parent_of_one(name, files);
  if (const std::size_t slash = name.rfind('/');
      slash != std::string::npos && files.contains(name.substr(0, slash) + kInFolder))
    return is_model_file(name.substr(slash + 1));
  const std::string whole = without_temporary_endings(name);
  return files.contains(whole) || files.contains(pattern_of_part(whole));
}

[[noreturn]] void fail_finished(const fs::path& out) {
  fail(ErrorKind::cannot_create, "{}: a finished run; choose another -o, or replace it with --overwrite", out.string());
}
[[noreturn]] void fail_busy(const fs::path& out) {
  fail(ErrorKind::cannot_create, "{}: another run is at work there; wait for it, or choose another -o", out.string());
}
[[noreturn]] void fail_foreign(const fs::path& out, std::string_view name) {
  fail(ErrorKind::cannot_create, "{}: holds '{}', which no run made; move it away, or choose another -o", out.string(),
       name);
}

/// Everything below `out` by name relative to it, but for what is in work/. Throws when there is something that no run
/// made. Only what is met on this walk is ever removed: a manifest may name any path.
std::set<std::string> entries_of_run(const fs::path& out) {
  const std::set<std::string> files = files_of_run(out);
  std::set<std::string> entries;
  std::set<std::string> foreign;
  for (auto entry = fs::recursive_directory_iterator(out); entry != fs::recursive_directory_iterator(); ++entry) {
    const std::string name = entry->path().lexically_relative(out).generic_string();
    if (name == "work") entry.disable_recursion_pending();  // judged as a whole
    (is_of_run(*entry, name, files) ? entries : foreign).insert(name);
  }
  if (!foreign.empty()) fail_foreign(out, *foreign.begin());
  return entries;
}

/// True when a process holds the lock now.
bool is_busy(const fs::path& out) {
  const int lock = ::open((out / "work" / "lock").c_str(), O_RDWR | O_CLOEXEC);
  if (lock < 0) return false;
  const bool busy = ::flock(lock, LOCK_EX | LOCK_NB) != 0;
  ::close(lock);
  return busy;
}

void check_existing(const fs::path& out, IfExists if_exists) {
  std::error_code error;
  const fs::file_status status = fs::status(out, error);
  if (status.type() == fs::file_type::not_found) return;
  if (error) fail(ErrorKind::cannot_create, "{}: cannot create: {}", out.string(), error.message());
  if (!fs::is_directory(status)) fail(ErrorKind::cannot_create, "{}: exists and is no folder", out.string());
  if (fs::is_empty(out)) return;
  if (!is_made_by_run(out))
    fail(ErrorKind::cannot_create, "{}: exists and holds other files; choose another -o", out.string());
  if (if_exists != IfExists::overwrite && is_finished(out)) fail_finished(out);
  if (is_busy(out)) fail_busy(out);
  if (if_exists != IfExists::resume) entries_of_run(out);
  if (fs::exists(out / kManifestName) && !is_finished(out)) fail_foreign(out, kManifestName);  // it would be replaced
}

/// A file or an empty folder; all is well when it is not there.
void remove_one(const fs::path& path) {
  std::error_code error;
  fs::remove(path, error);
  if (error) fail(ErrorKind::io, "{}: cannot remove: {}", path.string(), error.message());
}

/// Empties work/ but for the lock. The ledger goes last: it says that the rest is ours.
void clear_work(const fs::path& work) {
  for (const fs::directory_entry& entry : fs::directory_iterator(work))
    if (entry.path().filename() != "lock" && entry.path().filename() != "ledger") remove_one(entry.path());
  remove_one(work / "ledger");
}

/// Removes work/, whose lock the caller holds. The lock goes last: a process killed in between leaves a folder that the
/// next one recognises.
void remove_work(const fs::path& work) {
  clear_work(work);
  fs::remove(work / "lock");
  fs::remove(work);
}

/// Removes the work folder of a finished run whose process was killed right at its end, unless somebody holds its lock.
void remove_leftovers(const fs::path& out) {
  const fs::path work = out / "work";
  std::error_code ignored;
  if (fs::is_directory(work, ignored) && fs::is_empty(work, ignored)) fs::remove(work, ignored);
  const int lock = ::open((work / "lock").c_str(), O_RDWR | O_CLOEXEC);
  if (lock < 0) return;
  try {
    if (::flock(lock, LOCK_EX | LOCK_NB) == 0 && is_work_folder(work)) remove_work(work);
  } catch (const std::exception&) {  // they do no harm: the manifest says that the run is finished
  }
  ::close(lock);
}

/// False when the file at `path` is another than the open one: a process that finished has removed it.
bool is_still_there(int descriptor, const fs::path& path) {
  struct stat open_file {};
  struct stat named_file {};
  return ::fstat(descriptor, &open_file) == 0 && ::stat(path.c_str(), &named_file) == 0 &&
         open_file.st_dev == named_file.st_dev && open_file.st_ino == named_file.st_ino;
}

/// Removes a run but for the lock, which this process holds. Killed in between, what is left is still a run's: the
/// recipe, which names the exports, goes after them.
void clear(const fs::path& out) {
  std::set<std::string> entries = entries_of_run(out);
  entries.erase("work");
  const bool had_recipe = entries.erase(kRecipeName) > 0;
  remove_one(out / kManifestName);  // first: without it the run counts as unfinished
  for (auto name = entries.rbegin(); name != entries.rend(); ++name) remove_one(out / *name);  // "a/b" before "a"
  clear_work(out / "work");
  if (had_recipe) remove_one(out / kRecipeName);
}

}  // namespace

WorkFolder::WorkFolder(fs::path out, IfExists if_exists) : out_(std::move(out)) {
  if (if_exists != IfExists::overwrite && is_finished(out_)) remove_leftovers(out_);
  check_existing(out_, if_exists);
  lock();
  try {
    if (if_exists != IfExists::overwrite && is_finished(out_)) fail_finished(out_);  // in between
    if (if_exists != IfExists::resume) clear(out_);
    make_folder(store());
  } catch (...) {
    unlock();
    throw;
  }
}

void WorkFolder::check(const fs::path& out, IfExists if_exists) { check_existing(out, if_exists); }

WorkFolder::~WorkFolder() { unlock(); }

void WorkFolder::unlock() {
  if (lock_ >= 0) ::close(std::exchange(lock_, -1));
}

void WorkFolder::lock() {
  const fs::path path = work() / "lock";
  for (;;) {
    make_folder(work());
    lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock_ < 0 && errno == ENOENT) continue;  // a process that finished has just removed the folder
    if (lock_ < 0)
      fail(ErrorKind::cannot_create, "{}: cannot open: {}", path.string(), std::system_category().message(errno));
    const bool locked = ::flock(lock_, LOCK_EX | LOCK_NB) == 0;
    if (locked && is_still_there(lock_, path)) return;
    unlock();
    if (!locked) fail_busy(out_);
  }
}

void WorkFolder::finish() {
  try {
    remove_work(work());
  } catch (const std::exception&) {  // leftovers do no harm: the manifest says that the run is finished
  }
}

}  // namespace adze
