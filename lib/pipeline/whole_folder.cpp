#include "pipeline/whole_folder.h"

#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/temporaries.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

/// "OUT/" names the folder OUT; "." the one we are in.
fs::path without_slash(const fs::path& out) {
  const fs::path whole = fs::absolute(out).lexically_normal();
  return whole.has_filename() ? whole : whole.parent_path();
}

bool is_taken(const fs::path& out) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(out, error);
  if (!fs::exists(status)) return false;
  return !fs::is_directory(status) || !fs::is_empty(out);
}

/// Removes a folder that a run made, finished or not. Throws cannot_create when it holds anything else.
void remove_run(const fs::path& folder) {
  WorkFolder(folder, IfExists::overwrite).finish();
  fs::remove(folder / "store");
  fs::remove(folder);
}

}  // namespace

void WholeFolder::check(const fs::path& out, bool overwrite) {
  const fs::path folder = without_slash(out);
  if (overwrite) return WorkFolder::check(folder, IfExists::overwrite);
  if (is_taken(folder))
    fail(ErrorKind::cannot_create, "{}: exists; choose another -o, or replace what a run made with --overwrite",
         out.string());
}

WholeFolder::WholeFolder(fs::path out, bool overwrite)
    : out_(without_slash(out)), temporary_(out_.string() + ".tmp"), overwrite_(overwrite) {
  check(out, overwrite);
  work_.emplace(temporary_, overwrite ? IfExists::overwrite : IfExists::restart);
  register_temporary_folder(temporary_);
}

WholeFolder::~WholeFolder() {
  if (!work_) return;
  work_.reset();
  try {
    remove_run(temporary_);
  } catch (const std::exception&) {  // it is recognised and removed the next time
  }
  forget_temporary(temporary_);
}

void WholeFolder::commit() {
  work_->finish();
  check(out_, overwrite_);  // in between
  if (is_taken(out_)) remove_run(out_);
  std::error_code error;
  fs::rename(temporary_, out_, error);
  if (error) fail(ErrorKind::io, "{}: cannot rename to {}: {}", temporary_.string(), out_.string(), error.message());
  forget_temporary(temporary_);
  work_.reset();
  sync_folder(out_.parent_path());
}

}  // namespace adze
