// The progress of one step of a study, whose bar is the study's: remarks pass, bars do not.
#pragma once

#include <string>

#include "base/progress.h"

namespace adze {

class QuietProgress final : public Progress {
 public:
  explicit QuietProgress(Progress& outer) : outer_(outer) {}
  void warn(const std::string& message) override { outer_.warn(message); }
  void note(const std::string& message) override { outer_.note(message); }

 private:
  Progress& outer_;
};

}  // namespace adze
