// Inspection of importance matrices: every entry as a tensor of sums, and what was measured.
#include "checkpoint/imatrix.h"
#include "pipeline/inspect_kinds.h"

namespace adze::inspecting {

void describe_imatrix(const Path& path, Inspection& inspection) {
  ImatrixKind kind{};
  const Imatrix imatrix = read_imatrix(path, &kind);
  add(inspection, "format", std::string(name_of(kind).substr(1)));
  add(inspection, "entries", std::uint64_t{imatrix.entries.size()});
  add(inspection, "chunks", std::uint64_t{imatrix.chunks});
  if (imatrix.chunk_tokens > 0) add(inspection, "tokens_per_chunk", std::uint64_t{imatrix.chunk_tokens});
  if (!imatrix.datasets.empty()) add(inspection, "datasets", imatrix.datasets);
  for (const ImatrixEntry& entry : imatrix.entries)
    inspection.tensors.push_back(
        {entry.tensor, "sums of squares", {entry.counts.size(), entry.cols()}, entry.sums.size() * sizeof(float)});
}

/// Describing it has read and judged every value.
void verify_imatrix(const Path&, Inspection&, Progress&) {}

}  // namespace adze::inspecting
