#include "pipeline/work_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

/// True when a process was killed before it could make its lock: an empty work folder and nothing else.
bool is_barely_begun(const fs::path& out) {
  for (const fs::directory_entry& entry : fs::directory_iterator(out))
    if (entry.path().filename() != "work" || !entry.is_directory() || !fs::is_empty(entry.path())) return false;
  return true;
}

bool is_made_by_run(const fs::path& out) {
  return fs::exists(out / kManifestName) || fs::exists(out / "work" / "lock") || is_barely_begun(out);
}

/// Removes the work folder of a finished run whose process was killed right at its end, unless somebody holds its lock.
void remove_leftovers(const fs::path& out) {
  const int lock = ::open((out / "work" / "lock").c_str(), O_RDWR | O_CLOEXEC);
  if (lock < 0) return;
  std::error_code ignored;
  if (::flock(lock, LOCK_EX | LOCK_NB) == 0) fs::remove_all(out / "work", ignored);
  ::close(lock);
}

[[noreturn]] void fail_finished(const fs::path& out) {
  fail(ErrorKind::cannot_create, "{}: a finished run; choose another -o, or replace it with --overwrite", out.string());
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
  if (!fs::exists(out / kManifestName) || if_exists == IfExists::overwrite) return;
  remove_leftovers(out);
  fail_finished(out);
}

/// False when the file at `path` is another than the open one: a process that finished has removed it.
bool is_still_there(int descriptor, const fs::path& path) {
  struct stat open_file {};
  struct stat named_file {};
  return ::fstat(descriptor, &open_file) == 0 && ::stat(path.c_str(), &named_file) == 0 &&
         open_file.st_dev == named_file.st_dev && open_file.st_ino == named_file.st_ino;
}

/// Everything but the lock, which this process holds.
void clear(const fs::path& out) {
  fs::remove(out / kManifestName);  // first: without it the run counts as unfinished
  for (const fs::directory_entry& entry : fs::directory_iterator(out))
    if (entry.path().filename() != "work") fs::remove_all(entry.path());
  for (const fs::directory_entry& entry : fs::directory_iterator(out / "work"))
    if (entry.path().filename() != "lock") fs::remove_all(entry.path());
}

}  // namespace

WorkFolder::WorkFolder(fs::path out, IfExists if_exists) : out_(std::move(out)) {
  check_existing(out_, if_exists);
  lock();
  try {
    if (fs::exists(out_ / kManifestName) && if_exists != IfExists::overwrite) fail_finished(out_);  // in between
    if (if_exists != IfExists::resume) clear(out_);
    make_folder(store());
  } catch (...) {
    unlock();
    throw;
  }
}

WorkFolder::~WorkFolder() { unlock(); }

void WorkFolder::unlock() {
  if (lock_ >= 0) ::close(std::exchange(lock_, -1));
}

void WorkFolder::lock() {
  const fs::path path = work() / "lock";
  for (;;) {
    make_folder(work());
    lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock_ < 0)
      fail(ErrorKind::cannot_create, "{}: cannot open: {}", path.string(), std::system_category().message(errno));
    const bool locked = ::flock(lock_, LOCK_EX | LOCK_NB) == 0;
    if (locked && is_still_there(lock_, path)) return;
    unlock();
    if (!locked)
      fail(ErrorKind::cannot_create, "{}: another run is at work there; wait for it, or choose another -o",
           out_.string());
  }
}

void WorkFolder::finish() {
  std::error_code ignored;  // leftovers do no harm: the manifest says that the run is finished
  fs::remove_all(work(), ignored);
}

}  // namespace adze
