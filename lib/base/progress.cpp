#include "base/progress.h"

namespace adze {

Progress& silent_progress() {
  static Progress silent;
  return silent;
}

}  // namespace adze
