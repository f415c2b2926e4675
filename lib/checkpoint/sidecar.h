// NAME.xxh3 beside NAME: the content hash that says a file of ours is whole, checked before HDF5 looks inside it.
#pragma once

#include <filesystem>

namespace adze {

/// "model.h5.xxh3" for "model.h5".
std::filesystem::path sidecar_path(const std::filesystem::path& file);

/// Hashes `file` and writes its sidecar: "<32 hex digits>  NAME\n", as xxhsum prints.
void write_sidecar(const std::filesystem::path& file);

/// Throws bad_data when the sidecar is missing, malformed or does not match the file, missing_input without the file.
void check_sidecar(const std::filesystem::path& file);

}  // namespace adze
