// An output folder that appears whole or not at all: it is filled beside its name, as `OUT.tmp`, and renamed when it is
// finished. What fails, or is stopped by a signal, leaves nothing; what was killed leaves OUT.tmp, which the next run
// to the same OUT removes. An OUT that is there stays as it is until the new one is complete.
//
// Nothing is removed but what a run made (pipeline/work_folder.h).
#pragma once

#include <filesystem>
#include <optional>

#include "pipeline/work_folder.h"

namespace adze {

class WholeFolder {
 public:
  /// Throws cannot_create: OUT exists and is no empty folder (with `overwrite`: no folder that a run made and has left
  /// for good), another process is filling it, or it cannot be made.
  WholeFolder(std::filesystem::path out, bool overwrite);
  /// Removes what was not committed.
  ~WholeFolder();
  WholeFolder(const WholeFolder&) = delete;
  WholeFolder& operator=(const WholeFolder&) = delete;

  /// Throws what the constructor would, and makes nothing: for a dry run.
  static void check(const std::filesystem::path& out, bool overwrite);

  /// Where to write; store/ is there already.
  const std::filesystem::path& path() const { return temporary_; }
  /// The folder gets its name. With `overwrite`, the one that had it is removed just before.
  void commit();

 private:
  std::filesystem::path out_;
  std::filesystem::path temporary_;
  bool overwrite_;
  std::optional<WorkFolder> work_;  ///< holds the lock of the temporary folder
};

}  // namespace adze
