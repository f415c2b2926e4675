// The output folder of a run and the work folder inside it: who may use them, and when they are new, unfinished or
// done.
//
//   OUT/store/        the compressed store          OUT/recipe.yaml    a copy
//   OUT/model.gguf    exports, as the recipe says   OUT/manifest.json  last: its presence says that the run is finished
//   OUT/work/         ledger, hidden states, transformed model, lock; removed at the end
//
// What no run made is never removed: a run is recognised by the content of its manifest or by its lock and ledger, and
// its files are those that the manifest and the copied recipe name. One file more, and nothing at all is removed.
#pragma once

#include <array>
#include <filesystem>
#include <memory>

namespace adze {

enum class IfExists {
  resume,     ///< go on with an unfinished run; a finished one is an error
  restart,    ///< throw an unfinished run away; a finished one is an error
  overwrite,  ///< throw away what is there, finished or not, if a run made it
};

class WorkFolder {
 public:
  /// Throws cannot_create when another process is at work there, when the run there is finished (and may not be
  /// overwritten), when no run made the folder, or when it would have to be cleared and holds a file that no run made.
  WorkFolder(std::filesystem::path out, IfExists if_exists);
  ~WorkFolder();
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

  /// Throws what the constructor would, and neither makes nor removes anything: for a dry run.
  static void check(const std::filesystem::path& out, IfExists if_exists);

  const std::filesystem::path& out() const { return out_; }
  std::filesystem::path store() const { return out_ / "store"; }
  std::filesystem::path work() const { return out_ / "work"; }
  std::filesystem::path ledger() const { return work() / "ledger"; }
  /// Removes the work folder, its lock last; the run is finished.
  void finish();

 private:
  void lock();
  void unlock();

  std::filesystem::path out_;
  int lock_ = -1;  ///< descriptor
};

inline constexpr const char* kManifestName = "manifest.json";
/// What may differ from run to run: timings, and pictures of them.
inline constexpr std::array kReportNames{"report.json", "report.html", "report.md"};

}  // namespace adze
