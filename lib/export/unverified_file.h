// A name that an export has until it is read back and compared; then it gets its own. What is left under the first name
// at the end is removed. Its bytes go to disk while they are read back.
#pragma once

#include <filesystem>
#include <system_error>

#include "base/background.h"
#include "base/file.h"
#include "base/temporaries.h"

namespace adze {

class UnverifiedFile {
 public:
  explicit UnverifiedFile(const std::filesystem::path& final_path)
      : final_(final_path), path_(final_path.string() + ".unverified") {
    register_temporary(path_);
  }
  ~UnverifiedFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
    forget_temporary(path_);
  }
  UnverifiedFile(const UnverifiedFile&) = delete;
  UnverifiedFile& operator=(const UnverifiedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// When it is written, to the end.
  void begin_sync() {
    sync_.run([this] { sync_file(path_); });
  }
  void publish() {
    sync_.wait();
    publish_file(path_, final_);
  }

 private:
  std::filesystem::path final_;
  std::filesystem::path path_;
  Background sync_;
};

}  // namespace adze
