// Bytes of an export's file while its modules change formats: those of the whole file, exact, and what each option of
// each module adds, for the knapsack. Internal to pipeline/allocation.
//
// A whole file is predicted a few times, however many modules there are; prices are sums of what matrices add
// (Exporter::own_bytes). What files share is in no price: padding of heads, lists of matrices in configurations, more
// parts of a split file. So a choice is checked as a whole, and what it takes beyond its prices goes off the budget.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "export/exporter.h"
#include "pipeline/allocation/allocation.h"

namespace adze {

class FileSize {
 public:
  /// exported: what it references must outlive this.
  FileSize(ExportPlan exported, std::shared_ptr<const Exporter> exporter);
  FileSize(const FileSize&) = delete;
  FileSize& operator=(const FileSize&) = delete;

  /// Exact, of the whole file. Throws as Exporter::predict_bytes().
  std::uint64_t bytes() const { return exporter_->predict_bytes(exported_); }
  /// Throws internal for a module that the export does not have.
  void set(const std::string& module, const std::string& format);

  /// What the file's tensor in which the module lies adds in that format. Throws as Exporter::own_bytes().
  std::uint64_t own_bytes(const std::string& module, const std::string& format);
  /// Modules in that tensor, whose formats change together: this one, the experts of a block, or its q, k and v.
  std::size_t together(const std::string& module) const { return members(module).size(); }

  /// Throws as Exporter::predict_bytes() where a file does not hold the module's format (and that of those that lie
  /// with it) changed alone: some hold no mixture of formats. What is known of two formats is not tried again.
  void check_mixture(const std::string& module, const std::string& format);

 private:
  std::size_t place(const std::string& module) const;
  const std::vector<std::size_t>& members(const std::string& module) const { return members_[place(module)]; }

  std::shared_ptr<const Exporter> exporter_;
  ExportPlan exported_;
  OwnBytes own_bytes_;                                     ///< made when it is first needed
  std::vector<std::vector<std::size_t>> members_;          ///< of each tensor of the file, in exported_.tensors
  std::map<std::string, std::size_t, std::less<>> place_;  ///< of a module: in members_
  std::map<std::pair<std::size_t, std::string>, std::uint64_t> known_;  ///< own bytes of members_ in a format
  std::set<std::tuple<TensorRole, std::string, std::string>> tried_;    ///< role, format, and the one beside it
};

/// Costs of all options of the modules that choose: what the file grows by over the smallest of them, where formats of
/// a stack change together in equal parts. Returns the rest, which is in the file whatever is chosen.
std::uint64_t price_options(FileSize& file, std::vector<ModuleChoice>& modules);

}  // namespace adze
