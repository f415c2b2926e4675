#include "pipeline/work_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/error.h"
#include "base/file.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

bool is_made_by_run(const fs::path& out) {
  return fs::exists(out / kManifestName) || fs::exists(out / "work" / "lock");
}

void check_existing(const fs::path& out, IfExists if_exists) {
  if (!fs::exists(out)) return;
  if (!fs::is_directory(out)) fail(ErrorKind::cannot_create, "{}: exists and is no folder", out.string());
  if (fs::is_empty(out)) return;
  if (!is_made_by_run(out))
    fail(ErrorKind::cannot_create, "{}: exists and holds other files; choose another -o", out.string());
  if (fs::exists(out / kManifestName) && if_exists != IfExists::overwrite)
    fail(ErrorKind::cannot_create, "{}: a finished run; choose another -o, or replace it with --overwrite",
         out.string());
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
  make_folder(work());
  lock();
  if (if_exists != IfExists::resume) clear(out_);
  make_folder(store());
}

WorkFolder::~WorkFolder() {
  if (lock_ >= 0) ::close(lock_);
}

void WorkFolder::lock() {
  const fs::path path = work() / "lock";
  lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0)
    fail(ErrorKind::cannot_create, "{}: cannot open: {}", path.string(), std::system_category().message(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) == 0) return;
  ::close(lock_);
  lock_ = -1;
  fail(ErrorKind::cannot_create, "{}: another run is at work there; wait for it, or choose another -o", out_.string());
}

void WorkFolder::finish() {
  std::error_code ignored;  // leftovers do no harm: the manifest says that the run is finished
  fs::remove_all(work(), ignored);
}

}  // namespace adze
