// Private: the kinds that inspect() knows. Each one describes a path that matches, and verifies it by reading it all.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "base/dtype.h"
#include "base/error.h"
#include "base/progress.h"
#include "checkpoint/tensor_source.h"
#include "model/architecture.h"
#include "pipeline/inspect.h"

namespace adze::inspecting {

using Path = std::filesystem::path;

void describe_safetensors(const Path& path, Inspection& inspection);
void describe_checkpoint(const Path& path, Inspection& inspection);
void describe_model_store(const Path& path, Inspection& inspection);
void describe_gguf(const Path& path, Inspection& inspection);
void describe_pack(const Path& path, Inspection& inspection);
void describe_compressed(const Path& path, Inspection& inspection);
void describe_store_folder(const Path& path, Inspection& inspection);
void describe_unfinished(const Path& path, Inspection& inspection);
void describe_imatrix(const Path& path, Inspection& inspection);
void describe_statistics(const Path& path, Inspection& inspection);

void verify_safetensors(const Path& path, Inspection& inspection, Progress& progress);
void verify_checkpoint(const Path& path, Inspection& inspection, Progress& progress);
void verify_model_store(const Path& path, Inspection& inspection, Progress& progress);
void verify_gguf(const Path& path, Inspection& inspection, Progress& progress);
void verify_pack(const Path& path, Inspection& inspection, Progress& progress);
void verify_compressed(const Path& path, Inspection& inspection, Progress& progress);
void verify_store_folder(const Path& path, Inspection& inspection, Progress& progress);
void verify_unfinished(const Path& path, Inspection& inspection, Progress& progress);
void verify_imatrix(const Path& path, Inspection& inspection, Progress& progress);
void verify_statistics(const Path& path, Inspection& inspection, Progress& progress);

/// What a folder's adze.json says of its origin, and whether files and tensors are those that it lists; nothing
/// without.
void describe_export(const Path& folder, Inspection& inspection);
void verify_export(const Path& folder, Inspection& inspection, Progress& progress);

template <typename T>
void add(Inspection& inspection, std::string name, T&& value) {
  inspection.properties.push_back({std::move(name), std::forward<T>(value)});
}
void add_architecture(Inspection& inspection, const Architecture& architecture);

/// Runs one check; damaged or missing data is noted and the next check goes on, any other error leaves.
template <typename Body>
void check(Inspection& inspection, Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::bad_data && error.kind() != ErrorKind::missing_input) throw;
    inspection.damage.push_back(error.message());
  }
}

/// Reads `bytes` bytes in pieces and looks for values that are not finite, where the type has such.
/// read(offset, out) as TensorSource::read. Throws bad_data.
using ReadPiece = std::function<void(std::uint64_t, std::span<std::byte>)>;
void scan_tensor(std::uint64_t bytes, std::optional<DType> dtype, const ReadPiece& read);

}  // namespace adze::inspecting
