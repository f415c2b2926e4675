// The append-only ledger of a run: the only truth about what is done. A record is length, checksums and a protobuf
// message (ledger.proto); it is appended and synced after the files it speaks of are durable. A torn last record, as a
// crash leaves it, is cut off; a damaged one anywhere else is an error.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "solve/solver.h"

namespace adze {

struct LedgerFile {
  std::string path;  ///< relative to the output folder
  std::uint64_t bytes = 0;
  std::string hash;
  bool operator==(const LedgerFile&) const = default;
};

/// Size and hash of a file now. `path` is relative to `folder`.
LedgerFile describe_file(const std::filesystem::path& folder, const std::string& path);
/// True when the file is there and has the size and content that were recorded.
bool is_intact(const std::filesystem::path& folder, const LedgerFile& file);

struct TensorRecord {
  std::string module;
  std::string format;
  std::uint64_t bytes = 0;
  SolveReport report;
  double seconds = 0;
  std::string solution = {};  ///< key in a SolutionStore, where there was one; ledgers do not keep it
};

struct CommittedStep {
  std::uint32_t step = 0;
  std::vector<LedgerFile> stored;
  std::optional<LedgerFile> states;
  std::optional<LedgerFile> reference;  ///< the original model's states, where a scheme asks for them
  std::vector<TensorRecord> tensors;
};

/// What decides a run's bytes, by name: recipe, model, calibration, kernels, version.
using RunIngredients = std::map<std::string, std::string>;

class Ledger {
 public:
  /// Opens or creates. A new ledger records `ingredients`; an existing one must have the same, but for those named in
  /// `ignored`: otherwise cannot_create says what differs. Throws bad_data for damage, cannot_create and io as files
  /// do.
  Ledger(std::filesystem::path path, const RunIngredients& ingredients, const std::set<std::string>& ignored = {});
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  /// The last record of each step, by step. A step is made from those before it: a record takes back all later steps
  /// that were committed before it, in this process or another.
  const std::map<std::uint32_t, CommittedStep>& steps() const { return steps_; }
  void commit(const CommittedStep& step);

 private:
  void replay(const RunIngredients& ingredients, const std::set<std::string>& ignored);
  void append(const std::string& message);
  void accept(CommittedStep step);

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::map<std::uint32_t, CommittedStep> steps_;
};

}  // namespace adze
