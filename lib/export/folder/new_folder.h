// A folder of a model that appears whole or not at all: filled beside its name, as PATH.tmp, and renamed. One that is
// there is replaced if it holds a model and nothing else. What was killed leaves PATH.tmp, which the next one removes.
// Its files go to disk while they are read back: write them with Durable::later.
#pragma once

#include <filesystem>
#include <string_view>

#include "base/background.h"

namespace adze {

inline constexpr const char* kModelConfigName = "config.json";  ///< says that a folder is a model; written last

/// True for a name that exporters of folders give a file, or one that they are writing ("config.json.tmp").
bool is_model_file(std::string_view name);

class NewFolder {
 public:
  /// Throws cannot_create where PATH or PATH.tmp is a file or holds anything else.
  explicit NewFolder(const std::filesystem::path& path);
  /// Removes what was not published.
  ~NewFolder();
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  /// Where to write.
  const std::filesystem::path& path() const { return path_; }
  /// When every file is written to its end; publish() waits for it.
  void begin_sync();
  void publish();

 private:
  std::filesystem::path final_, path_;
  bool published_ = false;
  bool begun_ = false;
  Background sync_;
};

}  // namespace adze
