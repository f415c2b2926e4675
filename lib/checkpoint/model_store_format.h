// Private: the names of what a model store's HDF5 file holds, shared by its writer and its reader.
//
//   /            attributes format, version, made_by, copied (0 or 1)
//   /files/NAME  bytes of a kept text file
//   /sources     path (texts), bytes, modified_ns (two's complement) [one row per referenced file]
//   /tensors     name, canonical, dtype, hash (texts), rank, file, offset, bytes [one row per tensor, sorted by name];
//                dims: all shapes one after the other
//   /data/I      bytes of tensor row I, when copied
#pragma once

#include <cstdint>
#include <string_view>

namespace adze::store {

inline constexpr std::string_view kFormat = "adze model store";
inline constexpr std::uint64_t kVersion = 1;
inline constexpr std::uint64_t kPieceBytes = std::uint64_t{8}
                                             << 20;  // what one tensor needs in memory while it is hashed
inline constexpr std::uint64_t kMaxTensors = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kMaxSources = 100'000;
inline constexpr std::uint64_t kMaxRank = 16;
inline constexpr std::uint64_t kMaxPathBytes = 8192;

}  // namespace adze::store
