// A name that an export has until it is read back and compared; then it gets its own. What is left under the first name
// at the end is removed.
#pragma once

#include <filesystem>
#include <system_error>

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
  void publish() { publish_file(path_, final_); }

 private:
  std::filesystem::path final_;
  std::filesystem::path path_;
};

}  // namespace adze
